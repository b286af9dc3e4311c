"""Models in the forms in which others save them are taken as they are meant, or refused in one line that says what to do."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from edgecnn.errors import InputError
from edgecnn.normalization import InputConvention
from edgecnn_export.conversion.fold import fold
from edgecnn_export.foreign import ForeignOptions
from edgecnn_export.models import open_reference

import keras  # isort: skip
from keras import layers  # isort: skip

LABELS = ("cat", "dog")
COLOUR = np.random.default_rng(0).integers(0, 256, (6, 12, 12, 3)).astype(np.uint8)
GRAY = COLOUR[..., :1]
Values = NDArray[np.float32]


def body(shape: tuple[int | None, ...], *ends: keras.Layer, batch: int | None = None) -> keras.Model:
    """A small net of a seed's weights with other ends."""
    keras.utils.set_random_seed(2)
    image = keras.Input(batch_shape=(batch, *shape))
    x = layers.Rescaling(1 / 64)(image)
    x = layers.Flatten()(layers.Conv2D(3, 3, strides=2)(x)) if len(shape) == 3 and None not in shape else x
    x = layers.GlobalAveragePooling2D()(x) if None in shape else layers.Flatten()(x)
    for end in ends:
        x = end(x)
    return keras.Model(image, x)


def softmax() -> keras.Layer:
    return layers.Dense(2, activation="softmax")


def saved(model: keras.Model, path: Path) -> Path:
    model.save(path)
    return path


def softened(scores: Values) -> Values:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def pair(probability: Values) -> Values:
    return np.hstack([1 - probability, probability])


ENDINGS: dict[str, tuple[Callable[[], list[keras.Layer]], Callable[[Values], Values], str]] = {
    "one sigmoid": (lambda: [layers.Dense(1, activation="sigmoid")], pair, "probability of dog"),
    "one sigmoid apart": (lambda: [layers.Dense(1), layers.Activation("sigmoid")], pair, "probability of dog"),
    "one logit": (lambda: [layers.Dense(1)], lambda z: pair(1 / (1 + np.exp(-z))), "logit of dog"),
    "two logits": (lambda: [layers.Dense(2)], softened, "a softmax follows"),
    "logits behind a dropout": (lambda: [layers.Dense(2), layers.Dropout(0.1)], softened, "a softmax follows"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_an_ending_without_softmax_gets_what_it_lacks(tmp_path: Path, name: str) -> None:
    make, expected, said = ENDINGS[name]
    model = body((12, 12, 3), *make())

    opened = open_reference(saved(model, tmp_path / "theirs.keras"), ForeignOptions(labels=LABELS))

    answers = model.predict(COLOUR, verbose=0)
    np.testing.assert_allclose(opened.runtime().run(COLOUR), expected(answers), atol=1e-6)
    np.testing.assert_allclose(np.asarray(fold(opened.model).model(COLOUR)), expected(answers), atol=1e-5)
    assert said in opened.notes[0]


def test_one_sigmoid_is_folded_into_a_softmax_of_two(tmp_path: Path) -> None:
    path = saved(body((12, 12, 3), layers.Dense(1, activation="sigmoid", name="answer")), tmp_path / "theirs.keras")

    folded = fold(open_reference(path, ForeignOptions(labels=LABELS)).model)

    assert [layer.name for layer in folded.model.layers][-3:] == ["answer_linear", "two_classes", "probabilities"]


def test_a_model_that_ends_in_softmax_is_taken_as_it_is(tmp_path: Path) -> None:
    opened = open_reference(saved(body((12, 12, 3), softmax()), tmp_path / "theirs.keras"), ForeignOptions(labels=LABELS))

    assert opened.notes == ()


def test_several_sigmoids_are_no_choice_of_one_class(tmp_path: Path) -> None:
    path = saved(body((12, 12, 3), layers.Dense(2, activation="sigmoid")), tmp_path / "theirs.keras")

    with pytest.raises(InputError, match="so that several may be true at once"):
        open_reference(path, ForeignOptions(labels=LABELS))


def test_one_output_serves_two_labels_and_no_more(tmp_path: Path) -> None:
    path = saved(body((12, 12, 3), layers.Dense(1, activation="sigmoid")), tmp_path / "theirs.keras")

    with pytest.raises(InputError, match="1 output, which serves two classes, but 3 labels: a, b, c"):
        open_reference(path, ForeignOptions(labels=("a", "b", "c")))


@pytest.mark.parametrize(
    ("shape", "images"),
    [((12, 12), GRAY), ((144,), GRAY), ((432,), COLOUR), ((12, 12, 1), GRAY)],
    ids=["without channels", "a row", "a row of colours", "with a channel"],
)
def test_pictures_come_in_any_form(tmp_path: Path, shape: tuple[int, ...], images: NDArray[np.uint8]) -> None:
    model = body(shape, softmax())

    opened = open_reference(saved(model, tmp_path / "theirs.keras"), ForeignOptions(labels=LABELS))

    assert opened.task.preprocessing.shape == images.shape[1:]
    expected = model.predict(images.reshape(len(images), *shape), verbose=0)
    np.testing.assert_allclose(opened.runtime().run(images), expected, atol=1e-6)
    np.testing.assert_allclose(np.asarray(fold(opened.model).model(images)), expected, atol=1e-5)


def test_channels_may_stand_first(tmp_path: Path) -> None:
    image = keras.Input((3, 12, 12))
    model = keras.Model(image, softmax()(layers.Flatten()(layers.Conv2D(2, 3)(layers.Permute((2, 3, 1))(image)))))

    opened = open_reference(saved(model, tmp_path / "theirs.keras"), ForeignOptions(labels=LABELS))

    expected = model.predict(COLOUR.transpose(0, 3, 1, 2), verbose=0)
    np.testing.assert_allclose(opened.runtime().run(COLOUR), expected, atol=1e-6)


def test_a_model_of_pictures_of_any_size_needs_one(tmp_path: Path) -> None:
    path = saved(body((None, None, 3), softmax()), tmp_path / "theirs.keras")

    with pytest.raises(InputError, match="state one with --size HEIGHTxWIDTH"):
        open_reference(path, ForeignOptions(labels=LABELS))


def test_a_model_of_pictures_of_any_size_takes_the_stated_one(tmp_path: Path) -> None:
    model = body((None, None, 3), softmax())
    convention = InputConvention(size_hw=(12, 12))

    opened = open_reference(saved(model, tmp_path / "theirs.keras"), ForeignOptions(labels=LABELS, convention=convention))

    np.testing.assert_allclose(opened.runtime().run(COLOUR), model.predict(COLOUR, verbose=0), atol=1e-6)


def test_a_stated_size_must_be_the_models(tmp_path: Path) -> None:
    path = saved(body((12, 12, 3), softmax()), tmp_path / "theirs.keras")

    with pytest.raises(InputError, match="which is not --size 24x24"):
        open_reference(path, ForeignOptions(labels=LABELS, convention=InputConvention(size_hw=(24, 24))))


@pytest.mark.parametrize("batch", [1, 3])
def test_a_fixed_number_of_pictures_is_lifted(tmp_path: Path, batch: int) -> None:
    model = body((12, 12, 3), softmax(), batch=batch)

    opened = open_reference(saved(model, tmp_path / "theirs.keras"), ForeignOptions(labels=LABELS))

    expected = model.predict(COLOUR, batch_size=batch, verbose=0)
    np.testing.assert_allclose(opened.runtime().run(COLOUR), expected, atol=1e-6)


def test_scores_of_a_convolution_are_flattened(tmp_path: Path) -> None:
    image = keras.Input((12, 12, 3))
    model = keras.Model(image, layers.Softmax()(layers.Conv2D(2, 12)(image)))

    opened = open_reference(saved(model, tmp_path / "theirs.keras"), ForeignOptions(labels=LABELS))

    np.testing.assert_allclose(opened.runtime().run(COLOUR), model.predict(COLOUR, verbose=0)[:, 0, 0], atol=1e-6)


def two_ends(*, named: bool) -> keras.Model:
    image = keras.Input((12, 12, 3))
    flat = layers.Flatten()(image)
    kind, place = layers.Dense(2, activation="softmax", name="kind")(flat), layers.Dense(4, name="place")(flat)
    return keras.Model(image, {"kind": kind, "place": place} if named else [kind, place])


@pytest.mark.parametrize("named", [True, False], ids=["by name", "in a list"])
def test_one_of_several_outputs_is_chosen_by_name(tmp_path: Path, named: bool) -> None:
    model = two_ends(named=named)
    path = saved(model, tmp_path / "theirs.keras")

    with pytest.raises(InputError, match=r"2 outputs: kind \(None, 2\), place \(None, 4\); choose one with --output"):
        open_reference(path, ForeignOptions(labels=LABELS))
    with pytest.raises(InputError, match="none called 'sort'"):
        open_reference(path, ForeignOptions(labels=LABELS, output="sort"))
    opened = open_reference(path, ForeignOptions(labels=LABELS, output="kind"))

    answers = model.predict(COLOUR, verbose=0)
    np.testing.assert_allclose(opened.runtime().run(COLOUR), answers["kind"] if named else answers[0], atol=1e-6)


def test_an_input_that_has_a_name_is_taken_without_a_warning(tmp_path: Path) -> None:
    model = body((12, 12, 3), softmax())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        named = keras.Model({"image": model.inputs[0]}, model.outputs[0])
        path = saved(named, tmp_path / "theirs.keras")

    opened = open_reference(path, ForeignOptions(labels=LABELS))  # warnings are errors here

    np.testing.assert_allclose(opened.runtime().run(COLOUR), model.predict(COLOUR, verbose=0), atol=1e-6)


def test_two_inputs_are_named(tmp_path: Path) -> None:
    first, second = keras.Input((12, 12, 3), name="left"), keras.Input((12, 12, 3), name="right")
    model = keras.Model([first, second], softmax()(layers.Flatten()(layers.Concatenate()([first, second]))))

    with pytest.raises(InputError, match=r"2 inputs \(left, right\)"):
        open_reference(saved(model, tmp_path / "theirs.keras"), ForeignOptions(labels=LABELS))


@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".keras", ".model"])
def test_an_hdf5_file_is_opened_by_what_it_is(tmp_path: Path, suffix: str) -> None:
    model = body((12, 12, 3), layers.BatchNormalization(), softmax())
    path = saved(model, tmp_path / "old.h5").rename(tmp_path / f"theirs{suffix}")

    opened = open_reference(path, ForeignOptions(labels=LABELS))

    np.testing.assert_allclose(opened.runtime().run(COLOUR), model.predict(COLOUR, verbose=0), atol=1e-6)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_augmentation_that_keras_cannot_load_again_is_no_hindrance(tmp_path: Path, suffix: str) -> None:
    image = keras.Input((12, 12, 3))
    augmented = keras.Sequential([layers.RandomShear(0.1, 0.1), layers.RandomFlip()])(image)
    model = keras.Model(image, softmax()(layers.Flatten()(layers.Conv2D(2, 3)(layers.Rescaling(1 / 64)(augmented)))))

    opened = open_reference(saved(model, tmp_path / f"theirs{suffix}"), ForeignOptions(labels=LABELS))

    np.testing.assert_allclose(opened.runtime().run(COLOUR), model.predict(COLOUR, verbose=0), atol=1e-6)


def test_the_only_model_of_a_folder_is_meant(tmp_path: Path) -> None:
    folder = tmp_path / "unpacked"
    (folder / "__MACOSX").mkdir(parents=True)
    model = body((12, 12, 3), softmax())
    model.save(folder / "keras_model.h5")
    (folder / "._keras_model.h5").write_bytes(b"\0\5\x16\7")
    (folder / "labels.txt").write_text("0 cat\n1 dog\n")

    opened = open_reference(folder, ForeignOptions(labels=LABELS))

    assert opened.path == folder / "keras_model.h5"


def test_several_models_of_a_folder_are_named(tmp_path: Path) -> None:
    for name in ("first.keras", "second.keras"):
        body((12, 12, 3), softmax()).save(tmp_path / name)

    with pytest.raises(InputError, match=r"holds 2 models: first\.keras, second\.keras; name one"):
        open_reference(tmp_path, ForeignOptions(labels=LABELS))


def test_weights_alone_are_no_model(tmp_path: Path) -> None:
    body((12, 12, 3), softmax()).save_weights(tmp_path / "theirs.weights.h5")

    with pytest.raises(InputError, match="holds weights without a model"):
        open_reference(tmp_path / "theirs.weights.h5", ForeignOptions(labels=LABELS))


def test_something_else_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"\x80\x02 something")

    with pytest.raises(InputError, match=r"neither .keras \(ZIP\) nor .h5 \(HDF5\)"):
        open_reference(tmp_path / "model.pt", ForeignOptions(labels=LABELS))


class Squeeze(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    def call(self, x: Any) -> Any:
        return x * 2


def odd(x: Any) -> Any:
    return x


ODD: dict[str, tuple[Callable[[], keras.Layer], str]] = {
    "a class": (lambda: Squeeze(name="mine"), r"layer 'mine' is of the class .*Squeeze"),
    "a function": (lambda: layers.Dense(4, activation=odd, name="mine"), "layer 'mine' uses the function odd"),
    "a lambda": (lambda: layers.Lambda(lambda x: x * 2, name="mine"), r"layer 'mine' \(Lambda\) is Python code"),
    "a class inside": (
        lambda: keras.Sequential([keras.Input((75,)), Squeeze(name="mine")]),
        r"layer 'mine' is of the class .*Squeeze",
    ),
}


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", ODD)
def test_code_that_is_not_in_the_file_is_named_by_its_layer(tmp_path: Path, name: str, suffix: str) -> None:
    make, said = ODD[name]
    path = saved(body((12, 12, 3), make(), softmax()), tmp_path / f"theirs{suffix}")

    with pytest.raises(InputError, match=said + r".*model\.export\(FOLDER\)"):
        open_reference(path, ForeignOptions(labels=LABELS))


def test_a_mixed_precision_model_is_computed_in_float32(tmp_path: Path) -> None:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = body((12, 12, 3), softmax())
    finally:
        keras.config.set_dtype_policy("float32")

    opened = open_reference(saved(model, tmp_path / "theirs.keras"), ForeignOptions(labels=LABELS))

    assert "computed in float32" in opened.notes[0]
    assert {layer.compute_dtype for layer in opened.model._flatten_layers()} == {"float32"}
    np.testing.assert_allclose(opened.runtime().run(COLOUR), model.predict(COLOUR, verbose=0), atol=5e-3)


def test_answers_that_are_no_numbers_are_one_line(tmp_path: Path) -> None:
    model = body((12, 12, 3), softmax())
    model.layers[-1].bias.assign([np.nan, 0])

    with pytest.raises(InputError, match="not numbers"):
        open_reference(saved(model, tmp_path / "theirs.keras"), ForeignOptions(labels=LABELS))


def as_keras_2(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Let an .h5 file's configuration say what Keras 2 would."""
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"], file.attrs["keras_version"] = json.dumps(config), "2.15.0"
    return path


def test_what_keras_2_wrote_otherwise_is_put_right(tmp_path: Path) -> None:
    image = keras.Input((12, 12, 3))
    x = layers.LeakyReLU(0.2)(layers.SeparableConv2D(4, 3)(layers.DepthwiseConv2D(3)(layers.Rescaling(1 / 64)(image))))
    model = keras.Model(image, softmax()(layers.Flatten()(layers.BatchNormalization()(x))))

    def change(config: dict[str, Any]) -> None:
        for layer in config["config"]["layers"]:
            settings = layer["config"]
            match layer["class_name"]:
                case "InputLayer":
                    settings["batch_input_shape"] = settings.pop("batch_shape")
                case "DepthwiseConv2D":
                    settings["groups"] = 1
                case "SeparableConv2D":
                    settings |= {"groups": 1, "kernel_initializer": None, "kernel_regularizer": None, "kernel_constraint": None}
                case "BatchNormalization":
                    settings["axis"] = [3]
                case "LeakyReLU":
                    settings["alpha"] = settings.pop("negative_slope")
            settings["dtype"] = "float32"

    path = as_keras_2(saved(model, tmp_path / "old.h5"), change)

    opened = open_reference(path, ForeignOptions(labels=LABELS))

    np.testing.assert_allclose(opened.runtime().run(COLOUR), model.predict(COLOUR, verbose=0), atol=1e-6)


def test_arithmetic_that_keras_2_left_between_layers_becomes_a_layer(tmp_path: Path) -> None:
    image = keras.Input((12, 12, 3), name="picture")
    scaled = layers.Rescaling(1 / 127.5, name="tf.math.truediv")(image)
    model = keras.Model(image, softmax()(layers.Flatten()(layers.Conv2D(2, 3)(scaled))))

    def change(config: dict[str, Any]) -> None:
        layer = next(each for each in config["config"]["layers"] if each["class_name"] == "Rescaling")
        layer["class_name"] = "TFOpLambda"
        layer["config"] = {"name": "tf.math.truediv", "trainable": True, "dtype": "float32", "function": "math.truediv"}
        layer["inbound_nodes"] = [["picture", 0, 0, {"y": 127.5, "name": None}]]
        for each in config["config"]["layers"]:
            if each["class_name"] not in ("InputLayer", "TFOpLambda"):
                source = each["inbound_nodes"][0]["args"][0]["config"]["keras_history"]
                each["inbound_nodes"] = [[[*source, {}]]]

    path = as_keras_2(saved(model, tmp_path / "old.h5"), change)

    opened = open_reference(path, ForeignOptions(labels=LABELS))

    np.testing.assert_allclose(opened.runtime().run(COLOUR), model.predict(COLOUR, verbose=0), atol=1e-6)


def test_what_keras_2_computed_otherwise_is_named(tmp_path: Path) -> None:
    model = body((12, 12, 3), layers.Dense(4, activation="hard_sigmoid", name="mine"), softmax())
    path = as_keras_2(saved(model, tmp_path / "old.h5"), lambda config: None)

    with pytest.raises(InputError, match="layer 'mine' uses hard_sigmoid, which Keras 3 computes otherwise"):
        open_reference(path, ForeignOptions(labels=LABELS))
