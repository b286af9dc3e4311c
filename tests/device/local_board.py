"""A board that is this machine: a fake `ssh`, which runs what it is to run there, and a camera in a thread."""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts import Artifact
from edgecnn.shipped import find_task
from edgecnn.testing import START
from edgecnn_device.distinct import DistinctAnswers
from edgecnn_device.frames import OK, Frame, Observation, Region, RegionPrediction
from edgecnn_device.model import ModelOptions, ModelSlot
from edgecnn_device.sinks.timeline import Timeline
from edgecnn_device.tap import Tap

# The last argument is what the board's shell runs; the network is all that is left out.
_SSH = '#!/bin/sh\nfor last; do :; done\nexec sh -c "$last"\n'


def make_ssh(folder: Path) -> Path:
    """Write the fake `ssh` and the board's `edgecnn` into a folder, which is to stand first in PATH."""
    folder.mkdir(exist_ok=True)
    paths = os.pathsep.join(path for path in sys.path if path)
    for name, text in (
        ("ssh", _SSH),
        ("edgecnn", f'#!/bin/sh\nPYTHONPATH="{paths}" exec "{sys.executable}" -m edgecnn "$@"\n'),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


def variant(artifact: Artifact, path: Path, **changes: object) -> Path:
    """Write the artifact with another contract to a path that names it."""
    contract = dataclasses.replace(artifact.contract, export_id=path.stem, **changes)  # type: ignore[arg-type]
    dataclasses.replace(artifact, contract=contract).save(path)
    return path


@functools.cache
def pictures() -> NDArray[np.uint8]:
    task = find_task("neu")
    assert task.synthesize is not None
    return task.synthesize(6, 3).images


class ThreadCamera:
    """Runs a model file as the loop does, exchange and tap included, over pictures of synthetic steel.

    By the export ID of its model, `slow_ms` are added to what it says of its work, a picture `stands` before it instead, and it
    `crashes`.
    """

    def __init__(
        self,
        model: Path,
        *,
        slow_ms: Callable[[str], float] = lambda export_id: 0.0,
        stands: Callable[[str], NDArray[np.uint8] | None] = lambda export_id: None,
        crashes: Callable[[str], bool] = lambda export_id: False,
    ) -> None:
        self.said: list[str] = []
        self._images = pictures()
        self._slow_ms, self._stands, self._crashes = slow_ms, stands, crashes
        self._slot = ModelSlot(ModelOptions(str(model), verify=False), notice=self.said.append)
        self._slot._look_s = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> ThreadCamera:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._ended.set()
        self._thread.join()
        self._slot.close()

    @property
    def running(self) -> str:
        """The export ID of the model that runs."""
        return self._slot.current.artifact.contract.export_id

    def _run(self) -> None:
        number = 0
        distinct = DistinctAnswers(Timeline(live=True, fps=200.0), every_s=0.0)  # another part in each frame
        with Tap(self._slot, distinct) as tap:
            while not self._ended.is_set() and not self._crashes(self.running):
                self._slot.refresh()
                tap.beat()
                standing = self._stands(self.running)
                tap.write(self._observe(number, self._images[number % len(self._images)] if standing is None else standing))
                number += 1
                time.sleep(0.005)

    def _observe(self, number: int, image: NDArray[np.uint8]) -> Observation:
        classifier = self._slot.current.classifier
        (found,) = classifier.classify([image])
        region = RegionPrediction(1, Region((0, 0, 200, 200), image), classifier.preprocessing(image), found, found)
        frame = Frame(image, number, "thread", START, time.monotonic())
        work_ms = 1.0 + self._slow_ms(self.running)
        return Observation("thread", OK, frame, (region,), 1.0, {"invoke": work_ms}, cpu_ms=work_ms)
