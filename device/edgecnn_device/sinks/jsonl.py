"""JSON Lines: one object a frame."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType

from edgecnn_device.frames import Observation
from edgecnn_device.sinks.appending import LineFile


class JsonLinesSink:
    """Appends each observation's `to_json()` as one line."""

    name = "jsonl"

    def __init__(self, path: Path, *, max_bytes: int, keep: int) -> None:
        """Open the file; OutputError when that is not possible."""
        self._file = LineFile(path, max_bytes=max_bytes, keep=keep)
        self._encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

    def __enter__(self) -> JsonLinesSink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def write(self, observation: Observation) -> None:
        """Append one line."""
        # A file name that is no UTF-8 comes as surrogates; they are written as `?`.
        self._file.append((self._encode(observation.to_json()) + "\n").encode("utf-8", "replace"))
