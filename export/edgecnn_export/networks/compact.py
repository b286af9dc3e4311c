"""Small networks for small boards: a few convolutions for small pictures, depthwise-separable ones for large pictures.

Chosen so that the int8 file loses nothing and is fast under XNNPACK: ReLU6 bounds every range, batch normalisation follows
each convolution directly and folds into it, nothing is added or concatenated (each would need its operands' ranges to agree),
strides instead of pooling, one value a channel instead of a large dense layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
from keras import layers

from edgecnn.errors import InputError
from edgecnn.tasks import Task
from edgecnn_export.networks.sizes import LARGE_FROM_PIXELS


@dataclass(frozen=True)
class Block:
    """One step of the network: output channels, stride, kernel side, and whether it is depthwise-separable.

    Separable as in MobileNet (Howard et al., arXiv:1704.04861): a depthwise convolution, then a pointwise one.
    """

    channels: int
    stride: int = 1
    kernel: int = 3
    separable: bool = True


# 28 x 28 digits: full convolutions, since at these sizes they cost little and learn more per parameter.
SMALL = (
    Block(16, separable=False),
    Block(20, stride=2, separable=False),
    Block(24, separable=False),
    Block(32, stride=2, separable=False),
    Block(40, separable=False),
)
# 200 x 200 surfaces: full convolutions while the maps are large, where depthwise layers are slow (int8 under XNNPACK: a
# quarter faster than a depthwise-separable second step). A first step at stride 3 was faster still, and lost fine grain.
LARGE = (
    Block(16, stride=2, separable=False),
    Block(32, stride=2, separable=False),
    Block(64, stride=2),
    Block(64),
    Block(96, stride=2),
    Block(96),
    Block(128, stride=2),
)
# Other forms of it by the names of edgecnn_export.networks.sizes.NETWORKS.
OTHERS = {
    "narrow-first": (Block(8, stride=2, separable=False), *LARGE[1:]),
    "large-kernel-first": (Block(16, stride=2, kernel=5, separable=False), *LARGE[1:]),
    "wide-last": (*LARGE[:4], Block(112, stride=2), Block(112), Block(160, stride=2)),
    "deep": (*LARGE[:5], Block(96), Block(96), LARGE[-1]),
}


def build_compact(task: Task, network: str = "compact") -> keras.Model:
    """Build our network for a task's input shape and classes; pictures from 64 pixels per side get the deeper one.

    `network` names one of OTHERS instead.
    """
    side = min(task.preprocessing.shape[:2])
    if side < 8:
        raise InputError(f"the compact network needs pictures of at least 8 pixels per side, got {side}")
    if side < LARGE_FROM_PIXELS:
        return build_blocks(task, SMALL, weigh_places=True)
    return build_blocks(task, OTHERS.get(network, LARGE))


def build_blocks(task: Task, blocks: tuple[Block, ...], *, weigh_places: bool = False) -> keras.Model:
    """Build scaling, the given blocks, pooling over all places and a softmax over the task's classes.

    Pooling is the average, or with `weigh_places` a sum with a learned weight for each place and channel: a global depthwise
    convolution (Chen et al., MobileFaceNets, arXiv:1804.07573). It matters where in a digit a stroke ends.
    """
    image = keras.Input(task.preprocessing.shape, name="image")
    # No offset: only then does the factor fold into the first convolution exactly, zero padding included.
    x = layers.Rescaling(1 / 255, name="rescaling")(image)
    for i, block in enumerate(blocks, start=1):
        x = _apply(block, x, f"block{i}")
    x = _weighted(x) if weigh_places else layers.GlobalAveragePooling2D(name="pool")(x)
    # float32 whatever the policy: a softmax in half precision loses the small probabilities.
    x = layers.Dense(len(task.labels), activation="softmax", dtype="float32", name="probabilities")(x)
    return keras.Model(image, x, name="compact")


def _apply(block: Block, x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    if not block.separable:
        conv = layers.Conv2D(
            block.channels, block.kernel, strides=block.stride, padding="same", use_bias=False, name=f"{name}_conv"
        )
        return _normalise(conv(x), f"{name}_conv")
    depthwise = layers.DepthwiseConv2D(
        block.kernel, strides=block.stride, padding="same", use_bias=False, name=f"{name}_depthwise"
    )
    x = _normalise(depthwise(x), f"{name}_depthwise")
    pointwise = layers.Conv2D(block.channels, 1, use_bias=False, name=f"{name}_pointwise")
    return _normalise(pointwise(x), f"{name}_pointwise")


def _weighted(x: keras.KerasTensor) -> keras.KerasTensor:
    places = layers.DepthwiseConv2D(x.shape[1:3], use_bias=False, name="pool_depthwise")
    return layers.Flatten(name="pool")(_normalise(places(x), "pool_depthwise"))


def _normalise(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    # Momentum .9: with Keras' .99 the moving statistics lag behind in short trainings (measured: .167 against .770).
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x)
