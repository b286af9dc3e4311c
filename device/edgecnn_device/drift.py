"""Notices that a camera's pictures are no longer like those that its model was proven on; how it tells is `edgecnn.drift`.

It judges frames that count, which are few (`distinct.py`).
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts.contract import DataInfo, DriftInfo
from edgecnn.drift import GIVEN, STATISTICS, Baseline, Bets, Detector, Floats, measure, novel_above, statistics_for
from edgecnn.errors import EdgecnnError
from edgecnn.files import make_folder, read_bytes, write_bytes
from edgecnn.quick_dataclass import dataclass
from edgecnn.records import read_record
from edgecnn_device.distinct import EVERY_S, DistinctFrames
from edgecnn_device.frames import Change, Drift, Observation, RegionPrediction
from edgecnn_device.model import Model
from edgecnn_device.sinks.timeline import Timeline

NO_BASELINE = "not judged: the model has no baseline of its held-out pictures; --drift-baseline N learns one from the camera"
_MOST_REGIONS = 4  # are measured of a frame, others the next time
_MOST_ROWS = 20_000
_SAVE_EVERY_S = 300.0
_VERSION, _MOST_BYTES = 2, 4_000_000
# Shares of classes: as far beyond the learned one as other bounds are.
_ERRORS, _MARGIN = 4.0, 0.03


@dataclass(frozen=True)
class DriftOptions:
    """How long a frame that counts is waited for, and of how many a baseline of this camera is learned (None: the model's)."""

    every_s: float = EVERY_S
    baseline: int | None = None


@dataclass(eq=False)
class _Learning:
    """Pictures of the camera until there are enough: their statistics, classes, and frames."""

    values: list[Floats]
    class_ids: list[int]
    frames: list[int]

    @property
    def count(self) -> int:
        return self.frames[-1] + 1 if self.frames else 0

    def add(self, values: Floats, class_ids: NDArray[np.int64]) -> None:
        number = self.count
        self.values += list(values)
        self.class_ids += class_ids.tolist()
        self.frames += [number] * len(values)


class DriftMonitor:
    """Bets on what each frame that counts shows, and says what has changed since when; reset when the model is exchanged."""

    def __init__(
        self,
        model: Callable[[], Model],
        options: DriftOptions,
        timeline: Timeline,
        *,
        file: Path | None = None,
        notice: Callable[[str], None] = lambda line: None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Go on with what `file` has of the same model, where there is one; `notice` hears of what begins and ends."""
        self._model, self._options, self._file, self._notice = model, options, file, notice
        self._clock, self._wall_clock = clock, wall_clock
        self._distinct = DistinctFrames(timeline, options.every_s)
        self._running: Model | None = None
        self._saved_s = clock()
        self._saving: threading.Thread | None = None
        self.drift: Drift | None = None
        self._begin(model())
        self._load()

    def add(self, observation: Observation) -> Observation:
        """Return an observation with what has drifted; one of which nothing was seen changes nothing."""
        if observation.clock_jump_s is not None:
            self._set_clock(observation.clock_jump_s)
        if (running := self._model()) is not self._running:
            self._exchange(running)
        frame = observation.frame
        if frame is not None and observation.state.name == "ok" and observation.predictions:
            judges = self._baseline is not None or self._learning is not None
            if judges and self._distinct.counts(observation, frame):
                self._count(observation.predictions, frame.captured_at.timestamp())
        return observation if self.drift is None else replace(observation, drift=self.drift)

    @property
    def judged(self) -> bool:
        """Whether a drift would be noticed now."""
        return self._baseline is not None

    def describe(self) -> str:
        """Say what is known: that nothing can be judged, how far learning is, that all is as usual, or what has drifted."""
        learning, drift = self._learning, self.drift  # the loop may change them meanwhile
        if learning is not None:
            return f"learning what is usual: {learning.count} of {self._options.baseline} pictures"
        if self._baseline is None:
            return NO_BASELINE
        if drift is None:
            return f"none in {self.counted} different pictures"
        return f"drifting: {drift.describe(self._wall_clock())}"

    def to_json(self) -> dict[str, Any]:
        """Return what the page and its status show."""
        drift = self.drift
        found = None if drift is None else drift.to_json()
        return {"text": self.describe(), "judged": self.judged, "pictures": self.counted, "drift": found}

    def close(self) -> None:
        """Save; OutputError when that is not possible."""
        if self._saving is not None:
            self._saving.join()
        if self._file is not None and (self.counted or self._learning is not None):
            _write(self._file, self._state())

    def _begin(self, running: Model) -> None:
        """Forget everything: what was seen by another model's answers says nothing of this one's."""
        contract = running.artifact.contract
        self._running, self._key = running, _key_of(running, self._options)
        self._learning = None if self._options.baseline is None else _Learning([], [], [])
        self._baseline = Baseline.read(contract.drift) if contract.drift is not None and self._learning is None else None
        self._shares: Floats | None = None
        self._learned: DriftInfo | None = None
        self._restart()

    def _exchange(self, running: Model) -> None:
        """Begin again, but for the very model that was asked for again."""
        if _key_of(running, self._options) == self._key:
            self._running = running
        else:
            self._begin(running)

    def _restart(self) -> None:
        self.counted = 0
        streams = 0 if self._baseline is None else len(self._baseline.streams)
        self._detector = Detector(streams + (0 if self._shares is None else len(self._shares)))
        self._reported: dict[int, float] = {}
        self._noticed: set[tuple[str, str]] = set()
        self.drift = None

    def _count(self, predictions: Sequence[RegionPrediction], at: float) -> None:
        first, step = self.counted % max(1, -(-len(predictions) // _MOST_REGIONS)), -(-len(predictions) // _MOST_REGIONS)
        chosen = predictions[first::step]
        assert self._running is not None
        above = novel_above(self._running.classifier)
        values = np.array([measure(each.input, each.raw, above) for each in chosen])
        class_ids = np.array([each.raw.class_id for each in chosen], np.int64)
        self.counted += 1
        if self._learning is not None:
            self._learn(self._learning, values, class_ids)
        elif self._baseline is not None:
            bets = _with_shares(self._baseline.bets(values, class_ids), class_ids, self._shares, self._needed())
            began_or_ended = self._detector.add(bets, at)
            if began_or_ended or self._detector.drifting.any():
                self._report()
            self._save_if_due(at_once=began_or_ended)

    def _needed(self) -> int:
        return self._options.baseline or 1

    def _learn(self, learning: _Learning, values: Floats, class_ids: NDArray[np.int64]) -> None:
        learning.add(values, class_ids)
        enough = learning.count >= self._needed() or len(learning.values) >= _MOST_ROWS
        if not enough:
            self._save_if_due(at_once=False)
            return
        assert self._running is not None
        labels, preprocessing = self._running.classifier.labels, self._running.classifier.preprocessing
        ids = np.array(learning.class_ids)
        found = Baseline.fit(
            statistics_for(preprocessing), np.array(learning.values), ids, len(labels), np.array(learning.frames)
        )
        data = DataInfo("this camera", "learned", learning.count, "", labelled=False)
        self._learned, self._learning = found.to_info(data, learning.count), None
        self._baseline = Baseline.read(self._learned)
        self._shares = np.bincount(ids, minlength=len(labels)) / len(ids)
        self._restart()
        self._notice(f"drift: learned what is usual from {data.count} pictures of this camera")
        self._save_if_due(at_once=True)

    def _report(self) -> None:
        """Say what drifts now; sizes are said again only when they have changed by much."""
        changes = []
        for stream in np.flatnonzero(self._detector.drifting).tolist():
            since, by = self._detector.began(stream)
            said = self._reported.get(stream)
            if said is None or abs(by - said) > max(0.25 * abs(said), 0.1):
                self._reported[stream] = said = by
            changes.append(self._change(stream, since, said))
        self._reported = {stream: by for stream, by in self._reported.items() if self._detector.drifting[stream]}
        changes.sort(key=lambda change: change.since)
        self.drift = Drift(tuple(changes)) if changes else None
        if self.drift is None:
            self._noticed = set()
            self._notice("drift ended: the pictures are as usual again")
            return
        names = {(each.what, each.direction) for each in self.drift.changes}
        # What begins given the rest, while something drifts already, is mostly that same thing seen by one more statistic.
        if any(not self._noticed or not what.endswith(GIVEN) for what, _ in names - self._noticed):
            self._notice(f"drifting: {self.drift.describe(self._wall_clock())}")
        self._noticed |= names

    def _change(self, stream: int, since: float, by: float) -> Change:
        assert self._baseline is not None and self._running is not None
        streams = self._baseline.streams
        if stream < len(streams):
            at, way = streams[stream]
            statistic = self._baseline.columns[at]
            return Change(
                statistic.name, "rises" if way else "falls", by, statistic.describe(abs(by) if way else -abs(by)), since
            )
        class_id = stream - len(streams)
        label = self._running.classifier.labels[class_id]
        assert self._shares is not None
        usual = float(self._shares[class_id])
        return Change(
            f"share of {label}", "rises", by, f"more {label} than ever ({usual + by:.0%}, {usual:.0%} is usual)", since
        )

    def _set_clock(self, jump_s: float) -> None:
        """Move what was noted by the clock as it was."""
        self._detector.since += jump_s
        if self.drift is not None:
            self.drift = Drift(tuple(replace(each, since=each.since + jump_s) for each in self.drift.changes))

    def _save_if_due(self, *, at_once: bool) -> None:
        if self._file is None or (not at_once and self._clock() < self._saved_s + _SAVE_EVERY_S):
            return
        if self._saving is not None and self._saving.is_alive():
            return
        self._saved_s = self._clock()
        # In a thread: a card may take its time, and the next frame does not wait.
        self._saving = threading.Thread(target=self._save, args=(self._file, self._state()), daemon=True)
        self._saving.start()

    def _save(self, file: Path, state: dict[str, Any]) -> None:
        try:
            _write(file, state)
        except EdgecnnError as error:
            self._notice(f"what is known of a drift could not be saved: {error}")

    def _state(self) -> dict[str, Any]:
        detector, learning = self._detector, self._learning
        body: dict[str, Any] = {
            "version": _VERSION,
            "model": self._key,
            "counted": self.counted,
            "detector": {name: np.asarray(value, float).tolist() for name, value in vars(detector).items()},
            "reported": {str(stream): by for stream, by in self._reported.items()},
        }
        if learning is not None:
            body["learning"] = [_packed(np.array(learning.values)), learning.class_ids, learning.frames]
        if self._learned is not None and self._shares is not None:
            body |= {"learned": asdict(self._learned), "shares": self._shares.tolist()}
        return body

    def _load(self) -> None:
        """Take over what was saved of the same model; what a broken card made of it is worth less than a camera that starts."""
        if self._file is None or not self._file.exists():
            return
        try:
            body = json.loads(read_bytes(self._file, at_most=_MOST_BYTES))
            if (body["version"], body["model"]) != (_VERSION, self._key):
                return
            if "learned" in body:
                self._learned = read_record(DriftInfo, body["learned"], "drift")
                self._baseline, self._learning = Baseline.read(self._learned), None
                self._shares = _finite(body["shares"], (len(self._model().classifier.labels),))
                self._restart()
            if "learning" in body and self._learning is not None:
                packed, class_ids, frames = body["learning"]
                values = list(_unpacked(packed))
                self._learning = _Learning(values, [int(each) for each in class_ids], [int(each) for each in frames])
                if not len(values) == len(class_ids) == len(frames):
                    raise ValueError("rows of different length")
            found = {name: _finite(body["detector"][name], np.shape(value)) for name, value in vars(self._detector).items()}
            reported = {int(stream): float(by) for stream, by in body["reported"].items()}
            counted = int(body["counted"])
        except (EdgecnnError, ValueError, KeyError, TypeError, AttributeError, RecursionError, IndexError):
            self._begin(self._model())
            return
        for name, value in found.items():
            setattr(self._detector, name, value if name != "drifting" else value > 0)
        self._reported, self.counted = reported, counted
        if self._detector.drifting.any():
            self._report()


def _with_shares(bets: Bets, class_ids: NDArray[np.int64], shares: Floats | None, learned: int) -> Bets:
    """Add a bet on the share of each class in a frame, where the usual `shares` were learned of so many frames."""
    if shares is None:
        return bets
    seen = np.bincount(class_ids, minlength=len(shares))[: len(shares)] / len(class_ids)
    error = np.sqrt((shares * (1 - shares) + 1 / learned) / learned)
    bounds = np.minimum(shares + _ERRORS * error + _MARGIN, 1.0)
    pairs = (bets.e_values, seen / bounds), (bets.most, 1 / bounds), (bets.shifts, seen - shares)
    return Bets(*(np.concatenate(pair) for pair in pairs))


def state_file(folder: Path | None, source: str, model: str, where: str) -> Path | None:
    """Return where a camera keeps what it knows of a drift: a file for each source, model and place in the picture."""
    name = hashlib.sha256("\0".join((source, model, where)).encode("utf-8", "replace")).hexdigest()[:16]
    return None if folder is None else folder / f"drift-{name}.json"


def _key_of(model: Model, options: DriftOptions) -> str:
    contract = model.artifact.contract
    table = "" if contract.drift is None else contract.drift.table
    parts = (contract.model_sha256, contract.export_id, table, ",".join(contract.labels), str(options.baseline))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _write(file: Path, state: dict[str, Any]) -> None:
    make_folder(file.parent)
    write_bytes(file, json.dumps(state).encode())


def _packed(values: Floats) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def _unpacked(text: str) -> Floats:
    found = np.frombuffer(base64.b64decode(text, validate=True), "<f4").reshape(-1, len(STATISTICS))
    return found.astype(np.float64)


def _finite(values: Any, shape: tuple[int, ...]) -> Floats:
    found = np.array(values, np.float64).reshape(shape)
    if not np.isfinite(found).all():
        raise ValueError("expected finite numbers")
    return found
