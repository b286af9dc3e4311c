"""The ladder's table, for a terminal and for pages."""

from __future__ import annotations

from collections.abc import Sequence

from edgecnn.text import aligned, printable
from edgecnn_export.parity.text import format_size
from edgecnn_export.repair.ladder import Attempt

HEAD = ("", "technique", "file", "verdict", "right", "interval", "drop", "bound", "camera", "size", "ms", "× plain")


def table(attempts: Sequence[Attempt]) -> list[tuple[str, ...]]:
    """Return HEAD and a row of cells for each attempt, with the reason instead of figures where it was skipped.

    `drop`, its `bound` and the drop under `camera` corruptions are in points.
    """
    return [HEAD, *(_row(each) for each in attempts)] if attempts else []


def format_attempts(attempts: Sequence[Attempt]) -> list[str]:
    """Return the table as aligned lines; the chosen file of each format has an arrow."""
    return [printable(line) for line in aligned(table(attempts), left=4)] if attempts else []


def _row(each: Attempt) -> tuple[str, ...]:
    start = ("→" if each.chosen else "", f"{each.number} {each.technique}", f"{each.precision or '-'} {each.format}")
    if each.accuracy is None or each.interval is None:
        return (*start, f"not tried: {each.skipped}")
    low, high = each.interval
    return (
        *start,
        each.verdict or "",
        f"{100 * each.accuracy:.2f} %",
        f"{100 * low:.2f}..{100 * high:.2f}",
        f"{each.drop:+.2f}",
        f"{each.drop_bound:.2f}",
        "" if each.corrupted_drop is None else f"{each.corrupted_drop:+.2f}",
        format_size(each.size_bytes),
        f"{each.latency_ms:.3f}",
        f"{each.latency_ratio:.2f}",
    )
