"""MNIST: handwritten digits, 28 x 28."""

from edgecnn.preprocessing import Preprocessing
from edgecnn.tasks import Task

TASK: Task = Task(
    name="mnist",
    title="handwritten digits",
    labels=tuple("0123456789"),
    preprocessing=Preprocessing(28, 28, "gray", "digit"),
    max_drop=0.2,
)
