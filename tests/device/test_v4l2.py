"""Reading a V4L2 device without one: what OpenCV's capture may answer. A device itself is read by `make test-vm`."""

from __future__ import annotations

from itertools import chain, repeat

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecnn.errors import CameraError
from edgecnn_device.sources.v4l2 import reader

PICTURE = np.full((4, 6, 3), 7, np.uint8)


class FakeCapture:
    """Delivers what it is given, None for a picture that cannot be decoded, and then nothing more."""

    def __init__(self, *pictures: NDArray[np.uint8] | None) -> None:
        self._pictures = list(pictures)

    def grab(self) -> bool:
        return bool(self._pictures)

    def retrieve(self) -> tuple[bool, NDArray[np.uint8] | None]:
        picture = self._pictures.pop(0)
        return picture is not None, picture


def test_a_damaged_picture_is_passed_over() -> None:
    read = reader(FakeCapture(None, PICTURE, None, None, PICTURE + 1), "/dev/video0")

    assert [int(read()[0, 0, 0]) for _ in range(2)] == [7, 8]


def test_a_device_that_stops_is_a_lost_camera() -> None:
    read = reader(FakeCapture(PICTURE), "/dev/video0")
    read()

    with pytest.raises(CameraError, match="/dev/video0 stopped delivering"):
        read()


def test_a_device_that_only_delivers_damage_is_a_lost_camera() -> None:
    pictures = chain(repeat(None, 30), [PICTURE])

    with pytest.raises(CameraError, match="30 damaged pictures in a row"):
        reader(FakeCapture(*pictures), "/dev/video0")()
