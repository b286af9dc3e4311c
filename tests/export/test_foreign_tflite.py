"""Other tools' `.tflite` files, as converters write them: run as they are meant, or told what is missing."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from edgecnn.classifier import Classifier
from edgecnn.cli.main import cli
from edgecnn.errors import EdgecnnError, InputError
from edgecnn.normalization import NORMALIZATIONS, InputConvention
from edgecnn.quiet import quiet
from edgecnn_export.foreign import ForeignOptions
from edgecnn_export.models import open_model

import keras  # isort: skip
import tensorflow as tf  # isort: skip
from keras import layers  # isort: skip

LABELS = ("a", "b", "c")
IMAGES = np.random.default_rng(0).integers(0, 256, (8, 12, 12, 3)).astype(np.uint8)
Values = NDArray[np.float32]


def scaled(images: NDArray[Any], name: str) -> Values:
    """Prepare pictures as a convention wants them."""
    values = NORMALIZATIONS[name].table(3)[images, np.arange(3)].astype(np.float32)
    return values[..., ::-1] if NORMALIZATIONS[name].bgr else values


def net(*pre: keras.Layer, end: str = "softmax", outputs: int = 3) -> keras.Model:
    keras.utils.set_random_seed(3)
    image = x = keras.Input((12, 12, 3))
    for layer in pre:
        x = layer(x)
    x = layers.Flatten()(layers.Conv2D(4, 3, strides=2, activation="relu")(x))
    return keras.Model(image, layers.Dense(outputs, activation=end)(x))


def converted(model: keras.Model, folder: Path, name: str = "theirs", pixels: str = "0..255", **settings: Any) -> Path:
    """Convert as the tutorials do, with pictures of the convention `pixels` to calibrate on."""

    def representative() -> Iterator[list[Values]]:
        for image in scaled(np.concatenate([IMAGES, np.zeros_like(IMAGES[:1]), np.full_like(IMAGES[:1], 255)]), pixels):
            yield [image[None]]

    with quiet():
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        for key, value in settings.items():
            setattr(converter, key, value)
        if settings:
            converter.representative_dataset = representative
        model_bytes = converter.convert()
    path = folder / f"{name}.tflite"
    path.write_bytes(model_bytes)
    return path


def answers(path: Path, **stated: Any) -> Values:
    return Classifier.open_foreign(path, stated.pop("labels", LABELS), **stated).runtime.run(IMAGES)


INTEGER = {
    "int8": {"inference_input_type": tf.int8, "inference_output_type": tf.int8},
    "uint8": {"inference_input_type": tf.uint8, "inference_output_type": tf.uint8},
    "int8 with floats at both ends": {},
}


@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")
@pytest.mark.parametrize("pixels", ["0..255", "0..1", "-1..1", "imagenet", "caffe"])
@pytest.mark.parametrize("name", INTEGER)
def test_an_integer_model_gets_its_pixels_as_its_input_says(tmp_path: Path, name: str, pixels: str) -> None:
    model = net()
    kernel, bias = model.layers[1].get_weights()
    model.layers[1].set_weights([kernel / np.abs(scaled(IMAGES, pixels)).max(), bias])
    path = converted(model, tmp_path, pixels=pixels, optimizations=[tf.lite.Optimize.DEFAULT], **INTEGER[name])

    found = answers(path)

    expected = model.predict(scaled(IMAGES, pixels), verbose=0)
    np.testing.assert_allclose(found, expected, atol=0.03)


def test_floats_of_which_nothing_is_known_must_be_stated(tmp_path: Path) -> None:
    model = net()
    path = converted(model, tmp_path)

    with pytest.raises(InputError, match=r"what range its pixels have.*--pixel-range"):
        answers(path)

    found = answers(path, convention=InputConvention(NORMALIZATIONS["-1..1"]))
    np.testing.assert_allclose(found, model.predict(scaled(IMAGES, "-1..1"), verbose=0), atol=1e-4)


@pytest.mark.parametrize("name", ["rescaling", "rescaling to -1..1", "normalization"])
def test_a_scaling_inside_the_model_says_that_raw_pixels_are_meant(tmp_path: Path, name: str) -> None:
    inside = {
        "rescaling": layers.Rescaling(1 / 255),
        "rescaling to -1..1": layers.Rescaling(1 / 127.5, -1),
        "normalization": layers.Normalization(mean=[120.0, 110.0, 100.0], variance=[3400.0, 3300.0, 3200.0]),
    }
    model = net(inside[name])
    path = converted(model, tmp_path)

    classifier = Classifier.open_foreign(path, LABELS)

    np.testing.assert_allclose(classifier.runtime.run(IMAGES), model.predict(IMAGES, verbose=0), atol=1e-4)
    assert "it takes pixels as 0..255" in classifier.notes[0]


def test_a_stated_range_wins(tmp_path: Path) -> None:
    model = net(layers.Rescaling(1 / 255))
    path = converted(model, tmp_path)

    found = answers(path, convention=InputConvention(NORMALIZATIONS["0..1"]))

    np.testing.assert_allclose(found, model.predict(IMAGES / np.float32(255), verbose=0), atol=1e-4)


@pytest.mark.parametrize(("end", "outputs"), [("sigmoid", 1), ("linear", 1), ("linear", 3)])
def test_what_is_no_probability_is_never_shown_as_one(tmp_path: Path, end: str, outputs: int) -> None:
    model = net(layers.Rescaling(1 / 255), end=end, outputs=outputs)
    labels = LABELS if outputs == 3 else ("no", "yes")

    classifier = Classifier.open_foreign(converted(model, tmp_path), labels)

    scores = model.predict(IMAGES, verbose=0)
    if outputs == 3:
        expected = tf.nn.softmax(scores).numpy()
    else:
        yes = scores if end == "sigmoid" else tf.sigmoid(scores).numpy()
        expected = np.hstack([1 - yes, yes])
    np.testing.assert_allclose(classifier.runtime.run(IMAGES), expected, atol=1e-4)
    assert len(classifier.notes) == 2


def test_a_model_of_any_size_takes_the_stated_one(tmp_path: Path) -> None:
    image = keras.Input((None, None, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(image)))
    model = keras.Model(image, layers.Dense(3, activation="softmax")(x))
    path = converted(model, tmp_path)

    with pytest.raises(EdgecnnError, match="state one with --size"):
        answers(path)

    np.testing.assert_allclose(
        answers(path, convention=InputConvention(size_hw=(12, 12))), model.predict(IMAGES, verbose=0), atol=1e-4
    )


def test_one_of_several_outputs_is_chosen_by_name(tmp_path: Path) -> None:
    image = keras.Input((12, 12, 3))
    x = layers.Flatten()(layers.Rescaling(1 / 255)(image))
    model = keras.Model(image, [layers.Dense(3, activation="softmax")(x), layers.Dense(5)(x)])
    path = converted(model, tmp_path)

    with pytest.raises(EdgecnnError, match=r"got 2: .*choose one with --output NAME") as caught:
        answers(path)
    (name,) = re.findall(r"(\S+) \[1, 3\]", str(caught.value))

    np.testing.assert_allclose(answers(path, output=name), model.predict(IMAGES, verbose=0)[0], atol=1e-4)


def with_label_file(path: Path, content: bytes) -> Path:
    tail = io.BytesIO()
    with zipfile.ZipFile(tail, "w") as archive:
        archive.writestr("labels.txt", content)
    path.write_bytes(path.read_bytes() + tail.getvalue())
    return path


def test_labels_inside_the_file_are_used(tmp_path: Path) -> None:
    path = with_label_file(converted(net(layers.Rescaling(1 / 255)), tmp_path), b"0 red\r\n1 green\r\n2 blue\r\n")

    classifier = Classifier.open_foreign(path)

    assert classifier.labels == ("red", "green", "blue")
    assert "its 3 labels are those of its label file" in classifier.notes


def test_stated_labels_that_differ_from_those_inside_are_told(tmp_path: Path) -> None:
    path = with_label_file(converted(net(layers.Rescaling(1 / 255)), tmp_path), b"red\ngreen\nblue\n")

    classifier = Classifier.open_foreign(path, LABELS)

    assert classifier.labels == LABELS
    assert "its own label file says otherwise: red, green, blue" in classifier.notes


def metadata(mean: list[float], deviation: list[float]) -> bytes:
    """Build the part of TFLite Metadata that says how an input is normalized, by the flatbuffers package."""
    import flatbuffers

    builder = flatbuffers.Builder(256)

    def floats(values: list[float]) -> int:
        builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            builder.PrependFloat32(value)
        return int(builder.EndVector())

    def table(*fields: int) -> int:
        builder.StartObject(max(at for at, _ in fields) + 1)
        for at, offset in fields:
            builder.PrependUOffsetTRelativeSlot(at, offset, 0)
        return int(builder.EndObject())

    def vector(offset: int) -> int:
        builder.StartVector(4, 1, 4)
        builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())

    means, deviations = floats(mean), floats(deviation)
    options = table((0, means), (1, deviations))
    builder.StartObject(2)
    builder.PrependUint8Slot(0, 1, 0)
    builder.PrependUOffsetTRelativeSlot(1, options, 0)
    unit = int(builder.EndObject())
    tensor = table((4, vector(unit)))
    graph = table((2, vector(tensor)))
    builder.Finish(table((3, vector(graph))), file_identifier=b"M001")
    return bytes(builder.Output())


def with_metadata(path: Path, content: bytes) -> Path:
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(content, np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = b"TFLITE_METADATA", len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


@pytest.mark.parametrize("pixels", ["0..1", "-1..1", "imagenet"])
def test_metadata_says_how_floats_are_normalized(tmp_path: Path, pixels: str) -> None:
    model, normalization = net(), NORMALIZATIONS[pixels]
    deviation = [1 / scale for scale in normalization.scale]
    offsets = np.broadcast_to(normalization.offset, len(deviation))
    mean = [-float(offset) * each for offset, each in zip(offsets, deviation, strict=True)]
    path = with_metadata(converted(model, tmp_path), metadata(mean, deviation))

    classifier = Classifier.open_foreign(path, LABELS)

    np.testing.assert_allclose(classifier.runtime.run(IMAGES), model.predict(scaled(IMAGES, pixels), verbose=0), atol=1e-4)
    assert classifier.notes == (f"it takes pixels as {pixels}, as its metadata says",)


def test_classify_says_what_it_deduced_on_stderr_alone(tmp_path: Path) -> None:
    path = converted(net(layers.Rescaling(1 / 255)), tmp_path)
    cv2.imwrite(str(tmp_path / "picture.png"), IMAGES[0])

    ran = CliRunner().invoke(cli, ["classify", str(path), str(tmp_path / "picture.png"), "--labels", "a,b,c", "--json"])

    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["pictures"][0]["label"] in LABELS
    assert ran.stderr.startswith("note: theirs.tflite: it takes pixels as 0..255")


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_commands_for_contracts_point_to_the_one_that_needs_none(tmp_path: Path, command: str) -> None:
    path = converted(net(), tmp_path)

    ran = CliRunner().invoke(cli, [command, str(path)])

    assert isinstance(ran.exception, EdgecnnError)
    assert f"edgecnn classify {path} PICTURE --labels a,b,c" in str(ran.exception)


def test_an_exported_file_can_be_compared_with_another_tools_tflite(tmp_path: Path) -> None:
    path = converted(net(layers.Rescaling(1 / 255)), tmp_path)

    opened = open_model(path, ForeignOptions(labels=LABELS))

    assert (opened.task.name, opened.task.labels) == ("theirs", LABELS)
    assert opened.runtime.run(IMAGES).shape == (8, 3)
    assert "it takes pixels as 0..255" in opened.notes[0]
