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

from edgecnn.artifacts.contract import DataInfo  # noqa: E402
from edgecnn.runtimes.select import open_tflite  # noqa: E402
from edgecnn_export.conversion.calibration import Calibration, measure  # noqa: E402
from edgecnn_export.conversion.convert import Quantization, convert_quantized  # noqa: E402
from edgecnn_export.conversion.fold import fold  # noqa: E402
from edgecnn_export.conversion.simulation import LayerwiseRounding  # noqa: E402

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


@pytest.mark.parametrize("layer", ["first", "depthwise", "joined", "pooled"])
def test_the_layer_with_a_sabotaged_range_ranks_first(small_net: keras.Model, layer: str) -> None:
    folded, images = fold(small_net), noise(24)
    ranges = measure(folded, images)

    losses = rank_layers(folded, ranges | {layer: (0.0, ranges[layer][1] / 50)}, images)

    assert (losses[0].layer, losses[0].part) == (layer, "activations")
    assert losses[0].clipped > 0.1


def test_weights_are_rounded_layer_by_layer(small_net: keras.Model) -> None:
    losses = rank_layers(fold(small_net), {}, noise(8))

    assert {loss.layer for loss in losses} == {"first", "depthwise", "answer_linear"}
    assert all(0 < loss.difference < 0.1 for loss in losses)


def test_ranking_leaves_the_model_as_it_was(small_net: keras.Model) -> None:
    folded = fold(small_net)
    before = [weight.copy() for weight in folded.model.get_weights()]

    rank_layers(folded, measure(folded, noise(8)), noise(8))

    assert all((old == new).all() for old, new in zip(before, folded.model.get_weights(), strict=True))


@pytest.fixture(scope="module")
def uneven_net() -> keras.Model:
    """A net whose dense layer has a class of weights a thousand times those of the others: one scale cannot hold both."""
    keras.utils.set_random_seed(4)
    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Flatten()(keras.layers.Conv2D(4, 3, strides=2, activation="relu", name="first")(image))
    scores = keras.layers.Dense(8, name="uneven")(keras.layers.Rescaling(1 / 255)(x))
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax", name="answer")(scores))
    kernel, bias = model.get_layer("uneven").get_weights()
    model.get_layer("uneven").set_weights([kernel * np.array([1e3, *[1.0] * 7]), bias])
    kernel, bias = model.get_layer("answer").get_weights()
    model.get_layer("answer").set_weights([kernel * np.array([1e-3, *[1.0] * 7])[:, None], bias])
    return model


def test_dense_weights_are_rounded_as_the_file_of_the_format_has_them(uneven_net: keras.Model) -> None:
    folded, images = fold(uneven_net), noise(24)

    losses = {
        file_format: {loss.layer: loss.difference for loss in rank_layers(folded, {}, images, file_format=file_format)}
        for file_format in ("tflite", "onnx")
    }

    assert losses["tflite"]["uneven"] > 5 * losses["onnx"]["uneven"]  # TFLite files have one scale for a dense layer
    assert losses["tflite"]["first"] == losses["onnx"]["first"]


def test_the_loss_that_is_named_is_that_of_the_tflite_file(uneven_net: keras.Model) -> None:
    folded, images = fold(uneven_net), noise(24)
    calibration = Calibration(measure(folded, images), DataInfo("noise", "train", 24, "0" * 64), 0)

    simulation = LayerwiseRounding(folded, calibration.ranges, images)
    file = open_tflite(convert_quantized(Quantization(folded, calibration), "tflite").model, with_features=True)

    step = next(step for step in simulation.graph.steps if step.name == "uneven")
    alone = simulation.with_rounded_weights(step)
    lost = np.abs(file.run(images) - simulation.answers).mean()
    assert np.abs(alone - simulation.answers).mean() == pytest.approx(lost, rel=0.5)  # nearly all of what the file lost
