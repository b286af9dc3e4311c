"""Reference models: kept with their task in one file, and opened whoever saved them."""

import json
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from edgecnn.errors import InputError, ShapeError, UnknownTaskError
from edgecnn.normalization import NORMALIZATIONS, InputConvention
from edgecnn.preprocessing import Preprocessing
from edgecnn.shipped import find_task, reference_path
from edgecnn.tasks import Task
from edgecnn_export.foreign import ForeignOptions, renormalized
from edgecnn_export.models import open_reference
from edgecnn_export.networks import build
from edgecnn_export.reference import Reference, save_reference
from edgecnn_export.run_folder import CHECKPOINT_FILE

TASK = Task("parts", "machine parts", ("good", "bad"), Preprocessing(12, 12), max_drop=0.5, flips=True)
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 12, 12, 1)).astype(np.uint8)


def foreign_model(activation: str = "softmax", shape: tuple[int, ...] = (12, 12, 1)) -> keras.Model:
    image = keras.Input(shape)
    scores = keras.layers.Dense(2, activation=activation)(keras.layers.Flatten()(image))
    return keras.Model(image, scores)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Reference, Path]:
    keras.utils.set_random_seed(0)
    training, calibration = {"seed": 1}, {"ranges": {"block1_conv": [0.0, 6.0]}}
    reference = Reference(build("compact", TASK), TASK, "compact", training, calibration)
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    save_reference(reference, path)
    return reference, path


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    path = tmp_path / "theirs.keras"
    foreign_model().save(path)
    return path


def test_a_saved_reference_comes_back_with_all_it_carries(saved: tuple[Reference, Path]) -> None:
    reference, path = saved

    opened = open_reference(path)

    assert (opened.task, opened.name) == (TASK, "compact")
    assert (opened.training, opened.calibration) == (reference.training, reference.calibration)
    assert np.array_equal(opened.runtime().run(IMAGES), reference.runtime().run(IMAGES))


def test_a_shipped_task_gets_its_loaders_back(tmp_path: Path) -> None:
    mnist = find_task("mnist")
    save_reference(Reference(build("compact", mnist), mnist, "compact"), tmp_path / "model.keras")

    opened = open_reference(tmp_path / "model.keras")

    assert opened.task is mnist


def test_keras_itself_opens_the_file(saved: tuple[Reference, Path]) -> None:
    reference, path = saved

    model = keras.saving.load_model(path)

    assert np.allclose(np.asarray(model(IMAGES)), reference.runtime().run(IMAGES), atol=1e-6)


def test_the_folder_of_a_run_is_opened_by_its_model(saved: tuple[Reference, Path]) -> None:
    opened = open_reference(saved[1].parent)

    assert opened.task == TASK


def test_labels_of_our_own_files_cannot_be_changed(saved: tuple[Reference, Path]) -> None:
    with pytest.raises(InputError, match="states its own labels"):
        open_reference(saved[1], ForeignOptions(labels=("bad", "good")))


def test_another_tools_model_gets_a_task_from_its_shape(foreign: Path) -> None:
    opened = open_reference(foreign, ForeignOptions(labels=("a", "b")))

    assert (opened.task.name, opened.task.labels) == ("theirs", ("a", "b"))
    assert opened.task.preprocessing == Preprocessing(12, 12)


def test_another_tools_model_needs_labels(foreign: Path) -> None:
    with pytest.raises(InputError, match="does not know its classes; name them in order with --labels"):
        open_reference(foreign)


def test_classes_that_nobody_named_can_be_numbered(foreign: Path) -> None:
    assert open_reference(foreign, ForeignOptions(unnamed=True)).task.labels == ("0", "1")


def test_labels_must_be_as_many_as_classes(foreign: Path) -> None:
    with pytest.raises(InputError, match="has 2 classes, but 3 labels: a, b, c"):
        open_reference(foreign, ForeignOptions(labels=("a", "b", "c")))


def test_a_model_of_unit_range_pixels_gets_the_division(foreign: Path) -> None:
    bare = keras.saving.load_model(foreign)

    opened = open_reference(foreign, ForeignOptions(labels=("a", "b"), convention=InputConvention(NORMALIZATIONS["0..1"])))

    assert np.allclose(opened.runtime().run(IMAGES), np.asarray(bare(IMAGES / np.float32(255))), atol=1e-6)


@pytest.mark.parametrize("shape", [(13,), (12, 12, 4), (4, 12, 12, 3)], ids=["a row", "four channels", "a clip"])
def test_a_model_of_something_else_than_pictures_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    image = keras.Input(shape)
    flat = keras.layers.Flatten()(image)
    keras.Model(image, keras.layers.Dense(2, activation="softmax")(flat)).save(tmp_path / "other.keras")

    with pytest.raises(InputError, match="expected a model of pictures"):
        open_reference(tmp_path / "other.keras", ForeignOptions(labels=("a", "b")))


def test_a_saved_model_is_opened_by_its_serving_signature(tmp_path: Path) -> None:
    model = foreign_model()
    model.export(tmp_path / "served", format="tf_saved_model", verbose=False)

    opened = open_reference(tmp_path / "served", ForeignOptions(labels=("a", "b")))

    assert np.allclose(opened.runtime().run(IMAGES), np.asarray(model(IMAGES)), atol=1e-5)


def test_code_inside_a_file_is_never_run(tmp_path: Path) -> None:
    image = keras.Input((12, 12, 1))
    hidden = keras.layers.Lambda(lambda x: x * 2)(image)
    scores = keras.layers.Dense(2, activation="softmax")(keras.layers.Flatten()(hidden))
    keras.Model(image, scores).save(tmp_path / "lambda.keras")

    with pytest.raises(InputError, match="is Python code, which is never run here"):
        open_reference(tmp_path / "lambda.keras", ForeignOptions(labels=("a", "b")))


@pytest.mark.parametrize("keep", [0, 10, 1000, -1])
def test_a_cut_short_file_is_one_line(saved: tuple[Reference, Path], tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cut.keras"
    path.write_bytes(saved[1].read_bytes()[:keep])

    with pytest.raises(InputError, match=r"is not a .keras file, or it is cut short"):
        open_reference(path)


def test_another_zip_file_is_one_line(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("readme.txt", "hello")

    with pytest.raises(InputError, match=r"not a Keras model: it has no config.json"):
        open_reference(tmp_path / "other.keras")


def test_a_flipped_bit_among_the_weights_is_noticed(saved: tuple[Reference, Path], tmp_path: Path) -> None:
    path = Path(shutil.copy(saved[1], tmp_path / "flipped.keras"))
    weights = max((variable.numpy().tobytes() for variable in saved[0].model.trainable_variables), key=len)
    data = bytearray(path.read_bytes())
    data[data.index(weights) + len(weights) // 2] ^= 0x40
    path.write_bytes(data)

    with pytest.raises(InputError, match=r"is damaged: its model\.weights\.h5 is not what it was when it was saved"):
        open_reference(path)


def test_a_file_that_keras_cannot_load_names_the_keras_that_saved_it(foreign: Path, tmp_path: Path) -> None:
    newer = tmp_path / "newer.keras"
    with zipfile.ZipFile(foreign) as old, zipfile.ZipFile(newer, "w") as new:
        new.writestr("metadata.json", json.dumps({"keras_version": "9.9.9"}))
        new.writestr("config.json", old.read("config.json").replace(b"Dense", b"Tense"))
        new.writestr("model.weights.h5", old.read("model.weights.h5"))

    with pytest.raises(InputError, match=r"saved by Keras 9.9.9 \(this is Keras 3"):
        open_reference(newer, ForeignOptions(labels=("a", "b")))


def test_a_malformed_entry_is_one_line(foreign: Path) -> None:
    with zipfile.ZipFile(foreign, "a") as archive:
        archive.writestr("edgecnn.json", '{"task": {"name": "x"}}')

    with pytest.raises(InputError, match="malformed"):
        open_reference(foreign)


def test_an_unknown_name_lists_the_shipped_tasks() -> None:
    with pytest.raises(UnknownTaskError, match=r"no such model: cifar; give a .keras or .h5 file.* or one of mnist, neu"):
        open_reference("cifar")


@pytest.mark.parametrize("where", [".", "lite", "compact"])
def test_a_folder_with_an_unfinished_training_names_it_and_the_way_on(tmp_path: Path, where: str) -> None:
    (tmp_path / where).mkdir(exist_ok=True)
    (tmp_path / where / CHECKPOINT_FILE).touch()

    with pytest.raises(InputError, match=r"holds an unfinished training.*; complete it with train --resume"):
        open_reference(tmp_path)


def test_a_folder_without_a_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds neither model.keras"):
        open_reference(tmp_path)


def test_a_file_is_opened_by_what_it_is_whatever_its_suffix(saved: tuple[Reference, Path], tmp_path: Path) -> None:
    shutil.copy(saved[1], tmp_path / "model.zip")

    assert open_reference(tmp_path / "model.zip").task == TASK


def test_a_shipped_model_lies_in_the_package_under_its_tasks_name() -> None:
    assert reference_path("neu").parts[-3:] == ("edgecnn", "shipped", "neu-compact.keras")


def test_no_pictures_give_no_probabilities(saved: tuple[Reference, Path]) -> None:
    assert saved[0].runtime().run(IMAGES[:0]).shape == (0, 2)


def test_pictures_of_another_shape_are_refused(saved: tuple[Reference, Path]) -> None:
    with pytest.raises(ShapeError, match=r"expected images \(n, 12, 12, 1\) uint8, got"):
        saved[0].runtime().run(np.zeros((1, 10, 10, 1), np.uint8))


def test_a_failed_save_leaves_the_old_file(
    saved: tuple[Reference, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.keras"
    shutil.copy(saved[1], path)

    def break_off(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(zipfile.ZipFile, "writestr", break_off)
    with pytest.raises(KeyboardInterrupt):
        save_reference(saved[0], path)

    assert path.read_bytes() == saved[1].read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["model.keras"]


@pytest.mark.parametrize("name", ["0..1", "-1..1", "imagenet", "caffe"])
def test_each_usual_convention_stands_in_front_of_the_raw_model(tmp_path: Path, name: str) -> None:
    bare = foreign_model(shape=(12, 12, 3))
    bare.save(tmp_path / "theirs.keras")
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 12, 3)).astype(np.uint8)

    opened = open_reference(
        tmp_path / "theirs.keras", ForeignOptions(labels=("a", "b"), convention=InputConvention(NORMALIZATIONS[name]))
    )

    pixels = {
        "0..1": images / np.float32(255),
        "-1..1": images / np.float32(127.5) - 1,
        "imagenet": (images / np.float32(255) - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225]),
        "caffe": keras.applications.resnet.preprocess_input(images.astype(np.float32)),
    }[name]
    assert np.allclose(opened.runtime().run(images), np.asarray(bare(pixels)), atol=1e-5)
    assert opened.raw is not None and np.allclose(np.asarray(opened.raw(pixels)), np.asarray(bare(pixels)), atol=1e-6)


def test_another_convention_can_be_tried_on_the_same_model(foreign: Path) -> None:
    opened = open_reference(foreign, ForeignOptions(labels=("a", "b")))

    tried = renormalized(opened, NORMALIZATIONS["-1..1"])

    assert tried.normalization.name == "-1..1"
    assert np.allclose(tried.runtime().run(IMAGES), np.asarray(opened.model(IMAGES / np.float32(127.5) - 1)), atol=1e-5)


def test_our_own_models_have_no_other_convention(saved: tuple[Reference, Path]) -> None:
    with pytest.raises(InputError, match="takes raw pixels"):
        renormalized(open_reference(saved[1]), NORMALIZATIONS["0..1"])


def test_a_convention_that_does_not_fit_the_channels_is_one_line(foreign: Path) -> None:
    with pytest.raises(InputError, match="--color bgr does not fit a model whose pictures have 1 channel"):
        open_reference(foreign, ForeignOptions(labels=("a", "b"), convention=InputConvention(color="bgr")))
