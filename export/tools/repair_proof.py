"""What each technique of the ladder brings, on a network that is CONSTRUCTED to collapse.

    python -m export.tools.repair_proof runs/neu-mobilenet --out runs/neu-mobilenet-rescaled

It is a trained one with its ReLU6 made ReLU and its channels rescaled, so that the function stays the same to the last digits
of float32, while the channels of a tensor differ a thousandfold.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import click
import keras
import numpy as np

from edgecnn.datasets.dataset import Splits
from edgecnn.errors import DatasetError, EdgecnnError
from edgecnn.files import make_folder, write_json
from edgecnn_export.calibration_data import find_calibration, find_splits
from edgecnn_export.contract_writer import ContractWriter
from edgecnn_export.conversion.convert import FORMATS, Format, Quantization, convert_quantized
from edgecnn_export.conversion.fold import fold
from edgecnn_export.conversion.graph import read_graph
from edgecnn_export.conversion.serving import parameter_count
from edgecnn_export.conversion.simulation import kernel_of
from edgecnn_export.models import open_reference
from edgecnn_export.reference import MODEL_FILE, Reference, save_reference
from edgecnn_export.repair.equalization import find_links, rescale
from edgecnn_export.repair.ladder import Attempt, Repair
from edgecnn_export.repair.table import format_attempts

SPREAD = 1.5  # powers of ten up and down


def rescaled(reference: Reference, seed: int, spread: float = SPREAD) -> Reference:
    """Return a reference of the same function, once its ReLU6 are ReLU, whose int8 files collapse.

    Each channel between two layers is divided by a factor drawn log-uniformly from 10^-spread to 10^spread, and what takes it
    is multiplied by it; exact but for float32's rounding, since ReLU(s x) = s ReLU(x). Normalisations are folded.
    """
    model = unbounded(fold(reference.model).model)
    random = np.random.default_rng(seed)
    for link in find_links(read_graph(model)):
        kernel = kernel_of(link.first)
        channels = kernel.shape[-2] if isinstance(link.first, keras.layers.DepthwiseConv2D) else kernel.shape[-1]
        rescale(link, 10.0 ** random.uniform(-spread, spread, channels))
    return dataclasses.replace(reference, model=model, name=f"{reference.name}-rescaled", calibration=None)


def unbounded(folded: keras.Model) -> keras.Model:
    """Return a copy of a folded model with ReLU for each ReLU6."""

    def layer(original: keras.Layer) -> keras.Layer:
        config = original.get_config()
        if isinstance(original, keras.layers.ReLU):
            config["max_value"] = None
        elif config.get("activation") == "relu6":
            config["activation"] = "relu"
        return original.__class__.from_config(config)

    copy = keras.models.clone_model(folded, clone_function=layer)
    copy.set_weights(folded.get_weights())
    return copy


def climb_all(reference: Reference, splits: Splits, folder: Path, seed: int) -> tuple[Attempt, ...]:
    """Try every technique on a reference, whether or not an earlier one passes; files are left in `folder`."""
    folded = fold(reference.model)
    calibration, _ = find_calibration(reference, folded, splits, seed)
    job = Repair(reference, folded, calibration, splits, None, seed, _say)
    writer = ContractWriter(reference, parameter_count(folded), calibration.info(), "proof")
    plain = {}
    for file_format in FORMATS:
        conversion = convert_quantized(Quantization(folded, calibration), file_format)
        artifact = writer.write(conversion, make_folder(folder) / f"{reference.task.name}-{conversion.suffix}")
        artifact.save(artifact.path)
        plain[file_format] = artifact
    report = job.comparison()(list(plain.values()))
    failed: dict[Format, Any] = {each: (artifact, report[artifact.path.name]) for each, artifact in plain.items()}
    return job.climb(writer, failed, folder, stop=False).attempts


def _say(line: str) -> None:
    click.echo(line, err=True)


@click.command()
@click.argument("model")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the constructed model and proof.json.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the pictures and of the rescaling.")
def main(model: str, out: Path, seed: int) -> None:
    """Construct a network of MODEL's function that collapses, and try every technique on it."""
    reference = open_reference(model)
    splits = find_splits(reference, None, None, seed)
    if splits is None:
        raise DatasetError(f"no pictures for {reference.task.name!r}")
    make_folder(out)
    constructed = rescaled(reference, seed)
    save_reference(constructed, out / MODEL_FILE)
    attempts = climb_all(constructed, splits, out / "files", seed)
    click.echo(f"{constructed.name}, CONSTRUCTED to collapse:")
    click.echo("\n".join(format_attempts(attempts)))
    record = {
        "seed": seed,
        "data": splits.info.describe("validation"),
        "attempts": [dataclasses.asdict(each) for each in attempts],
    }
    write_json(out / "proof.json", record)


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except (EdgecnnError, click.ClickException) as problem:
        sys.exit(f"proof: {problem}")
