"""The wall clock: whether it was set while the camera ran, and whether the system says that it is right."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from edgecnn_device.frames import Frame

# More than a second: a clock that is only slowed or hurried (at most 500 in a million) makes that in half an hour of silence.
_MIN_JUMP_S = 1.0
_UNSYNCHRONISED = 0x0040
_TIMEX_BYTES, _STATUS_AT = 256, 40


class ClockWatch:
    """Notices that the wall clock was set: between two frames another time has passed by it than by the monotonic clock."""

    def __init__(self) -> None:
        """Begin with the first frame."""
        self._offset_s: float | None = None

    def jump_s(self, frame: Frame) -> float | None:
        """Return by how many seconds the clock was set since the last frame, forward when above 0; None when it was not."""
        before_s, self._offset_s = self._offset_s, frame.captured_at.timestamp() - frame.monotonic_s
        if before_s is None or abs(self._offset_s - before_s) < _MIN_JUMP_S:
            return None
        return self._offset_s - before_s


def describe_jump(jump_s: float, frame: Frame) -> str:
    """Say that the clock was set."""
    direction = "forward" if jump_s > 0 else "back"
    before = frame.captured_at.timestamp() - jump_s
    was = datetime.fromtimestamp(before, UTC).isoformat(timespec="seconds")
    now = frame.captured_at.isoformat(timespec="seconds")
    return f"the wall clock was set {direction} by {_duration(abs(jump_s))}: what was {was} is {now}"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (whole % 60, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "0 s"


Answer = tuple[Literal["yes", "no"], str]


def synchronisation(ask: Callable[[list[str]], str], kernel: Callable[[], bool | None] | None = None) -> Answer | None:
    """Return whether the clock is synchronised, and who says so; None when nobody here tells.

    `ask` gives what a command prints, an empty text where it is not there; `kernel` tells what the kernel thinks. One who says
    yes is believed before others: chrony does not always tell the kernel.
    """
    answers = {
        "timedatectl": _timedatectl(ask(["timedatectl", "show"])),
        "chronyc": _chronyc(ask(["chronyc", "-n", "tracking"])),
        "ntpq": _ntpq(ask(["ntpq", "-pn"])),
        "the kernel": (kernel or kernel_says)(),
    }
    known = {name: answer for name, answer in answers.items() if answer is not None}
    for name, answer in known.items():
        if answer:
            return "yes", name
    return ("no", next(iter(known))) if known else None


def kernel_says() -> bool | None:
    """Return whether Linux holds its clock for synchronised (adjtimex(2), reading only), None when it does not tell."""
    import ctypes

    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)  # of zeros: nothing is to be changed
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None
    status = int.from_bytes(buffer.raw[_STATUS_AT : _STATUS_AT + 4], "little", signed=True)
    return not status & _UNSYNCHRONISED


def _timedatectl(text: str) -> bool | None:
    found = re.search(r"^NTPSynchronized=(yes|no)$", text, re.MULTILINE)
    return None if found is None else found[1] == "yes"


def _chronyc(text: str) -> bool | None:
    found = re.search(r"^Leap status\s*:\s*(.+)$", text, re.MULTILINE)
    return None if found is None else "not synchronised" not in found[1].lower()


def _ntpq(text: str) -> bool | None:
    """Read a table of peers: `*` and `o` stand before the one that the clock follows."""
    peers = [line for line in text.splitlines() if re.match(r"[ x.#+*o-]\S", line) and "remote" not in line]
    return any(peer[0] in "*o" for peer in peers) if peers else None
