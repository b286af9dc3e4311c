"""The networks: our compact ones, EfficientNet-Lite0 with ImageNet weights, the course's two, MobileNet to compare with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from edgecnn.errors import InputError
from edgecnn.tasks import Task
from edgecnn_export.frameworks import require_keras
from edgecnn_export.networks.pretrained import LITE0, PretrainedWeights
from edgecnn_export.networks.sizes import networks_for

if TYPE_CHECKING:
    import keras

MODELS = ("compact", "lite", "course", "mobilenet")
PRETRAINED: dict[str, PretrainedWeights] = {"lite": LITE0}


def build(name: str, task: Task, *, pretrained: bool = True) -> keras.Model:
    """Build an untrained network for a task: raw 0..255 pixels `(n, h, w, c)` in, probabilities `(n, classes)` out.

    `compact` is ours, `lite` EfficientNet-Lite0 pretrained on ImageNet, `course` the course's, `mobilenet` the one that Keras
    ships; `compact-NAME` is one of `networks_for`. The weights come from Keras' global seed, those of `lite` only in its last
    layer unless `pretrained` is False. Raises InputError for another name and for pictures too small for the network,
    MissingDependencyError when the package with the weights of `lite` is not installed.
    """
    networks = {f"compact-{network}": network for network in networks_for(task)}
    if name not in MODELS and name not in networks:
        raise InputError(f"unknown model {name!r}; known models: {', '.join(MODELS)}")
    require_keras()
    from edgecnn_export.networks.compact import build_compact
    from edgecnn_export.networks.course import build_course
    from edgecnn_export.networks.lite import build_lite
    from edgecnn_export.networks.mobilenet import build_mobilenet

    if name in networks:
        return build_compact(task, networks[name])
    builders: dict[str, Callable[[Task], keras.Model]] = {
        "compact": build_compact,
        "lite": partial(build_lite, pretrained=pretrained),
        "course": build_course,
        "mobilenet": build_mobilenet,
    }
    return builders[name](task)
