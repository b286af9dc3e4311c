"""`edgecnn classify`: pictures in, labels out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecnn.cli.options import json_option, read_labels, runtime_options
from edgecnn.printing import json_text, printable

if TYPE_CHECKING:
    from edgecnn.classifying import Classifier, Prediction

TOP = 3
MAX_PLOTTED = 50


@click.command(short_help="Classify pictures.")
@click.argument("model", metavar="FILE|TASK")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--plot", type=click.Path(path_type=Path), metavar="OUT.png", help="Draw each picture beside its probabilities.")
@click.option("--labels", help="For another tool's .tflite: labels in class order, a,b,c or a file with one a line.")
@click.option("--color", type=click.Choice(["gray", "rgb"]), help="For another tool's .tflite: its channel order.")
@click.option("--fit", type=click.Choice(["squash", "crop", "pad", "digit"]), help="For another tool's .tflite: other aspects.")
@click.option("--pixel-scale", type=float, help="For another tool's .tflite: it wants pixel * SCALE + OFFSET.")
@click.option("--pixel-offset", type=float, help="For another tool's .tflite: see --pixel-scale.")
@runtime_options
@json_option
def classify(
    model: str,
    images: tuple[Path, ...],
    plot: Path | None,
    labels: str | None,
    color: Any,
    fit: Any,
    pixel_scale: float | None,
    pixel_offset: float | None,
    runtime: str | None,
    threads: int,
    as_json: bool,
) -> None:
    """Classify pictures with an exported model, or with the shipped int8 model of a task.

    IMAGE is a picture or a folder of pictures. --json prints a list with one object per picture: file, label, class_id,
    probability, probabilities; the label is null when the answer is below the model's reject threshold.
    """
    from edgecnn.classifying import Classifier
    from edgecnn.errors import InputError
    from edgecnn.pictures import find_pictures, read_picture
    from edgecnn.runtimes.tflite import PixelScale

    foreign = {"--color": color, "--fit": fit, "--pixel-scale": pixel_scale, "--pixel-offset": pixel_offset}
    if labels is None:
        if given := [name for name, value in foreign.items() if value is not None]:
            raise InputError(f"{given[0]} is for another tool's .tflite; give --labels too")
        classifier = Classifier.open(model, runtime=runtime, threads=threads)
    else:
        pixels = PixelScale(pixel_scale if pixel_scale is not None else 1.0, pixel_offset or 0.0)
        classifier = Classifier.open_foreign(
            Path(model), read_labels(labels), color=color, fit=fit or "squash", pixels=pixels, runtime=runtime, threads=threads
        )
    files = find_pictures(images)
    if plot is not None and len(files) > MAX_PLOTTED:
        raise InputError(f"--plot draws at most {MAX_PLOTTED} pictures, got {len(files)}; name fewer")
    # One picture at a time: a folder of large photographs does not fit into a board's memory.
    predictions = [classifier.classify([read_picture(file)])[0] for file in files]
    if plot:
        _draw(plot, files, predictions, classifier)
    if as_json:
        rows = [{"file": str(file), **prediction.to_json()} for file, prediction in zip(files, predictions, strict=True)]
        click.echo(json_text(rows))
    else:
        for file, prediction in zip(files, predictions, strict=True):
            click.echo(printable(f"{file}: {_sentence(prediction, classifier.labels)}"))


def _sentence(prediction: Prediction, labels: tuple[str, ...]) -> str:
    ranked = prediction.probabilities.argsort()[::-1][:TOP]
    top = ", ".join(f"{labels[i]} {prediction.probabilities[i]:.3f}" for i in ranked)
    return top if prediction.label is not None else f"unknown ({top})"


def _draw(path: Path, files: list[Path], predictions: list[Prediction], classifier: Classifier) -> None:
    from edgecnn.errors import MissingDependencyError
    from edgecnn.pictures import read_picture

    try:
        from edgecnn_export.plots.stem import save_predictions
    except ImportError as error:
        raise MissingDependencyError("--plot needs Matplotlib. Install it with: pip install 'edgecnn[export]'") from error
    inputs = [classifier.preprocessing(read_picture(file)) for file in files]
    save_predictions(path, inputs, predictions, classifier.labels, [file.name for file in files])
