"""`edgecnn rejection`: does a model know what it does not know?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecnn.cli.options import (
    OUTPUT_FILE,
    PROBABILITY,
    Count,
    data_option,
    echo_json,
    echo_notes,
    foreign_options,
    json_option,
    read_foreign,
    runtime_options,
    seed_option,
    split_option,
)
from edgecnn.text import percent, printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgecnn.metrics import Share
    from edgecnn.rejection.measure import OperatingPoint, Rejection
    from edgecnn_export.models import Model


@click.command(short_help="Measure how well a model rejects out-of-distribution pictures, and what its threshold costs.")
@click.argument("model", metavar="FILE|RUN|TASK")
@split_option
@click.option(
    "--false-accepts",
    type=PROBABILITY,
    default=0.05,
    show_default=True,
    help="Allowed share of out-of-distribution pictures that are accepted.",
)
@click.option("--per-kind", type=Count(1, 10000), default=200, show_default=True, help="Generated pictures per kind.")
@click.option("--others", type=click.Path(path_type=Path), help="Folder of pictures of none of the classes, by kind.")
@click.option("--severity", type=Count(1, 5), help="Also measure the pictures under each camera corruption at this severity.")
@click.option("--against", metavar="FILE", help="Another file of the same task: count the pictures that both answer alike.")
@click.option("--plot", type=OUTPUT_FILE, help="Also draw the curves into this PNG.")
@data_option
@foreign_options
@seed_option
@runtime_options
@json_option
def rejection(
    model: str,
    split: str,
    false_accepts: float,
    per_kind: int,
    others: Path | None,
    severity: int | None,
    against: str | None,
    plot: Path | None,
    data: Path | None,
    seed: int,
    runtime: str | None,
    threads: int,
    as_json: bool,
    **stated: Any,
) -> None:
    """Measure an exported model, a .keras model or a task's shipped int8 model on out-of-distribution pictures.

    These are generated, by kinds, and those in --others; the pictures of the classes come from one split of the data set,
    with --data RUN of that of the run that an exported file came from.
    """
    from edgecnn.datasets.load import data_info
    from edgecnn.rejection.measure import measure_rejection
    from edgecnn.rejection.others import read_others
    from edgecnn_export.models import open_model

    opened = open_model(model, read_foreign(stated), runtime=runtime, threads=threads)
    opened.require_classes()
    echo_notes(opened.task.name, opened.notes)
    splits = opened.splits(data, seed)
    result = measure_rejection(
        opened.runtime,
        opened.task,
        splits[split],
        data_info(splits, split),
        threshold=opened.reject_threshold,
        evidence=opened.evidence,
        severity=severity,
        false_accepts=false_accepts,
        per_kind=per_kind,
        others=None if others is None else read_others(opened.task, [others]),
        seed=seed,
        progress=_progress,
    )
    same = {} if against is None else _agreement(opened, against, splits[split].images, severity, seed)
    if plot is not None:
        from edgecnn_export.plots.figures import save_figure
        from edgecnn_export.plots.rejection import plot_rejection

        save_figure(plot_rejection(result, title=f"{model}, {splits.info.describe(split)}"), plot)
        click.echo(f"drew {plot}", err=True)
    if as_json:
        echo_json({"model": model, "runtime": opened.runtime.name, "task": opened.task.name} | result.to_json() | _same(same))
        return
    click.echo(printable(f"{model} on {opened.runtime.name}, {splits.info.describe(split)}"))
    for line in _lines(result):
        click.echo(line)
    for line in _same_lines(same, str(against)):
        click.echo(printable(line))


def _agreement(opened: Model, against: str, images: NDArray[np.uint8], severity: int | None, seed: int) -> dict[str, Share]:
    """Return on how many pictures another file says the same word, as they are and under each corruption."""
    from edgecnn.artifacts import Artifact
    from edgecnn.classifier import Classifier, artifact_path
    from edgecnn.errors import InputError
    from edgecnn.evaluation import measure_agreement

    if opened.artifact is None:
        raise InputError("--against compares two exported files; give one instead of a Keras model")
    own = Classifier.running(opened.runtime, opened.artifact.contract)
    other = Classifier.of(Artifact.open(artifact_path(against)))
    if (other.preprocessing, other.labels) != (own.preprocessing, own.labels):
        raise InputError(f"{against} is for another task than {opened.artifact.path}")
    return measure_agreement(own, other, opened.task, images, severity=severity, seed=seed, progress=_progress)


def _progress(line: str) -> None:
    click.echo(line, err=True)


def _same(same: dict[str, Share]) -> dict[str, Any]:
    if not same:
        return {}
    corrupted = {name: share.to_json() for name, share in same.items() if name != "clean"}
    return {"same_as": same["clean"].to_json()} | ({"same_as_corrupted": corrupted} if corrupted else {})


def _same_lines(same: dict[str, Share], against: str) -> list[str]:
    from edgecnn.metrics import Share

    if not same:
        return []
    width = max(map(len, same))
    lines = [f"{_percent(same['clean'])} of {same['clean'].count} pictures get the same label, unsure or novel by {against}"]
    corrupted = [(name, share) for name, share in same.items() if name != "clean"]
    if corrupted:
        every = Share(sum(share.hits for _, share in corrupted), sum(share.count for _, share in corrupted))
        lines += [f"{name:<{width}}  {_percent(share)}" for name, share in corrupted]
        lines.append(f"under all corruptions together {_percent(every)} of {every.count} pictures")
    return lines


def _lines(result: Rejection) -> list[str]:
    cuts = [cut for cut in (result.stated, result.wanted) if cut is not None]
    width = max(len(kind) for kind in result.aurocs_by_kind)
    heads = [f"at {_shown(result, cut)}" for cut in cuts]
    lines = [f"AUROC by {name}: {_auroc(auroc.value, auroc.interval)}" for name, auroc in result.aurocs.items()]
    lines += _cut_lines(result, cuts)
    lines.append(f"{'kind':<{width}}  {f'AUROC of the {result.score}':<32}  accepted " + ", ".join(heads))
    for kind, auroc in result.aurocs_by_kind.items():
        accepted = "  ".join(_percent(cut.by_kind[kind]) for cut in cuts)
        lines.append(f"{kind:<{width}}  {_auroc(auroc.value, auroc.interval):<32}  {accepted}")
    lines.append(f"expected calibration error {result.calibration_error:.4f}")
    return lines + _corrupted_lines(result)


def _corrupted_lines(result: Rejection) -> list[str]:
    if not result.corrupted:
        return []
    width = max(map(len, result.corrupted))
    lines = [f"{'corruption':<{width}}  kept  kept for {result.false_accepts:.0%} false accepts  right  calibration error"]
    for name, found in result.corrupted.items():
        shares = "  ".join(f"{share.value:.3f}" for share in (found.kept, found.kept_wanted, found.right))
        lines.append(f"{name:<{width}}  {shares}  {found.calibration_error:.4f}")
    columns = [(c.kept.value, c.kept_wanted.value, c.right.value, c.calibration_error) for c in result.corrupted.values()]
    means = [sum(column) / len(columns) for column in zip(*columns, strict=True)]
    lines.append(f"{'mean':<{width}}  " + "  ".join(f"{mean:.3f}" for mean in means[:3]) + f"  {means[3]:.4f}")
    return lines


def _shown(result: Rejection, cut: OperatingPoint) -> str:
    from edgecnn.rejection.measure import NOVELTY

    return f"novelty {-cut.threshold:.2f}" if result.score == NOVELTY else f"{cut.threshold:.3f}"


def _cut_lines(result: Rejection, cuts: list[OperatingPoint]) -> list[str]:
    lines = []
    for cut in cuts:
        name = "the model's own threshold" if cut is result.stated else f"for {result.false_accepts:.0%} false accepts"
        lines.append(
            f"{name}, {_shown(result, cut)}: {_percent(cut.kept)} of {cut.kept.count} pictures are answered, "
            f"{_percent(cut.right)} of these correctly; {_percent(cut.accepted)} of {cut.accepted.count} others are accepted; "
            f"hardest kind: {cut.hardest}"
        )
    if result.wanted.unseen is not None:
        lines.append(f"of a kind that the threshold was not chosen with, {100 * result.wanted.unseen:.1f} % are accepted")
    return lines


def _auroc(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.4f} ({interval[0]:.4f} to {interval[1]:.4f})"


def _percent(share: Share) -> str:
    return percent(share.value, share.interval)
