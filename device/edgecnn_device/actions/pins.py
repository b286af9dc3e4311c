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
        self._said, self._beat_s = "", -1.0
        self._process: subprocess.Popen[bytes] | None = None

    def open(self) -> None:
        """Start the keeper and wait until the pins are at their fail-safe levels; OutputError when that does not work."""
        command = [sys.executable, "-m", "edgecnn_device.actions.pin_keeper"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, bufsize=0
        )
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        with contextlib.suppress(BrokenPipeError):
            stdin.write(self._settings.encode())
        readable, _, _ = select.select([stdout], [], [], _START_S)
        answer = stdout.read(_LINE).decode("utf-8", "replace").strip() if readable else "no answer"
        if answer != "ready":
            self._process.kill()
            self.close()
            raise OutputError(f"the pins cannot be used: {answer.removeprefix('failed ')}")
        os.set_blocking(stdin.fileno(), False)
        self.trouble = ""

    def set(self, index: int, level: str) -> None:
        """Want a level of one pin, from the next beat on."""
        self.levels[index] = level

    def beat(self) -> None:
        """Say what is wanted, at once when that is new, else ten times a second; never waits."""
        line, now_s = "".join(self.levels), self._clock()
        if line == self._said and now_s < self._beat_s + _BEAT_S:
            return
        self._said, self._beat_s = line, now_s
        process = self._process
        if process is None or process.stdin is None or process.poll() is not None:
            self.trouble = "the process that keeps the pins has ended"
            self._beat_s = now_s + _RESTART_S - _BEAT_S
            self._restart()
            return
        try:
            process.stdin.write(line.encode() + b"\n")
        except BlockingIOError:
            self.trouble = "the process that keeps the pins does not listen"
        except OSError as error:
            self.trouble = f"the pins cannot be set: {error}"
        else:
            self.trouble = ""

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

    def _restart(self) -> None:
        self.close()
        self.restarts += 1
        try:
            self.open()
        except (OSError, OutputError) as error:
            self.trouble = str(error)
