"""EfficientNet-Lite0 in Keras against the same weights evaluated by NumPy alone, straight from the file."""

from __future__ import annotations

from functools import cache

import keras
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from edgecnn.errors import InputError, MissingDependencyError
from edgecnn.preprocessing import Preprocessing
from edgecnn.tasks import Task
from edgecnn_export.networks import build, lite
from edgecnn_export.networks.lite import build_lite
from edgecnn_export.networks.pretrained import LITE0, load_pretrained

Array = NDArray[np.float64]
# Repeats, kernel, stride, expansion, channels: from the network's publication, not from the code under test.
PUBLISHED = [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)]  # fmt: skip  # noqa: E501


def task(height: int, width: int, color: str) -> Task:
    return Task("parts", "parts", ("good", "bad", "worn"), Preprocessing(height, width, color))  # type: ignore[arg-type]


@cache
def weights() -> dict[str, NDArray[np.float32]]:
    return load_pretrained(LITE0)


def padded(x: Array, kernel: int, stride: int) -> Array:
    """Pad `(h, w, c)` with zeros as TensorFlow does: the odd pixel below and on the right."""
    sides = []
    for side in x.shape[:2]:
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        sides.append((total // 2, total - total // 2))
    return np.pad(x, (*sides, (0, 0)))


def convolved(x: Array, name: str, stride: int = 1, *, depthwise: bool = False) -> Array:
    kernel = weights()[f"{name}.weight"].astype(np.float64)
    windows = sliding_window_view(padded(x, kernel.shape[2], stride), kernel.shape[2:], (0, 1))[::stride, ::stride]  # type: ignore[call-overload]
    return np.asarray(
        np.einsum("hwcij,cij->hwc", windows, kernel[:, 0]) if depthwise else np.einsum("hwcij,ocij->hwo", windows, kernel)
    )


def normalised(x: Array, name: str) -> Array:
    scale, shift, mean, variance = (weights()[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var"))
    return np.asarray((x - mean) / np.sqrt(variance + 1e-3) * scale + shift)


def evaluated(image: NDArray[np.uint8], stages: int) -> Array:
    """Return what the convolution behind so many stages gives for an RGB image `(h, w, 3)`."""
    x = np.clip(normalised(convolved((image - 127.0) / 128.0, "_conv_stem", 2), "_bn0"), 0, 6)
    blocks = 0
    for repeats, _, stride, expansion, _ in PUBLISHED[:stages]:
        for repeat in range(repeats):
            block, taken, step = f"_blocks.{blocks}", x, stride if repeat == 0 else 1
            if expansion > 1:
                x = np.clip(normalised(convolved(x, f"{block}._expand_conv"), f"{block}._bn0"), 0, 6)
            x = np.clip(normalised(convolved(x, f"{block}._depthwise_conv", step, depthwise=True), f"{block}._bn1"), 0, 6)
            x = normalised(convolved(x, f"{block}._project_conv"), f"{block}._bn2")
            x = x + taken if x.shape == taken.shape else x
            blocks += 1
    names = (f"_blocks.{blocks}._expand_conv", f"_blocks.{blocks}._bn0") if stages < 7 else ("_conv_head", "_bn1")
    return np.clip(normalised(convolved(x, names[0]), names[1]), 0, 6)


def drawn(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Draw coloured waves with noise, `(h, w, 3)`."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width][..., None] / 5.0
    waves = np.sin(rows * np.array([1.0, 0.5, 0.3]) + columns * np.array([0.2, 0.9, 1.4]))
    return np.clip(127 + 90 * waves + random.normal(0, 12, waves.shape), 0, 255).astype(np.uint8)


def last_block(model: keras.Model) -> keras.Model:
    return keras.Model(model.input, model.get_layer("pool").input)


# An odd side: there the padding of a stride differs from side to side.
@pytest.mark.parametrize(("height", "width"), [(64, 64), (75, 50)])
@pytest.mark.parametrize("stages", range(1, 8))
def test_each_stage_gives_what_numpy_makes_of_the_same_weights(height: int, width: int, stages: int) -> None:
    image = drawn(height, width)

    found = np.asarray(last_block(build_lite(task(height, width, "rgb"), stages=stages))(image[None]))[0]

    wanted = evaluated(image, stages)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_a_gray_picture_gives_what_its_three_equal_colours_give() -> None:
    gray = drawn(64, 96)[..., :1]

    one = last_block(build_lite(task(64, 96, "gray")))(gray[None])
    three = last_block(build_lite(task(64, 96, "rgb")))(np.repeat(gray, 3, axis=2)[None])

    assert np.abs(np.asarray(one) - np.asarray(three)).max() < 1e-4


def test_raw_pixels_go_in_and_probabilities_come_out() -> None:
    images = np.stack([drawn(48, 40), drawn(48, 40, seed=1)])

    probabilities = np.asarray(build("lite", task(48, 40, "rgb"))(images))

    assert probabilities.shape == (2, 3)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_pictures_too_small_for_lite_are_refused() -> None:
    with pytest.raises(InputError, match="at least 32 pixels per side, got 31 x 64; enlarge them with --size"):
        build("lite", task(31, 64, "gray"))


def test_a_stage_that_there_is_not_is_refused() -> None:
    with pytest.raises(InputError, match="lite has stages 1 to 7, not 8"):
        build_lite(task(64, 64, "gray"), stages=8)


def test_without_the_package_lite_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: object) -> dict[str, NDArray[np.float32]]:
        raise MissingDependencyError("the ImageNet weights are not installed")

    monkeypatch.setattr(lite, "load_pretrained", absent)

    with pytest.raises(MissingDependencyError, match="not installed"):
        build("lite", task(64, 64, "gray"))


def test_the_seed_alone_decides_the_weights_that_imagenet_does_not_give() -> None:
    builds = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        builds.append(build("lite", task(64, 64, "gray")).get_weights())

    assert all(np.array_equal(one, two) for one, two in zip(*builds, strict=True))
