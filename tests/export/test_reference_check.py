"""A reference that is fed or labelled wrongly is found out on labelled pictures before any file is made of it."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgecnn.cli.main import main
from edgecnn.datasets.dataset import Dataset
from edgecnn.normalization import NORMALIZATIONS, RAW, Normalization
from edgecnn.preprocessing import Preprocessing
from edgecnn.tasks import Task
from edgecnn_export.frameworks import require_keras

require_keras()
import keras  # noqa: E402  # only after its start-up messages are held back

from edgecnn_export.foreign import normalized  # noqa: E402
from edgecnn_export.parity.reference_check import check_reference  # noqa: E402
from edgecnn_export.reference import Reference  # noqa: E402

COLORS = {"dark": (40, 40, 40), "bright": (210, 210, 210), "red": (200, 60, 60), "blue": (60, 60, 200)}
LABELS = tuple(COLORS)


def draw(count: int = 120, seed: int = 0) -> Dataset:
    """Draw pictures of one colour each, more or less."""
    random = np.random.default_rng(seed)
    class_ids = np.arange(count, dtype=np.int64) % len(COLORS)
    colors = random.normal(np.array(list(COLORS.values()))[class_ids], 35)
    images = np.clip(random.normal(colors[:, None, None], 10, (count, 8, 8, 3)), 0, 255).astype(np.uint8)
    return Dataset(images, class_ids, tuple(f"{i}.png" for i in range(count)))


def theirs(wanted: Normalization) -> keras.Model:
    """A network that names the nearest colour when its pixels come as it wants them: 2 c x - c^2 is the largest for it."""
    centres = np.stack([wanted.table(3)[list(color), range(3)] for color in COLORS.values()])
    if wanted.bgr:
        centres = centres[:, ::-1]
    sharpness = 4 / np.ptp(centres) ** 2
    image = keras.Input((8, 8, 3))
    answer = keras.layers.Dense(len(COLORS), activation="softmax")
    model = keras.Model(image, answer(keras.layers.GlobalAveragePooling2D()(image)), name="theirs")
    answer.set_weights([2 * sharpness * centres.T, -sharpness * (centres**2).sum(axis=1)])
    return model


def reference(wanted: Normalization, stated: Normalization = RAW, labels: tuple[str, ...] = LABELS) -> Reference:
    task, raw = Task("theirs", "theirs", labels, Preprocessing(8, 8, "rgb")), theirs(wanted)
    return Reference(normalized(raw, stated, (8, 8, 3)), task, "theirs", raw=raw, normalization=stated)


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_a_reference_that_is_fed_rightly_gives_no_doubt(name: str) -> None:
    assert check_reference(reference(NORMALIZATIONS[name], NORMALIZATIONS[name]), draw()) is None


@pytest.mark.parametrize(
    ("wanted", "options"),
    [
        (NORMALIZATIONS["0..1"], "--pixel-range 0..1"),
        (NORMALIZATIONS["-1..1"], "--pixel-range -1..1"),
        (NORMALIZATIONS["imagenet"], "--pixel-range imagenet"),
        (NORMALIZATIONS["caffe"], "--pixel-range caffe"),
        (Normalization(bgr=True), "--pixel-range 0..255 --color bgr"),
        (dataclasses.replace(NORMALIZATIONS["-1..1"], bgr=True), "--pixel-range -1..1 --color bgr"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_convention_that_fits_is_named(wanted: Normalization, options: str) -> None:
    doubt = check_reference(reference(wanted), draw(400))

    assert doubt is not None
    assert doubt.mistake
    assert doubt.text.startswith("theirs reads ")
    assert re.search(rf" % with {re.escape(options)}( \(|,|\)|: state that)", doubt.text)  # others may read as much


def test_of_conventions_that_read_about_as_much_the_commonest_stands_first_and_the_best_beside_it() -> None:
    right = np.ones(160, bool)
    right[:16] = False
    attempts = {"-1..1": right.copy(), "imagenet": right.copy()}
    attempts["imagenet"][:8] = True

    doubt = check_reference(Scripted.of(attempts), draw(160))

    assert doubt is not None
    assert re.search(r"92\.5 % with --pixel-range -1\.\.1 \(96\.2 % with --pixel-range imagenet", doubt.text)
    assert doubt.text.endswith("state what it was trained with")


def test_a_convention_that_was_stated_wrongly_is_found_out_too() -> None:
    doubt = check_reference(reference(RAW, stated=NORMALIZATIONS["0..1"]), draw())

    assert doubt is not None
    assert "as stated (pixels 0..1)" in doubt.text
    assert "% with --pixel-range 0..255" in doubt.text


def test_labels_in_another_order_are_named_in_the_right_one() -> None:
    doubt = check_reference(reference(RAW, labels=("bright", "dark", "red", "blue")), relabelled(draw()))

    assert doubt is not None
    assert doubt.mistake
    assert "% with --labels dark,bright,red,blue" in doubt.text


def test_a_wrong_range_and_a_wrong_order_are_named_together() -> None:
    doubt = check_reference(reference(NORMALIZATIONS["-1..1"], labels=("bright", "dark", "red", "blue")), relabelled(draw(400)))

    assert doubt is not None
    assert "% with --pixel-range -1..1 --labels dark,bright,red,blue" in doubt.text


@dataclasses.dataclass(frozen=True, eq=False)
class Scripted(Reference):
    """A reference that reads correctly under each normalization what it is told to."""

    right: dict[str, NDArray[Any]] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, right: dict[str, NDArray[Any]]) -> Scripted:
        stated = reference(RAW)
        return cls(stated.model, stated.task, "theirs", raw=stated.raw, right=right)

    def normalized(self, normalization: Normalization) -> Scripted:
        return dataclasses.replace(self, normalization=normalization)

    def runtime(self) -> Any:
        return self

    def run(self, images: NDArray[Any]) -> NDArray[Any]:
        class_ids = draw(len(images)).class_ids
        right = self.right.get(self.normalization.name, np.zeros(len(images), bool))
        return np.eye(4, dtype=np.float32)[np.where(right, class_ids, 0)]


def relabelled(dataset: Dataset) -> Dataset:
    """The same pictures with the class ids of the labels bright, dark, red, blue."""
    return dataclasses.replace(dataset, class_ids=np.array([1, 0, 2, 3])[dataset.class_ids])


def test_a_weak_model_is_no_mistake_of_the_users() -> None:
    random = np.random.default_rng(0)
    dataset = draw()
    half_wrong = np.where(random.random(len(dataset)) < 0.5, random.integers(0, 4, len(dataset)), dataset.class_ids)

    assert check_reference(reference(RAW), dataclasses.replace(dataset, class_ids=half_wrong)) is None


def test_pictures_without_labels_say_nothing() -> None:
    assert check_reference(reference(NORMALIZATIONS["-1..1"]), draw(), labelled=False) is None


def test_a_model_of_our_own_is_held_to_what_its_training_recorded() -> None:
    record = {"validation": {"accuracy": 0.99}, "data": {"validation": {"synthetic": False}}}
    ours = dataclasses.replace(reference(NORMALIZATIONS["0..1"]), raw=None, training=record)

    doubt = check_reference(ours, draw())

    assert doubt is not None
    assert not doubt.mistake
    assert "its training recorded 99.0 %" in doubt.text


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that wants -1..1 as another tool saved it, and pictures in folders named after its labels."""
    folder = tmp_path_factory.mktemp("theirs")
    theirs(NORMALIZATIONS["-1..1"]).save(folder / "theirs.keras")
    dataset = draw(240)
    for label in LABELS:
        (folder / "pictures" / label).mkdir(parents=True)
    for i, (image, class_id) in enumerate(zip(dataset.images, dataset.class_ids, strict=True)):
        cv2.imwrite(str(folder / "pictures" / LABELS[class_id] / f"{i}.png"), image[:, :, ::-1])
    return folder


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return int(str(end.value.code))


def export(on_disk: Path, out: Path, *options: str) -> int:
    return run("export", str(on_disk / "theirs.keras"), "--calibration", str(on_disk / "pictures"), "--out", str(out), *options)


def test_nothing_is_exported_from_a_model_that_is_fed_wrongly(
    on_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = export(on_disk, tmp_path / "out", "--labels", ",".join(LABELS), "--int8")

    assert code == 2
    assert "% with --pixel-range -1..1" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*"))


def test_nothing_is_exported_under_labels_in_the_wrong_order(
    on_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = export(on_disk, tmp_path / "out", "--labels", "bright,dark,blue,red", "--pixel-range", "-1..1")

    assert code == 2
    assert "% with --labels dark,bright,red,blue" in capsys.readouterr().err


def test_fed_rightly_the_same_export_is_proven_on_the_labelled_half(
    on_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = export(on_disk, tmp_path / "out", "--labels", ",".join(LABELS), "--pixel-range", "-1..1", "--int8", "--json")

    files = json.loads(capsys.readouterr().out)["files"]
    assert code == 0
    assert [file["verdict"] for file in files if file["precision"] == "float32"] == ["pass", "pass"]
    assert {file["verdict"] for file in files if file["precision"] == "int8"} <= {"pass", "undecided"}


def test_parity_says_the_same_and_lets_nothing_pass(on_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = ("--labels", ",".join(LABELS))
    assert export(on_disk, tmp_path / "out", *labels, "--pixel-range", "-1..1") == 0
    capsys.readouterr()

    candidate = str(tmp_path / "out" / "theirs-float32.tflite")
    run("parity", str(on_disk / "theirs.keras"), candidate, *labels, "--data", str(on_disk / "pictures"))

    assert "% with --pixel-range -1..1" in capsys.readouterr().out
