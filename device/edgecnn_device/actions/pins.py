"""The camera's end of its pins: says at every turn of the loop what they should be, and starts their keeper again."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from edgecnn.errors import MissingDependencyError, OutputError
from edgecnn_device.actions.rules import Pin

_BEAT_S, _RESTART_S, _START_S = 0.1, 2.0, 10.0
_LINE = 4096


class Pins:
    """Pins in a process of their own; see `pin_keeper`. `levels` are letters: `1` on, `0` off, `s` fail-safe."""

    def __init__(
        self, pins: Sequence[Pin], hold_s: float, patience_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Prepare; MissingDependencyError without gpiozero."""
        if importlib.util.find_spec("gpiozero") is None:
            raise MissingDependencyError("--on ...:gpio:PIN needs gpiozero. Install it with: pip install 'edgecnn[gpio]'")
        described = [{"pin": each.number, "active_low": each.active_low, "safe_on": each.safe_on} for each in pins]
        self._settings = json.dumps({"pins": described, "hold_s": hold_s, "patience_s": patience_s}) + "\n"
        self._clock = clock
        self.levels = ["s"] * len(pins)
        self.trouble = ""
        self.restarts = 0
        self._said, self._due_s, self._began_s = "", -1.0, -1.0
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = False

    def open(self) -> None:
        """Start the keeper and wait until the pins are at their fail-safe levels; OutputError when that does not work."""
        self._start()
        if not self._hear(_START_S):
            self.close()
            raise OutputError(self.trouble)

    def set(self, index: int, level: str) -> None:
        """Want a level of one pin, from the next beat on."""
        self.levels[index] = level

    def beat(self) -> None:
        """Say what is wanted, at once when that is new, else ten times a second; never waits."""
        line, now_s = "".join(self.levels), self._clock()
        if line == self._said and now_s < self._due_s:
            return
        self._said, self._due_s = line, now_s + _BEAT_S
        if self._process is None or self._process.poll() is not None:
            self._start_again(now_s)
        elif self._hear(0.0):
            self._say(line)

    def close(self) -> None:
        """Set the fail-safe levels and end the keeper."""
        process, self._process = self._process, None
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        try:
            process.wait(1.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _start(self) -> None:
        command = [sys.executable, "-m", "edgecnn_device.actions.pin_keeper"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, bufsize=0
        )
        self._began_s, self._is_ready = self._clock(), False
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(self._settings.encode())

    def _start_again(self, now_s: float) -> None:
        self.trouble = self.trouble or "the process that keeps the pins has ended"
        if now_s < self._began_s + _RESTART_S:
            return
        self.close()
        self.restarts += 1
        try:
            self._start()
        except OSError as error:
            self.trouble = f"the pins cannot be used: {error}"

    def _hear(self, timeout_s: float) -> bool:
        """Tell whether the keeper is ready; one that says something else is ended, and why is the trouble."""
        if self._is_ready:
            return True
        assert self._process is not None
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], timeout_s)[0]:
            if timeout_s or self._clock() > self._began_s + _START_S:
                self.trouble = "the pins cannot be used: the process that keeps them does not begin"
                self._process.kill()
            return False
        answer = self._process.stdout.read(_LINE).decode("utf-8", "replace").strip()
        self._is_ready = answer == "ready"
        self.trouble = "" if self._is_ready else f"the pins cannot be used: {answer.removeprefix('failed ') or 'no answer'}"
        if not self._is_ready:
            self._process.kill()
        return self._is_ready

    def _say(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
        except BlockingIOError:
            self.trouble = "the process that keeps the pins does not listen"
        except OSError as error:
            self.trouble = f"the pins cannot be set: {error}"
        else:
            self.trouble = ""
