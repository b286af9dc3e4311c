"""What was done and what came of it, as rows of the tables in docs/reference/reliability.md; nothing there is written by hand.

A table stands between `<!-- NAME -->` and `<!-- end -->`. `make test-faults` names the page in EDGECNN_RELIABILITY.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

SEED = int(os.environ.get("EDGECNN_FAULT_SEED", "0"))
_HEAD = "| fault | cases | what came of it |\n|---|---:|---|\n"


@dataclass(frozen=True)
class Row:
    """One line of the table `table`: the fault, how often it was tried, and what came of it."""

    table: str
    fault: str
    cases: int
    outcome: str


class Ledger:
    """Collects rows while tests run."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._started_s = time.monotonic()

    def note(self, table: str, fault: str, cases: int, outcome: str) -> None:
        """Add a row; a test calls this when its demands are met."""
        self.rows.append(Row(table, fault, cases, outcome))

    def write(self, page: Path) -> None:
        """Replace the tables of the page for which there are rows; which run it was is said by one that made all of them."""
        text = page.read_text("utf-8")
        tables = list(dict.fromkeys(row.table for row in self.rows))
        for table in tables:
            rows = [f"| {row.fault} | {row.cases:,} | {row.outcome} |\n" for row in self.rows if row.table == table]
            text = _put(text, table, _HEAD + "".join(rows))
        if {"run", "end", *tables} >= set(re.findall(r"<!-- ([\w-]+) -->", text)):
            minutes = (time.monotonic() - self._started_s) / 60
            text = _put(text, "run", f"Seed {SEED}, {minutes:.0f} minutes on {_machine()}.\n")
        page.write_text(text, "utf-8")


def counted(counts: dict[str, int]) -> str:
    """Say how often each outcome was seen: `12 refused, 3 opened`."""
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count) or "nothing"


def _put(text: str, table: str, content: str) -> str:
    pattern = re.compile(rf"(<!-- {table} -->\n).*?(<!-- end -->)", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"the page has no table {table}")
    return pattern.sub(lambda found: found[1] + content + found[2], text)


def _machine() -> str:
    cores = len(os.sched_getaffinity(0))
    packages = ("ai-edge-litert", "onnxruntime", "opencv-python-headless", "keras", "starlette", "uvicorn")
    versions = ", ".join(f"{name} {_version(name)}" for name in packages)
    return f"{cores} cores ({platform.machine()}), Python {sys.version.split()[0]}, {versions}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
