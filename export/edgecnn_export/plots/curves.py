"""The curves of a training as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgecnn.files import replacing

_CURVES = (("", "training"), ("validation_", "validation"), ("camera_", "validation, seen by a camera"))


def draw_curves(history: Sequence[dict[str, float]], path: Path, *, title: str, best_epoch: int) -> None:
    """Draw loss and accuracy over the epochs, the best epoch marked, to a PNG, whole or not at all."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for prefix, label in _CURVES:
            points = [(entry["epoch"], entry[prefix + quantity]) for entry in history if prefix + quantity in entry]
            if points:
                axes.plot(*zip(*points, strict=True), label=label, marker="." if len(points) < 30 else None)
        axes.axvline(best_epoch, color="gray", linewidth=0.8, linestyle=":", label="best epoch")
        axes.set(xlabel="epoch", ylabel=quantity)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
    figure.suptitle(title)
    with replacing(path) as beside:
        figure.savefig(beside, dpi=120)
