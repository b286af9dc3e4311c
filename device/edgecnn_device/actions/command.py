"""Running a program for an event: no shell, the event on its standard input, a time limit, and an end with all its children."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path

from edgecnn.errors import InputError, OutputError
from edgecnn_device.actions.queue import Event


class Runner:
    """Runs one program, one event after the other."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        """Kill it after `timeout_s`. InputError for what is no program."""
        if not path.is_file() or not os.access(path, os.X_OK):
            raise InputError(f"--on LABEL:command:{path} is not a program that this user may run")
        self._path, self._timeout_s = path, timeout_s
        self._running: subprocess.Popen[bytes] | None = None

    def __call__(self, event: Event) -> None:
        """Run it for one event; OutputError when it fails or takes too long."""
        body = json.dumps({"id": event.id} | event.body, ensure_ascii=True).encode()
        process = subprocess.Popen(
            [self._path],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,  # a group of its own, which ends as one
        )
        self._running = process
        try:
            with contextlib.suppress(BrokenPipeError):  # it need not read
                process.communicate(body, timeout=self._timeout_s)
            code = process.wait(self._timeout_s)
        except subprocess.TimeoutExpired:
            raise OutputError(f"{self._path.name} took more than {self._timeout_s:g} s and was killed") from None
        finally:
            self.kill()
        if code:
            raise OutputError(f"{self._path.name} failed with {code}")

    def kill(self) -> None:
        """End what runs, and what it has started and left in its group."""
        process, self._running = self._running, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
