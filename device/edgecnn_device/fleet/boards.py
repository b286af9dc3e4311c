"""What is known of all boards: the newest retained messages of each, judged when somebody looks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from edgecnn.errors import InputError
from edgecnn.text import near_miss
from edgecnn_device.fleet.report import MOST_BYTES, Report, check_text, read_object, read_report
from edgecnn_device.frames import STATES

BoardState = Literal["running", "stale", "blind", "error", "unknown", "offline"]
BOARD_STATES: tuple[BoardState, ...] = ("running", "stale", "blind", "error", "unknown", "offline")
MOST_BOARDS, MOST_LEVELS = 20_000, 4
TOPICS = ("status", "state", "board")
WRONG_CLOCK_S = 30.0
# A report is late when the next two are overdue as well: a broker that was restarted costs one.
_LATE_REPORTS = 3.0
_MOST_NAME = 120


@dataclass(frozen=True)
class Heard:
    """The newest message on a topic: `at_s` is this machine's clock when it came, `live` False for one that was retained."""

    payload: bytes
    at_s: float
    live: bool


@dataclass(frozen=True)
class Board:
    """One board as this machine sees it.

    `name` is its topic below that of the fleet. `drift` says what is different from the held-out pictures. `problems` are what
    somebody should look at, empty for a healthy one. `seen_s` is when it last reported: by this machine's clock where that was
    heard (`live`), else by the board's own. `skew_s` is how far the board's clock is ahead of this machine's, None where that
    is not known; of a retained report only a clock that is ahead can be told from one that was last heard long ago.
    """

    name: str
    group: str | None
    state: BoardState
    reason: str
    problems: tuple[str, ...]
    warning: str = ""
    drift: str | None = None
    report: Report | None = None
    seen_s: float | None = None
    live: bool = False
    skew_s: float | None = None

    @property
    def is_bad(self) -> bool:
        """Whether somebody should look at it."""
        return bool(self.problems)

    def to_json(self) -> dict[str, Any]:
        """Return all that is known."""
        return {
            "name": self.name,
            "group": self.group,
            "state": self.state,
            "reason": self.reason,
            "problems": list(self.problems),
            "warning": self.warning,
            "drift": self.drift,
            "seen_at": None if self.seen_s is None else round(self.seen_s, 1),
            "live": self.live,
            "clock_skew_s": None if self.skew_s is None else round(self.skew_s, 1),
            "report": None if self.report is None else self.report.to_json(),
        }


class Boards:
    """The newest messages of every board below a prefix. `hear` may be called by another thread than the rest.

    What comes is kept as it is, and read when it is looked at: a board that publishes a thousand times a second costs no more
    than its bytes. `groups` and `known` are those of an inventory: a stated group counts before the one that a board reports.
    """

    def __init__(
        self,
        prefix: str,
        *,
        known: Mapping[str, str | None] | None = None,
        wall_clock: Callable[[], float] = time.time,
        most_boards: int = MOST_BOARDS,
    ) -> None:
        """Know nothing yet but the names that an inventory lists, each with its group or None."""
        self._prefix, self._known, self._wall_clock = prefix, dict(known or {}), wall_clock
        self._most_boards = most_boards
        self._lock = threading.Lock()
        self._heard: dict[str, dict[str, Heard]] = {}
        self._read: dict[str, tuple[bytes, Report | InputError]] = {}
        self.ignored = 0
        self.heard_at_s: float | None = None

    def hear(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """Take a message; one that is too large, of an unreadable name or of a board too many is counted as `ignored`."""
        now_s = self._wall_clock()
        name, _, kind = topic.removeprefix(f"{self._prefix}/").rpartition("/")
        with self._lock:
            self.heard_at_s = now_s
            if kind not in TOPICS:
                return
            of_board = self._heard.get(name)
            if not payload and of_board is not None:
                self._forget(name, kind)
            elif not payload or len(payload) > MOST_BYTES or not _is_name(name):
                self.ignored += bool(payload)
            elif of_board is None and len(self._heard) >= self._most_boards:
                self.ignored += 1
            else:
                self._heard.setdefault(name, {})[kind] = Heard(payload, now_s, not retained)

    def disconnected(self) -> None:
        """Forget since when nothing was heard: while the broker is away, silence says nothing of the boards."""
        with self._lock:
            for topics in self._heard.values():
                for kind, heard in topics.items():
                    topics[kind] = Heard(heard.payload, heard.at_s, live=False)

    def look(self, group: str | None = None) -> list[Board]:
        """Return all boards by name, or those of a group; those that an inventory lists and nobody has heard of are unknown."""
        with self._lock:
            heard = {name: dict(topics) for name, topics in self._heard.items()}
        names = sorted({*heard, *self._known})
        found = [self._judge(name, heard.get(name, {})) for name in names]
        return found if group is None else [board for board in found if board.group == group]

    def find(self, name: str) -> Board:
        """Return one board; one that nobody has heard of is unknown."""
        with self._lock:
            topics = dict(self._heard.get(name, {}))
        return self._judge(name, topics)

    def demand(self, name: str) -> Board:
        """Return one board; InputError with the nearest name for one that nobody has heard of and no inventory lists."""
        names = [board.name for board in self.look()]
        if name not in names:
            hint = near_miss(name, names, "edgecnn fleet list shows those that there are")
            raise InputError(f"no board is called {name[:80]!r}; {hint}")
        return self.find(name)

    def topics(self) -> list[str]:
        """Return the topics of all boards that were heard of, below the prefix."""
        with self._lock:
            return [f"{name}/{kind}" for name in self._heard for kind in TOPICS]

    def _judge(self, name: str, topics: Mapping[str, Heard]) -> Board:
        now_s = self._wall_clock()
        report, broken = self._report(name, topics.get("board"))
        heard = topics.get("board")
        said = _state(topics)
        state, reason = said.state, said.reason
        skew_s = None if heard is None or report is None else _skew(report, heard, now_s)
        seen_s = None if heard is None or report is None else heard.at_s if heard.live else report.at_s
        if state == "running" and report is not None and seen_s is not None and heard is not None:
            state, reason = _alive(report, heard, now_s) or (state, reason)
        group = self._known.get(name) or (None if report is None else report.group)
        problems = tuple(_problems(state, reason, said.drift, report, broken, skew_s))
        live = heard is not None and heard.live
        return Board(name, group, state, reason, problems, said.warning, said.drift, report, seen_s, live, skew_s)

    def _report(self, name: str, heard: Heard | None) -> tuple[Report | None, str]:
        """Return the report, or why it cannot be read; one that was read before is not read again."""
        if heard is None:
            return None, ""
        payload, found = self._read.get(name, (b"", InputError()))
        if payload != heard.payload:
            try:
                found = read_report(heard.payload)
            except InputError as error:
                found = error
            self._read[name] = heard.payload, found
        return (None, str(found)) if isinstance(found, InputError) else (found, "")

    def _forget(self, name: str, kind: str) -> None:
        """Take an empty retained message for what it is: the topic is gone."""
        self._heard[name].pop(kind, None)
        if not self._heard[name]:
            del self._heard[name]
            self._read.pop(name, None)


def count_states(boards: Iterable[Board]) -> dict[BoardState, int]:
    """Return how many boards are in each state."""
    counts = dict.fromkeys(BOARD_STATES, 0)
    for board in boards:
        counts[board.state] += 1
    return counts


def describe_skew(skew_s: float) -> str:
    """Say how far a board's clock is off."""
    return f"its clock is {duration(abs(skew_s))} {'ahead of' if skew_s > 0 else 'behind'} this machine's"


def duration(seconds: float) -> str:
    """Return a time in the two largest units that matter: `3 d 4 h`, `2 min 5 s`, `8 s`."""
    whole = round(seconds)
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    first = next((i for i, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count) or "0 s"


def _is_name(name: str) -> bool:
    try:
        check_text(name)
    except InputError:
        return False
    return 0 < len(name) <= _MOST_NAME


@dataclass(frozen=True)
class _Said:
    """What a board says of its camera."""

    state: BoardState
    reason: str = ""
    warning: str = ""
    drift: str | None = None


def _state(topics: Mapping[str, Heard]) -> _Said:
    """Return what a board's last will and its `state` say."""
    if not topics:
        return _Said("unknown", "never heard of at this broker")
    status = topics["status"].payload if "status" in topics else b""
    if status == b"offline":
        return _Said("offline")
    if status != b"online":
        return _Said("unknown", "its status cannot be read" if status else "it does not say whether it is online")
    if "state" not in topics:
        return _Said("unknown", "it is online and says nothing of its camera")
    try:
        return _read_state(read_object(topics["state"].payload))
    except InputError as error:
        return _Said("unknown", f"its state cannot be read: {error}")


def _read_state(body: Mapping[str, Any]) -> _Said:
    name, reason, warning = (body.get(key, "") for key in ("state", "reason", "warning"))
    drift = body.get("drift")
    if name not in STATES or not isinstance(reason, str) or not isinstance(warning, str):
        raise InputError("it has no state, reason and warning")
    words = drift.get("words") if isinstance(drift, dict) else None
    if drift is not None and not isinstance(words, str):
        raise InputError("its drift has no words")
    text = words if drift is None else f"{words} since {_minute(drift.get('since'))}"
    return _Said("running" if name == "ok" else name, reason, warning, text)


def _minute(at: Any) -> str:
    """Return a time of a board's as people read it, in UTC, since boards and those who look may be in different zones."""
    try:
        return f"{datetime.fromisoformat(at).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except (TypeError, ValueError, OverflowError):
        raise InputError("its drift has no time of its beginning") from None


def _skew(report: Report, heard: Heard, now_s: float) -> float | None:
    if heard.live:
        return report.at_s - heard.at_s
    return report.at_s - now_s if report.at_s > now_s + WRONG_CLOCK_S else None


def _alive(report: Report, heard: Heard, now_s: float) -> tuple[BoardState, str] | None:
    """Return another state for a board whose connection lives and whose camera does not."""
    since_s = now_s - (heard.at_s if heard.live else report.at_s)
    if since_s > _LATE_REPORTS * report.every_s:
        why = "" if heard.live else ", by its clock, which may be wrong"
        return "stale", f"online, and the last report is {duration(since_s)} old{why}"
    if report.fps == 0:
        return "stale", "no frame in the last minute"
    return None


def _problems(
    state: BoardState, reason: str, drift: str | None, report: Report | None, broken: str, skew_s: float | None
) -> Iterable[str]:
    if state != "running":
        yield f"{state}: {reason}" if reason else state
    if broken:
        yield f"its report cannot be read: {broken}"
    if report is not None and report.model.refused:
        yield "another model runs than its file"
    if drift is not None:
        yield f"drifting: {drift}"
    if skew_s is not None and abs(skew_s) > WRONG_CLOCK_S:
        yield describe_skew(skew_s)
