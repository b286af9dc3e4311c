"""What stands around a running camera: the board's temperature and throttling, the disks, the broker's queue."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edgecnn_device import board
from edgecnn_device.board import Throttling

_ASK_EVERY_S = 30.0


class Queued(Protocol):
    """A sink whose messages wait for a broker."""

    @property
    def waiting(self) -> int:
        """Messages that have not arrived."""

    @property
    def dropped(self) -> int:
        """Messages that were lost."""


class SeldomAsked:
    """The throttle flags, which cost a process where the system does not show them: asked at most twice a minute."""

    def __init__(
        self, ask: Callable[[], Throttling | None] = board.throttling, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Ask when it is first called."""
        self._ask = ask
        self._clock = clock
        self._due_s = -1.0
        self._last: Throttling | None = None

    def __call__(self) -> Throttling | None:
        """Return the newest answer."""
        if self._clock() >= self._due_s:
            self._due_s = self._clock() + _ASK_EVERY_S
            self._last = self._ask()
        return self._last


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Looks at the board; `queue` is that of the broker, `folders` are where sinks write."""

    queue: Queued | None = None
    folders: tuple[Path, ...] = ()
    celsius: Callable[[], float | None] = board.celsius
    throttling: Callable[[], Throttling | None] = field(default_factory=SeldomAsked)

    def free_bytes(self) -> dict[str, int]:
        """Return the free bytes of each folder's disk; a folder that is gone has none to tell."""
        free = {}
        for folder in self.folders:
            try:
                free[str(folder)] = shutil.disk_usage(folder).free
            except OSError:
                continue
        return free


NOTHING_AROUND = Surroundings()
