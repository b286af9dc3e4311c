"""A picture beside a stem plot of its class probabilities, with the predicted and the true label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import InputError, ShapeError
from edgecnn_export.plots.figures import INK, NEUTRAL, PALE, RIGHT, WRONG, hide_frame, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from edgecnn.classifier import Prediction

MAX_PICTURES = 50
_CLASS_IN, _PICTURE_IN, _TITLE_IN, _LETTER_IN = 0.34, 2.4, 0.75, 0.085
_LONGEST = 24
_LEGIBLE = 24  # classes up to which a tick label keeps its full size


@dataclass(frozen=True, eq=False)
class Answer:
    """A picture `(h, w, c)` uint8 (gray or RGB), its `probabilities` `(classes,)`, and what is known of it.

    `rejected` says that the most probable class was too improbable to be named.
    """

    image: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    labels: tuple[str, ...]
    title: str
    true_label: str | None = None
    rejected: bool = False

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] not in (1, 3):
            raise ShapeError(f"expected a picture (h, w, 1 or 3) uint8, got {self.image.shape} {self.image.dtype}")
        if self.probabilities.shape != (len(self.labels),):
            raise ShapeError(f"expected {len(self.labels)} probabilities, got an array {self.probabilities.shape}")
        if self.true_label is not None and self.true_label not in self.labels:
            raise InputError(f"true label {self.true_label!r} is not one of the labels {', '.join(self.labels)}")


def plot_prediction(
    image: NDArray[np.uint8],
    probabilities: NDArray[np.float32],
    labels: tuple[str, ...],
    *,
    true_label: str | None = None,
    title: str = "",
) -> Figure:
    """Draw one picture `(h, w, c)` uint8 beside the stem plot of its probabilities `(classes,)`."""
    return plot_predictions([Answer(image, probabilities, labels, title, true_label)])


def plot_predictions(answers: Sequence[Answer]) -> Figure:
    """Draw pictures in a grid, each beside the stem plot of its probabilities; InputError for none or above MAX_PICTURES."""
    if not 0 < len(answers) <= MAX_PICTURES:
        raise InputError(f"a plot shows 1 to {MAX_PICTURES} pictures, got {len(answers)}")
    columns = _columns(len(answers))
    rows = math.ceil(len(answers) / columns)
    stem_in = max(3.6, 0.6 + _CLASS_IN * min(max(len(answer.labels) for answer in answers), _LEGIBLE + 8))
    letters = max(1 if _rotation(answer.labels) == 0 else max(map(len, answer.labels)) for answer in answers)
    label_in = 0.3 + _LETTER_IN * min(letters, _LONGEST)
    row_in, pair_in = _TITLE_IN + _PICTURE_IN + label_in, _PICTURE_IN + stem_in + 1.35
    figure = new_figure(columns * pair_in, rows * row_in)
    for i, answer in enumerate(answers):
        left, top = (i % columns) * pair_in, (rows - i // columns) * row_in - _TITLE_IN
        boxes = (left + 0.3, _PICTURE_IN), (left + 0.3 + _PICTURE_IN + 0.75, stem_in)
        picture, stems = (
            figure.add_axes(
                (x / (columns * pair_in), (top - _PICTURE_IN) / (rows * row_in), width / (columns * pair_in),
                 _PICTURE_IN / (rows * row_in))
            )
            for x, width in boxes
        )  # fmt: skip
        _draw_picture(picture, answer)
        _draw_stems(stems, answer)
    return figure


def save_predictions(
    path: Path,
    images: Sequence[NDArray[np.uint8]],
    predictions: Sequence[Prediction],
    labels: tuple[str, ...],
    titles: Sequence[str],
) -> None:
    """Draw the predictions of pictures `(h, w, c)` uint8 to a file, whole or not at all."""
    answers = [
        Answer(image, prediction.probabilities, labels, title, rejected=prediction.label is None)
        for image, prediction, title in zip(images, predictions, titles, strict=True)
    ]
    save_figure(plot_predictions(answers), path)


def _columns(count: int) -> int:
    return next(columns for columns, most in ((1, 3), (2, 12), (3, 27), (4, MAX_PICTURES)) if count <= most)


def _draw_picture(axes: Axes, answer: Answer) -> None:
    gray = answer.image.shape[2] == 1
    axes.imshow(answer.image[:, :, 0] if gray else answer.image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    hide_frame(axes)
    axes.set_title(_shortened(answer.title, 34), fontsize=9, color=INK, parse_math=False)


def _draw_stems(axes: Axes, answer: Answer) -> None:
    classes = len(answer.labels)
    predicted = int(answer.probabilities.argmax())
    true_id = None if answer.true_label is None else answer.labels.index(answer.true_label)
    color = NEUTRAL if true_id is None else RIGHT if true_id == predicted else WRONG
    colors = [PALE] * classes
    if true_id is not None:
        colors[true_id] = RIGHT
    colors[predicted] = color
    size = 8 if classes <= 12 else 5 if classes <= _LEGIBLE else 3.5
    axes.vlines(range(classes), 0, answer.probabilities, colors=colors, linewidth=size / 4)
    axes.scatter(range(classes), answer.probabilities, c=colors, s=size**2, zorder=3, clip_on=False)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set(xlim=(-0.7, classes - 0.3), ylim=(0, 1.04), yticks=[0, 0.5, 1])
    axes.set_xticks(range(classes))
    texts = axes.set_xticklabels(
        [_shortened(label, _LONGEST) for label in answer.labels], rotation=_rotation(answer.labels), parse_math=False
    )
    for text, stem_color in zip(texts, colors, strict=True):
        text.set(color=INK if stem_color == PALE else stem_color, fontweight="normal" if stem_color == PALE else "bold")
    axes.tick_params(axis="x", labelsize=9 if classes <= _LEGIBLE else 6.5, length=0, pad=6)
    axes.tick_params(axis="y", labelsize=8, colors=INK)
    axes.set_ylabel("probability", fontsize=8, color=INK)
    axes.grid(axis="y", color=PALE, linewidth=0.5, alpha=0.6)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_title(_verdict(answer, predicted), fontsize=10, color=color, fontweight="bold", loc="left", parse_math=False)


def _verdict(answer: Answer, predicted: int) -> str:
    name, share = _shortened(answer.labels[predicted], _LONGEST), f"{answer.probabilities[predicted]:.1%}"
    answered = f"unknown ({name}, {share})" if answer.rejected else f"{name} ({share})"
    return f"predicted: {answered}" + (
        "" if answer.true_label is None else f"\ntrue: {_shortened(answer.true_label, _LONGEST)}"
    )


def _rotation(labels: tuple[str, ...]) -> int:
    longest = max(len(label) for label in labels)
    return 0 if longest <= 3 and len(labels) <= _LEGIBLE else 90


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
