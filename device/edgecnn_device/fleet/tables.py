"""The fleet as text for a terminal: a table of all boards, a summary, and all about one board."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgecnn.text import aligned, counted, percent, printable
from edgecnn_device.fleet.boards import Board, count_states, duration
from edgecnn_device.fleet.history import Rollout
from edgecnn_device.fleet.report import Promise, Report

_HEAD = ("board", "group", "state", "model", "accuracy", "unsure", "novel", "fps", "ms", "seen")
_FACT = 16


def list_lines(boards: Sequence[Board], now_s: float | None = None) -> Iterator[str]:
    """Yield the table and, below it, what somebody should look at."""
    now_s = time.time() if now_s is None else now_s
    if boards:
        yield from map(printable, aligned([_HEAD, *(_cells(board, now_s) for board in boards)], left=4))
    yield summary(boards)
    yield from map(printable, _problem_lines(boards))


def status_lines(boards: Sequence[Board]) -> Iterator[str]:
    """Yield how many boards are in which state, group and model, and what somebody should look at."""
    yield summary(boards)
    groups = Counter(board.group or "no group" for board in boards)
    models = Counter(_model(board.report) for board in boards if board.report is not None)
    versions = Counter(f"edgecnn {board.report.edgecnn}" for board in boards if board.report is not None)
    for title, counts in (("groups", groups), ("models", models), ("versions", versions)):
        if counts:
            yield printable(f"{title}: " + ", ".join(f"{name} {count}" for name, count in counts.most_common(12)))
    yield from map(printable, _problem_lines(boards))


def board_lines(board: Board, now_s: float | None = None) -> Iterator[str]:
    """Yield all that is known of one board."""
    now_s = time.time() if now_s is None else now_s
    yield printable(board.name)
    for name, text in _facts(board, now_s):
        yield printable(f"  {name:{_FACT}}{text}")


def history_lines(rollouts: Sequence[Rollout]) -> Iterator[str]:
    """Yield a line for each rollout."""
    rows = [
        [f"{each.id}", each.started_at, each.state, Path(each.file).name, each.export_id[:8], each.group or "", _counts(each)]
        for each in rollouts
    ]
    head = ["", "begun", "state", "file", "model", "group", "boards"]
    yield from map(printable, aligned([head, *rows], left=7)) if rows else ["nothing was rolled out yet"]


def rollout_lines(rollout: Rollout) -> Iterator[str]:
    """Yield how far each board of a rollout is, and what came of it."""
    rows = [[f"  {each.stage}", each.name, each.state, each.reason] for each in rollout.boards]
    yield from map(printable, aligned([["  stage", "board", "state", ""], *rows], left=4))
    yield printable(f"rollout {rollout.id} of {Path(rollout.file).name}: {rollout.state}: {_counts(rollout)}")


def _counts(rollout: Rollout) -> str:
    counts = Counter(board.state for board in rollout.boards)
    return f"{len(rollout.boards)}: " + ", ".join(f"{count} {state}" for state, count in counts.most_common())


def summary(boards: Sequence[Board]) -> str:
    """Say how many boards are in which state, and how many somebody should look at."""
    states = ", ".join(f"{count} {state}" for state, count in count_states(boards).items() if count)
    bad = sum(board.is_bad for board in boards)
    look = "nobody needs a look" if not bad else f"{bad} {'needs' if bad == 1 else 'need'} a look"
    return f"{counted(len(boards), 'board')}: {states}; {look}" if boards else "no boards"


def _problem_lines(boards: Sequence[Board]) -> Iterator[str]:
    for board in boards:
        if board.problems:
            yield f"{board.name}: {'; '.join(board.problems)}"


def _cells(board: Board, now_s: float) -> list[str]:
    report = board.report
    head = [board.name, board.group or "", board.state]
    if report is None:
        return [*head, "", "", "", "", "", "", ""]
    today, latency = report.today, report.latency_ms
    return [
        *head,
        _model(report),
        "" if report.promise is None else f"{100 * report.promise.accuracy:.1f} % (≥ {100 * report.promise.low:.1f})",
        _share(today.share(today.unsure)),
        _share(today.share(today.novel)),
        "" if report.fps is None else f"{report.fps:.1f}",
        "" if latency is None else f"{latency.p50:.1f}",
        _seen(board, now_s),
    ]


def _facts(board: Board, now_s: float) -> Iterator[tuple[str, str]]:
    yield "state", f"{board.state}{f': {board.reason}' if board.reason else ''}"
    for problem in board.problems:
        yield "look at", problem
    if board.warning:
        yield "warning", board.warning
    if board.group:
        yield "group", board.group
    report = board.report
    if report is None:
        return
    yield "seen", _seen(board, now_s)
    yield "model", f"{_model(report)}, {report.model.precision}, {report.model.file} on {report.model.runtime}"
    yield "model's SHA-256", report.model.sha256
    if report.promise is not None:
        yield "accuracy", describe_promise(report.promise)
    today = report.today
    answers = f"{counted(today.answers, 'answer')} to different pictures since {today.since}"
    yield "today", f"{answers}: {today.unsure:,} unsure, {today.novel:,} novel"
    if report.fps is not None:
        yield "frames", f"{report.fps:g} per second"
    if report.latency_ms is not None:
        yield "latency", f"{report.latency_ms.p50:g} ms, 95 % within {report.latency_ms.p95:g} ms"
    yield "drift", board.drift or "none reported"
    yield from _machine(report)


def _machine(report: Report) -> Iterator[tuple[str, str]]:
    booted = "" if report.up_s is None else f", booted {duration(report.up_s)} before"
    synchronised = {True: ", synchronised", False: ", not synchronised", None: ""}[report.clock_synchronised]
    yield "clock", f"{report.at}{synchronised}{booted}"
    yield "camera", f"runs for {duration(report.running_s)}, edgecnn {report.edgecnn} on {report.host}"
    if report.address is not None:
        yield "address", report.address
    if report.page is not None:
        yield "page", report.page


def describe_promise(promise: Promise) -> str:
    """Say an accuracy with its interval, and on what it was measured."""
    drawn = ", drawn pictures" if promise.synthetic else ""
    share = percent(promise.accuracy, (promise.low, promise.high))
    return f"{share} on {counted(promise.pictures, 'picture')} of {promise.source}, {promise.split}{drawn}"


def _model(report: Report) -> str:
    return f"{report.model.task} {report.model.export_id[:8]}"


def _share(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _seen(board: Board, now_s: float) -> str:
    if board.seen_s is None:
        return ""
    age = "now" if abs(now_s - board.seen_s) < 2 else f"{duration(max(0.0, now_s - board.seen_s))} ago"
    return age if board.live else f"{age} by its clock"
