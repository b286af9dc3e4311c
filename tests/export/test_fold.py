from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecnn.errors import ConversionError
from edgecnn_export.conversion.fold import fold
from edgecnn_export.conversion.folded import Folded
from edgecnn_export.conversion.graph import Step, read_graph

import keras  # isort: skip
from keras import layers  # isort: skip

Array = NDArray[np.float32]


def shaken(model: keras.Model, seed: int) -> keras.Model:
    """Give every weight a value that training could give, moving statistics too."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        if "variance" in weight.path:
            weight.assign(random.uniform(0.05, 4, weight.shape))
        else:
            weight.assign(np.asarray(weight) + random.normal(0, 0.3, weight.shape))
    return model


def pictures(shape: tuple[int, ...], seed: int) -> Array:
    """Noise, black, white and a picture with one white pixel, 0..255."""
    random = np.random.default_rng(seed)
    images = [random.integers(0, 256, shape), np.zeros(shape), np.full(shape, 255), np.zeros(shape)]
    images[3][0, 0, 0] = 255
    return np.stack(images).astype(np.float32)


def largest_difference(model: keras.Model, folded: Folded, seed: int = 0) -> float:
    """Compare both on noise and extremes, relative to the largest answer."""
    images = pictures(model.input_shape[1:], seed)
    expected, got = np.asarray(model(images, training=False)), np.asarray(folded.model(images))
    return float(np.abs(got - expected).max() / max(1.0, np.abs(expected).max()))


def kinds(folded: Folded) -> list[str]:
    return [type(step.operation).__name__ for step in folded.steps]


def build(*parts: Any, shape: tuple[int, int, int] = (8, 8, 2)) -> keras.Model:
    x = image = keras.Input(shape)
    for part in parts:
        x = part(x)
    return shaken(keras.Model(image, x), 3)


@dataclass(frozen=True)
class Block:
    """One random piece of a net."""

    kind: str
    padding: str
    activation: str | None
    use_bias: bool
    count: int

    def apply(self, x: Any) -> Any:
        padding = "same" if min(x.shape[1:3]) < 3 else self.padding
        common = {"padding": padding, "activation": self.activation, "use_bias": self.use_bias}
        match self.kind:
            case "conv":
                return layers.Conv2D(self.count, 3, strides=self.count % 2 + 1, **common)(x)
            case "depthwise":
                return layers.DepthwiseConv2D(3, depth_multiplier=self.count % 2 + 1, **common)(x)
            case "separable":
                return layers.SeparableConv2D(3, 3, depth_multiplier=self.count % 2 + 1, **common)(x)
            case "normalise":
                return layers.BatchNormalization(scale=self.use_bias, center=self.count > 1)(x)
            case "pool":
                return layers.MaxPooling2D(padding="same")(x)
            case "nested":
                inner = keras.Sequential([layers.Conv2D(2, 3, padding="same"), layers.BatchNormalization(), layers.ReLU()])
                return inner(x)
            case "branch":
                return layers.Add()([layers.BatchNormalization()(layers.Conv2D(x.shape[-1], 1)(x)), x])
            case _:
                return layers.Dropout(0.5)(x)


@dataclass(frozen=True)
class Net:
    """A random small net: normalisation before, behind and without a convolution, branches, nested models."""

    channels: int
    offset: float | None
    blocks: list[Block]
    flatten: bool
    normalise: bool
    activation: str | None

    def build(self, seed: int) -> keras.Model:
        keras.utils.clear_session()
        x = image = keras.Input((8, 8, self.channels))
        if self.offset is not None:
            x = layers.Rescaling(1 / 255, offset=self.offset)(x)
        for block in self.blocks:
            x = block.apply(x)
        x = (layers.Flatten() if self.flatten else layers.GlobalAveragePooling2D())(x)
        if self.normalise:
            x = layers.BatchNormalization()(x)
        return shaken(keras.Model(image, layers.Dense(3, activation=self.activation)(x)), seed)


BLOCKS = st.builds(
    Block,
    kind=st.sampled_from(["conv", "depthwise", "separable", "normalise", "pool", "nested", "branch", "dropout"]),
    padding=st.sampled_from(["same", "valid"]),
    activation=st.sampled_from([None, "relu", "tanh"]),
    use_bias=st.booleans(),
    count=st.integers(1, 4),
)
NETS = st.builds(
    Net,
    channels=st.integers(1, 3),
    offset=st.sampled_from([None, 0.0, -0.5]),
    blocks=st.lists(BLOCKS, min_size=1, max_size=4),
    flatten=st.booleans(),
    normalise=st.booleans(),
    activation=st.sampled_from([None, "softmax", "sigmoid"]),
)


@settings(max_examples=12, deadline=None)
@given(net=NETS, seed=st.integers(0, 2**16))
def test_folding_any_net_changes_no_answer(net: Net, seed: int) -> None:
    model = net.build(seed)

    folded = fold(model)

    assert largest_difference(model, folded, seed) < 1e-5


def test_normalisation_behind_each_kind_of_linear_layer_disappears() -> None:
    model = build(
        layers.Rescaling(1 / 255),
        layers.Conv2D(4, 3, padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.DepthwiseConv2D(3, depth_multiplier=2),
        layers.BatchNormalization(),
        layers.SeparableConv2D(4, 3),
        layers.BatchNormalization(),
        layers.Flatten(),
        layers.Dense(3),
        layers.BatchNormalization(),
        layers.Softmax(),
    )

    folded = fold(model)

    assert kinds(folded) == [
        "Conv2D", "ReLU", "DepthwiseConv2D", "DepthwiseConv2D", "Conv2D", "Flatten", "Dense", "Softmax"
    ]  # fmt: skip


def test_rescaling_passes_reshaping_layers_on_its_way_into_the_first_weights() -> None:
    model = build(layers.Rescaling(1 / 255), layers.ZeroPadding2D(1), layers.MaxPooling2D(), layers.Flatten(), layers.Dense(3))

    folded = fold(model)

    assert "Rescaling" not in kinds(folded)
    assert largest_difference(model, folded) < 1e-5


def test_an_offset_before_zero_padding_is_kept_apart_from_the_convolution() -> None:
    model = build(layers.Rescaling(1 / 127.5, offset=-1), layers.Conv2D(3, 3, padding="same"))

    folded = fold(model)

    assert kinds(folded) == ["DepthwiseConv2D", "Conv2D"]
    assert largest_difference(model, folded) < 1e-5


def test_an_offset_folds_into_a_convolution_without_padding() -> None:
    model = build(layers.Rescaling(1 / 127.5, offset=-1), layers.Conv2D(3, 3))

    folded = fold(model)

    assert kinds(folded) == ["Conv2D"]
    assert largest_difference(model, folded) < 1e-5


def test_normalisation_of_a_tensor_that_others_take_stays() -> None:
    image = keras.Input((8, 8, 2))
    raw = layers.Conv2D(3, 3)(image)
    model = shaken(keras.Model(image, layers.Concatenate()([raw, layers.BatchNormalization()(raw)])), 0)

    folded = fold(model)

    assert largest_difference(model, folded) < 1e-5


def test_a_shared_layer_is_not_folded_into() -> None:
    image, shared = keras.Input((8, 8, 2)), layers.Conv2D(2, 3, padding="same")
    x = layers.BatchNormalization()(shared(layers.ReLU()(shared(image))))
    model = shaken(keras.Model(image, x), 0)

    folded = fold(model)

    assert largest_difference(model, folded) < 1e-5


def test_a_model_nested_twice_keeps_both_calls() -> None:
    inner = keras.Sequential([layers.Conv2D(2, 3, padding="same"), layers.ReLU()])
    model = build(inner, layers.Activation("tanh"), inner)

    folded = fold(model)

    assert kinds(folded).count("Conv2D") == 2
    assert largest_difference(model, folded) < 1e-5


def test_a_layer_with_tiny_variance_folds_within_tolerance() -> None:
    model = build(layers.Rescaling(1 / 255), layers.Conv2D(4, 3, use_bias=False), layers.BatchNormalization())
    model.layers[-1].moving_variance.assign([0.0, 1e-12, 1e-6, 1e6])

    folded = fold(model)

    assert largest_difference(model, folded) < 1e-5


def test_a_mixed_precision_model_comes_out_in_float32() -> None:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = build(layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Flatten(), layers.Dense(3, dtype="float32"))
    finally:
        keras.config.set_dtype_policy("float32")

    folded = fold(model)

    assert {layer.compute_dtype for layer in folded.model.layers} == {"float32"}


def test_training_only_layers_vanish() -> None:
    model = build(
        layers.RandomFlip("horizontal"),
        layers.GaussianNoise(0.1),
        layers.Conv2D(2, 3),
        layers.SpatialDropout2D(0.5),
        layers.Activation("linear"),
    )

    folded = fold(model)

    assert kinds(folded) == ["Conv2D"]


def test_a_subclassed_model_is_returned_as_it_is() -> None:
    class Opaque(keras.Model):  # type: ignore[misc]  # Keras ships no types
        def call(self, inputs: Any) -> Any:
            return inputs

    model = Opaque()

    assert fold(model).model is model


def test_folding_leaves_the_original_untouched() -> None:
    model = build(layers.Conv2D(4, 3), layers.BatchNormalization())
    before = [np.asarray(weight).copy() for weight in model.weights]

    fold(model)

    assert all(np.array_equal(old, new) for old, new in zip(before, model.weights, strict=True))


def test_two_outputs_are_refused_in_one_line() -> None:
    image = keras.Input((8, 8, 2))
    model = keras.Model(image, [layers.Flatten()(image), layers.GlobalAveragePooling2D()(image)])

    with pytest.raises(ConversionError, match="1 inputs and 2 outputs"):
        fold(model)


def test_a_sequential_model_without_a_shape_is_refused_in_one_line() -> None:
    with pytest.raises(ConversionError, match="no input shape"):
        fold(keras.Sequential([layers.Dense(2)]))


def turned_round(x: Any) -> Any:
    return x[..., ::-1]


def test_a_convention_of_bgr_pixels_disappears_in_the_first_convolution() -> None:
    model = build(
        layers.Rescaling([0.1, 0.2, 0.3], [1, 2, 3]), turned_round, layers.Conv2D(3, 3), layers.ReLU(), shape=(8, 8, 3)
    )

    folded = fold(model)

    assert kinds(folded) == ["Conv2D", "ReLU"]
    assert largest_difference(model, folded) < 1e-5


def test_pixels_may_be_turned_round_before_they_are_scaled_and_padded() -> None:
    model = build(
        turned_round, layers.Rescaling([0.1, 0.2, 0.3]), layers.ZeroPadding2D(1), layers.Conv2D(3, 3), shape=(8, 8, 3)
    )

    folded = fold(model)

    assert "GetItem" not in kinds(folded) and kinds(folded).count("Conv2D") == 1
    assert largest_difference(model, folded) < 1e-5


@pytest.mark.parametrize("behind", [layers.DepthwiseConv2D(3), layers.BatchNormalization(), layers.Flatten()])
def test_channels_turned_round_before_something_else_become_a_convolution(behind: keras.Layer) -> None:
    model = build(turned_round, behind, shape=(8, 8, 3))

    folded = fold(model)

    assert "GetItem" not in kinds(folded)
    assert largest_difference(model, folded) < 1e-5


def test_activations_that_no_later_step_takes_are_let_go() -> None:
    image = keras.Input((8, 8, 1))
    first = layers.Conv2D(4, 3, padding="same")(image)
    last = layers.Add()([first, layers.Conv2D(4, 3, padding="same")(layers.ReLU()(first))])
    graph = read_graph(keras.Model(image, layers.Flatten()(layers.ReLU()(last))))
    held, alive = [], weakref.WeakSet[Held]()

    def call(step: Step, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Held:
        made = Held(step.operation.name)
        alive.add(made)
        held.append(len(alive))
        return made

    graph.run(Held("image"), call)

    assert max(held) <= 4  # the skipped one, what the step takes, what it gives, and what it took before


def test_a_step_holds_no_more_than_it_takes_or_gives_of_all_blocks() -> None:
    image = keras.Input((8, 8, 1))
    graph = read_graph(keras.Model(image, layers.Flatten()(layers.ReLU()(layers.Conv2D(4, 3)(image)))))
    alive, held, blocks = weakref.WeakSet[Held](), list[int](), 6

    def call(step: Step, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Held:
        made = Held(step.operation.name)
        alive.add(made)
        held.append(len(alive))
        return made

    results = graph.run_in_blocks([Held("image") for _ in range(blocks)], call, lambda step, taken: None)

    assert max(held) <= blocks + 1  # of the images nobody keeps count: they are the caller's
    assert len(results) == blocks


def test_blocks_answer_as_the_whole_and_a_step_is_prepared_by_all_of_them() -> None:
    image = keras.Input((8, 8, 1))
    first = layers.Conv2D(4, 3, padding="same", name="first")(image)
    model = keras.Model(image, layers.GlobalMaxPooling2D()(layers.Add()([first, layers.ReLU()(first)])))
    graph, images, prepared = read_graph(model), pictures((8, 8, 1), 5), dict[str, int]()

    def call(step: Step, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        return step.operation(*arguments, **keywords)

    def prepare(step: Step, taken: list[Any]) -> None:
        prepared[step.name] = len(taken)

    results = graph.run_in_blocks([images[:1], images[1:3], images[3:]], call, prepare)

    np.testing.assert_allclose(np.concatenate(results), np.asarray(model(images)), rtol=1e-5)
    assert set(prepared.values()) == {3}


class Held:
    """Stands in for an activation."""

    def __init__(self, name: str) -> None:
        self.name = name
