"""The networks: the course's two, exactly, the compact ones of our own, and MobileNet to compare with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edgecnn.errors import InputError
from edgecnn.tasks import Task
from edgecnn_export.frameworks import require_keras

if TYPE_CHECKING:
    import keras

MODELS = ("compact", "course", "mobilenet")
NETWORKS = (
    "narrow-first",
    "large-kernel-first",
    "wide-last",
    "deep",
)  # of `compact`, compared by `edgecnn study ablation`
LARGE_FROM_PIXELS = 64  # a side: pictures from here on get the deeper networks and the longer training


def build(name: str, task: Task) -> keras.Model:
    """Build an untrained network for a task: raw 0..255 pixels `(n, h, w, c)` in, probabilities `(n, classes)` out.

    `compact` is ours, `course` the course's, `mobilenet` the one that Keras ships; `compact-NAME` is one of `networks_for`.
    The weights come from Keras' global seed. Raises InputError for another name and for pictures too small for the network.
    """
    networks = {f"compact-{network}": network for network in networks_for(task)}
    if name not in MODELS and name not in networks:
        raise InputError(f"unknown model {name!r}; known models: {', '.join(MODELS)}")
    require_keras()
    from edgecnn_export.networks.compact import build_compact
    from edgecnn_export.networks.course import build_course
    from edgecnn_export.networks.mobilenet import build_mobilenet

    if name in networks:
        return build_compact(task, networks[name])
    builders: dict[str, Callable[[Task], keras.Model]] = {
        "compact": build_compact,
        "course": build_course,
        "mobilenet": build_mobilenet,
    }
    return builders[name](task)


def networks_for(task: Task) -> tuple[str, ...]:
    """Return the other forms of `compact` that there are for the pictures of a task."""
    return NETWORKS if min(task.preprocessing.shape[:2]) >= LARGE_FROM_PIXELS else ()
