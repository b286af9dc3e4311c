"""Gives the models in the package again what is measured of pictures alone: the baseline and the weights of places.

By the baseline of held-out pictures a camera notices a drift; weights of places say where a class is seen.

    python -m export.tools.ship_baselines neu

Nothing is trained, converted or proven again: the model's bytes stay, and its contract and its `.keras` file get the fields.
Needs the real data, on the split that the model's parity was proven on. Can be repeated, such as after a model was shipped.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import click

from edgecnn import shipped
from edgecnn.artifacts import Artifact
from edgecnn.classifier import Classifier
from edgecnn.datasets.load import data_info, load_splits
from edgecnn.drift import has_usual
from edgecnn.errors import DatasetError, EdgecnnError
from edgecnn.robustness.measure import choose_pictures
from edgecnn_export.evidence import TRAIN_PICTURES, baseline_of, fit_places
from edgecnn_export.models import open_reference
from edgecnn_export.reference import save_reference


def ship_baseline(task: str, *, package: Path, seed: int = 0) -> None:
    """Write what a shipped model's held-out pictures look like, and where its classes are seen, into its files in `package`.

    DatasetError without the pictures that its parity was proven on.
    """
    artifact = Artifact.open(package / f"{task}-int8.tflite")
    splits = load_splits(shipped.find_task(task), None, seed)
    data, proven_on = data_info(splits, "validation"), artifact.contract.parity.data
    if splits.info.synthetic or proven_on is None or data.digest != proven_on.digest:
        raise DatasetError(f"the pictures of {task!r} at hand are not those that its parity was proven on")
    if not has_usual(artifact.contract.preprocessing):
        raise DatasetError(f"{task!r} reads digits: what is usual before a camera is learned there")
    classifier, evidence = Classifier.of(artifact), artifact.contract.evidence
    drift = baseline_of(classifier, splits.validation, data)
    if evidence is not None:
        train = choose_pictures(splits.train, TRAIN_PICTURES, seed)
        evidence = dataclasses.replace(evidence, places=fit_places(artifact, classifier.runtime, train, seed))
    reference = open_reference(package / f"{task}-compact.keras")
    save_reference(dataclasses.replace(reference, drift=drift, evidence=evidence), package / f"{task}-compact.keras")
    artifact = dataclasses.replace(artifact, contract=dataclasses.replace(artifact.contract, drift=drift, evidence=evidence))
    artifact.save(artifact.path)
    click.echo(f"{artifact.path.name}: {drift.describe()}", err=True)


if __name__ == "__main__":
    try:
        for name in sys.argv[1:]:
            ship_baseline(name, package=Path(shipped.__file__).parent)
    except EdgecnnError as problem:
        sys.exit(f"shipping: {problem}")
