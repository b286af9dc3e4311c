"""A contact sheet: what a network sees of the pictures of each class, after they were fitted to its input."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgecnn.datasets.dataset import Dataset
from edgecnn.files import replacing
from edgecnn_export.plots.figures import mark

COLUMNS = 8
MOST_ROWS = 20


def draw_contact_sheet(pictures: Dataset, labels: tuple[str, ...], path: Path, *, title: str, seed: int = 0) -> None:
    """Draw up to COLUMNS pictures of each class, chosen by `seed`, a row a class, to a PNG; whole or not at all."""
    from matplotlib.figure import Figure

    random = np.random.default_rng(seed)
    present = np.unique(pictures.class_ids)[:MOST_ROWS]
    figure = Figure(figsize=(1.3 * COLUMNS, 1.5 * len(present) + 0.5), layout="constrained")
    for row, grid in zip(present, figure.subplots(len(present), COLUMNS, squeeze=False), strict=True):
        own = random.permutation(np.flatnonzero(pictures.class_ids == row))[:COLUMNS]
        for axes in grid:
            axes.axis("off")
        for axes, i in zip(grid, own, strict=False):
            axes.imshow(pictures.images[i].squeeze(), cmap="gray", vmin=0, vmax=255)
        grid[0].set_title(labels[row], fontsize=9, loc="left", parse_math=False)
    figure.suptitle(title, parse_math=False)
    with replacing(path) as beside:
        figure.savefig(beside, dpi=80, format="png", **mark(".png"))
