"""Which networks there are for which sizes of pictures."""

from __future__ import annotations

from edgecnn.tasks import Task

PRETRAINED_FROM_PIXELS = 32  # a side: one place is left behind the last stage
LARGE_FROM_PIXELS = 64  # a side: pictures from here on get the deeper networks and the longer training
NETWORKS = ("narrow-first", "large-kernel-first", "wide-last", "deep")  # compared by `edgecnn study ablation`


def networks_for(task: Task) -> tuple[str, ...]:
    """Return the other forms of `compact` that there are for the pictures of a task."""
    return NETWORKS if min(task.preprocessing.shape[:2]) >= LARGE_FROM_PIXELS else ()
