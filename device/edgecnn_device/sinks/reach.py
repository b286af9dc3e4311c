"""How far back files of lines reach: estimated at the start, corrected by what they have really grown."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

from edgecnn_device.frames import Observation
from edgecnn_device.sinks.line_file import LineFile

_FIRST_S, _DAY_S = 3600.0, 86400.0
_UNITS = ((365.25 * _DAY_S, "year"), (_DAY_S, "day"), (3600.0, "hour"), (60.0, "minute"))


@dataclass(frozen=True)
class Pace:
    """How many lines a second there may be, and in which case, such as `when nothing changes`."""

    per_s: float
    case: str


class Reach:
    """A sink that writes nothing itself: it reports how far back the files of others reach.

    Once at the start, from the length of their lines; after an hour and then each day from what was appended.
    """

    name = "reach"

    def __init__(
        self,
        files: Sequence[tuple[LineFile, float]],
        paces: Sequence[Pace],
        notice: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Report on `files`, each with the usual bytes of a line where it has none yet, written at one of `paces`."""
        self._files = files
        self._paces = paces
        self._notice = notice
        self._clock = clock
        self._since_s = clock()
        self._due_s = self._since_s + _FIRST_S
        self._before = [0] * len(files)

    def __enter__(self) -> Reach:
        for file, usual_bytes in self._files:
            line_bytes = file.mean_line_bytes() or usual_bytes
            room = self._room_bytes(file)
            cases = [f"{duration(room / (line_bytes * pace.per_s))} {pace.case}" for pace in self._paces]
            self._notice(f"{file.path} and its old files hold {room / 1e6:.0f} MB: about {', '.join(cases)}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Nothing is held open."""

    def write(self, observation: Observation) -> None:
        """Report when it is time."""
        now_s = self._clock()
        if now_s < self._due_s:
            return
        for i, (file, _) in enumerate(self._files):
            per_s = (file.appended_bytes - self._before[i]) / (now_s - self._since_s)
            self._before[i] = file.appended_bytes
            if per_s > 0:
                room, a_day = self._room_bytes(file), per_s * _DAY_S / 1e6
                self._notice(
                    f"{file.path} grows by {a_day:.3g} MB a day: its {room / 1e6:.0f} MB reach back {duration(room / per_s)}"
                )
        self._since_s, self._due_s = now_s, now_s + _DAY_S

    def _room_bytes(self, file: LineFile) -> int:
        """Return what a file may hold, or what the disk has for it where that is less."""
        return min(file.capacity_bytes, file.stored_bytes() + shutil.disk_usage(file.path.parent).free)


def duration(seconds: float) -> str:
    """Return a time in its largest whole unit: `3 days`."""
    size, unit = next(((size, unit) for size, unit in _UNITS if seconds >= 2 * size), (60.0, "minute"))
    count = round(seconds / size)
    return f"{count} {unit}{'' if count == 1 else 's'}"
