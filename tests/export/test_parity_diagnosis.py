import numpy as np
import pytest
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset
from edgecnn_export.frameworks import require_keras
from edgecnn_export.parity.compare import compare
from edgecnn_export.parity.diagnosis import (
    InputShift,
    LayerLoss,
    advice,
    collapsed_class,
    permuted_labels,
    probe_input,
    rank_layers,
)
from edgecnn_export.parity.figures import ParityReport

require_keras()
import keras  # noqa: E402  # only after its start-up messages are held back

LABELS = ("dark", "middle", "bright", "glare")


class Brightness:
    """A runtime that names the brightness of a picture: below 64, 128, 192, 256; `order` renames its answers."""

    name = "brightness"

    def __init__(self, gain: float = 1.0, offset: int = 0, order: tuple[int, ...] = (0, 1, 2, 3)) -> None:
        self.gain, self.offset, self.order = gain, offset, order

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        level = np.clip(images[:, 0, 0, 0] * self.gain + self.offset, 0, 255)
        answers = np.full((len(images), 4), 0.05, np.float32)
        answers[np.arange(len(images)), np.array(self.order)[(level // 64).astype(int)]] = 0.85
        return answers


def grays(count: int = 200) -> Dataset:
    levels = np.arange(count) * 7 % 256
    images = levels.astype(np.uint8)[:, None, None, None]
    return Dataset(images, (levels // 64).astype(np.int64), tuple(map(str, range(count))))


def report_on(candidate: Brightness) -> ParityReport:
    return compare(Brightness(), {"int8": candidate}, grays(), labels=LABELS)


def test_swapped_labels_are_recognised() -> None:
    report = report_on(Brightness(order=(0, 2, 1, 3)))

    assert permuted_labels(report["int8"]) == {"middle": "bright", "bright": "middle"}
    assert "middle is called bright" in advice(report, "int8")[0]


def test_a_cycle_of_labels_is_recognised() -> None:
    report = report_on(Brightness(order=(1, 2, 3, 0)))

    assert len(permuted_labels(report["int8"])) == 4


def test_right_labels_are_no_permutation() -> None:
    assert permuted_labels(report_on(Brightness())["int8"]) == {}


def test_a_collapsed_model_is_recognised() -> None:
    report = report_on(Brightness(order=(2, 2, 2, 2)))

    assert collapsed_class(report["int8"]) == "bright"
    assert permuted_labels(report["int8"]) == {}


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 64), (1.0, -64), (2.0, 0)])
def test_a_wrong_brightness_is_found_by_trying(gain: float, offset: int) -> None:
    shift = probe_input(Brightness(), Brightness(gain, offset), grays().images)

    assert shift is not None
    assert shift.agreement_after > 0.7 > shift.agreement_before


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    assert probe_input(Brightness(), Brightness(), grays().images) is None


def test_advice_names_the_shift() -> None:
    report = report_on(Brightness(offset=64))

    lines = advice(report, "int8", shift=InputShift(1.0, -64, 0.2, 0.9))

    assert any("brighter by -64" in line and "zero point" in line for line in lines)


def test_advice_names_the_class_that_lost() -> None:
    report = report_on(Brightness(offset=16))
    one_class = report["int8"].classes[0]

    assert one_class.drop > 0
    assert advice(report, "int8")


def test_advice_says_that_a_range_is_too_narrow() -> None:
    report = report_on(Brightness(offset=64))
    losses = [LayerLoss("conv_2", "activations", 0.2, 9, clipped=0.4)]

    lines = advice(report, "int8", losses)

    assert "conv_2: 40% of its values lie outside the calibrated range; use more pictures" in lines


@pytest.fixture(scope="module")
def small_net() -> keras.Model:
    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8, 1), name="image")
    first = keras.layers.Conv2D(4, 3, activation="relu", name="first")(image)
    depthwise = keras.layers.DepthwiseConv2D(3, padding="same", activation="relu", name="depthwise")(first)
    joined = keras.layers.Add(name="joined")([first, depthwise])
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(joined)
    return keras.Model(image, keras.layers.Dense(3, activation="softmax", name="answer")(pooled))


def noise(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 1)).astype(np.uint8)


def measured_ranges(model: keras.Model, images: NDArray[np.uint8]) -> dict[str, tuple[float, float]]:
    names = ("first", "depthwise", "joined", "pooled")
    outputs = keras.Model(model.input, [model.get_layer(name).output for name in names])(images.astype(np.float32))
    return {name: (0.0, float(np.max(output.numpy()))) for name, output in zip(names, outputs, strict=True)}


@pytest.mark.parametrize("layer", ["first", "depthwise", "joined", "pooled"])
def test_the_layer_with_a_sabotaged_range_ranks_first(small_net: keras.Model, layer: str) -> None:
    images = noise(24)
    ranges = measured_ranges(small_net, images)

    losses = rank_layers(small_net, ranges | {layer: (0.0, ranges[layer][1] / 50)}, images)

    assert (losses[0].layer, losses[0].part) == (layer, "activations")
    assert losses[0].clipped > 0.1


def test_weights_are_rounded_layer_by_layer(small_net: keras.Model) -> None:
    losses = rank_layers(small_net, {}, noise(8))

    assert {loss.layer for loss in losses} == {"first", "depthwise", "answer"}
    assert all(0 < loss.difference < 0.1 for loss in losses)


def test_ranking_leaves_the_model_as_it_was(small_net: keras.Model) -> None:
    before = [weight.copy() for weight in small_net.get_weights()]

    rank_layers(small_net, measured_ranges(small_net, noise(8)), noise(8))

    assert all((old == new).all() for old, new in zip(before, small_net.get_weights(), strict=True))
