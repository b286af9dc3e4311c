"""NEU surface defects: six kinds of damage on hot-rolled steel, 200 x 200."""

from edgecnn.preprocessing import Preprocessing
from edgecnn.tasks import Task

TASK: Task = Task(
    name="neu",
    title="steel surface defects",
    labels=("scratches", "rolled-in_scale", "pitted_surface", "patches", "inclusion", "crazing"),
    preprocessing=Preprocessing(200, 200, "gray", "squash"),
    max_drop=1.0,
    flips=True,
)
