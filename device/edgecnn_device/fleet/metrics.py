"""`/metrics` of the fleet's page: one set of lines for each board, and sums that stay few however many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edgecnn_device.fleet.boards import BOARD_STATES, Board
from edgecnn_device.fleet.report import Report

_LABELS = ["board", "group"]
MOST_BOARDS = 2000


class FleetMetrics(Collector):
    """Reads the boards whenever the metrics are asked for.

    Labels are names of boards, groups, states and models, all of them bounded: beyond `most_boards` only the sums tell of a
    board, and `edgecnn_fleet_boards_without_metrics` says of how many.
    """

    def __init__(
        self, look: Callable[[], Sequence[Board]], is_connected: Callable[[], bool], most_boards: int = MOST_BOARDS
    ) -> None:
        """Ask `look` for the boards, and `is_connected` for the broker."""
        self._look, self._is_connected, self._most_boards = look, is_connected, most_boards
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        """Return all of them in Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Name no metrics in advance."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metric families as they are now."""
        boards = list(self._look())
        shown = boards[: self._most_boards]
        yield _gauge("broker_connected", "1 while the broker is there.", int(self._is_connected()))
        yield _gauge("boards_without_metrics", "Boards beyond the limit of this page.", len(boards) - len(shown))
        yield _boards_by_state(boards)
        yield from _board_metrics(shown)


def _boards_by_state(boards: Sequence[Board]) -> Metric:
    counts = Counter((board.group or "", board.state) for board in boards)
    family = GaugeMetricFamily("edgecnn_fleet_boards", "Boards by group and state.", labels=["group", "state"])
    for group in sorted({group for group, _ in counts} | {""}):
        for state in BOARD_STATES:
            family.add_metric([group, state], counts[group, state])
    return family


# What is told of every board, by the name of its metric.
_SEEN: dict[str, tuple[str, Callable[[Board], float | None]]] = {
    "up": ("1 for a board that runs.", lambda board: int(board.state == "running")),
    "drifting": ("1 while its pictures differ from the held-out ones.", lambda board: int(board.drift is not None)),
    "needs_look": ("1 for a board that somebody should look at.", lambda board: int(board.is_bad)),
    "last_report_timestamp_seconds": (
        "When it last reported: by the page's clock if it was heard since the page began, else by the board's.",
        lambda board: board.seen_s,
    ),
    "clock_skew_seconds": ("How far its clock is ahead of the page's.", lambda board: board.skew_s),
}
# What is told of a board that reports.
_REPORTED: dict[str, tuple[str, Callable[[Report], float | None]]] = {
    "accuracy": ("Accuracy on held-out pictures.", lambda report: report.promise.accuracy if report.promise else None),
    "accuracy_low": ("Lower end of its 95 % interval.", lambda report: report.promise.low if report.promise else None),
    "answers_today": ("Answers to different pictures today.", lambda report: report.today.answers),
    "unsure_today": ("Unsure ones of these answers.", lambda report: report.today.unsure),
    "novel_today": ("Novel ones of these answers.", lambda report: report.today.novel),
    "frames_per_second": ("Frames per second in the last minute.", lambda report: report.fps),
    "latency_seconds": (
        "Median time from a frame to its answers.",
        lambda report: report.latency_ms.p50 / 1000 if report.latency_ms else None,
    ),
    "model_refused": ("1 while another model runs than its file.", lambda report: int(report.model.refused)),
    "uptime_seconds": ("Seconds since the camera began.", lambda report: report.running_s),
}


def _board_metrics(boards: Sequence[Board]) -> Iterator[Metric]:
    """Yield a family for each figure; a board that does not tell it has no line in it."""
    for name, (text, seen) in _SEEN.items():
        yield _per_board(name, text, [(board, seen(board)) for board in boards])
    for name, (text, reported) in _REPORTED.items():
        yield _per_board(name, text, [(board, reported(board.report)) for board in boards if board.report is not None])
    yield _states(boards)
    yield _models(boards)


def _per_board(name: str, text: str, values: Sequence[tuple[Board, float | None]]) -> Metric:
    family = GaugeMetricFamily(f"edgecnn_fleet_board_{name}", text, labels=_LABELS)
    for board, value in values:
        if value is not None:
            family.add_metric([board.name, board.group or ""], value)
    return family


def _states(boards: Sequence[Board]) -> Metric:
    family = GaugeMetricFamily("edgecnn_fleet_board_state", "1 for its state.", labels=[*_LABELS, "state"])
    for board in boards:
        family.add_metric([board.name, board.group or "", board.state], 1)
    return family


def _models(boards: Sequence[Board]) -> Metric:
    family = GaugeMetricFamily(
        "edgecnn_fleet_board_info", "1, with what it runs.", labels=[*_LABELS, "task", "export_id", "edgecnn"]
    )
    for board in boards:
        if (report := board.report) is not None:
            model = report.model
            family.add_metric([board.name, board.group or "", model.task, model.export_id, report.edgecnn], 1)
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"edgecnn_fleet_{name}", text, value=value)
