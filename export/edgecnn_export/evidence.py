"""Fitting what stands behind an artifact's answers: on its own features of the pictures that the model was trained with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from edgecnn.artifacts import Artifact
from edgecnn.artifacts.contract import DataInfo, DriftInfo, EvidenceInfo, RepairInfo
from edgecnn.classifier import Classifier
from edgecnn.datasets.dataset import Dataset, Splits
from edgecnn.datasets.load import data_info
from edgecnn.drift import Baseline, has_usual, measure_all, statistics_for
from edgecnn.errors import DatasetError
from edgecnn.rejection.evidence import KEEP_RATE, fit_evidence, run_with_features
from edgecnn.rejection.others import find_others, read_others
from edgecnn.rejection.threshold import draw_ood, draw_outliers
from edgecnn.robustness.corruptions import corruptions_for
from edgecnn.robustness.measure import choose_pictures
from edgecnn.runtimes import Runtime, open_runtime
from edgecnn.runtimes.head import read_weights, write_places
from edgecnn.tasks import Task
from edgecnn_export.parity.corrupted import variants
from edgecnn_export.place_weights import fit_place_weights

TRAIN_PICTURES, OTHERS_PER_KIND, OUTLIERS = 2000, 100, 600
CORRUPTED_PER_KIND = 20  # held-out pictures under each corruption, about
_MAX_PLACE_WEIGHTS = 2**17  # with centres and head they have room in a contract of a megabyte
_Features = tuple[RepairInfo | None, str]


@dataclasses.dataclass(frozen=True)
class EvidenceOptions:
    """At least which share of pictures of the classes is to be kept, and a folder of pictures of none of them."""

    keep_rate: float = KEEP_RATE
    others: Path | None = None


def give_evidence(
    artifacts: Sequence[Artifact],
    task: Task,
    splits: Splits | None,
    options: EvidenceOptions = EvidenceOptions(),
    *,
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> tuple[list[Artifact], str | None]:
    """Return the artifacts with their thresholds, and why they have none where they have none.

    All files of one network share what is chosen by the features of the one that a board would run, so that they say the
    same; a repair may have changed the features' scales, and has thresholds of its own, as have vectors of features that ONNX
    puts in another order. Without labelled pictures of the user's own an artifact keeps what its reference brought along.
    """
    if task.only_good:
        return list(artifacts), None  # how good parts look stands in them already
    if not any(artifact.contract.head for artifact in artifacts):
        return list(artifacts), "the model does not end in a dense layer with a softmax, whose features would tell"
    reason = _nothing_to_fit(artifacts, splits)
    if splits is None or reason is not None:
        return list(artifacts), None if all(artifact.contract.evidence for artifact in artifacts) else reason
    progress("choosing when an answer is unsure and when a picture is novel")
    stated = read_others(task, find_others(splits.folder, options.others, splits.others))
    others = draw_ood(task, OTHERS_PER_KIND, seed) | stated
    outliers = draw_outliers(task, OUTLIERS, seed)
    train = choose_pictures(splits.train, TRAIN_PICTURES, seed)
    held_out = choose_pictures(splits.validation, TRAIN_PICTURES, seed)
    kinds = corruptions_for(task)
    corrupted = variants(held_out, kinds, seed, CORRUPTED_PER_KIND * len(kinds))
    fitted: dict[_Features, EvidenceInfo] = {}
    try:
        for artifact in sorted(artifacts, key=_rank):
            if artifact.contract.head is None or _features(artifact) in fitted:
                continue
            runtime = open_runtime(artifact)
            found = fit_evidence(
                run_with_features(runtime, train.images),
                train.class_ids,
                run_with_features(runtime, held_out.images),
                held_out.class_ids,
                {kind: run_with_features(runtime, images) for kind, images in others.items()},
                outliers=run_with_features(runtime, outliers),
                head=artifact.contract.head,
                stated=stated,
                corrupted=run_with_features(runtime, corrupted) if len(corrupted) else None,
                keep_rate=options.keep_rate,
                seed=seed,
            )
            fitted[_features(artifact)] = dataclasses.replace(found, places=fit_places(artifact, runtime, train, seed))
    except DatasetError as error:
        return list(artifacts), str(error)
    return [_with(artifact, fitted.get(_features(artifact))) for artifact in artifacts], None


def fit_places(artifact: Artifact, runtime: Runtime, train: Dataset, seed: int) -> str:
    """Return the weights that say where each class is seen, as a contract holds them; "" where there is no map of features."""
    contract = artifact.contract
    if not contract.has_map or contract.head is None:
        return ""
    classes = len(contract.head.bias)
    size = len(read_weights(contract.head)) * classes
    return write_places(fit_place_weights(runtime, train, classes, seed)) if size <= _MAX_PLACE_WEIGHTS else ""


def give_baseline(
    artifacts: Sequence[Artifact], splits: Splits | None, *, seed: int = 0, progress: Callable[[str], None] = lambda line: None
) -> list[Artifact]:
    """Return the artifacts with what held-out pictures usually look like, by which a camera notices a drift.

    All have it by what a board would run: what their rounding moves is far less than any drift. Without pictures of the user's
    own, or with too few, an artifact keeps what its reference brought along.
    """
    if (
        splits is None
        or not has_usual(artifacts[0].contract.preprocessing)
        or (splits.info.synthetic and all(artifact.contract.drift for artifact in artifacts))
    ):
        return list(artifacts)
    progress("measuring what held-out pictures usually look like")
    held_out = choose_pictures(splits.validation, TRAIN_PICTURES, seed)
    first = min(artifacts, key=_rank)
    try:
        found = baseline_of(Classifier.running(open_runtime(first), first.contract), held_out, data_info(splits, "validation"))
    except DatasetError as error:
        progress(f"a camera cannot notice drift by this model alone (--drift-baseline learns what is usual there): {error}")
        return list(artifacts)
    return [dataclasses.replace(each, contract=dataclasses.replace(each.contract, drift=found)) for each in artifacts]


def baseline_of(classifier: Classifier, held_out: Dataset, data: DataInfo) -> DriftInfo:
    """Return what held-out pictures of `data` usually look like; DatasetError for too few."""
    values, class_ids = measure_all(classifier, held_out.images)
    statistics = statistics_for(classifier.preprocessing)
    return Baseline.fit(statistics, values, class_ids, len(classifier.labels), held_out.groups).to_info(data, len(held_out))


def _features(artifact: Artifact) -> _Features:
    """Return what files have in common whose features are the same, but for their rounding, and in the same order."""
    features = artifact.contract.features
    is_vector = features is not None and len(features.shape) == 2
    return artifact.contract.repair, artifact.format if is_vector else ""


def _rank(artifact: Artifact) -> tuple[bool, bool]:
    """Put what a board would run first: by its features the thresholds of all files of an export are chosen."""
    return artifact.contract.precision == "float32", artifact.format != "tflite"


def _with(artifact: Artifact, evidence: EvidenceInfo | None) -> Artifact:
    if artifact.contract.head is None or evidence is None:
        return artifact
    return dataclasses.replace(artifact, contract=dataclasses.replace(artifact.contract, evidence=evidence))


def _nothing_to_fit(artifacts: Sequence[Artifact], splits: Splits | None) -> str | None:
    """Say why there is nothing to fit evidence to, None where there is."""
    if splits is None:
        return "there were no pictures to choose them on"
    if not splits.info.labelled:
        return "the pictures have no labels to choose them by"
    if splits.info.synthetic and all(artifact.contract.evidence for artifact in artifacts):
        return "generated pictures are no better than what they were chosen on before"
    return None if len(splits.train) else "there were no training pictures"
