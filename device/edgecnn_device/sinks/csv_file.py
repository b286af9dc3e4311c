"""CSV: one row a region, or one row without a region for a frame that has none."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from types import TracebackType
from typing import Any

from edgecnn.text import printable
from edgecnn_device.frames import Observation
from edgecnn_device.sinks.line_file import LineFile

_FRAME = ("captured_at", "frame", "source", "state", "reason", "age_ms")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
# How HEADER begins, in other versions too, also where a crash has cut it short.
OURS = re.compile(rb"captured_at,(?:frame,source,state,|[^\n]{0,40}\Z)")
_REGION = ("id", "x", "y", "w", "h", "label", "class_id", "probability", "smoothed_label", "smoothed_probability")
_JUMP = "clock_jump_s"
_EVENT = ("event", "outcome", "direction", "seconds")  # of a trigger


class CsvSink:
    """Appends rows; all rows of a frame are written at once."""

    name = "csv"
    usual_bytes = (0, 105)  # of a line, and of each region in it

    def __init__(self, path: Path, *, max_bytes: int, keep: int) -> None:
        """Open the file; OutputError when that is not possible."""
        self.file = LineFile(path, max_bytes=max_bytes, keep=keep, header=HEADER, ours=OURS)

    def __enter__(self) -> CsvSink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.file.close()

    def write(self, observation: Observation) -> None:
        """Append the rows of one observation."""
        self.file.append(csv_rows(observation))


def csv_rows(observation: Observation) -> bytes:
    """Return the rows of one observation under HEADER; a rejected label is an empty cell."""
    body = observation.to_json()
    frame, event = [body.get(key) for key in _FRAME], body.get("event", {})
    last = [body.get(_JUMP), *[event.get(key) for key in ("id", *_EVENT[1:])]]
    rows = [[*frame, *_cells(region), *last] for region in body["regions"]]
    return _rows(rows or [[*frame, *[None] * len(_REGION), *last]])


def _cells(region: dict[str, Any]) -> list[Any]:
    smoothed = region["smoothed"]
    answer = [region["label"], region["class_id"], region["probability"], smoothed["label"], smoothed["probability"]]
    return [region["id"], *region["box"], *answer]


def _rows(rows: list[list[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[_inert(cell) for cell in row] for row in rows])
    return text.getvalue().encode()


def _inert(cell: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula, and no terminal acts upon (OWASP, "CSV Injection").

    Names of files and labels are other people's text.
    """
    if not isinstance(cell, str):
        return cell
    text = printable(cell)
    return f"'{text}" if cell.startswith(_FORMULA) else text


HEADER = _rows([[*_FRAME, *_REGION, _JUMP, *_EVENT]])
