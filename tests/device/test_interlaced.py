from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecnn.errors import InputError
from edgecnn_device.frames import Frame, Image
from edgecnn_device.sources import SourceOptions, decoder_log, open_source, video

CLIPS = Path(__file__).parent / "clips"
INTERLACED = ["interlaced-tff.ts", "interlaced-bff.mp4", "interlaced-mpeg2.ts"]
# What the clips show in their quarters, left to right and top to bottom, in B, G, R.
QUARTERS = [(30, 30, 200), (30, 200, 30), (200, 30, 30), (230, 230, 230)]


def quarters(image: Image) -> list[list[int]]:
    """Return the mean colours of the quarters' outer parts: a dark square moves through their middle."""
    return [image[y, x].reshape(-1, 3).mean(axis=0).round().astype(int).tolist() for y, x in _CORNERS]


_CORNERS = [(y, x) for y in (np.s_[2:20], np.s_[100:126]) for x in (np.s_[2:70], np.s_[90:158])]


@pytest.mark.parametrize("name", INTERLACED)
def test_every_picture_of_interlaced_video_is_decoded(name: str) -> None:
    with open_source(SourceOptions(str(CLIPS / name))) as source:
        frames = [frame for frame in source if isinstance(frame, Frame)]

    assert len(frames) == 6
    for frame in frames:
        np.testing.assert_allclose(quarters(frame.image_bgr), QUARTERS, atol=25)
    assert len({frame.image_bgr.tobytes() for frame in frames}) == 6


def test_the_package_asks_for_a_version_of_opencv_that_decodes_interlaced_video() -> None:
    wanted = next(line for line in importlib.metadata.requires("edgecnn") or [] if line.startswith("opencv"))

    assert "<4.13" in wanted
    assert decoder_log.converts_interlaced()


def test_where_opencv_cannot_convert_interlaced_video_such_a_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_log, "converts_interlaced", lambda: False)
    words = "[OPENCV:FFMPEG:16] Cannot convert interlaced to progressive frames or vice versa."
    told = decoder_log.explain(words)

    class Refusing:
        def __init__(self, name: str, request: object) -> None:
            pass

        def pictures(self) -> list[object]:
            from edgecnn.errors import CameraError

            raise CameraError(told)

    monkeypatch.setattr("edgecnn_device.sources.process.ProcessCamera", Refusing)

    with pytest.raises(InputError, match=re.escape(f"OpenCV {cv2.__version__} cannot convert interlaced video: install")):
        video.open_video(CLIPS / INTERLACED[0])


def test_where_opencv_cannot_convert_interlaced_video_other_files_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_log, "converts_interlaced", lambda: False)

    assert video.open_video(CLIPS / "torn-h264.ts").isOpened()
