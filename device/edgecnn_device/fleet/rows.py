"""The rows of the fleet's page: what is shown of each board, and which rows have changed since a page asked last."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

from edgecnn_device.fleet.boards import Board, Boards, count_states

# A look at ten thousand boards takes a tenth of a second: it is worth no more than a twentieth of the time.
_LEAST_S, _TIMES_COST = 1.0, 20.0
_MOST_GONE = 5000


class Rows:
    """The rows as they were looked at last, each with the version in which it changed. Any thread may ask."""

    def __init__(self, boards: Boards, clock: Callable[[], float] = time.monotonic) -> None:
        """Look when it is first asked for."""
        self._boards, self._clock = boards, clock
        self._lock = threading.Lock()
        self._start = secrets.token_hex(4)
        self._version = 0
        self._rows: dict[str, tuple[int, dict[str, Any]]] = {}
        self._gone: dict[str, int] = {}
        self._found: list[Board] = []
        self._due_s = -1.0

    def look(self) -> list[Board]:
        """Return the boards, not older than a second or so."""
        with self._lock:
            self._refresh()
            return self._found

    def since(self, start: str, version: int) -> dict[str, Any]:
        """Return what has changed since `version` of the page that was served from `start`; else everything."""
        with self._lock:
            self._refresh()
            known = version if start == self._start else 0
            return {
                "start": self._start,
                "version": self._version,
                "whole": known == 0,
                "now": round(time.time(), 1),
                "ignored": self._boards.ignored,
                "rows": [row for changed, row in self._rows.values() if changed > known],
                "gone": [name for name, gone in self._gone.items() if gone > known] if known else [],
            }

    def _refresh(self) -> None:
        now_s = self._clock()
        if now_s < self._due_s:
            return
        self._found = self._boards.look()
        rows = {board.name: _row(board) for board in self._found}
        self._version += 1
        for name, row in rows.items():
            if name not in self._rows or self._rows[name][1] != row:
                self._rows[name] = self._version, row
                self._gone.pop(name, None)
        for name in self._rows.keys() - rows.keys():
            del self._rows[name]
            self._gone[name] = self._version
        if len(self._gone) > _MOST_GONE:  # every page begins again
            self._start, self._gone = secrets.token_hex(4), {}
        cost_s = self._clock() - now_s
        self._due_s = self._clock() + max(_LEAST_S, _TIMES_COST * cost_s)


def summarize(boards: list[Board]) -> dict[str, Any]:
    """Return how many boards are in each state, and how many somebody should look at."""
    return {"boards": len(boards), "states": count_states(boards), "bad": sum(board.is_bad for board in boards)}


def _row(board: Board) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": board.name,
        "group": board.group,
        "state": board.state,
        "problems": list(board.problems),
        "warning": board.warning,
        "drift": board.drift,
        "seen_at": None if board.seen_s is None else round(board.seen_s),
        "live": board.live,
    }
    report = board.report
    if report is None:
        return row
    promise, latency = report.promise, report.latency_ms
    return row | {
        "model": f"{report.model.task} {report.model.export_id[:8]}",
        "file": report.model.file,
        "promise": None
        if promise is None
        else [promise.accuracy, promise.low, promise.high, promise.pictures, f"{promise.source}, {promise.split}"],
        "answers": report.today.answers,
        "unsure": report.today.share(report.today.unsure),
        "novel": report.today.share(report.today.novel),
        "fps": report.fps,
        "ms": None if latency is None else latency.p50,
        "page": report.page,
        "pictures": report.pictures,
        "edgecnn": report.edgecnn,
        "host": report.host,
    }
