"""A V4L2 device as the kernel's calls see it: what it is, its controls with their ranges, and what was set."""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass, field

QUERYCAP, QUERYCTRL, QUERYMENU, S_CTRL = 0x80685600, 0xC0445624, 0xC02C5625, 0xC008561C
CAPTURE, CAPTURE_MPLANE, OUTPUT, M2M, META, MEDIA, STREAMING = 1, 0x1000, 2, 0x8000, 0x800000, 0x20000000, 0x4000000

EXPOSURE, EXPOSURE_AUTO, GAIN, FOCUS, FOCUS_AUTO = 0x009A0902, 0x009A0901, 0x00980913, 0x009A090A, 0x009A090C
WHITE, WHITE_AUTO, MAINS = 0x0098091A, 0x0098090C, 0x00980918
WEBCAM = {
    WHITE_AUTO: (0, 1),
    GAIN: (0, 255),
    MAINS: (0, 2),
    WHITE: (2800, 6500),
    EXPOSURE_AUTO: (0, 3),
    EXPOSURE: (3, 2047),
    FOCUS: (0, 250),
    FOCUS_AUTO: (0, 1),
}


@dataclass
class FakeDevice:
    """Answers as `fcntl.ioctl` would; the descriptor does not matter."""

    driver: str = "uvcvideo"
    card: str = "USB Camera"
    capabilities: int = CAPTURE | STREAMING
    controls: dict[int, tuple[int, int]] = field(default_factory=lambda: dict(WEBCAM))
    exposure_items: tuple[int, ...] = (1, 3)
    was_set: list[tuple[int, int]] = field(default_factory=list)

    def __call__(self, descriptor: int, request: int, buffer: bytearray) -> int:
        match request:
            case 0x80685600:
                whole = self.capabilities | META | 0x80000000  # of all the nodes of the device
                struct.pack_into(
                    "=16s32s32sIII", buffer, 0, self.driver.encode(), self.card.encode(), b"usb", 1, whole, self.capabilities
                )
            case 0xC0445624:
                self._query(buffer)
            case 0xC02C5625:
                _, item = struct.unpack_from("=II", buffer)
                if item not in self.exposure_items:
                    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            case 0xC008561C:
                number, value = struct.unpack("=Ii", buffer)
                self.was_set.append((number, value))
            case _:
                raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        return 0

    def _query(self, buffer: bytearray) -> None:
        (asked,) = struct.unpack_from("=I", buffer)
        after = asked & ~0x80000000
        number = min((number for number in self.controls if number > after), default=None)
        if number is None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        low, high = self.controls[number]
        struct.pack_into("=II32siiiiI8x", buffer, 0, number, 1, b"a control", low, high, 1, low, 0)
