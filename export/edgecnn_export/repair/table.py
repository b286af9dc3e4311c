"""The ladder's table, for a terminal and for pages."""

from __future__ import annotations

from collections.abc import Sequence

from edgecnn.text import printable
from edgecnn_export.parity.text import format_size
from edgecnn_export.repair.ladder import Try

HEAD = ("", "rung", "file", "verdict", "right", "interval", "drop", "bound", "camera", "size", "ms", "× plain")


def table(tries: Sequence[Try]) -> list[tuple[str, ...]]:
    """Return HEAD and a row of cells for each try, of a skipped rung the reason instead of figures; nothing for no tries.

    `drop`, its `bound` and the drop under `camera` corruptions are in points.
    """
    return [HEAD, *(_row(each) for each in tries)] if tries else []


def format_tries(tries: Sequence[Try]) -> list[str]:
    """Return the table as aligned lines; the chosen file of each format has an arrow."""
    rows = table(tries)
    widths = [max(len(row[i]) for row in rows if len(row) == len(HEAD)) for i in range(len(HEAD))]
    return [printable("  ".join(_aligned(row, widths)).rstrip()) for row in rows]


def _aligned(row: tuple[str, ...], widths: Sequence[int]) -> list[str]:
    return [cell.ljust(width) if i < 4 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=False))]


def _row(each: Try) -> tuple[str, ...]:
    start = ("→" if each.chosen else "", f"{each.number} {each.rung}", f"{each.precision or '-'} {each.format}")
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
