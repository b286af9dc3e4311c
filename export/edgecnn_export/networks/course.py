"""The two networks of the course that this project grew from, layer by layer as its notebooks have them."""

from __future__ import annotations

import keras
from keras import layers

from edgecnn.errors import InputError
from edgecnn.tasks import Task
from edgecnn_export.networks.sizes import LARGE_FROM_PIXELS

SMALL_FILTERS = (32, 64)  # MNIST, 28 x 28: 421,642 parameters
LARGE_FILTERS = (32, 64, 128)  # NEU, 200 x 200: 10,333,574 parameters


def build_course(task: Task) -> keras.Model:
    """Build the course's network for a task: two convolutions for small pictures, three for those from 64 pixels per side.

    One deliberate difference from the NEU notebook, which fed pixels of 0..255 undivided: here the division by 255 is a layer
    of the model for both networks, as the MNIST notebook did it outside. The function that the network can express is the
    same (the first kernels take up the factor), Adam's first steps are the better scaled ones, and a reference model that
    always eats raw pixels cannot be fed the wrong range. Structure and parameter count are the course's.
    """
    shape = task.preprocessing.shape
    filters = LARGE_FILTERS if min(shape[:2]) >= LARGE_FROM_PIXELS else SMALL_FILTERS
    if min(shape[:2]) < 2 ** len(filters):
        raise InputError(f"the course's network needs pictures of at least 4 pixels per side, got {shape[:2]}")
    stack: list[keras.Layer] = [keras.Input(shape, name="image"), layers.Rescaling(1 / 255, name="rescaling")]
    for i, count in enumerate(filters, start=1):
        stack.append(layers.Conv2D(count, 3, padding="same", activation="relu", name=f"conv{i}"))
        stack.append(layers.MaxPooling2D(2, name=f"pool{i}"))
    stack.append(layers.Flatten(name="flatten"))
    stack.append(layers.Dense(128, activation="relu", name="dense"))
    # float32 whatever the policy: a softmax in half precision loses the small probabilities.
    stack.append(layers.Dense(len(task.labels), activation="softmax", dtype="float32", name="probabilities"))
    return keras.Sequential(stack, name="course")
