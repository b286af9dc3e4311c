"""MobileNetV1 as Keras ships it: the network that is usually taken for small boards, to compare with and to repair."""

from __future__ import annotations

import keras
from keras import layers

from edgecnn.errors import InputError
from edgecnn.tasks import Task

ALPHA = 0.25  # a quarter of the channels: the smallest that is published
MIN_SIDE = 32


def build_mobilenet(task: Task) -> keras.Model:
    """Build MobileNetV1 (Howard et al., arXiv:1704.04861) untrained, its pixels scaled to -1..1 as Keras' own do.

    Raises InputError for pictures below 32 pixels per side.
    """
    shape = task.preprocessing.shape
    if min(shape[:2]) < MIN_SIDE:
        raise InputError(f"MobileNet needs pictures of at least {MIN_SIDE} pixels per side, got {min(shape[:2])}")
    image = keras.Input(shape, name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="rescaling")(image)
    mobilenet = keras.applications.MobileNet(shape, alpha=ALPHA, weights=None, classes=len(task.labels))
    return keras.Model(image, mobilenet(x), name="mobilenet")
