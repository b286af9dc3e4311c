"""`edgecnn train --only-good`: from a folder of good parts to a model that tells odd ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecnn.text import printable

if TYPE_CHECKING:
    from edgecnn.datasets.dataset import Splits
    from edgecnn.tasks import Task


def train_good(task: Task, splits: Splits, out: Path, false_alarms: float | None, seed: int) -> None:
    """Fit what good parts look like, and say what was promised and measured."""
    from edgecnn.rejection.good_parts import FALSE_ALARMS
    from edgecnn.text import percent
    from edgecnn_export.training.only_good import train_only_good

    wanted = FALSE_ALARMS if false_alarms is None else false_alarms
    run = train_only_good(
        task, splits, out=out, false_alarms=wanted, seed=seed, progress=lambda line: click.echo(line, err=True)
    )
    click.echo(printable(f"model: {run.folder / 'model.keras'}, which {run.info.describe()}"))
    if run.alarms is not None:
        found = percent(run.alarms.value, run.alarms.interval)
        click.echo(f"{splits.info.describe('test')}: {run.alarms.hits} of {run.alarms.count} good parts called novel, {found}")
    click.echo(printable(f"next: edgecnn export {run.folder} --int8"))
