"""A ring of pictures worth labelling, and a random share of all others by which a model can be measured honestly."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import re
import stat
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from edgecnn.errors import EdgecnnError, OutputError
from edgecnn.files import make_folder
from edgecnn.samples.folder import NAME
from edgecnn.samples.labels import LabelLog
from edgecnn.samples.likeness import DUPLICATE, Features, decode_features, distances, encode_features
from edgecnn.text import json_text
from edgecnn_device.frames import Observation, RegionPrediction
from edgecnn_device.sinks.timeline import Timeline

if TYPE_CHECKING:
    from edgecnn.artifacts import Contract

_UNFINISHED = re.compile(rf"\.{NAME.pattern}\.(?:png|json)\.part")
_USEFUL_EVERY_S = 1.0
_FORGET_EVERY_S = 60.0
_DAY_S = 86400.0
_REMEMBERED = 256  # features of samples, by which duplicates are told
# Of the bytes: what doubt alone may fill at once, and what the random share is left with when room is made.
_BURST, _RANDOM_PART = 0.25, 0.25


@dataclass(frozen=True)
class SampleOptions:
    """Where samples go and how many: beside doubtful ones a random frame per `every_s` seconds on average.

    Answers below the probability `below` are doubtful too. The folder never exceeds `max_bytes`; labelled samples are the last
    to go, and do not age.
    """

    folder: Path
    below: float | None = None
    every_s: float | None = 3600.0
    max_bytes: int = 1_000_000_000
    max_age_s: float = 90 * _DAY_S


@dataclass(frozen=True)
class _Kept:
    """A sample in the ring: its picture's path, the bytes of its files, when it was written on the clock, whether by chance."""

    picture: Path
    size: int
    written_s: float
    is_random: bool


class SampleSink:
    """Keeps `<time>-<frame>-<region>.png`, the crop that the model saw, with a `.json` of the answer and why it was kept.

    A region is kept when its answer is novel or unsure, when its class is not that of the smoothed answer (`disagrees`), and at
    random times whatever it says (`random`). Of those that were chosen, no two look the same to the model, and they come no
    faster than the ring forgets, but for a burst. The folder is this camera's alone: what was moved or renamed, and what others
    put there, is neither counted nor removed.
    """

    name = "samples"

    def __init__(
        self,
        options: SampleOptions,
        *,
        contract: Callable[[], Contract] | None = None,
        timeline: Timeline | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        seed: int | None = None,
    ) -> None:
        """Take stock of the folder, which is created; OutputError when that is not possible, or when another camera has it.

        `contract` gives that of the model which runs, `timeline` the time of a file, which passes faster than the clock's.
        `wall_clock` is asked once, for the ages of what is there: boards without a battery set theirs while they run. `seed`
        draws the random times.
        """
        self._options, self._contract, self._clock, self._timeline = options, contract, clock, timeline
        self._random = random.Random(seed)
        self._folder = make_folder(options.folder)
        self._unlock = weakref.finalize(self, os.close, _lock(self._folder))
        for unfinished in self._folder.iterdir():
            if _UNFINISHED.fullmatch(unfinished.name):
                unfinished.unlink(missing_ok=True)  # what a kill left
        now_s, wall_s = clock(), wall_clock()
        self._ring: dict[Path, _Kept] = {}
        self._recent: deque[tuple[str, Features]] = deque(maxlen=_REMEMBERED)
        for picture, written_s in _kept(self._folder):
            self._remember(picture, now_s - max(0.0, wall_s - written_s), _read_body(picture.with_suffix(".json")))
        self._credit = max(0.0, _BURST * (options.max_bytes - self._bytes()))
        self._forget_due_s = now_s
        self._credited_s = self._useful_due_s = begun_s = 0.0 if timeline is not None else now_s
        self._random_due_s = self._next_random(begun_s)
        self._log, self._labelled, self._log_print = LabelLog(self._folder), frozenset[str](), (0, 0)

    def __enter__(self) -> SampleSink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Leave the folder to others."""
        self._unlock()

    def write(self, observation: Observation) -> None:
        """Keep the regions of one observation that are wanted."""
        now_s = self._clock()
        seen_s = now_s if self._timeline is None else self._timeline.at(observation)
        for prediction, reasons in self._wanted(observation, seen_s):
            # Asked again: tiles of one frame may look the same.
            if "random" in reasons or not self._is_duplicate(prediction):
                self._keep(observation, prediction, reasons, now_s)
        if now_s >= self._forget_due_s:
            self._forget(now_s)

    def _wanted(self, observation: Observation, now_s: float) -> list[tuple[RegionPrediction, list[str]]]:
        predictions = observation.predictions
        if not predictions:
            return []
        if now_s >= self._random_due_s:  # all regions of the frame, duplicates too: else the share would not be fair
            self._random_due_s = self._next_random(now_s)
            return [(prediction, ["random", *self._doubts(prediction)]) for prediction in predictions]
        if now_s < self._useful_due_s:
            return []
        found = [(p, doubts) for p in predictions if (doubts := self._doubts(p)) and not self._is_duplicate(p)]
        if not found or not self._afford(now_s):
            return []
        self._useful_due_s = now_s + _USEFUL_EVERY_S  # thirty pictures of the same doubt teach nothing
        return found

    def _doubts(self, prediction: RegionPrediction) -> list[str]:
        """Return why an answer is worth a look."""
        raw, below = prediction.raw, self._options.below
        unsure = raw.verdict == "unsure" or (below is not None and raw.probability < below)
        reasons = {
            "novel": raw.verdict == "novel",
            "unsure": unsure,
            "disagrees": raw.class_id != prediction.smoothed.class_id,
        }
        return [reason for reason, holds in reasons.items() if holds]

    def _is_duplicate(self, prediction: RegionPrediction) -> bool:
        """Tell whether the running model sees no difference to a sample that was kept."""
        if prediction.features is None:
            return False
        own, model = decode_features(encode_features(prediction.features)), self._model()["sha256"]
        near = [known for space, known in self._recent if space == model and own is not None and len(known) == len(own)]
        return bool(near) and own is not None and bool((distances(own, np.stack(near)) < DUPLICATE).any())

    def _afford(self, now_s: float) -> bool:
        """Tell whether the ring has room for more doubt: it fills no faster than it forgets."""
        per_s, most = self._options.max_bytes / self._options.max_age_s, _BURST * self._options.max_bytes
        self._credit = min(most, self._credit + per_s * (now_s - self._credited_s))
        self._credited_s = now_s
        return self._credit > 0

    def _next_random(self, now_s: float) -> float:
        """Draw the next random time: gaps are exponential, so that no rhythm of the plant can be in step with them."""
        every_s = self._options.every_s
        return float("inf") if every_s is None else now_s + self._random.expovariate(1 / every_s)

    def _model(self) -> dict[str, str]:
        if self._contract is None:
            return {"sha256": "", "export_id": ""}
        contract = self._contract()
        return {"sha256": contract.model_sha256, "export_id": contract.export_id}

    def _keep(self, observation: Observation, prediction: RegionPrediction, reasons: list[str], now_s: float) -> None:
        frame = observation.frame
        assert frame is not None
        stem = f"{frame.captured_at:%Y%m%dT%H%M%S.%f}Z-{frame.number}-{prediction.region_id}"
        picture = self._folder / f"{stem}.png"
        done, encoded = cv2.imencode(".png", prediction.region.view)
        if not done:
            raise OutputError(f"cannot encode {picture} as PNG")
        body = self._body(observation, prediction, reasons)
        try:
            _write_whole(picture.with_suffix(".json"), (json_text(body) + "\n").encode())
            _write_whole(picture, encoded.tobytes())
        except OSError:
            picture.with_suffix(".json").unlink(missing_ok=True)
            raise
        self._remember(picture, now_s, body)
        if "random" not in reasons:
            self._credit -= self._ring[picture].size
        self._forget_due_s = now_s

    def _body(self, observation: Observation, prediction: RegionPrediction, reasons: list[str]) -> dict[str, Any]:
        raw, labels = prediction.raw, () if self._contract is None else self._contract().labels
        body = {**observation.to_json(), "regions": [prediction.to_json()], "kept": reasons, "model": self._model()}
        body["guess"] = labels[raw.class_id] if raw.class_id < len(labels) else raw.label
        if prediction.features is not None:
            body["features"] = encode_features(prediction.features)
        return body

    def _remember(self, picture: Path, written_s: float, body: dict[str, Any]) -> None:
        self._ring[picture] = _Kept(picture, _pair_bytes(picture), written_s, "random" in body.get("kept", ()))
        features = decode_features(str(body.get("features", "")))
        if features is not None:
            self._recent.append((str((body.get("model") or {}).get("sha256", "")), features))

    def _bytes(self) -> int:
        return sum(kept.size for kept in self._ring.values())

    def _forget(self, now_s: float) -> None:
        """Let go of what is old and make room: of the unlabelled first, and of the random share when it has its part."""
        self._forget_due_s = now_s + _FORGET_EVERY_S
        self._read_labels()
        options, total = self._options, self._bytes()
        by_chance = sum(kept.size for kept in self._ring.values() if kept.is_random)
        old = [kept for kept in self._ring.values() if now_s - kept.written_s > options.max_age_s]
        for kept in old:
            if kept.picture.stem not in self._labelled:
                self._remove(kept)
                total, by_chance = total - kept.size, by_chance - kept.size * kept.is_random
        while self._ring and total > options.max_bytes:
            kept = self._first_to_go(from_random=by_chance > _RANDOM_PART * options.max_bytes)
            self._remove(kept)
            total, by_chance = total - kept.size, by_chance - kept.size * kept.is_random

    def _first_to_go(self, *, from_random: bool) -> _Kept:
        """Return the oldest unlabelled sample of the part that has to give, else the oldest unlabelled one, else the oldest."""
        free = [kept for kept in self._ring.values() if kept.picture.stem not in self._labelled]
        part = (kept for kept in free if kept.is_random == from_random)
        return next(part, None) or next(iter(free), None) or next(iter(self._ring.values()))

    def _remove(self, kept: _Kept) -> None:
        del self._ring[kept.picture]
        kept.picture.unlink(missing_ok=True)
        kept.picture.with_suffix(".json").unlink(missing_ok=True)

    def _read_labels(self) -> None:
        """Learn what is labelled, where the log has changed; a log that cannot be read must not stop the ring."""
        with contextlib.suppress(OSError, EdgecnnError):
            status = self._log.path.stat()
            found = status.st_mtime_ns, status.st_size
            if found != self._log_print:
                self._labelled, self._log_print = frozenset(self._log.read().of), found


def _read_body(path: Path) -> dict[str, Any]:
    """Return what a sample's JSON says; nothing where it is gone or damaged, since the ring has to start."""
    try:
        body = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _kept(folder: Path) -> list[tuple[Path, float]]:
    """Return the pictures that were kept, oldest first, and when; also one that is gone, while its JSON is there.

    That is one which somebody has moved to where it is labelled, or which a kill kept from being written.
    """
    files = (path for path in sorted(folder.iterdir()) if path.suffix in (".png", ".json") and NAME.fullmatch(path.stem))
    statuses = ((path, path.lstat()) for path in files)
    return list(
        {path.with_suffix(".png"): status.st_mtime for path, status in statuses if stat.S_ISREG(status.st_mode)}.items()
    )


def _write_whole(path: Path, data: bytes) -> None:
    """Write beside and rename. Not flushed to the disk: a sample lost in a power cut does no harm, a loop that waits does."""
    beside = path.with_name(f".{path.name}.part")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _lock(folder: Path) -> int:
    """Return a descriptor of the folder, locked for as long as it is open; OutputError when another camera has it.

    Two cameras would each keep to the bound and exceed it together, and each would count what the other has removed.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise OutputError(f"cannot use the folder {folder}: {(error.strerror or str(error)).lower()}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise OutputError(f"--keep {folder}: another camera keeps its samples there; give each a folder of its own") from error
    except OSError:
        pass  # a file system of a network that has no locks
    return descriptor


def _pair_bytes(picture: Path) -> int:
    return sum(path.stat().st_size for path in (picture, picture.with_suffix(".json")) if path.exists())
