"""JSON Lines: one object a frame."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from types import TracebackType

from edgecnn.classifier import Prediction
from edgecnn.text import json_string
from edgecnn_device.frames import Observation, RegionPrediction
from edgecnn_device.sinks.line_file import LineFile

# How `json_line` begins, also where a crash has cut the first line short.
OURS = re.compile(rb'\{"frame": ?(?:(?:null|\d+), ?"source": ?"|[^\n]{0,40}\Z)')


_encode = json.JSONEncoder(separators=(",", ":")).encode


class JsonLinesSink:
    """Appends each observation's `to_json()` as one line."""

    name = "jsonl"
    usual_bytes = (220, 150)  # of a line, and of each region in it

    def __init__(self, path: Path, *, max_bytes: int, keep: int) -> None:
        """Open the file; OutputError when that is not possible."""
        self.file = LineFile(path, max_bytes=max_bytes, keep=keep, ours=OURS)

    def __enter__(self) -> JsonLinesSink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.file.close()

    def write(self, observation: Observation) -> None:
        """Append one line."""
        self.file.append(json_line(observation).encode())


def json_line(observation: Observation) -> str:
    """Return `observation.to_json()` as one line of JSON, put together in a third of the time that it takes `json`."""
    frame, state, age_ms = observation.frame, observation.state, observation.age_ms
    number = "null" if frame is None else frame.number
    captured_at = "null" if frame is None else f'"{frame.captured_at.isoformat(timespec="milliseconds")}"'
    age = "null" if age_ms is None else f"{age_ms:.1f}"
    latency = ",".join([f'"{stage}":{ms:.3f}' for stage, ms in observation.latency_ms.items()])
    regions = ",".join([_region(prediction) for prediction in observation.predictions])
    media_time = "" if frame is None or frame.media_time_s is None else f',"media_time_s":{frame.media_time_s:.3f}'
    jump = "" if observation.clock_jump_s is None else f',"clock_jump_s":{observation.clock_jump_s:.3f}'
    reason = "" if state.name == "ok" else f',"reason":{_quoted(state.reason)}'
    warning = f',"warning":{_quoted(observation.warning)}' if observation.warning else ""
    drift = "" if observation.drift is None else f',"drift":{_encode(observation.drift.to_json())}'
    event = "" if observation.event is None else f',"event":{_encode(observation.event.to_json())}'
    return (
        f'{{"frame":{number},"source":{_quoted(observation.source)},"captured_at":{captured_at},"age_ms":{age},'
        f'"state":"{state.name}","latency_ms":{{{latency}}},"regions":[{regions}]{media_time}{jump}{reason}{warning}{drift}{event}}}\n'
    )


def _region(prediction: RegionPrediction) -> str:
    x, y, width, height = prediction.region.box
    where = ""
    if prediction.where is not None:
        where = f'"where":[{",".join(map(str, prediction.where))}],"where_map":"{prediction.where_map}",'
    return (
        f'{{"id":{prediction.region_id},"box":[{x},{y},{width},{height}],{_answer(prediction.raw)},{where}'
        f'"smoothed":{{{_answer(prediction.smoothed)}}}}}'
    )


def _answer(prediction: Prediction) -> str:
    label = "null" if prediction.label is None else _quoted(prediction.label)
    answer = (
        f'"label":{label},"verdict":"{prediction.verdict}","class_id":{prediction.class_id},'
        f'"probability":{prediction.probability:.6f}'
    )
    if prediction.novelty is not None:
        nearest = "null" if prediction.nearest is None else _quoted(prediction.nearest)
        answer += f',"novelty":{prediction.novelty:.3f},"nearest":{nearest}'
    if prediction.between is not None:
        answer += f',"between":[{",".join(map(_quoted, prediction.between))}]'
    return answer


@lru_cache(maxsize=256)
def _quoted(text: str) -> str:
    # A file name that is no UTF-8 comes as surrogates, which not every reader of JSON takes.
    return json_string(text.encode("utf-8", "replace").decode())
