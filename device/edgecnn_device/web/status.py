"""The figures of the camera and its model card, as JSON."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgecnn.artifacts.contract import ParityInfo
from edgecnn.text import points
from edgecnn_device.classes import NO_CLASSES, Classes
from edgecnn_device.frames import STAGES
from edgecnn_device.loop import Statistics
from edgecnn_device.model import Model
from edgecnn_device.surroundings import NOTHING_AROUND, Surroundings
from edgecnn_device.web.broadcast import Broadcast

if TYPE_CHECKING:
    from edgecnn_device.actions.sink import ActionSink
    from edgecnn_device.drift import DriftMonitor


class Counted(Protocol):
    """What is asked of a source."""

    @property
    def losses(self) -> int:
        """Failures of the camera."""

    @property
    def skipped(self) -> int:
        """Frames that nobody took in time."""

    @property
    def retry_s(self) -> float | None:
        """When a lost camera is tried again, on the monotonic clock; None while it is being tried, or is there."""


@dataclass(frozen=True, eq=False)
class Watched:
    """What the page looks at while the loop runs: its counters, its source, its model and how often that was exchanged.

    `surroundings` are the board, its disks and its broker; `drift` is what notices one, `actions` what acts; None where nobody
    does.
    """

    statistics: Statistics
    source: Counted
    model: Callable[[], Model]
    swaps: Callable[[], int] = lambda: 0
    refusals: Callable[[], int] = lambda: 0
    classes: Classes = NO_CLASSES
    warning: Callable[[], str] = lambda: ""
    surroundings: Surroundings = NOTHING_AROUND
    drift: DriftMonitor | None = None
    actions: ActionSink | None = None


def read_stats(watched: Watched, broadcast: Broadcast) -> dict[str, Any]:
    """Return all figures of now; latencies and ages in milliseconds are those of the last frames."""
    statistics, view = watched.statistics, broadcast.look()
    now_s, age_s, retry_s = broadcast.counters.clock(), broadcast.age_s(), watched.source.retry_s
    return {
        "state": view.state.name,
        "reason": view.state.reason,
        "warning": watched.warning(),
        "drift": None if watched.drift is None else watched.drift.to_json(),
        "actions": [] if watched.actions is None else watched.actions.to_json(),
        "source": view.observation.source,
        "retry_in_s": None if retry_s is None else round(max(0.0, retry_s - now_s), 1),
        "now": round(time.time(), 1),
        "uptime_s": round(now_s - broadcast.counters.started_s, 1),
        "fps": round(broadcast.fps(), 2),
        "age_ms": None if age_s is None else round(1000 * age_s, 1),
        "frames": statistics.frames,
        "skipped": watched.source.skipped,
        "gated": statistics.gated,
        "losses": watched.source.losses,
        "observations": dict(statistics.states),
        "reasons": dict(statistics.reasons),
        "state_seconds": {name: round(seconds, 1) for name, seconds in broadcast.counters.states.seconds(now_s).items()},
        "labels": dict(statistics.labels),
        "sink_errors": dict(statistics.sink_errors),
        "latency_ms": {stage: _percentiles(statistics, stage) for stage in (*STAGES, "age")},
        "viewers": {kind: count for kind, count in broadcast.viewers.items() if count},
        "export_id": watched.model().artifact.contract.export_id,
    }


def read_model_card(watched: Watched) -> dict[str, Any]:
    """Return what the artifact's contract says about the model, what runs it here, and what its answers mean."""
    model, classes = watched.model(), watched.classes
    contract = model.artifact.contract
    return {
        "task": contract.task,
        "title": contract.title,
        "labels": list(model.classifier.labels),
        "defects": [label for label in model.classifier.labels if label in classes.defects],
        "reads": classes.reads,
        "model": contract.model,
        "file": model.artifact.path.name,
        "export_id": contract.export_id,
        "precision": contract.precision,
        "parameters": contract.parameters,
        "input": list(contract.preprocessing.shape),
        "reject_threshold": model.classifier.unsure_below,
        "guard": None if model.classifier.evidence is None else model.classifier.evidence.info.describe(),
        "runtime": model.classifier.runtime.name,
        "verified": model.verified,
        "training_data": None if contract.training_data is None else dataclasses.asdict(contract.training_data),
        "parity": dataclasses.asdict(contract.parity) | {"meaning": explain_parity(contract.parity)},
    }


def explain_parity(parity: ParityInfo) -> str:
    """Say in one line what a verdict means for who relies on the camera."""
    bound = "" if parity.max_drop is None else f" of {points(parity.max_drop)}"
    return {
        "pass": f"On labelled pictures this file is as right as the trained model, within the margin{bound}.",
        "undecided": f"Not proven: the pictures at hand show neither a loss beyond the margin{bound} nor that there is none.",
        "agrees": "This file answers unlabelled pictures as the trained model does, right or wrong.",
        "fail": f"This file is less often right than the trained model, by more than the margin{bound}. Export it again.",
        "not measured": "Nobody has compared this file with the trained model.",
    }[parity.verdict]


def _percentiles(statistics: Statistics, stage: str) -> dict[str, float | None]:
    values = list(statistics.latency_ms[stage])
    p50, p95 = np.percentile(values, (50, 95)).tolist() if values else (None, None)
    return {"p50": p50 and round(p50, 3), "p95": p95 and round(p95, 3)}
