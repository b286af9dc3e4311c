"""TensorFlow's example for the Raspberry Pi with the preprocessing that the model was trained with."""

from __future__ import annotations

from functools import partial

import cv2
from harness import run
from tensorflow_pi import NEEDS, Pixels, answers

from edgecnn.preprocessing import Preprocessing

preprocessing = Preprocessing(200, 200)


def prepare(rgb: Pixels) -> Pixels:
    """Return the model's input, `(200, 200, 1)`, as training and camera make it."""
    return preprocessing(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))


run(partial(answers, prepare=prepare), NEEDS)
