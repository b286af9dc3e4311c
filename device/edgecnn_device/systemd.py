"""Telling systemd that the loop is ready and alive (sd_notify(3), over a plain socket)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from edgecnn.numbers import whole_number


class Notifier:
    """Sends READY, WATCHDOG and STOPPING to the socket that systemd named; silent where there is none.

    WATCHDOG is sent from the loop itself at half of systemd's interval, so that a loop that is stuck is restarted.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the socket and the interval from `environment`."""
        self._address = environment.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        micros = whole_number(environment.get("WATCHDOG_USEC", ""), at_most=10**15)
        meant_for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._interval_s = micros / 2e6 if micros and meant_for_us else None
        self._clock = clock
        self._due_s = -1.0

    def ready(self, status: str) -> None:
        """Say that the service has started, with one line for `systemctl status`."""
        self._send(f"READY=1\nSTATUS={status}")

    def alive(self) -> None:
        """Say that the loop goes round; costs a look at the clock unless it is due."""
        if self._interval_s is not None and self._clock() >= self._due_s:
            self._due_s = self._clock() + self._interval_s
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the service ends."""
        self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        import socket  # most cameras have nobody to tell

        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.setblocking(False)
                channel.sendto(text.encode(), self._address)
        except OSError:
            pass  # systemd is being restarted; the next message may reach it
