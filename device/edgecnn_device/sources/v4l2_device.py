"""Asking V4L2 devices what they are and what can be set at them, by the kernel's own calls.

Numbers and structures: Linux, include/uapi/linux/videodev2.h and v4l2-controls.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from edgecnn.errors import InputError
from edgecnn_device.sources.controls import CameraControls, Setting, missing, out_of_range

Ioctl = Callable[[int, int, bytearray], object]
Kind = Literal["camera", "codec", "image processor", "metadata", "CSI receiver", "output"]

_CAPABILITY = struct.Struct("=16s32s32sIII12x")
_QUERY_CONTROL = struct.Struct("=II32siiiiI8x")
_QUERY_MENU = struct.Struct("=II32s4x")
_CONTROL = struct.Struct("=Ii")
_QUERYCAP = 2 << 30 | _CAPABILITY.size << 16 | ord("V") << 8
_BOTH_WAYS = 3 << 30 | ord("V") << 8
_S_CTRL = _BOTH_WAYS | _CONTROL.size << 16 | 28
_QUERYCTRL, _QUERYMENU = _BOTH_WAYS | _QUERY_CONTROL.size << 16 | 36, _BOTH_WAYS | _QUERY_MENU.size << 16 | 37

_CAPTURE, _OUTPUT, _M2M = 0x1 | 0x1000, 0x2 | 0x2000, 0x8000 | 0x4000
_IO_MC, _DEVICE_CAPS = 0x20000000, 0x80000000
# Raspberry Pi's own: they have capture nodes that need something put in before anything comes out.
_PROCESSORS = ("bcm2835-isp", "pispbe")
_CODECS = ("bcm2835-codec", "rpivid", "rpi-hevc-dec", "hantro-vpu", "rkvdec", "cedrus")
_RECEIVERS = ("unicam", "rp1-cfe")
_NEXT, _DISABLED, _MENU = 0x80000000, 0x1, 3
_EXPOSURE, _EXPOSURE_AUTO = 0x009A0902, 0x009A0901
_MANUAL_EXPOSURE, _AUTO_EXPOSURES = 1, (3, 0)
_MAINS, _MAINS_ITEMS = 0x00980918, {50.0: 1, 60.0: 2}


@dataclass(frozen=True)
class Node:
    """A /dev/video*: the device's own name, its driver, and what it is for."""

    name: str
    driver: str
    kind: Kind


@dataclass(frozen=True)
class Control:
    """One control of a device with its range; `automatic` switches it."""

    number: int
    low: int
    high: int


@dataclass(frozen=True)
class Mapping:
    """One of our options at a V4L2 device: its controls in order of preference, its automatic, how much a unit of ours is."""

    name: str
    numbers: tuple[int, ...]
    automatic: int
    per_unit: float = 1.0
    unit: str = ""


_MAPPINGS = (
    Mapping("--exposure", (_EXPOSURE,), _EXPOSURE_AUTO, 10.0, "ms"),
    Mapping("--gain", (0x00980913, 0x009E0903), 0x00980912),
    Mapping("--focus", (0x009A090A,), 0x009A090C),
    Mapping("--white-balance", (0x0098091A,), 0x0098090C, 1.0, "K"),
)


def identify(path: str, ioctl: Ioctl = fcntl.ioctl) -> Node | None:
    """Return what a device is, None when it cannot be asked (no permission, not V4L2)."""
    try:
        with _opened(path) as descriptor:
            answer = bytearray(_CAPABILITY.size)
            ioctl(descriptor, _QUERYCAP, answer)
    except OSError:
        return None
    driver, card, _, _, whole, own = _CAPABILITY.unpack(answer)
    return Node(_text(card), _text(driver), _kind(_text(driver), own if whole & _DEVICE_CAPS else whole))


def kind_by_name(name: str) -> Kind:
    """Guess what a device is for by the name that it has in /sys, where it cannot be asked itself."""
    return _kind(name, _CAPTURE)


def describe_controls(path: str, ioctl: Ioctl = fcntl.ioctl) -> list[str]:
    """Return our options that a device has, with their ranges; empty when it cannot be asked."""
    try:
        with _opened(path) as descriptor:
            return _describe(_read_controls(descriptor, ioctl))
    except OSError:
        return []


def check_controls(path: str, asked: CameraControls, ioctl: Ioctl = fcntl.ioctl) -> None:
    """Raise InputError when a device that can be asked lacks a control or does not go so far."""
    try:
        with _opened(path) as descriptor:
            controls = _read_controls(descriptor, ioctl)
    except OSError:
        return  # it is not there yet, or in use: whoever opens it will see
    _plan(asked, controls, lambda number, item: True)


def set_controls(path: str, asked: CameraControls, ioctl: Ioctl = fcntl.ioctl) -> None:
    """Set what was asked for. InputError when the device lacks a control, OSError when it refuses."""
    if not asked.asked():
        return
    with _opened(path) as descriptor:
        plan = _plan(asked, _read_controls(descriptor, ioctl), lambda number, item: _has_item(descriptor, number, item, ioctl))
        for number, value in plan:
            ioctl(descriptor, _S_CTRL, bytearray(_CONTROL.pack(number, value)))


def _plan(asked: CameraControls, controls: dict[int, Control], has_item: Callable[[int, int], bool]) -> list[tuple[int, int]]:
    """Return the controls to set in order, automatics first: a device ignores or refuses what its automatic holds."""
    plan: list[tuple[int, int]] = []
    wanted = asked.asked()
    for mapping in _MAPPINGS:
        if mapping.name in wanted:
            plan += _values(mapping, wanted[mapping.name], controls, has_item)
    if (mains := wanted.get("--mains")) is not None:
        if _MAINS not in controls:
            raise InputError(missing("--mains", _describe(controls)))
        plan.append((_MAINS, _MAINS_ITEMS[float(mains)]))
    return plan


def _values(
    mapping: Mapping, value: Setting, controls: dict[int, Control], has_item: Callable[[int, int], bool]
) -> list[tuple[int, int]]:
    has_automatic = mapping.automatic in controls
    if value == "auto":
        if not has_automatic:
            raise InputError(missing(f"{mapping.name} auto", _describe(controls)))
        automatic = 1
        if mapping.automatic == _EXPOSURE_AUTO:
            automatic = next((item for item in _AUTO_EXPOSURES if has_item(_EXPOSURE_AUTO, item)), _AUTO_EXPOSURES[0])
        return [(mapping.automatic, automatic)]
    control = _find(mapping, controls)
    if control is None or value is None:
        raise InputError(missing(mapping.name, _describe(controls)))
    raw = round(value * mapping.per_unit)
    if not control.low <= raw <= control.high:
        low, high = control.low / mapping.per_unit, control.high / mapping.per_unit
        raise InputError(out_of_range(mapping.name, value, low, high, mapping.unit))
    manual = [(mapping.automatic, _MANUAL_EXPOSURE if mapping.automatic == _EXPOSURE_AUTO else 0)] if has_automatic else []
    return [*manual, (control.number, raw)]


def _describe(controls: dict[int, Control]) -> list[str]:
    found = []
    for mapping in _MAPPINGS:
        if (control := _find(mapping, controls)) is not None:
            low, high = control.low / mapping.per_unit, control.high / mapping.per_unit
            found.append(f"{mapping.name} {low:g}..{high:g}{mapping.unit and ' ' + mapping.unit}")
    return [*found, "--mains 50|60"] if _MAINS in controls else found


def _find(mapping: Mapping, controls: dict[int, Control]) -> Control | None:
    return next((controls[number] for number in mapping.numbers if number in controls), None)


def _read_controls(descriptor: int, ioctl: Ioctl) -> dict[int, Control]:
    """Return the controls of a device by their numbers."""
    controls: dict[int, Control] = {}
    number = _NEXT
    while True:
        answer = bytearray(_QUERY_CONTROL.pack(number, 0, b"", 0, 0, 0, 0, 0))
        try:
            ioctl(descriptor, _QUERYCTRL, answer)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOTTY):  # the last one, or a device without any
                return controls
            raise
        found, _, _, low, high, _, _, flags = _QUERY_CONTROL.unpack(answer)
        if not flags & _DISABLED:
            controls[found] = Control(found, low, high)
        number = found | _NEXT


def _has_item(descriptor: int, number: int, item: int, ioctl: Ioctl) -> bool:
    try:
        ioctl(descriptor, _QUERYMENU, bytearray(_QUERY_MENU.pack(number, item, b"")))
    except OSError:
        return False
    return True


def _kind(driver: str, capabilities: int) -> Kind:
    if driver.startswith(_CODECS) or capabilities & _M2M or (capabilities & _CAPTURE and capabilities & _OUTPUT):
        return "codec"
    if driver.startswith(_PROCESSORS):
        return "image processor"
    if capabilities & _OUTPUT:
        return "output"
    if not capabilities & _CAPTURE:
        return "metadata"
    # One link in a chain that only a library (libcamera) can put together.
    return "CSI receiver" if driver.startswith(_RECEIVERS) or capabilities & _IO_MC else "camera"


@contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "replace")
