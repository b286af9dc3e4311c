"""What int8 does to a trained network by our calibration and by TensorFlow Lite's own under several settings.

python -m export.tools.repair_stock runs/neu-mobilenet
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import click
import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset, Splits
from edgecnn.errors import DatasetError, EdgecnnError
from edgecnn.metrics import wilson_interval
from edgecnn.quiet import quiet
from edgecnn.runtimes.select import open_tflite
from edgecnn_export.calibration_data import find_calibration, find_splits
from edgecnn_export.conversion.calibration import choose_calibration
from edgecnn_export.conversion.convert import Quantization, convert_quantized
from edgecnn_export.conversion.fold import fold
from edgecnn_export.conversion.folded import Folded
from edgecnn_export.conversion.serving import serve
from edgecnn_export.models import open_reference
from edgecnn_export.reference import Reference

_STOCK_PICTURES = 102

Pictures = NDArray[np.float32]


@dataclass(frozen=True)
class Outcome:
    """How many of `count` validation pictures a file has right, and the 95 % Wilson interval of the share."""

    settings: str
    right: int
    count: int
    interval: tuple[float, float]


def measure_settings(reference: Reference, splits: Splits, seed: int) -> list[Outcome]:
    """Measure int8 TFLite files of one model: ours, and TensorFlow Lite's own post-training quantization by settings."""
    images = choose_calibration(splits.train, _STOCK_PICTURES, seed).images.astype(np.float32)
    first_class = images[: _STOCK_PICTURES // len(reference.task.labels)]
    folded = fold(reference.model)
    calibration, _ = find_calibration(dataclasses.replace(reference, calibration=None), folded, splits, seed)
    files: dict[str, Callable[[], bytes]] = {
        "float32": lambda: _stock(reference.model, None),
        "ours": lambda: convert_quantized(Quantization(folded, calibration), "tflite").model,
        f"stock, {len(images)} pictures": lambda: _stock(reference.model, images),
        "stock, one scale per layer's weights": lambda: _stock(reference.model, images, per_channel=False),
        "stock, 5 pictures of one class": lambda: _stock(reference.model, first_class[:5]),
        "stock, calibrated on pixels of 0..1 instead of 0..255": lambda: _stock(reference.model, images / np.float32(255)),
    }
    return [_outcome(name, make(), splits.validation) for name, make in files.items()]


def _stock(model: keras.Model, pictures: Pictures | None, *, per_channel: bool = True) -> bytes:
    """Convert as TensorFlow's manual says; without pictures to float32."""

    def representative() -> Iterator[list[Pictures]]:
        for picture in () if pictures is None else pictures:
            yield [picture[None]]

    with quiet():
        serving = serve(Folded.of(model))
        concrete = serving.concrete((1, *model.input_shape[1:]), tf.float32)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], serving)
        if pictures is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = representative
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.int8
            converter._experimental_disable_per_channel = not per_channel
        return bytes(converter.convert())


def _outcome(settings: str, model: bytes, dataset: Dataset) -> Outcome:
    right = int((open_tflite(model).run(dataset.images).argmax(axis=1) == dataset.class_ids).sum())
    return Outcome(settings, right, len(dataset), wilson_interval(right, len(dataset)))


@click.command()
@click.argument("model")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the calibration pictures.")
def main(model: str, seed: int) -> None:
    """Measure MODEL's TFLite files on the validation pictures, int8 by several settings."""
    reference = open_reference(model)
    splits = find_splits(reference, None, None, seed)
    if splits is None:
        raise DatasetError(f"no pictures for {reference.task.name!r}")
    for outcome in measure_settings(reference, splits, seed):
        low, high = outcome.interval
        share = f"{100 * outcome.right / outcome.count:.2f} % ({100 * low:.2f}..{100 * high:.2f})"
        click.echo(f"{outcome.settings}: {outcome.right} of {outcome.count}, {share}")


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except (EdgecnnError, click.ClickException) as problem:
        sys.exit(f"stock: {problem}")
