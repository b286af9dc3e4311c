"""Figures about the ARM side, and their page, docs/reference/arm.md, of which every table is written by a test."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Difference:
    """How the answers of two machines to the same `pictures` differ.

    `differing` pictures have any output that is not the same, `largest_lsb` is the largest difference in steps of the output's
    quantization, `flips` counts other most probable classes.
    """

    pictures: int
    differing: int
    largest_lsb: int
    flips: int


def compare(reference: NDArray[np.float32], candidate: NDArray[np.float32], scale: float) -> Difference:
    """Compare dequantized outputs `(n, classes)` whose quantization has this scale."""
    steps = np.rint((candidate.astype(np.float64) - reference) / scale).astype(np.int64)
    return Difference(
        len(steps),
        int((steps != 0).any(axis=1).sum()),
        int(np.abs(steps).max(initial=0)),
        int((reference.argmax(axis=1) != candidate.argmax(axis=1)).sum()),
    )


def regressions(
    recorded: Mapping[str, Mapping[str, int]], counted: Mapping[str, Mapping[str, int]], tolerance: float
) -> list[str]:
    """Say of each figure `[processor][step]` that grew by more than `tolerance` (a share) how much it grew."""
    return [
        f"{step} on {processor}: {counted[processor][step]:,} instructions, {before:,} were recorded "
        f"({counted[processor][step] / before - 1:+.1%})"
        for processor, steps in recorded.items()
        for step, before in steps.items()
        if counted[processor][step] > before * (1 + tolerance)
    ]


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table; numbers stand at the right."""
    numeric = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(header))]
    rule = "|".join("---:" if right else "---" for right in numeric)
    lines = [f"| {' | '.join(header)} |", f"|{rule}|"]
    lines += [f"| {' | '.join(f'{cell:,}' if isinstance(cell, int) else str(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Board:
    """A board, its processor, and how many million instructions a second one of its cores was measured to execute.

    `mips` is the rating of 7-Zip's benchmark (a load of branches and cache misses), published in sbc-bench's results
    (github.com/ThomasKaiser/sbc-bench): of one thread, or a quarter of that of four threads where no other is published.
    """

    name: str
    processor: str
    mips: int


BOARDS = (
    Board("Zero 2 W, 1.0 GHz", "cortex-a53", 3030 // 4),  # Results.md, Raspberry Pi Zero 2 at 1000 MHz
    Board("Pi 3 B+, 1.4 GHz", "cortex-a53", 3600 // 4),  # Results.md, Raspberry Pi 3 B+ at its own clock
    Board("Pi 4 B, 1.8 GHz", "cortex-a72", 5760 // 4),  # Results.md, Raspberry Pi 4 B at 1800 MHz, arm64
    Board("Pi 5, 2.4 GHz", "cortex-a76", 2967),  # results/reviews/RPi-5B-Rev1.0.md, single-threaded
)
SPREAD = 2  # how far the rate of this program may lie from that of 7-Zip, as a factor; nothing was measured on a board


def instruction_table(record: Mapping[str, Any]) -> str:
    """Return the table of the recorded counts: `arm_counts.record`."""
    header = ("model", "processor", "instructions per inference", "instructions per frame of the camera loop")
    rows = [
        (task, processor, steps["inference"], steps["frame"])
        for task, model in record["models"].items()
        for processor, steps in model["instructions"].items()
    ]
    return table(header, rows)


def budget_table(record: Mapping[str, Any]) -> str:
    """Return the estimated time of a frame on each board, and frames a second: counted instructions by published rates."""
    models = record["models"]
    header = ["board", *(f"{task}: {figure}" for task in models for figure in ("ms a frame", "frames a second"))]
    rows = [[board.name, *(text for model in models.values() for text in _estimates(model, board))] for board in BOARDS]
    return table(header, rows)


def _estimates(model: Mapping[str, Any], board: Board) -> tuple[str, str]:
    ms = model["instructions"][board.processor]["frame"] / board.mips / 1000
    return _range(ms), _range(1000 / ms)


def _range(estimate: float) -> str:
    """Return two digits of an estimate and its bounds."""
    middle, low, high = (f"{float(f'{value:.2g}'):g}" for value in (estimate, estimate / SPREAD, estimate * SPREAD))
    return f"{middle} ({low} to {high})"


class Page:
    """Collects tables while tests run, and puts them into a page between `<!-- NAME -->` and `<!-- end -->`."""

    def __init__(self) -> None:
        self.tables: dict[str, tuple[tuple[str, ...], list[tuple[Any, ...]]]] = {}

    def add(self, name: str, header: tuple[str, ...], *row: Any) -> None:
        """Add a row to a table."""
        self.tables.setdefault(name, (header, []))[1].append(row)

    def write(self, path: Path) -> None:
        """Replace the tables that have rows, and leave the others as they are."""
        text = path.read_text("utf-8")
        for name, (header, rows) in self.tables.items():
            text = put(text, name, table(header, rows))
        path.write_text(text, "utf-8")


def put(text: str, name: str, content: str) -> str:
    """Return a page with other content between its marks; ValueError when it has no such place."""
    pattern = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    changed, count = pattern.subn(lambda found: found[1] + content + found[2], text)
    if count != 1:
        raise ValueError(f"the page has {count} places called {name}, expected one")
    return changed


def page_path() -> Path | None:
    """Return the page that this run is to write, None when it is to write none: EDGECNN_ARM_PAGE."""
    named = os.environ.get("EDGECNN_ARM_PAGE")
    return Path(named) if named else None
