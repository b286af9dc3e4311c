"""Learning from good parts alone: a pretrained network as it is, a bank of what it makes of them, and a threshold."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts.contract import GoodPartsInfo
from edgecnn.datasets.dataset import Dataset, Splits
from edgecnn.datasets.load import data_info
from edgecnn.errors import ConversionError, DatasetError
from edgecnn.files import make_folder, write_json
from edgecnn.metrics import Share
from edgecnn.progress import report
from edgecnn.rejection.good_parts import FALSE_ALARMS, fit_bank, with_threshold
from edgecnn.robustness.measure import choose_pictures
from edgecnn.runtimes.good_parts import GoodPartsRuntime
from edgecnn.tasks import Task
from edgecnn_export.calibration_data import record_calibration
from edgecnn_export.networks import PRETRAINED, build
from edgecnn_export.reference import MODEL_FILE, KerasFeatures, Reference, save_reference
from edgecnn_export.run_folder import CURVES, RUN_FILE, RunFolders
from edgecnn_export.training.session import store_splits, versions
from edgecnn_export.training.trainer import draw_pictures

NETWORK = "lite"
MOST_PICTURES = 1000  # whose places the bank is chosen from
_BATCH = 32


@dataclass(frozen=True, eq=False)
class OnlyGoodRun:
    """What was learned from good parts: `reference` with its bank, and how many test pictures raise a false alarm.

    `alarms` is None without test pictures.
    """

    folder: Path
    reference: Reference
    info: GoodPartsInfo
    alarms: Share | None


def train_only_good(
    task: Task,
    splits: Splits,
    *,
    out: Path,
    false_alarms: float = FALSE_ALARMS,
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> OnlyGoodRun:
    """Fit what good parts look like, and write `model.keras`, `training.json`, `pictures.png` and `splits.csv` to `out`.

    The bank is of training pictures, the threshold for the wanted share of `false_alarms` is chosen on validation pictures, and
    the test pictures say how many alarms it really raises. Raises DatasetError for empty splits, InputError for a folder `out`
    that holds something else, MissingDependencyError without the pretrained weights.
    """
    if not len(splits.train) or not len(splits.validation):
        raise DatasetError(f"{splits.info.source} has too few good parts: some to learn from and some to hold out are needed")
    RunFolders(out, out).check(resume=False)
    make_folder(out)
    draw_pictures(task, splits, out, seed, progress)
    began = time.monotonic()
    reference = fit_only_good(task, splits, false_alarms=false_alarms, seed=seed)
    assert reference.good_parts is not None
    alarms = _alarms(reference, splits.test)
    record = _record(splits, reference.good_parts, alarms, seed, time.monotonic() - began)
    reference = dataclasses.replace(reference, training=dict(record))
    with contextlib.suppress(ConversionError):
        reference = record_calibration(reference, splits, seed)
    record |= store_splits(task, splits, out)
    (out / CURVES).unlink(missing_ok=True)  # of a training that was here before
    save_reference(reference, out / MODEL_FILE)
    write_json(out / RUN_FILE, record)
    assert reference.good_parts is not None
    return OnlyGoodRun(out, reference, reference.good_parts, alarms)


def fit_only_good(task: Task, splits: Splits, *, false_alarms: float = FALSE_ALARMS, seed: int = 0) -> Reference:
    """Return a network with the bank of the training pictures and a threshold by the validation pictures."""
    keras.utils.set_random_seed(seed)
    model = build(NETWORK, task)
    network = KerasFeatures(model, task.preprocessing.shape)
    info = fit_bank(_features(network, choose_pictures(splits.train, MOST_PICTURES, seed)), wanted=false_alarms, seed=seed)
    runtime = GoodPartsRuntime(network, info, network.spec.shape[-1])
    info = with_threshold(info, runtime.scores(splits.validation.images), splits.validation.groups)
    return Reference(model, task, NETWORK, training={"seed": seed}, good_parts=info)


def _features(network: KerasFeatures, pictures: Dataset) -> NDArray[np.float32]:
    """Return the features of all places of pictures, `(n, h, w, channels)`."""
    found = []
    for at in range(0, len(pictures), _BATCH):
        report("features of good parts", at, len(pictures))
        values = network.answer(pictures.images[at : at + _BATCH]).values
        assert values is not None
        found.append(values)
    report("features of good parts", len(pictures), len(pictures))
    return np.concatenate(found)


def _alarms(reference: Reference, test: Dataset) -> Share | None:
    """Count the good test pictures that are called novel."""
    if not len(test):
        return None
    return Share(int((reference.runtime().run(test.images)[:, 0] < 0.5).sum()), len(test))


def _record(splits: Splits, info: GoodPartsInfo, alarms: Share | None, seed: int, seconds: float) -> dict[str, Any]:
    about = {name: value for name, value in dataclasses.asdict(info).items() if name != "bank"}
    return {
        "model": NETWORK,
        "only_good": about | {"test_alarms": None if alarms is None else alarms.to_json()},
        "seed": seed,
        "data": {name: dataclasses.asdict(data_info(splits, name)) for name in ("train", "validation", "test")},
        "split": dataclasses.asdict(splits.info),
        "versions": versions(),
        "pretrained": dataclasses.asdict(PRETRAINED[NETWORK].info),
        "seconds": seconds,
    }
