"""Compares the two ways to probabilities: the graph's own softmax, and the host's, from the features and the last dense layer.

    python -m export.tools.head_table neu mnist

Prints the table of docs/explanation/rejection.md. Needs the real data.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from edgecnn import shipped
from edgecnn.artifacts import Artifact
from edgecnn.datasets.dataset import Dataset
from edgecnn.datasets.load import load_splits
from edgecnn.errors import EdgecnnError
from edgecnn.metrics import expected_calibration_error
from edgecnn.rejection.evidence import best_temperature, temper
from edgecnn.runtimes.head import HeadRuntime
from edgecnn.runtimes.select import open_graph, open_runtime
from edgecnn_export.exporter import export
from edgecnn_export.models import open_reference

Probabilities = NDArray[np.float32]


def main(task_name: str, seed: int = 0) -> None:
    """Export the shipped model of a task and print a line for each file and way."""
    reference = open_reference(shipped.int8_path(task_name).with_name(f"{task_name}-compact.keras"))
    pictures = load_splits(reference.task, None, seed).validation
    half = first_half(pictures, seed)
    with tempfile.TemporaryDirectory() as folder:
        files = export(reference, out=Path(folder), int8=True, seed=seed).files
        artifacts = [Artifact.open(file.path) for file in files]
        answers = [(a.path.name, *both(a, pictures.images)) for a in artifacts]
    floats = answers[0][2]
    for name, graph, host in answers:
        for way, found in (("graph", graph), ("host", host)):
            click.echo(line(f"{name} {way}", found, floats, pictures.class_ids, half))


def both(artifact: Artifact, images: NDArray[np.uint8]) -> tuple[Probabilities, Probabilities]:
    """Return what graph and host answer."""
    host = open_runtime(artifact)
    if not isinstance(host, HeadRuntime):
        raise EdgecnnError(f"{artifact.path.name} has no features to compute an answer from")
    return open_graph(artifact).run(images), host.run(images)


def first_half(pictures: Dataset, seed: int) -> NDArray[np.bool_]:
    """Choose one half of the groups of pictures, `(n,)`."""
    groups = np.arange(len(pictures)) if pictures.groups is None else pictures.groups
    names = np.random.default_rng(seed).permutation(np.unique(groups))
    return np.isin(groups, names[: len(names) // 2])


def line(what: str, found: Probabilities, floats: Probabilities, ids: NDArray[np.int64], half: NDArray[np.bool_]) -> str:
    """Say how good probabilities `(n, classes)` are; temperatures are fitted on one half and used on the other."""
    tempered = np.empty_like(found)
    for fitted in (half, ~half):
        tempered[~fitted] = temper(found[~fitted], best_temperature(found[fitted], ids[fitted]))
    answers = found.argmax(axis=1)
    figures = {
        "accuracy": float((answers == ids).mean()),
        "ECE": expected_calibration_error(np.clip(found, 0, 1), ids),
        "with temperature": expected_calibration_error(tempered, ids),
        "same class as float": float((answers == floats.argmax(axis=1)).mean()),
        "mean difference": float(np.abs(found - floats).max(axis=1).mean()),
    }
    return f"{what:26}" + ", ".join(f"{name} {value:.4f}" for name, value in figures.items())


if __name__ == "__main__":
    try:
        for argument in sys.argv[1:]:
            main(argument)
    except EdgecnnError as problem:
        sys.exit(f"head table: {problem}")
