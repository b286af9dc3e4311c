"""What FFmpeg's decoders print, read back: nowhere else do they tell OpenCV's users that a picture was not decoded whole."""

from __future__ import annotations

import ctypes
import os
import re
import sys
import time
from collections.abc import Callable

import cv2

# INFO: this is where decoders tell what they made up. OpenCV reads it from OPENCV_FFMPEG_LOGLEVEL.
LEVEL = 32
_MOST_BYTES = 2**16
REQUIREMENT = "'opencv-python-headless<4.13'"
_NOT_WRITTEN = re.compile(r"Cannot convert interlaced|Slice parameters [-\d]+, [-\d]+ are invalid|bad (src|dst) image pointers")
# What only a damaged picture makes them say: H.264 and MPEG-1, 2 and 4 conceal, HEVC lacks a reference, MJPEG has errors.
_DAMAGED = re.compile(
    r"(concealing \d+ DC|error while decoding MB|Error at MB|Could not find ref with POC|error y=\d+ x=\d+)[^\n]*"
)
_LONGEST_DAMAGE_S = 20.0
_REORDERED = 4


def listen() -> Callable[[], str]:
    """Lead this process's stdout and stderr into a pipe; return the function that reads what native code has printed since.

    Python's own `sys.stderr` goes on to where it went. Text that nobody reads in time is lost and holds nobody up.
    """
    libc = ctypes.CDLL(None)
    keep = os.dup(2)
    sys.stderr = os.fdopen(keep, "w", buffering=1)
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    os.dup2(writing, 1)
    os.dup2(writing, 2)
    os.close(writing)
    echo = os.environ.get("OPENCV_FFMPEG_LOGLEVEL") != str(LEVEL)  # somebody wants to see it

    def read() -> str:
        libc.fflush(None)  # OpenCV prints with C's own buffer
        try:
            text = os.read(reading, _MOST_BYTES)
        except BlockingIOError:
            return ""
        if echo:
            os.write(keep, text)
        return text.decode("utf-8", "replace")

    return read


def converts_interlaced() -> bool:
    """Say whether this OpenCV can convert interlaced video: from 4.13 to 5.0 it cannot (FFmpeg 8, measured)."""
    major, minor = (int(part) for part in cv2.__version__.split(".")[:2])
    return (major, minor) < (4, 13)


def not_written(text: str) -> bool:
    """Say whether the last picture was never written: OpenCV then returns what its buffer held before, with success."""
    return _NOT_WRITTEN.search(text) is not None


def explain(text: str) -> str:
    """Say why a picture was not written, and what helps."""
    if "interlaced" in text:
        version, remedy = cv2.__version__, f"install {REQUIREMENT}, or set the camera to progressive"
        return f"OpenCV {version} cannot convert interlaced video: {remedy}"
    return f"OpenCV could not convert a picture: {text.strip().splitlines()[0]}"


class Damage:
    """Tells for each picture whether it holds what a decoder made up: from its words on, until a picture needs no other."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing damaged."""
        self._clock = clock
        self._what = ""
        self._heard_s = 0.0
        self._pictures_since = 0
        self._reorders = False

    def after(self, text: str, kind: str) -> str:
        """Return what is wrong with a picture of `kind` (I, P, B) that came with `text`, or an empty text."""
        self._reorders |= kind == "B"
        self._pictures_since += 1
        if found := _DAMAGED.search(text):
            self._what, self._heard_s, self._pictures_since = found[0].strip(), self._clock(), 0
        elif self._what and self._is_over(kind):
            self._what = ""
        return self._what

    def _is_over(self, kind: str) -> bool:
        # With B pictures the words come up to a few pictures before the one that they are about.
        whole = kind == "I" and (not self._reorders or self._pictures_since > _REORDERED)
        # Some streams have no I pictures but renew a part of each.
        return whole or self._clock() > self._heard_s + _LONGEST_DAMAGE_S
