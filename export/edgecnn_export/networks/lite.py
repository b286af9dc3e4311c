"""EfficientNet-Lite0 with its ImageNet weights, cut short: a network that knows surfaces before it has seen the first part.

Tan and Le, EfficientNet, ICML 2019, arXiv:1905.11946; the Lite form (ReLU6, no squeeze-and-excitation) was made for int8
(https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite). Its last stages tell dogs from each other;
parts need the middle ones, and what is cut off costs neither bytes nor time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from edgecnn.errors import InputError
from edgecnn.tasks import Task
from edgecnn_export.networks.pretrained import LITE0, load_pretrained
from edgecnn_export.networks.sizes import PRETRAINED_FROM_PIXELS

CUT = 5  # stages that are kept, of 7
STEM, HEAD = 32, 1280  # channels of the first and of the last convolution
_EPSILON, _MOMENTUM = 1e-3, 0.99


@dataclass(frozen=True)
class Stage:
    """Inverted residual blocks (Sandler et al., arXiv:1801.04381), the first of which has the stride."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def build_lite(task: Task, *, stages: int = CUT, pretrained: bool = True) -> keras.Model:
    """Build the network up to stage `stages` for a task's pictures, then the mean over all places and a softmax over classes.

    Where classes are to be told apart, between them stands the 1 x 1 convolution that follows in the whole network (the
    expansion of the next stage, after the last one the head's): a linear layer can tell more from its many features, all within
    0..6, than from the few before it.

    It takes raw 0..255 pixels: the scaling to (pixel - 127) / 128 is its first layer. Pixels of gray pictures, which are the
    same in all three colours, are taken once, by the sum of the first kernels over the colours: the very same answer.
    Without `pretrained` the weights come from Keras' global seed. Raises InputError for pictures below 32 pixels a side,
    MissingDependencyError when the package of the weights is not installed.
    """
    height, width, channels = task.preprocessing.shape
    if min(height, width) < PRETRAINED_FROM_PIXELS:
        raise InputError(
            f"lite needs pictures of at least {PRETRAINED_FROM_PIXELS} pixels per side, got {height} x {width}; "
            "enlarge them with --size, or use --network compact"
        )
    if not 1 <= stages <= len(STAGES):
        raise InputError(f"lite has stages 1 to {len(STAGES)}, not {stages}")
    image = keras.Input((height, width, channels), name="image")
    x = layers.Rescaling(1 / 128, offset=-127 / 128, name="rescaling")(image)
    x = _normalised(layers.Conv2D(STEM, 3, strides=2, padding="same", use_bias=False, name="stem"), x, relu=True)
    count = 0
    for stage in STAGES[:stages]:
        for repeat in range(stage.repeats):
            count += 1
            x = _block(x, stage, stage.stride if repeat == 0 else 1, f"block{count}")
    if not task.only_good:
        features = STAGES[stages].expansion * int(x.shape[-1]) if stages < len(STAGES) else HEAD
        x = _normalised(layers.Conv2D(features, 1, use_bias=False, name="head"), x, relu=True)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    # float32 whatever the policy: a softmax in half precision loses the small probabilities.
    x = layers.Dense(task.outputs, activation="softmax", dtype="float32", name="probabilities")(x)
    model = keras.Model(image, x, name="lite")
    if pretrained:
        set_pretrained(model, load_pretrained(LITE0), stages)
    return model


def _block(x: keras.KerasTensor, stage: Stage, stride: int, name: str) -> keras.KerasTensor:
    taken, before = x, int(x.shape[-1])
    if stage.expansion > 1:
        x = _normalised(layers.Conv2D(before * stage.expansion, 1, use_bias=False, name=f"{name}_expand"), x, relu=True)
    depthwise = layers.DepthwiseConv2D(stage.kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_depthwise")
    x = _normalised(depthwise, x, relu=True)
    x = _normalised(layers.Conv2D(stage.channels, 1, use_bias=False, name=f"{name}_project"), x, relu=False)
    return layers.Add(name=f"{name}_add")([taken, x]) if stride == 1 and before == stage.channels else x


def _normalised(convolution: keras.Layer, x: keras.KerasTensor, *, relu: bool) -> keras.KerasTensor:
    name = convolution.name
    x = layers.BatchNormalization(epsilon=_EPSILON, momentum=_MOMENTUM, name=f"{name}_norm")(convolution(x))
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if relu else x


def set_pretrained(model: keras.Model, arrays: Mapping[str, NDArray[np.float32]], stages: int) -> None:
    """Put the weights of EfficientNet-Lite0, by their names in PyTorch, into a `build_lite` network with this many stages."""
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D):
            layer.set_weights([_kernel(arrays, layer, stages)])
        elif isinstance(layer, layers.DepthwiseConv2D):
            name, _ = _torch_names(layer.name, stages)
            layer.set_weights([arrays[f"{name}.weight"].transpose(2, 3, 0, 1)])
        elif isinstance(layer, layers.BatchNormalization):
            _, name = _torch_names(layer.name.removesuffix("_norm"), stages)
            layer.set_weights([arrays[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")])


def _kernel(arrays: Mapping[str, NDArray[np.float32]], layer: keras.Layer, stages: int) -> NDArray[np.float32]:
    name, _ = _torch_names(layer.name, stages)
    kernel = arrays[f"{name}.weight"].transpose(2, 3, 1, 0)
    if layer.name == "stem" and layer.kernel.shape[2] == 1:
        kernel = kernel.sum(axis=2, keepdims=True, dtype=np.float64)
    return np.asarray(kernel, np.float32)


def _torch_names(name: str, stages: int) -> tuple[str, str]:
    """Name a convolution and the normalisation behind it as PyTorch does: `block3_expand` is `_blocks.2._expand_conv`."""
    if name == "stem":
        return "_conv_stem", "_bn0"
    if name == "head" and stages == len(STAGES):
        return "_conv_head", "_bn1"
    blocks = sum(stage.repeats for stage in STAGES[:stages])
    block, part = (f"block{blocks + 1}", "expand") if name == "head" else name.split("_")
    number = {"expand": 0, "depthwise": 1, "project": 2}[part]
    prefix = f"_blocks.{int(block.removeprefix('block')) - 1}"
    return f"{prefix}._{part}_conv", f"{prefix}._bn{number}"
