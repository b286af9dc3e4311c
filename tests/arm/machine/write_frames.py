"""Plays frames to a V4L2 loopback device until it is ended: `write_frames.py DEVICE FRAMES.npy FPS`.

FRAMES.npy holds gray pictures `(n, 480, 640)` uint8; each is shown for three seconds under noise that changes with every frame.
"""

import fcntl
import os
import struct
import sys
import time
from pathlib import Path

import numpy as np

# linux/videodev2.h, on a 64-bit system: _IOWR('V', 5, struct v4l2_format) and what stands in it.
VIDIOC_S_FMT, FORMAT_BYTES, PIX_AT = 0xC0D05605, 208, 8
VIDEO_OUTPUT, FIELD_NONE, COLORSPACE_SRGB = 2, 1, 8
YUYV = int.from_bytes(b"YUYV", "little")
SECONDS_EACH = 3.0


def open_device(path: str, width: int, height: int) -> int:
    """Open the writing end and say what will come."""
    device = os.open(path, os.O_RDWR)
    request = bytearray(FORMAT_BYTES)
    struct.pack_into("I", request, 0, VIDEO_OUTPUT)
    sizes = (width, height, YUYV, FIELD_NONE, 2 * width, 2 * width * height, COLORSPACE_SRGB)
    struct.pack_into("7I", request, PIX_AT, *sizes)
    fcntl.ioctl(device, VIDIOC_S_FMT, request)
    return device


def main(path: str, frames: np.ndarray, fps: float) -> None:
    """Write one frame after the other."""
    _, height, width = frames.shape
    device = open_device(path, width, height)
    yuyv = np.full((height, width, 2), 128, np.uint8)  # U and V of gray
    noise = np.random.default_rng(0).integers(0, 5, (16, height, width), dtype=np.uint8)
    number, started_s = 0, time.monotonic()
    while True:
        shown = frames[int((time.monotonic() - started_s) / SECONDS_EACH) % len(frames)]
        yuyv[:, :, 0] = np.clip(shown, 20, 230) + noise[number % len(noise)]
        os.write(device, yuyv.data)
        number += 1
        time.sleep(max(0.0, started_s + number / fps - time.monotonic()))


if __name__ == "__main__":
    main(sys.argv[1], np.load(Path(sys.argv[2])), float(sys.argv[3]))
