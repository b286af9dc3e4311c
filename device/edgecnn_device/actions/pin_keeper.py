"""Keeps pins in a process of its own, which sets them to their fail-safe levels when the camera dies or hangs.

The camera writes a line to standard input whenever its loop turns: a letter per pin, `1` on, `0` off, `s` fail-safe. When
no line comes for too long all pins are at their fail-safe levels until one does; when the camera is gone, for good.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

_LINE_BYTES = 65536
_HINTS = {"BadPinFactory": "; install a back end for this board, such as lgpio: pip install lgpio"}


class Output(Protocol):
    """A pin of gpiozero."""

    def on(self) -> None:
        """Set the active level."""

    def off(self) -> None:
        """Set the other one."""


@dataclass(eq=False)
class KeptPin:
    """A pin with its fail-safe level; `hold_s` is how long it stays on at least."""

    output: Output
    safe_on: bool
    hold_s: float
    wanted: str = "s"
    held_until_s: float = -1.0

    def update(self, letter: str, now_s: float) -> None:
        """Hear what is wanted; what was on stays so for a while, but the fail-safe level does not wait."""
        if letter == "1":
            self.held_until_s = max(self.held_until_s, now_s + self.hold_s) if self.wanted != "1" else self.held_until_s
        elif letter == "s":
            self.held_until_s = -1.0
        self.wanted = letter
        self.apply(now_s)

    def apply(self, now_s: float) -> None:
        """Set the level of now."""
        is_on = self.safe_on if self.wanted == "s" else self.wanted == "1" or now_s < self.held_until_s
        (self.output.on if is_on else self.output.off)()


class Keeper:
    """Applies lines to pins, and the fail-safe levels after `patience_s` without one."""

    def __init__(self, pins: Sequence[KeptPin], patience_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with the fail-safe levels."""
        self._pins, self._patience_s, self._clock = pins, patience_s, clock
        self._heard_s = clock()
        self.fail_safe()

    def hear(self, line: str) -> None:
        """Hear of the camera; a line that is none is as good as silence."""
        if len(line) != len(self._pins) or set(line) - set("01s"):
            return
        self._heard_s = self._clock()
        for pin, letter in zip(self._pins, line, strict=True):
            pin.update(letter, self._heard_s)

    def tick(self) -> None:
        """Look at the clock: a hold may be over, or the camera silent."""
        if self._clock() > self._heard_s + self._patience_s:
            self.fail_safe()
            return
        for pin in self._pins:
            pin.apply(self._clock())

    def fail_safe(self) -> None:
        """Set all pins to their fail-safe levels."""
        for pin in self._pins:
            pin.update("s", self._clock())


def open_pins(described: Sequence[dict[str, Any]], hold_s: float) -> list[KeptPin]:
    """Open pins at their fail-safe levels, by gpiozero; it raises what it likes."""
    from gpiozero import OutputDevice

    return [
        KeptPin(
            OutputDevice(each["pin"], active_high=not each["active_low"], initial_value=each["safe_on"]),
            each["safe_on"],
            hold_s,
        )
        for each in described
    ]


def main() -> None:
    """Keep the pins that the first line describes, until standard input ends."""
    settings = json.loads(sys.stdin.readline())
    warnings.simplefilter("ignore")  # gpiozero's of each back end that it does without; when it finds none, that is an error
    try:
        keeper = Keeper(open_pins(settings["pins"], settings["hold_s"]), settings["patience_s"])
    except Exception as error:  # gpiozero has some thirty kinds, and its back ends their own
        print(f"failed {type(error).__name__}: {error}{_HINTS.get(type(error).__name__, '')}", flush=True)
        os._exit(1)
    print("ready", flush=True)

    def stop(number: int, frame: FrameType | None) -> None:
        leave(keeper)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listen(keeper, sys.stdin.fileno())
    leave(keeper)


def listen(keeper: Keeper, descriptor: int) -> None:
    """Apply what comes until the other end is gone."""
    rest = b""
    while True:
        readable, _, _ = select.select([descriptor], [], [], 0.05)
        if readable:
            data = os.read(descriptor, _LINE_BYTES)
            if not data:
                return
            *lines, rest = (rest + data)[-_LINE_BYTES:].split(b"\n")
            if lines:
                keeper.hear(lines[-1].decode("ascii", "replace"))  # of many only the newest is about now
        keeper.tick()


def leave(keeper: Keeper) -> None:
    """Set the fail-safe levels and go without a clean-up, which would turn the pins into inputs at once."""
    keeper.fail_safe()
    os._exit(0)


if __name__ == "__main__":
    main()
