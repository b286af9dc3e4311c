"""A stranger's SavedModel serves when it merely computes; another operation is refused by its name before TensorFlow loads."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edgecnn.artifacts.contract import DataInfo
from edgecnn.errors import InputError
from edgecnn.runtimes.select import open_tflite
from edgecnn_export.conversion.calibration import calibrate
from edgecnn_export.conversion.convert import convert
from edgecnn_export.conversion.fold import fold
from edgecnn_export.conversion.serving import parameter_count
from edgecnn_export.foreign import ForeignOptions
from edgecnn_export.models import open_reference
from edgecnn_export.reference import Reference

import keras  # isort: skip
import tensorflow as tf  # isort: skip
from keras import layers  # isort: skip

LABELS = ("a", "b", "c")
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 12, 12, 3)).astype(np.uint8)
DATA = DataInfo("noise", "train", len(IMAGES), "0" * 64)


def net(*, softmax: bool = True, groups: int = 1) -> keras.Model:
    keras.utils.set_random_seed(1)
    image = keras.Input((12, 12, 3))
    x = layers.Conv2D(4, 3, strides=2, activation="relu")(layers.Rescaling(1 / 64)(image))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, groups=groups)(x))
    return keras.Model(image, layers.Dense(3, activation="softmax" if softmax else None)(layers.Flatten()(x)))


def serve(
    folder: Path, function: Callable[[Any], Any], model: keras.Model, dtype: Any = tf.float32, batch: int | None = None
) -> Path:
    """Save a module that serves `function`."""

    class Module(tf.Module):  # type: ignore[misc]  # TensorFlow ships no types
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        @tf.function(input_signature=[tf.TensorSpec((batch, 12, 12, 3), dtype, name="picture")])  # type: ignore[untyped-decorator]
        def __call__(self, picture: Any) -> Any:
            return function(picture)

    module = Module()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.__call__})
    return folder


def check(opened: Reference, model: keras.Model) -> None:
    """Compare the reference and all its files with the model that was saved."""
    expected = model.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(opened.runtime().run(IMAGES), expected, atol=1e-5)
    folded = fold(opened.model)
    made = convert(folded, ("tflite", "onnx"), calibrate(folded, IMAGES, DATA, 0), IMAGES)
    assert {(each.format, each.precision == "float32") for each in made.made} == {
        (file_format, is_float) for file_format in ("tflite", "onnx") for is_float in (True, False)
    }
    for each in made.made:
        if each.format == "tflite":
            answers = open_tflite(each.model, with_features=each.features is not None).run(IMAGES)
        else:
            session = onnxruntime.InferenceSession(each.model, providers=["CPUExecutionProvider"])
            answers = session.run(["probabilities"], {"image": IMAGES})[0]
        np.testing.assert_allclose(answers, expected, atol=1e-4 if each.precision == "float32" else 0.05)


def test_a_model_that_keras_exported_serves_in_all_four_files(tmp_path: Path) -> None:
    model = net()
    model.export(tmp_path / "served", verbose=False)

    opened = open_reference(tmp_path / "served", ForeignOptions(labels=LABELS))

    check(opened, model)
    assert parameter_count(fold(opened.model)) >= model.count_params()


def test_a_convolution_in_groups_serves_though_keras_compiles_it(tmp_path: Path) -> None:
    model = net(groups=2)
    model.export(tmp_path / "served", verbose=False)

    check(open_reference(tmp_path / "served", ForeignOptions(labels=LABELS)), model)


def test_a_model_that_tensorflow_saved_serves(tmp_path: Path) -> None:
    model = net()
    tf.saved_model.save(model, str(tmp_path / "served"))

    check(open_reference(tmp_path / "served", ForeignOptions(labels=LABELS)), model)


def test_a_model_of_bytes_serves(tmp_path: Path) -> None:
    model = net()
    folder = serve(tmp_path / "served", lambda x: {"p": model(tf.cast(x, tf.float32), training=False)}, model, tf.uint8)

    check(open_reference(folder, ForeignOptions(labels=LABELS)), model)


def test_a_model_of_one_picture_at_a_time_serves(tmp_path: Path) -> None:
    model = net()
    folder = serve(tmp_path / "served", lambda x: {"p": model(x, training=False)}, model, batch=1)

    check(open_reference(folder, ForeignOptions(labels=LABELS)), model)


def test_a_model_that_cannot_take_more_than_one_picture_is_asked_for_each(tmp_path: Path) -> None:
    model = net()
    folder = serve(tmp_path / "served", lambda x: {"p": model(x, training=False)[:1]}, model, batch=1)

    opened = open_reference(folder, ForeignOptions(labels=LABELS))

    np.testing.assert_allclose(opened.runtime().run(IMAGES), model.predict(IMAGES, verbose=0), atol=1e-5)
    made = convert(fold(opened.model), ("tflite",))
    np.testing.assert_allclose(
        open_tflite(made.made[0].model, with_features=made.made[0].features is not None).run(IMAGES),
        model.predict(IMAGES, verbose=0),
        atol=1e-4,
    )


def test_a_model_that_takes_just_four_pictures_is_one_line(tmp_path: Path) -> None:
    model = net()
    folder = serve(tmp_path / "served", lambda x: {"p": model(x, training=False)[:4]}, model, batch=4)

    with pytest.raises(InputError, match="exactly 4 pictures at a time"):
        open_reference(folder, ForeignOptions(labels=LABELS))


def test_logits_of_a_saved_model_get_their_softmax(tmp_path: Path) -> None:
    model = net(softmax=False)
    model.export(tmp_path / "served", verbose=False)

    opened = open_reference(tmp_path / "served", ForeignOptions(labels=LABELS))

    expected = tf.nn.softmax(model.predict(IMAGES, verbose=0)).numpy()
    np.testing.assert_allclose(opened.runtime().run(IMAGES), expected, atol=1e-5)
    assert "a softmax follows" in opened.notes[0]


def test_one_of_several_outputs_is_chosen_by_name(tmp_path: Path) -> None:
    model = net()
    folder = serve(
        tmp_path / "served", lambda x: {"kind": model(x, training=False), "size": tf.reduce_mean(x, axis=(1, 2))}, model
    )

    with pytest.raises(InputError, match=r"2 outputs: kind .*, size .*choose one with --output NAME"):
        open_reference(folder, ForeignOptions(labels=LABELS))

    opened = open_reference(folder, ForeignOptions(labels=LABELS, output="kind"))
    np.testing.assert_allclose(opened.runtime().run(IMAGES), model.predict(IMAGES, verbose=0), atol=1e-5)


def writing(path: Path) -> Callable[[keras.Model], Callable[[Any], Any]]:
    def function(model: keras.Model) -> Callable[[Any], Any]:
        def served(x: Any) -> Any:
            with tf.control_dependencies([tf.io.write_file(str(path), "written")]):
                return {"p": tf.identity(model(x, training=False))}

        return served

    return function


def reading(model: keras.Model) -> Callable[[Any], Any]:
    return lambda x: {
        "p": model(x, training=False) + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32) * 0
    }


def calling_python(model: keras.Model) -> Callable[[Any], Any]:
    return lambda x: {"p": tf.ensure_shape(tf.py_function(lambda y: y, [model(x, training=False)], tf.float32), (None, 3))}


def branching(path: Path) -> Callable[[keras.Model], Callable[[Any], Any]]:
    def function(model: keras.Model) -> Callable[[Any], Any]:
        def served(x: Any) -> Any:
            def write() -> Any:
                with tf.control_dependencies([tf.io.write_file(str(path), "written")]):
                    return tf.constant(0.0)

            return {"p": model(x, training=False) + tf.cond(tf.reduce_sum(x) >= 0, write, lambda: tf.constant(0.0))}

        return served

    return function


@pytest.mark.parametrize("name", ["WriteFile", "ReadFile", "EagerPyFunc", "WriteFile in a branch"])
def test_an_operation_that_does_more_than_compute_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    written, model = tmp_path / "written", net()
    functions = {
        "WriteFile": writing(written),
        "ReadFile": reading,
        "EagerPyFunc": calling_python,
        "WriteFile in a branch": branching(written),
    }
    folder = serve(tmp_path / "served", functions[name](model), model)
    written.unlink(missing_ok=True)

    with pytest.raises(InputError, match=rf"runs the operation {name.split(maxsplit=1)[0]} .*--trust"):
        open_reference(folder, ForeignOptions(labels=LABELS))

    assert not written.exists()


def test_an_operation_that_nobody_calls_is_let_pass(tmp_path: Path) -> None:
    model = net()

    class Module(tf.Module):  # type: ignore[misc]  # TensorFlow ships no types
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        @tf.function(input_signature=[tf.TensorSpec((None, 12, 12, 3), tf.float32)])  # type: ignore[untyped-decorator]
        def __call__(self, picture: Any) -> Any:
            return {"p": self.model(picture, training=False)}

        @tf.function(input_signature=[tf.TensorSpec((), tf.string)])  # type: ignore[untyped-decorator]
        def keep(self, text: Any) -> Any:
            tf.io.write_file(str(tmp_path / "written"), text)
            return text

    module = Module()
    tf.saved_model.save(module, str(tmp_path / "served"), signatures={"serving_default": module.__call__})

    opened = open_reference(tmp_path / "served", ForeignOptions(labels=LABELS))

    np.testing.assert_allclose(opened.runtime().run(IMAGES), model.predict(IMAGES, verbose=0), atol=1e-5)
    assert not (tmp_path / "written").exists()


def test_a_table_that_is_filled_at_loading_is_refused(tmp_path: Path) -> None:
    model = net()

    class Module(tf.Module):  # type: ignore[misc]  # TensorFlow ships no types
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            keys = tf.lookup.KeyValueTensorInitializer(tf.constant([0], tf.int64), tf.constant([1.0]))
            self.table = tf.lookup.StaticHashTable(keys, 0.0)

        @tf.function(input_signature=[tf.TensorSpec((None, 12, 12, 3), tf.float32)])  # type: ignore[untyped-decorator]
        def __call__(self, picture: Any) -> Any:
            return {"p": self.model(picture, training=False) * self.table.lookup(tf.constant(0, tf.int64))}

    module = Module()
    tf.saved_model.save(module, str(tmp_path / "served"), signatures={"serving_default": module.__call__})

    with pytest.raises(InputError, match="lookup table"):
        open_reference(tmp_path / "served", ForeignOptions(labels=LABELS))


def test_a_trusted_model_runs_all_the_same(tmp_path: Path) -> None:
    model = net()
    folder = serve(tmp_path / "served", writing(tmp_path / "written")(model), model)

    opened = open_reference(folder, ForeignOptions(labels=LABELS, trust=True))

    np.testing.assert_allclose(opened.runtime().run(IMAGES), model.predict(IMAGES, verbose=0), atol=1e-5)
    assert (tmp_path / "written").exists()


def test_a_trusted_model_that_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    model = net()
    model.export(tmp_path / "served", verbose=False)
    shutil.rmtree(tmp_path / "served" / "variables")

    with pytest.raises(InputError) as caught:
        open_reference(tmp_path / "served", ForeignOptions(labels=LABELS, trust=True))

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"something else", None], ids=["empty", "no protobuf", "cut short"])
def test_a_damaged_description_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    net().export(tmp_path / "served", verbose=False)
    file = tmp_path / "served" / "saved_model.pb"
    file.write_bytes(file.read_bytes()[:-100] if content is None else content)

    with pytest.raises(InputError, match=r"served"):
        open_reference(tmp_path / "served", ForeignOptions(labels=LABELS))
