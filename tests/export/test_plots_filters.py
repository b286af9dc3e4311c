"""Fixed filters do what their names say, and the first convolution is found wherever a model hides it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgecnn.cli.main import main
from edgecnn.errors import InputError
from edgecnn.pictures import read_picture
from edgecnn.preprocessing import Preprocessing
from edgecnn.tasks import Task
from edgecnn_export.frameworks import require_keras
from edgecnn_export.plots.filters import MAX_LEARNED, filtered, fixed_filters, learned_filters, plot_filters
from edgecnn_export.reference import Reference, save_reference

require_keras()

import keras  # noqa: E402
from keras import layers  # noqa: E402

KERNELS = {fixed.name: fixed.kernel for fixed in fixed_filters()}


def _step() -> NDArray[np.uint8]:
    """Dark on the left, bright on the right `(20, 20)`."""
    return np.repeat(np.where(np.arange(20) < 10, 50, 150).astype(np.uint8)[None], 20, axis=0)


@pytest.mark.parametrize("fixed", fixed_filters(), ids=lambda fixed: fixed.name)
def test_on_a_flat_picture_edges_vanish_and_the_rest_keeps_the_level(fixed: Any) -> None:
    result = filtered(np.full((9, 9), 100, np.uint8), fixed.kernel)

    np.testing.assert_allclose(result, 0 if fixed.signed else 100, atol=1e-3)


def test_sobel_x_sees_the_upright_edge_and_sobel_y_does_not() -> None:
    along_x, along_y = (filtered(_step(), KERNELS[name]) for name in ("Sobel x: upright edges", "Sobel y: level edges"))

    assert along_x.max() == 400
    assert np.abs(along_y).max() == 0


def test_sharpening_overshoots_on_both_sides_of_an_edge() -> None:
    result = filtered(_step(), KERNELS["sharpening"])

    assert (result.min(), result.max()) == (-50, 250)


def test_the_kernel_lies_as_in_a_convolutional_layer() -> None:
    image = np.random.default_rng(0).integers(0, 256, (12, 12)).astype(np.uint8)
    kernel = KERNELS["diagonal edges"]

    layer = keras.ops.conv(image[None, :, :, None].astype(np.float32), kernel[:, :, None, None])

    np.testing.assert_allclose(filtered(image, kernel)[1:-1, 1:-1], np.asarray(layer)[0, :, :, 0], atol=1e-3)


def _model(first: Any, *, shape: tuple[int, int, int] = (12, 12, 1), nested: bool = False) -> keras.Model:
    inner = [layers.Rescaling(1 / 255), first, layers.GlobalAveragePooling2D(), layers.Dense(3, activation="softmax")]
    if nested:
        head = keras.Sequential([layers.Input(shape), *inner[:2]])
        return keras.Sequential([layers.Input(shape), head, *inner[2:]])
    return keras.Sequential([layers.Input(shape), *inner])


@pytest.mark.parametrize(
    ("first", "shape", "kernels", "maps"),
    [
        (lambda: layers.Conv2D(5, 3), (12, 12, 1), (3, 3, 1, 5), (10, 10, 5)),
        (lambda: layers.Conv2D(4, 3, padding="same", strides=2), (12, 12, 3), (3, 3, 3, 4), (6, 6, 4)),
        (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), (12, 12, 3), (3, 3, 1, 6), (10, 10, 6)),
        (lambda: layers.SeparableConv2D(7, 3), (12, 12, 1), (3, 3, 1, 1), (10, 10, 7)),
    ],
    ids=["plain", "colour", "depthwise", "separable"],
)
def test_the_first_convolution_is_found(first: Any, shape: Any, kernels: Any, maps: Any) -> None:
    found = learned_filters(_model(first(), shape=shape), np.zeros(shape, np.uint8))

    assert (found.kernels.shape, found.maps.shape) == (kernels, maps)


def test_a_convolution_in_a_model_inside_the_model_answers_the_same() -> None:
    image = np.random.default_rng(0).integers(0, 256, (12, 12, 1)).astype(np.uint8)
    conv = layers.Conv2D(5, 3, activation="relu")

    plain, nested = (learned_filters(_model(conv, nested=nested), image).maps for nested in (False, True))

    np.testing.assert_allclose(plain, nested, atol=1e-6)


def test_the_maps_are_what_the_layer_answers() -> None:
    image = np.random.default_rng(0).integers(0, 256, (12, 12, 1)).astype(np.uint8)
    conv = layers.Conv2D(5, 3)
    model = _model(conv)

    found = learned_filters(model, image)

    np.testing.assert_allclose(found.maps, np.asarray(conv(image[None].astype(np.float32) / 255))[0], atol=1e-5)


def test_a_model_answers_as_before_when_it_was_looked_into() -> None:
    model, images = _model(layers.Conv2D(5, 3)), np.ones((2, 12, 12, 1), np.float32)
    before = np.asarray(model(images))

    learned_filters(model, np.zeros((12, 12, 1), np.uint8))

    np.testing.assert_array_equal(np.asarray(model(images)), before)


def test_a_model_without_convolution_is_refused() -> None:
    model = keras.Sequential([layers.Input((4, 4, 1)), layers.Flatten(), layers.Dense(3)], name="flat")

    with pytest.raises(InputError, match="'flat' has no convolution"):
        learned_filters(model, np.zeros((4, 4, 1), np.uint8))


def _reference(kernels: int, shape: tuple[int, int, int] = (12, 12, 1)) -> Reference:
    preprocessing = Preprocessing(shape[0], shape[1], "gray" if shape[2] == 1 else "rgb")
    return Reference(
        _model(layers.Conv2D(kernels, 3), shape=shape), Task("parts", "parts", ("a", "b", "c"), preprocessing), "tiny"
    )


@pytest.mark.parametrize(("kernels", "shape"), [(1, (12, 12, 1)), (9, (12, 12, 3)), (40, (12, 12, 1))])
def test_the_page_shows_every_filter_inside_its_edges(kernels: int, shape: tuple[int, int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (300, 500, 3)).astype(np.uint8)

    figure = plot_filters(picture, _reference(kernels, shape), title="steel_$1.png")

    figure.canvas.draw()
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    assert len(figure.axes) == 2 + 2 * (8 + min(kernels, MAX_LEARNED))
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in boxes if box)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :] if a and b)


def test_the_command_draws_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture, model, out = tmp_path / "part.png", tmp_path / "model.keras", tmp_path / "filters.png"
    cv2.imwrite(str(picture), _step())
    save_reference(_reference(4), model)

    with pytest.raises(SystemExit) as ended:
        main(["filters", str(picture), "--model", str(model), "--out", str(out)])

    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert read_picture(out).shape[1] > 1000


def test_a_picture_that_is_none_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "part.png").write_text("no picture")

    with pytest.raises(SystemExit) as ended:
        main(["filters", str(tmp_path / "part.png")])

    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
