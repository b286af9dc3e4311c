"""Everything sent to an open page, in one stream: a browser has six connections to one address for all of its windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgecnn_device.web.broadcast import Broadcast
from edgecnn_device.web.history import History
from edgecnn_device.web.status import Watched, read_model_card, read_stats
from edgecnn_device.web.today import Appearance, Today
from edgecnn_device.web.views import View, server_event

_VIEWS_S, _DAY_S, _FIGURES_S = 0.25, 0.5, 0.9


@dataclass(frozen=True, eq=False)
class Shown:
    """All that the page looks at."""

    watched: Watched
    broadcast: Broadcast
    history: History
    today: Today


class Figures:
    """The figures as an event for the page, made once a second for all that watch."""

    def __init__(self, watched: Watched, broadcast: Broadcast) -> None:
        """Have made none yet."""
        self._watched, self._broadcast = watched, broadcast
        self._event = b""
        self._due_s = 0.0

    def event(self) -> bytes:
        """Return the newest."""
        now_s = self._broadcast.counters.clock()
        if now_s >= self._due_s:
            self._event = server_event("stats", read_stats(self._watched, self._broadcast))
            self._due_s = now_s + _FIGURES_S
        return self._event


class PageFeed:
    """Knows what one page has been sent.

    Its events are `model` and `history` at the start, `picture` for each view, `view` four times a second, `stats` once a
    second, `today` and `defect` (the last picture of one) when they change.
    """

    def __init__(self, shown: Shown, figures: Figures) -> None:
        """Have sent nothing yet."""
        self._shown = shown
        self._figures = figures
        self._export_id: str | None = None
        self._pictured = self._viewed = -1
        self._state = ""
        self._view_due_s = self._day_due_s = 0.0
        self._stats = b""
        self._version = -1
        self._appearances: dict[str, Appearance] = {}

    def news(self, view: View) -> Iterator[bytes]:
        """Yield what the page does not know yet."""
        now_s = self._shown.broadcast.counters.clock()
        yield from self._model(now_s)
        if view.number != self._pictured:
            self._pictured = view.number
            yield view.picture_event
        if view.number != self._viewed and (now_s >= self._view_due_s or view.state.name != self._state):
            self._viewed, self._state, self._view_due_s = view.number, view.state.name, now_s + _VIEWS_S
            yield view.page_event
        if self._figures.event() is not self._stats:
            self._stats = self._figures.event()
            yield self._stats
        if now_s >= self._day_due_s:
            self._day_due_s = now_s + _DAY_S
            yield from self._day()

    def _model(self, now_s: float) -> Iterator[bytes]:
        export_id = self._shown.watched.model().artifact.contract.export_id
        if export_id != self._export_id:
            if self._export_id is None:
                yield server_event("history", [entry.to_json() for entry in self._shown.history.entries(now_s)])
            self._export_id = export_id
            yield server_event("model", read_model_card(self._shown.watched))

    def _day(self) -> Iterator[bytes]:
        today = self._shown.today
        body = today.to_json()  # first: at midnight it begins a new version
        if today.version == self._version:
            return
        self._version = today.version
        yield server_event("today", body)
        found = today.appearances()
        for label, seen in found.items():
            if seen is not self._appearances.get(label) and label in self._shown.watched.classes.defects:
                yield server_event("defect", {"label": label, "jpeg": seen.to_base64()})
        self._appearances = found
