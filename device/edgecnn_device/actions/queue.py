"""Events that wait for what may take long: a bounded queue before a thread, which never makes the camera wait."""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecnn.errors import EdgecnnError, InputError, OutputError
from edgecnn.files import make_folder, read_bytes, write_bytes

MOST_WAITING = 100
_FIRST_RETRY_S, _LONGEST_RETRY_S = 1.0, 300.0
_TOO_OLD_S = 86400.0
_FLUSH_S = 1.0
_MOST_BYTES = 16_000_000


class Retry(Exception):  # noqa: N818  # no failure yet
    """It did not work this time, and may the next."""


@dataclass(frozen=True)
class Event:
    """What happened: an `id` that stays the same however often it is delivered, and when, in seconds since 1970."""

    id: str
    at: float
    body: dict[str, Any]


@dataclass(eq=False)
class Tally:
    """How often an action was asked for, done, given up, and lost because too many waited."""

    asked: int = 0
    done: int = 0
    failed: int = 0
    dropped: int = 0


class Queue:
    """Delivers events one after the other in a thread of its own.

    `deliver` raises Retry for what is to be tried again, after 1 s, 2 s, up to 5 min, for a day; OSError or EdgecnnError for
    what is to be given up. What waits is kept in `file`, where there is one, and delivered after a restart.
    """

    def __init__(
        self,
        deliver: Callable[[Event], None],
        *,
        file: Path | None = None,
        notice: Callable[[str], None] = lambda line: None,
        most: int = MOST_WAITING,
        first_retry_s: float = _FIRST_RETRY_S,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Take over what `file` has; nothing is delivered before `start`."""
        self.tally, self.trouble = Tally(), ""
        self._deliver, self._file, self._notice, self._most = deliver, file, notice, most
        self._first_retry_s, self._wall_clock = first_retry_s, wall_clock
        self._news: deque[str] = deque(maxlen=1)
        self._waiting: deque[Event] = deque(self._load())
        self._saved = len(self._waiting) > 0
        self._changed = threading.Condition()
        self._ends = False
        self._thread = threading.Thread(target=self._run, name="action", daemon=True)

    @property
    def waiting(self) -> int:
        """How many events are not delivered yet."""
        return len(self._waiting)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def put(self, event: Event) -> None:
        """Add an event; OutputError when the oldest was dropped for it, and once for each new trouble."""
        with self._changed:
            self.tally.asked += 1
            full = len(self._waiting) >= self._most
            if full:
                self._waiting.popleft()
                self.tally.dropped += 1
            self._waiting.append(event)
            self._changed.notify_all()
        if full:
            raise OutputError(f"more than {self._most} events wait: the oldest was dropped")
        self.complain()

    def complain(self) -> None:
        """Raise OutputError for a trouble that nobody has heard of yet."""
        if news := self.news():
            raise OutputError(news)

    def news(self) -> str:
        """Return a trouble that nobody has heard of yet, once; mostly nothing."""
        return self._news.pop() if self._news else ""

    def stop(self) -> int:
        """Give a second to what waits; return how many events are left, which only a file keeps."""
        deadline_s = time.monotonic() + _FLUSH_S
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, max(0.0, deadline_s - time.monotonic()))
            self._ends = True
            self._changed.notify_all()
        self._thread.join(_FLUSH_S)
        self._save()
        return len(self._waiting)

    def _run(self) -> None:
        attempts = 0
        while (event := self._next()) is not None:
            self._save()  # before anybody hears of it: it is delivered twice rather than never
            if self._try(event, attempts):
                attempts = 0
                with self._changed:
                    if self._waiting and self._waiting[0] is event:
                        self._waiting.popleft()
                    self._changed.notify_all()
                self._save()
            else:
                attempts += 1
                self._pause(attempts)

    def _next(self) -> Event | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ends)
            return None if self._ends else self._waiting[0]

    def _try(self, event: Event, attempts: int) -> bool:
        """Deliver; False when it is to be tried again."""
        try:
            self._deliver(event)
        except Retry as error:
            if self._wall_clock() < event.at + _TOO_OLD_S:
                self._note(f"{error}; tried again")
                return False
            self._give_up(f"{error}; given up after a day")
        except (OSError, EdgecnnError) as error:
            self._give_up(f"{error}; given up")
        else:
            self.tally.done += 1
            self.trouble = ""
        return True

    def _give_up(self, text: str) -> None:
        self.tally.failed += 1
        self._note(text)

    def _note(self, text: str) -> None:
        if text != self.trouble:
            self.trouble = text
            self._news.append(text)

    def _pause(self, attempts: int) -> None:
        """Wait, each time twice as long, and not in step with others that wait for the same."""
        pause_s = min(self._first_retry_s * 2 ** min(attempts - 1, 20), _LONGEST_RETRY_S) * random.uniform(0.8, 1.2)
        with self._changed:
            self._changed.wait_for(lambda: self._ends, pause_s)

    def _save(self) -> None:
        """Write what waits, or take the file away when nothing does."""
        if self._file is None:
            return
        with self._changed:
            events = [[event.id, event.at, event.body] for event in self._waiting]
        try:
            if events:
                make_folder(self._file.parent)
                write_bytes(self._file, json.dumps(events).encode())
            elif self._saved:
                self._file.unlink(missing_ok=True)
            self._saved = bool(events)
        except (EdgecnnError, OSError) as error:
            self._note(f"what waits cannot be kept: {error}")

    def _load(self) -> list[Event]:
        """Return what waited at the last end, but for what is too old; what cannot be read is said to be lost."""
        if self._file is None or not self._file.exists():
            return []
        try:
            body = json.loads(read_bytes(self._file, at_most=_MOST_BYTES))
            events = [Event(str(each[0]), float(each[1]), dict(each[2])) for each in body]
        except (InputError, ValueError, TypeError, IndexError, KeyError, RecursionError):
            self._notice("events that waited for an action at the last end cannot be read and are lost")
            return []
        fresh = [event for event in events if self._wall_clock() < event.at + _TOO_OLD_S][-self._most :]
        if old := len(events) - len(fresh):
            self.tally.dropped += old
            self._notice(f"{old} events that waited for an action at the last end are older than a day and dropped")
        return fresh


def queue_file(folder: Path | None, label: str, target: str) -> Path | None:
    """Return where the events of a rule wait over a restart."""
    name = hashlib.sha256(f"{label}\0{target}".encode("utf-8", "replace")).hexdigest()[:16]
    return None if folder is None else folder / f"action-{name}.json"
