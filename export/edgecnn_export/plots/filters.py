"""Fixed filters beside learned ones: smoothing, sharpening and edges by hand, then what the first layer found by itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import InputError
from edgecnn.preprocessing import resize
from edgecnn_export.plots.figures import INK, hide_frame, new_figure

if TYPE_CHECKING:
    import keras
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from edgecnn_export.reference import Reference

MAX_LEARNED = 32
_LONGEST_SIDE = 256  # a kernel of 3 x 3 shows nothing on a photograph of 4,000 pixels
_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D")
_COLUMNS = 8
_CELL_IN, _KERNEL_IN, _GAP_IN, _MARGIN_IN, _HEAD_IN = 1.7, 0.95, 0.12, 0.35, 0.9
_LARGE_IN = _KERNEL_IN + _GAP_IN + _CELL_IN
_ROW_IN = _LARGE_IN + 0.25


@dataclass(frozen=True, eq=False)
class FixedFilter:
    """A kernel `(kh, kw)` float32 that somebody designed; `signed` says that its result is centred at 0."""

    name: str
    kernel: NDArray[np.float32]
    signed: bool = False


@dataclass(frozen=True, eq=False)
class LearnedFilters:
    """The first convolution of a model: `kernels` `(kh, kw, channels, n)` and its feature `maps` `(h, w, n)` of a picture."""

    layer: str
    kernels: NDArray[np.float32]
    maps: NDArray[np.float32]


def fixed_filters() -> tuple[FixedFilter, ...]:
    """Return smoothing, sharpening and edge kernels as textbooks have them (Gonzalez and Woods, chapter 3)."""
    binomial = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256
    sobel = np.outer([1, 2, 1], [-1, 0, 1])
    designed = (
        ("smoothing: box", np.full((5, 5), 1 / 25), False),
        ("smoothing: Gaussian", binomial, False),
        ("sharpening", np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]]), False),
        ("strong sharpening", np.array([[-1, -1, -1], [-1, 9, -1], [-1, -1, -1]]), False),
        ("Sobel x: upright edges", sobel, True),
        ("Sobel y: level edges", sobel.T, True),
        ("Laplacian: all edges", np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]]), True),
        ("diagonal edges", np.array([[0, 1, 2], [-1, 0, 1], [-2, -1, 0]]), True),
    )
    return tuple(FixedFilter(name, np.asarray(kernel, np.float32), signed) for name, kernel, signed in designed)


def filtered(image_gray: NDArray[np.uint8], kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lay a kernel on every place of `(h, w)` uint8 the way a convolutional layer does (unflipped); `(h, w)` float32."""
    return np.asarray(cv2.filter2D(image_gray, cv2.CV_32F, kernel), np.float32)


def learned_filters(model: keras.Model, image: NDArray[np.uint8]) -> LearnedFilters:
    """Return the first convolution's kernels and its answers to a picture in the model's input form `(h, w, c)` uint8.

    Raises InputError when the model has none.
    """
    layer = next((layer for layer in _leaves(model) if type(layer).__name__ in _CONVOLUTIONS), None)
    if layer is None:
        raise InputError(f"model {model.name!r} has no convolution: none of its layers is {', '.join(_CONVOLUTIONS)}")
    # The first weight of all three kinds is the kernel; a depthwise one is (kh, kw, channels, multiplier).
    kernels = np.asarray(layer.get_weights()[0], np.float32)
    maps = _output_of(layer, model, image)
    if type(layer).__name__ == "DepthwiseConv2D":
        kernels = kernels.reshape(*kernels.shape[:2], 1, -1)
    if layer.data_format == "channels_first":
        maps = maps.transpose(1, 2, 0)
    return LearnedFilters(layer.name, kernels, maps)


def plot_filters(image_bgr: NDArray[np.uint8], reference: Reference, *, title: str) -> Figure:
    """Draw a picture `(h, w, 3)` uint8, fixed filters with their results, and a model's first kernels with their maps."""
    model_input = reference.task.preprocessing(image_bgr)
    learned = learned_filters(reference.model, model_input)
    shown_bgr = _shrunk(image_bgr)
    gray = np.asarray(cv2.cvtColor(shown_bgr, cv2.COLOR_BGR2GRAY), np.uint8)
    count = min(learned.kernels.shape[3], MAX_LEARNED)
    page = _Page(rows=1 + math.ceil(count / _COLUMNS), heads=2)
    picture_axes = page.head("Designed by hand: one kernel, laid on every place of the picture")
    _draw_picture(picture_axes, np.asarray(cv2.cvtColor(shown_bgr, cv2.COLOR_BGR2RGB), np.uint8), title)
    for fixed in fixed_filters():
        kernel_axes, result_axes = page.pair()
        _draw_kernel(kernel_axes, fixed.kernel, numbers=True)
        kernel_axes.set_title(fixed.name, fontsize=8, color=INK, pad=3)
        _draw_result(result_axes, filtered(gray, fixed.kernel), signed=fixed.signed)
    page.end_part()
    total = learned.kernels.shape[3]
    shown = f"{total} kernels" if count == total else f"{count} of {total} kernels"
    who = f"{reference.name} ({reference.task.title})"
    input_axes = page.head(f"Learned by {who}: {shown} of its first layer {learned.layer}, and their feature maps")
    _draw_picture(input_axes, model_input, "the picture as the model gets it")
    _draw_learned(page, learned, count)
    return page.figure


class _Page:
    """Places rows of eight pairs, each a kernel's cell above its result's, beside one large picture in front of the first."""

    def __init__(self, rows: int, heads: int) -> None:
        self._width = 2 * _MARGIN_IN + _LARGE_IN + _COLUMNS * (_CELL_IN + _GAP_IN)
        self._height = _MARGIN_IN + heads * _HEAD_IN + rows * _ROW_IN
        self.figure = new_figure(self._width, self._height)
        self._top, self._column = self._height, _COLUMNS

    def head(self, text: str) -> Axes:
        """Start a part with its headline; return the large picture's place."""
        self.figure.text(
            _MARGIN_IN / self._width, (self._top - 0.35) / self._height, text, fontsize=14, color=INK, va="center",
            fontweight="bold", parse_math=False,
        )  # fmt: skip
        self._top -= _HEAD_IN
        self._column = 0
        return self._axes(0, 0, _LARGE_IN)

    def pair(self) -> tuple[Axes, Axes]:
        """Return the next kernel's and result's cell."""
        if self._column == _COLUMNS:
            self._top -= _ROW_IN
            self._column = 0
        x = _LARGE_IN + _GAP_IN + self._column * (_CELL_IN + _GAP_IN)
        self._column += 1
        kernel = self._axes(x + (_CELL_IN - _KERNEL_IN) / 2, 0, _KERNEL_IN)
        return kernel, self._axes(x, _KERNEL_IN + _GAP_IN, _CELL_IN)

    def end_part(self) -> None:
        """Leave the row for the next headline."""
        self._top -= _ROW_IN

    def _axes(self, x: float, down: float, side: float) -> Axes:
        left, bottom = _MARGIN_IN + x, self._top - down - side
        axes = self.figure.add_axes((left / self._width, bottom / self._height, side / self._width, side / self._height))
        hide_frame(axes)
        return axes


def _draw_learned(page: _Page, learned: LearnedFilters, count: int) -> None:
    largest = float(np.abs(learned.kernels).max())
    for i in range(count):
        kernel_axes, map_axes = page.pair()
        _draw_kernel(kernel_axes, learned.kernels[:, :, :, i], limit=largest)
        _draw_map(map_axes, learned.maps[:, :, i % learned.maps.shape[2]])


def _draw_picture(axes: Axes, image: NDArray[np.uint8], title: str) -> None:
    axes.imshow(image[:, :, 0] if image.shape[2] == 1 else image, cmap="gray", vmin=0, vmax=255)
    axes.set_title(title, fontsize=9, color=INK, parse_math=False)


def _draw_kernel(axes: Axes, kernel: NDArray[np.float32], *, numbers: bool = False, limit: float | None = None) -> None:
    limit = limit or float(np.abs(kernel).max()) or 1.0
    if kernel.ndim == 3 and kernel.shape[2] == 3:
        axes.imshow(0.5 + kernel / (2 * limit))
        return
    flat = kernel if kernel.ndim == 2 else kernel.mean(axis=2)
    axes.imshow(flat, cmap="RdBu_r", vmin=-limit, vmax=limit)
    if numbers:
        for (row, column), value in np.ndenumerate(flat):
            axes.text(column, row, _short(float(value)), ha="center", va="center", fontsize=7 if len(flat) <= 3 else 4.5,
                      color="white" if abs(value) > 0.6 * limit else INK)  # fmt: skip


def _draw_result(axes: Axes, result: NDArray[np.float32], *, signed: bool) -> None:
    # The largest half per cent is cut off, or a single bright pixel would leave the rest gray.
    limit = float(np.percentile(np.abs(result), 99.5)) or 1.0
    low, high = (-limit, limit) if signed else (0, 255)
    axes.imshow(result, cmap="gray", vmin=low, vmax=high)


def _draw_map(axes: Axes, feature_map: NDArray[np.float32]) -> None:
    # The border saw padding instead of picture: it is drawn, but does not set the scale.
    inner = feature_map[1:-1, 1:-1] if min(feature_map.shape) > 4 else feature_map
    low, high = np.percentile(inner, [0.5, 99.5])
    axes.imshow(feature_map, cmap="magma", vmin=float(low), vmax=max(float(high), float(low) + 1e-6))


def _short(value: float) -> str:
    return f"{value:.0f}" if value == round(value) else f"{value:.2f}".replace("0.", ".")


def _shrunk(image_bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image_bgr.shape[:2]
    factor = max(height, width) / _LONGEST_SIDE
    return image_bgr if factor <= 1 else resize(image_bgr, (max(1, round(height / factor)), max(1, round(width / factor))))


def _leaves(model: Any) -> Iterator[Any]:
    """Yield the layers of a model in order, those of models inside it in their place."""
    for layer in model.layers:
        if getattr(layer, "layers", None):
            yield from _leaves(layer)
        else:
            yield layer


def _output_of(layer: Any, model: keras.Model, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what a layer answers to one picture `(h, w, c)`, without batch axis, wherever in the model it sits."""
    answers: list[Any] = []
    call = layer.call

    def record(*arguments: Any, **options: Any) -> Any:
        answers.append(call(*arguments, **options))
        return answers[-1]

    # A model cut at this layer would do only where the layer is not part of a model inside the model.
    layer.call = record
    try:
        model(image[None].astype(np.float32), training=False)
    finally:
        layer.call = call
    return np.asarray(np.asarray(answers[0])[0], np.float32)
