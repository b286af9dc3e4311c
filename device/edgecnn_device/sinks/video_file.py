"""An annotated video file."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from edgecnn.errors import InputError, OutputError
from edgecnn_device.annotate import annotate
from edgecnn_device.frames import Image, Observation

# Motion JPEG in AVI stays readable up to its last frame after a crash; MP4 has its index at the end.
_MIN_FREE_BYTES = 2**20
_CODECS = {".avi": "MJPG", ".mp4": "mp4v", ".mkv": "MJPG"}


class VideoSink:
    """Writes every observed frame with its boxes and labels, at `fps`; the first frame decides the size."""

    name = "video"

    def __init__(self, path: Path, fps: float) -> None:
        """Prepare; the file is begun with the first frame. InputError for a suffix that stands for no known form."""
        if path.suffix.lower() not in _CODECS:
            raise InputError(f"--video {path}: give a name that ends in {', '.join(_CODECS)}")
        if not path.parent.is_dir():
            raise OutputError(f"cannot write {path}: no such folder")
        self._path = path
        self._fps = fps
        self._writer: cv2.VideoWriter | None = None
        self._size_wh = (0, 0)

    def __enter__(self) -> VideoSink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.release()

    def write(self, observation: Observation) -> None:
        """Append one frame; an observation without a frame adds nothing."""
        image = annotate(observation)
        if image is None:
            return
        # OpenCV's writer says nothing when it can no longer write.
        if shutil.disk_usage(self._path.parent).free < _MIN_FREE_BYTES:
            raise OSError(errno.ENOSPC, "no space left for the video")
        if self._writer is None:
            self._writer = self._begin(image)
        self._writer.write(_fitted(image, self._size_wh))

    def _begin(self, image: Image) -> cv2.VideoWriter:
        # Codecs with halved colour want even sides.
        self._size_wh = (image.shape[1] // 2 * 2, image.shape[0] // 2 * 2)
        codec = cv2.VideoWriter.fourcc(*_CODECS[self._path.suffix.lower()])
        writer = cv2.VideoWriter(str(self._path), codec, self._fps, self._size_wh)
        if not writer.isOpened():
            raise OutputError(f"cannot write the video {self._path}")
        return writer


def _fitted(image: Image, size_wh: tuple[int, int]) -> Image:
    """Return the picture scaled into `size_wh` with its aspect kept, on black."""
    width, height = size_wh
    if image.shape[1::-1] == size_wh:
        return image
    scale = min(width / image.shape[1], height / image.shape[0])
    inner_wh = max(1, min(width, round(image.shape[1] * scale))), max(1, min(height, round(image.shape[0] * scale)))
    canvas = np.zeros((height, width, 3), np.uint8)
    left, top = (width - inner_wh[0]) // 2, (height - inner_wh[1]) // 2
    canvas[top : top + inner_wh[1], left : left + inner_wh[0]] = cv2.resize(image, inner_wh)
    return canvas
