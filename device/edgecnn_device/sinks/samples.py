"""A ring of pictures worth labelling: those the model was unsure of, and one every so often."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cv2

from edgecnn.errors import InputError, OutputError
from edgecnn.files import make_folder
from edgecnn.text import json_text
from edgecnn_device.frames import Observation, RegionPrediction

_UNCERTAIN_EVERY_S = 1.0
_DAY_S = 86400.0
# `_stem` makes these, and nobody else: what has another name is somebody's own, and is neither counted nor removed.
_OURS = re.compile(r"\d{8}T\d{6}\.\d{6}Z-\d+-\d+")
_UNFINISHED = re.compile(rf"\.{_OURS.pattern}\.(?:png|json)\.part")


@dataclass(frozen=True)
class SampleOptions:
    """Where samples go, which are kept, and how many: answers below `below`, one frame every `every_s` seconds."""

    folder: Path
    below: float | None = None
    every_s: float | None = None
    max_bytes: int = 200_000_000
    max_age_s: float = 30 * _DAY_S


class SampleSink:
    """Keeps `<time>-<frame>-<region>.png` with a `.json` of the prediction beside it, the oldest of which go first.

    To label them, move each PNG into a folder of its class beside them: `edgecnn train FOLDER` reads those. What was moved or
    renamed, and what others put into the folder, is neither counted nor removed. The folder is this camera's alone.
    """

    name = "samples"

    def __init__(
        self,
        options: SampleOptions,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Take stock of the folder, which is created; OutputError when that is not possible, or when another camera has it.

        `wall_clock` is asked once, for the ages of what is there: boards without a battery set theirs while they run.
        """
        if options.below is None and options.every_s is None:
            raise InputError("--keep needs --keep-below PROBABILITY or --keep-every SECONDS")
        self._options = options
        self._clock = clock
        self._folder = make_folder(options.folder)
        self._unlock = weakref.finalize(self, os.close, _lock(self._folder))
        for unfinished in self._folder.iterdir():
            if _UNFINISHED.fullmatch(unfinished.name):
                unfinished.unlink(missing_ok=True)  # what a kill left
        now_s, wall_s = clock(), wall_clock()
        self._ring = deque(
            (picture, _pair_bytes(picture), now_s - max(0.0, wall_s - written_s)) for picture, written_s in _kept(self._folder)
        )
        self._bytes = sum(size for _, size, _ in self._ring)
        self._uncertain_due_s = self._wanted_due_s = now_s

    def __enter__(self) -> SampleSink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Leave the folder to others."""
        self._unlock()

    def write(self, observation: Observation) -> None:
        """Keep the regions of one observation that are wanted."""
        now_s = self._clock()
        for prediction in self._wanted(observation, now_s):
            self._keep(observation, prediction, now_s)
        self._forget(now_s)

    def _wanted(self, observation: Observation, now_s: float) -> list[RegionPrediction]:
        options, predictions = self._options, observation.predictions
        if not predictions:
            return []
        if options.every_s is not None and now_s >= self._wanted_due_s:
            self._wanted_due_s = now_s + options.every_s
            return list(predictions)
        below = options.below
        if below is None or now_s < self._uncertain_due_s:
            return []
        unsure = [prediction for prediction in predictions if prediction.raw.probability < below]
        if unsure:  # a second between them: thirty pictures of the same doubt teach nothing
            self._uncertain_due_s = now_s + _UNCERTAIN_EVERY_S
        return unsure

    def _keep(self, observation: Observation, prediction: RegionPrediction, now_s: float) -> None:
        frame = observation.frame
        assert frame is not None
        stem = f"{frame.captured_at:%Y%m%dT%H%M%S.%f}Z-{frame.number}-{prediction.region_id}"
        picture = self._folder / f"{stem}.png"
        done, encoded = cv2.imencode(".png", prediction.region.view)
        if not done:
            raise OutputError(f"cannot encode {picture} as PNG")
        body = {**observation.to_json(), "regions": [prediction.to_json()]}
        try:
            _write_whole(picture.with_suffix(".json"), (json_text(body) + "\n").encode())
            _write_whole(picture, encoded.tobytes())
        except OSError:
            picture.with_suffix(".json").unlink(missing_ok=True)
            raise
        size = _pair_bytes(picture)
        self._ring.append((picture, size, now_s))
        self._bytes += size

    def _forget(self, now_s: float) -> None:
        options = self._options
        while self._ring and (self._bytes > options.max_bytes or now_s - self._ring[0][2] > options.max_age_s):
            picture, size, _ = self._ring.popleft()
            self._bytes -= size
            picture.unlink(missing_ok=True)
            picture.with_suffix(".json").unlink(missing_ok=True)


def _kept(folder: Path) -> list[tuple[Path, float]]:
    """Return the pictures that were kept, oldest first, and when; also one that is gone, while its JSON is there.

    That is one which somebody has moved to where it is labelled, or which a kill kept from being written.
    """
    files = (path for path in sorted(folder.iterdir()) if path.suffix in (".png", ".json") and _OURS.fullmatch(path.stem))
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
