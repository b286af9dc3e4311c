"""`edgecnn classify`: pictures in, labels out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecnn.cli.options import (
    OUTPUT_FILE,
    PNG_FILE,
    echo_json,
    echo_notes,
    foreign_file_options,
    json_option,
    read_convention,
    runtime_options,
    threshold_options,
)
from edgecnn.cli.start import starting
from edgecnn.text import printable

if TYPE_CHECKING:
    from edgecnn.classifier import Classifier, Prediction
    from edgecnn.errors import InputError
    from edgecnn.where import MapName

TOP = 3
MAX_PLOTTED = 50


@click.command(short_help="Classify pictures.")
@click.argument("model", metavar="FILE|TASK")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--plot", type=OUTPUT_FILE, metavar="OUT.png", help="Draw each picture beside its probabilities.")
@click.option(
    "--fit",
    type=click.Choice(["squash", "crop", "pad", "digit"]),
    help="How another tool's .tflite wants other aspect ratios.",
)
@threshold_options
@click.option("--where", type=PNG_FILE, help="Draw which places speak for the answer into this PNG file; of one IMAGE.")
@click.option(
    "--map",
    "map_name",
    type=click.Choice(["class", "novelty"]),
    help="What --where draws: what speaks for the class (red) or what is novel (blue). [default: novelty of a novel answer]",
)
@foreign_file_options
@runtime_options
@json_option
def classify(
    model: str,
    images: tuple[Path, ...],
    plot: Path | None,
    fit: Any,
    runtime: str | None,
    threads: int,
    reject: float | None,
    novelty: float | None,
    where: Path | None,
    map_name: MapName | None,
    as_json: bool,
    **stated: Any,
) -> None:
    """Classify pictures with an exported model, or with the shipped int8 model of a task.

    IMAGE is a picture or a folder of pictures. --json prints one object per picture: file, label, verdict, class_id,
    probability, novelty, and probabilities by label. The label is null when the verdict is `unsure` (no class is probable
    enough) or `novel` (the picture is like none that the model was trained on: its novelty is above 1).
    """
    with starting():
        from edgecnn.errors import InputError
        from edgecnn.folders import left_out_line, list_all
        from edgecnn.progress import note

        classifier = _open(model, fit, stated, runtime, threads).rejecting(reject, novelty)
    if classifier.warning:
        note(f"warning: {classifier.warning}")
    listing = list_all(images)
    files = listing.pictures
    if map_name is not None and where is None:
        raise InputError(f"--map {map_name} is what --where draws; give --where OUT.png too")
    if where is not None and len(files) != 1:
        raise InputError(f"--where draws one picture, got {len(files)}; name one")
    if plot is not None and len(files) > MAX_PLOTTED:
        raise InputError(f"--plot draws at most {MAX_PLOTTED} pictures, got {len(files)}; name fewer")
    classified, broken = _classify_all(classifier, files, listing.left_out, named=set(images), where=where is not None)
    if listing.left_out:
        note(left_out_line(listing.left_out))
    if not classified:
        raise broken[0] if len(broken) == 1 else InputError("none of the pictures can be read")
    files, predictions = [file for file, _ in classified], [prediction for _, prediction in classified]
    if where is not None:
        _draw_where(where, files[0], predictions[0], classifier, map_name)
    if plot:
        _draw(plot, files, predictions, classifier)
    if as_json:
        rows = [_row(*pair, classifier.labels) for pair in zip(files, predictions, strict=True)]
        echo_json({"pictures": rows} | ({"warning": classifier.warning} if classifier.warning else {}))
    else:
        for file, prediction in zip(files, predictions, strict=True):
            click.echo(printable(f"{file}: {_sentence(prediction, classifier.labels)}"))
    if broken:
        raise InputError(f"{broken[0]}{f'; {len(broken) - 1} more cannot be read' if len(broken) > 1 else ''}")


def _classify_all(
    classifier: Classifier, files: list[Path], left_out: dict[str, str], *, named: set[Path], where: bool
) -> tuple[list[tuple[Path, Prediction]], list[InputError]]:
    """Classify one picture at a time: a folder of large photographs does not fit into a board's memory.

    A picture of a folder that cannot be read is put into `left_out`; of one that was `named` by itself the error is returned.
    """
    from edgecnn.errors import InputError
    from edgecnn.pictures import read_picture, reason_without_name
    from edgecnn.progress import report

    found, broken = [], []
    for done, file in enumerate(files):
        report("classifying pictures", done, len(files))
        try:
            image = read_picture(file)
        except InputError as error:
            if file in named:
                broken.append(error)
            else:
                left_out[str(file)] = reason_without_name(error, file)
            continue
        found.append((file, classifier.classify([image], where=where)[0]))
    report("classifying pictures", len(files), len(files))
    return found, broken


def _open(model: str, fit: Any, stated: dict[str, Any], runtime: str | None, threads: int) -> Classifier:
    from edgecnn.artifacts.artifact import Artifact, is_foreign, read_file
    from edgecnn.classifier import Classifier, artifact_path
    from edgecnn.errors import InputError

    convention, path, labels = read_convention(stated), artifact_path(model), None
    if stated["labels"] is not None:
        from edgecnn.labels import read_labels  # for other tools' models alone

        labels = read_labels(stated["labels"])
    content = read_file(path)
    if is_foreign(path, content, labels):
        foreign: dict[str, Any] = {"convention": convention, "fit": fit or "squash", "output": stated["output"]}
        classifier = Classifier.open_foreign(path, labels, runtime=runtime, threads=threads, **foreign)
        echo_notes(path.name, classifier.notes)
        return classifier
    if labels is not None or stated["output"] is not None or convention.stated or fit is not None:
        raise InputError(f"{path} carries its own labels and preprocessing; omit --labels and the like")
    return Classifier.of(Artifact.read(content, path), runtime=runtime, threads=threads)


def _row(file: Path, prediction: Prediction, labels: tuple[str, ...]) -> dict[str, Any]:
    named = dict(zip(labels, map(float, prediction.probabilities), strict=True))
    return {"file": str(file), **prediction.to_json(), "probabilities": named}


def _sentence(prediction: Prediction, labels: tuple[str, ...]) -> str:
    if len(labels) == 1:
        verdict = "novel: like none of the good parts" if prediction.verdict == "novel" else labels[0]
        return f"{verdict} (novelty {prediction.novelty:.2f})"
    ranked = prediction.probabilities.argsort()[::-1][:TOP]
    top = ", ".join(f"{labels[i]} {prediction.probabilities[i]:.3f}" for i in ranked)
    if prediction.verdict == "novel":
        return (
            f"novel: like nothing it was trained on, nearest to {prediction.nearest} (novelty {prediction.novelty:.2f}; {top})"
        )
    if prediction.between is not None:
        return f"unsure between {' and '.join(prediction.between)} ({top})"
    return top


def _draw_where(path: Path, file: Path, prediction: Prediction, classifier: Classifier, map_name: MapName | None) -> None:
    """Write the picture as the model sees it, with the places that speak for its answer in red, or the novel ones in blue."""
    import cv2

    from edgecnn.errors import InputError
    from edgecnn.files import write_bytes
    from edgecnn.pictures import read_picture
    from edgecnn.preprocessing import as_bgr
    from edgecnn.where import overlay

    if classifier.only_good and map_name == "class":
        raise InputError("this model knows good parts only: its one map is that of novelty; omit --map class")
    name = map_name or ("novelty" if classifier.only_good or prediction.verdict == "novel" else "class")
    place_map = prediction.where if name == "class" else prediction.novel_where
    if place_map is None:
        raise InputError("this model has no thresholds, so that nothing is novel to it; omit --map novelty, or export it again")
    seen = as_bgr(classifier.preprocessing(read_picture(file)))
    shown = overlay(seen, place_map, classifier.preprocessing.shape[:2], name)
    write_bytes(path, cv2.imencode(".png", shown)[1].tobytes())


def _draw(path: Path, files: list[Path], predictions: list[Prediction], classifier: Classifier) -> None:
    from edgecnn.errors import MissingDependencyError
    from edgecnn.pictures import read_picture

    try:
        from edgecnn_export.plots.stem import save_predictions
    except ImportError as error:
        raise MissingDependencyError("--plot needs Matplotlib. Install it with: pip install 'edgecnn[export]'") from error
    inputs = [classifier.preprocessing(read_picture(file)) for file in files]
    save_predictions(path, inputs, predictions, classifier.labels, [file.name for file in files])
