"""When an answer is given: once for each part that moves through the picture, at an edge on a pin, or every so often."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from edgecnn.errors import InputError, MissingDependencyError
from edgecnn_device.frames import Direction, Frame, Outcome
from edgecnn_device.gates import Interval
from edgecnn_device.passages import Line

Kind = Literal["motion", "line", "gpio", "interval"]
_FORMS = "motion, line, line:x=0.5, line:y=0.5,down, gpio:17 or interval:2"
_LINE = re.compile(r"line(?::(?P<axis>[xy])=(?P<at>[0-9]*[.]?[0-9]+)(?:,(?P<direction>left|right|up|down))?)?")
_MOST_SECONDS = 1e7
# An edge is answered by the first frame after it; what comes later shows another part.
_LATE_S, _LATE_FRAMES = 0.5, 2


@dataclass(frozen=True)
class Trigger:
    """What `--trigger` asks for, as it was written in `text`."""

    text: str
    kind: Kind
    line: Line | None = None
    pin: str = ""
    seconds: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Trigger:
        """Read `motion`, `line[:x|y=FRACTION[,DIRECTION]]`, `gpio:PIN` or `interval:SECONDS`; InputError for anything else."""
        if text == "motion":
            return cls(text, "motion")
        if found := _LINE.fullmatch(text):
            return cls(text, "line", line=_read_line(text, found))
        kind, _, value = text.partition(":")
        if kind == "gpio" and re.fullmatch(r"\w+", value, re.ASCII):
            return cls(text, "gpio", pin=value)
        if kind == "interval" and 0.001 <= (seconds := _seconds(value)) <= _MOST_SECONDS:
            return cls(text, "interval", seconds=seconds)
        raise InputError(f"--trigger {text!r}: give {_FORMS}")

    @property
    def follows(self) -> bool:
        """Whether parts are followed through the picture."""
        return self.kind in ("motion", "line")


def _read_line(text: str, found: re.Match[str]) -> Line:
    if found["axis"] is None:
        return Line()
    axis: Literal[0, 1] = 0 if found["axis"] == "x" else 1
    at, direction = float(found["at"]), found["direction"]
    along: tuple[Direction, Direction] = ("left", "right") if axis == 0 else ("up", "down")
    if not 0 < at < 1:
        raise InputError(f"--trigger {text}: the line lies at a fraction of the picture between 0 and 1, such as 0.5")
    if direction is not None and direction not in along:
        raise InputError(f"--trigger {text}: a line at {found['axis']} is crossed {along[0]} or {along[1]}")
    return Line(axis, at, direction)


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


Shots = Callable[[Frame], Outcome | None]


def every(seconds: float) -> Shots:
    """Take a frame every `seconds`."""
    gate = Interval(seconds)
    return lambda frame: "answered" if gate(frame) else None


class PinEdges:
    """Takes the first frame after each rising edge on a pin; an edge for which no frame came in time is `interrupted`.

    The pin is pulled down, and edges within `bounce_s` of the last are those of a contact that bounces. Edges between two
    frames are one.
    """

    def __init__(self, pin: str, *, fps: float, bounce_s: float = 0.02, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the pin; InputError when there is none of this name, MissingDependencyError without gpiozero."""
        self._clock, self._late_s = clock, max(_LATE_S, _LATE_FRAMES / fps)
        self._edge_s: float | None = None
        self._device: Any = _open_pin(pin, bounce_s)
        self._device.when_activated = self._note

    def __call__(self, frame: Frame) -> Outcome | None:
        """Say whether this frame is taken."""
        edge_s = self._edge_s
        if edge_s is None or frame.monotonic_s < edge_s:
            return None
        self._edge_s = None
        return "answered" if frame.monotonic_s - edge_s <= self._late_s else "interrupted"

    def close(self) -> None:
        """Give the pin back."""
        self._device.close()

    def _note(self) -> None:
        self._edge_s = self._clock()


def _open_pin(pin: str, bounce_s: float) -> Any:
    try:
        import gpiozero
    except ImportError as error:
        raise MissingDependencyError("--trigger gpio needs gpiozero. Install it with: pip install 'edgecnn[gpio]'") from error
    try:
        return gpiozero.DigitalInputDevice(int(pin) if pin.isdigit() else pin, pull_up=False, bounce_time=bounce_s)
    except (gpiozero.GPIOZeroError, ValueError, OSError, RuntimeError, ImportError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"--trigger gpio:{pin}: the pin cannot be used: {reason}") from error
