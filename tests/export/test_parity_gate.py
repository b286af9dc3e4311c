"""The gate must be able to fail: int8 files of the model under test are sabotaged, and each must be caught.

The model under test is each shipped one, on real pictures where they are and on synthetic ones otherwise, and a tiny net that
is trained here, so that nothing is left out where no model is shipped.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from edgecnn.artifacts import Artifact
from edgecnn.cli.main import cli
from edgecnn.datasets.dataset import Dataset, SplitInfo, Splits
from edgecnn.datasets.load import SYNTHETIC, find_data, load_splits
from edgecnn.errors import ArtifactError, ContractError, InputError
from edgecnn.preprocessing import Preprocessing
from edgecnn.runtimes import Runtime, open_runtime
from edgecnn.shipped import reference_path, shipped_tasks
from edgecnn.tasks import Task
from edgecnn_export.frameworks import require_keras

require_keras()
import keras  # noqa: E402  # only after its start-up messages are held back

from edgecnn_export.calibration_data import record_calibration  # noqa: E402
from edgecnn_export.contract_writer import ContractWriter  # noqa: E402
from edgecnn_export.conversion.calibration import Calibration  # noqa: E402
from edgecnn_export.conversion.convert import Conversion  # noqa: E402
from edgecnn_export.conversion.fold import fold  # noqa: E402
from edgecnn_export.conversion.folded import Folded  # noqa: E402
from edgecnn_export.conversion.serving import parameter_count  # noqa: E402
from edgecnn_export.conversion.tflite import to_int8_tflite  # noqa: E402
from edgecnn_export.models import Model, open_reference  # noqa: E402
from edgecnn_export.parity.compare import compare  # noqa: E402
from edgecnn_export.parity.figures import ParityReport  # noqa: E402
from edgecnn_export.parity.files import Measured, measure  # noqa: E402
from edgecnn_export.reference import Reference, save_reference  # noqa: E402

TINY = Task("parts", "drawn parts", ("dark", "bright", "upright", "lying"), Preprocessing(24, 24, "gray"))
SUBJECTS = ["parts", *(name for name in shipped_tasks() if reference_path(name).is_file())]
Ranges = dict[str, tuple[float, float]]


class Remembering:
    """A runtime that runs the same pictures once: the reference, which all files are compared with."""

    def __init__(self, runtime: Runtime) -> None:
        self.name = runtime.name
        self._runtime, self._answers = runtime, dict[bytes, NDArray[np.float32]]()

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        key = hashlib.sha256(np.ascontiguousarray(images)).digest()
        if key not in self._answers:
            self._answers[key] = self._runtime.run(images)
        return self._answers[key]


@dataclass(frozen=True, eq=False)
class Subject:
    """A model under test with its pictures, its calibration and the means to make int8 files of it, good and bad ones."""

    reference: Reference
    model: Model
    splits: Splits
    folded: Folded
    calibration: Calibration
    writer: ContractWriter

    def save(self, path: Path, folded: Folded | None = None, ranges: Ranges | None = None) -> Path:
        """Write an int8 artifact, of another model or with other ranges where these are given."""
        model = to_int8_tflite(folded or self.folded, ranges or self.calibration.ranges)
        self.writer.write(Conversion(model, "tflite", "int8"), path).save(path)
        return path

    def measure(self, path: Path) -> Measured:
        """Compare a file with the reference on the validation split."""
        return measure(self.model, [path], self.splits, "validation")

    def altered(self, change: Callable[[dict[str, list[NDArray[Any]]]], None]) -> Folded:
        """Return a copy of the folded model with changed weights `{layer name: [kernel, bias]}`."""
        copy = self.folded.copy()
        layers = [layer for layer in copy.model.layers if len(layer.get_weights()) == 2]
        weights = {layer.name: layer.get_weights() for layer in layers}
        change(weights)
        for layer in layers:
            layer.set_weights(weights[layer.name])
        return copy


def draw_parts(count: int, seed: int) -> Dataset:
    """Draw parts that differ in brightness (dark, bright) or in structure (upright or lying stripes), with noise."""
    random = np.random.default_rng(seed)
    class_ids = np.arange(count, dtype=np.int64) % 4
    stripes = 60 * np.sign(np.sin(np.arange(24) * 1.1))
    images = np.empty((count, 24, 24), np.float64)
    for i, class_id in enumerate(class_ids):
        level = (50, 200, 125, 125)[class_id] + random.uniform(-20, 20)
        pattern = (np.zeros((24, 24)), np.zeros((24, 24)), np.tile(stripes, (24, 1)), np.tile(stripes[:, None], (1, 24)))
        images[i] = level + pattern[class_id] + random.normal(0, 12, (24, 24))
    pixels = np.clip(np.rint(images), 0, 255).astype(np.uint8)[..., None]
    return Dataset(pixels, class_ids, tuple(f"drawn[{i}]" for i in range(count)))


def train_tiny(train: Dataset) -> keras.Model:
    """Train a net of two convolutions for some seconds."""
    keras.utils.set_random_seed(0)
    image = keras.Input(TINY.preprocessing.shape, name="image")
    x = keras.layers.Rescaling(1 / 255)(image)
    for filters in (8, 16):
        x = keras.layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        x = keras.layers.ReLU(6)(keras.layers.BatchNormalization(momentum=0.8)(x))
    x = keras.layers.Dense(4, activation="softmax")(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, x, name="tiny")
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(train.images.astype(np.float32), train.class_ids, batch_size=32, epochs=8, verbose=0)
    return model


def tiny_reference() -> tuple[Reference, Splits]:
    train, validation, test = (draw_parts(count, seed) for seed, count in enumerate((640, 400, 40)))
    splits = Splits(train, validation, test, SplitInfo("drawn parts", "drawn", 0, {}, synthetic=True))
    return Reference(train_tiny(splits.train), TINY, "tiny"), splits


def make_subject(reference: Reference, splits: Splits) -> Subject:
    if reference.calibration is None:
        reference = record_calibration(reference, splits, seed=0)
    assert reference.calibration is not None
    folded, calibration = fold(reference.model), Calibration.from_json(reference.calibration)
    writer = ContractWriter(reference, parameter_count(folded), calibration.info(), "0" * 16)
    model = dataclasses.replace(Model.of(reference), runtime=Remembering(reference.runtime()))
    return Subject(reference, model, splits, folded, calibration, writer)


@pytest.fixture(scope="module", params=SUBJECTS)
def subject(request: pytest.FixtureRequest) -> Subject:
    if request.param == TINY.name:
        return make_subject(*tiny_reference())
    reference = open_reference(reference_path(request.param))
    return make_subject(reference, load_splits(reference.task, None if find_data(request.param) else SYNTHETIC, 0))


@pytest.fixture(scope="module")
def healthy(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return subject.save(tmp_path_factory.mktemp("healthy") / "int8.tflite")


class Tampered:
    """A runtime whose pixels or probabilities are changed on the way, as by a mistake in the code around a model."""

    name = "tampered"

    def __init__(
        self,
        runtime: Runtime,
        pixels: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] = lambda images: images,
        probabilities: Callable[[NDArray[np.float32]], NDArray[np.float32]] = lambda answers: answers,
    ) -> None:
        self._runtime, self._pixels, self._probabilities = runtime, pixels, probabilities

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._probabilities(self._runtime.run(self._pixels(images)))


def first_and_last(weights: dict[str, list[NDArray[Any]]]) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    names = list(weights)
    return weights[names[0]], weights[names[-1]]


def swap_first_two(weights: dict[str, list[NDArray[Any]]]) -> None:
    """Let the last layer answer the first two classes in the other order."""
    _, last = first_and_last(weights)
    order = [1, 0, *range(2, last[1].size)]
    last[:] = [last[0][..., order], last[1][order]]


def first_report(subject: Subject, runtime: Runtime) -> ParityReport:
    dataset = subject.splits.validation
    return compare(subject.model.runtime, {"int8": runtime}, dataset, max_drop=subject.reference.task.max_drop)


def test_a_healthy_int8_file_does_not_fail(subject: Subject, healthy: Path) -> None:
    candidate = subject.measure(healthy).report["int8.tflite"]

    assert candidate.verdict in ("pass", "undecided"), candidate.sentence
    assert candidate.figures.accuracy > 0.85  # most synthetic pictures: more cannot be asked of drawings


@pytest.mark.parametrize("factor", [0.02, 1000.0])
def test_a_sabotaged_calibration_is_caught(subject: Subject, tmp_path: Path, factor: float) -> None:
    ranges = {name: (low * factor, high * factor) for name, (low, high) in subject.calibration.ranges.items()}

    measured = subject.measure(subject.save(tmp_path / "int8.tflite", ranges=ranges))

    assert measured.report.verdict == "fail"


def test_swapped_labels_inside_the_model_are_caught(subject: Subject, tmp_path: Path) -> None:
    measured = subject.measure(subject.save(tmp_path / "int8.tflite", subject.altered(swap_first_two)))

    first, second = subject.reference.task.labels[:2]
    assert measured.report.verdict == "fail"
    assert f"{first} is called {second}, {second} is called {first}" in measured.advice["int8.tflite"][0]


def test_swapped_labels_in_the_contract_are_caught(subject: Subject, healthy: Path, tmp_path: Path) -> None:
    artifact = Artifact.open(healthy)
    first, second, *others = artifact.contract.labels
    swapped = dataclasses.replace(artifact.contract, labels=(second, first, *others))
    dataclasses.replace(artifact, contract=swapped).save(tmp_path / "int8.tflite")

    measured = subject.measure(tmp_path / "int8.tflite")

    assert measured.report.verdict == "fail"
    assert "another order" in measured.notes[0]


def test_a_file_in_another_order_that_names_its_classes_rightly_does_not_fail(subject: Subject, tmp_path: Path) -> None:
    artifact = Artifact.open(subject.save(tmp_path / "int8.tflite", subject.altered(swap_first_two)))
    first, second, *others = artifact.contract.labels
    honest = dataclasses.replace(artifact.contract, labels=(second, first, *others))
    dataclasses.replace(artifact, contract=honest).save(artifact.path)

    measured = subject.measure(artifact.path)

    assert measured.report.verdict in ("pass", "undecided")


@pytest.mark.parametrize("factor", [1 / 16, 16.0])
def test_a_wrong_scale_inside_the_model_is_caught(subject: Subject, tmp_path: Path, factor: float) -> None:
    def rescale(weights: dict[str, list[NDArray[Any]]]) -> None:
        first, _ = first_and_last(weights)
        first[0] = first[0] * np.float32(factor)

    measured = subject.measure(subject.save(tmp_path / "int8.tflite", subject.altered(rescale)))

    assert measured.report.verdict == "fail"


def test_a_shifted_zero_point_inside_the_model_is_caught(subject: Subject, tmp_path: Path) -> None:
    def shift(weights: dict[str, list[NDArray[Any]]]) -> None:
        first, _ = first_and_last(weights)
        first[1] = first[1] - 128 * first[0].sum(axis=(0, 1, 2))  # what an input zero point 128 levels off does

    measured = subject.measure(subject.save(tmp_path / "int8.tflite", subject.altered(shift)))

    (candidate,) = measured.report.candidates
    # Drawn digits nearly survive it: the four of 500 that are lost are no more than chance explains, and so it does not pass.
    assert candidate.verdict == ("fail" if candidate.lost > 10 else "undecided")


def test_pixels_without_their_zero_point_are_caught(subject: Subject, healthy: Path) -> None:
    runtime = open_runtime(Artifact.open(healthy))

    report = first_report(subject, Tampered(runtime, pixels=lambda images: images ^ np.uint8(0x80)))

    assert report.verdict == "fail"


def test_pixels_scaled_to_one_twice_are_caught(subject: Subject, healthy: Path) -> None:
    runtime = open_runtime(Artifact.open(healthy))

    report = first_report(subject, Tampered(runtime, pixels=lambda images: images // 255))

    assert report.verdict == "fail"


@pytest.mark.parametrize(("scale", "offset"), [(2.0, 0.0), (0.5, 0.0), (1.0, 0.5), (1.0, -0.5)])
def test_wrongly_dequantized_probabilities_are_caught(subject: Subject, healthy: Path, scale: float, offset: float) -> None:
    tampered = Tampered(
        open_runtime(Artifact.open(healthy)), probabilities=lambda answers: np.float32(scale) * answers + np.float32(offset)
    )

    report = first_report(subject, tampered)

    assert report.verdict == "fail"
    assert "not probabilities" in report["int8"].sentence


@pytest.mark.parametrize("change", [{"zero_point": 0}, {"scale": 2.0}])
def test_a_contract_with_another_quantization_does_not_open(
    subject: Subject, healthy: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    artifact = Artifact.open(healthy)
    tensor = dataclasses.replace(artifact.contract.input, **change)
    altered = dataclasses.replace(artifact.contract, input=tensor)
    dataclasses.replace(artifact, contract=altered).save(tmp_path / "int8.tflite")

    with pytest.raises(ArtifactError, match="the contract promises"):
        subject.measure(tmp_path / "int8.tflite")


def test_a_folder_of_another_name_is_the_same_task(subject: Subject, healthy: Path, tmp_path: Path) -> None:
    artifact = Artifact.open(healthy)
    other = dataclasses.replace(artifact.contract, task="other")
    dataclasses.replace(artifact, contract=other).save(tmp_path / "int8.tflite")

    renamed, own = (subject.measure(path).report[path.name] for path in (tmp_path / "int8.tflite", healthy))
    assert (renamed.verdict, renamed.flips) == (own.verdict, own.flips)


def test_other_labels_are_an_error(subject: Subject, healthy: Path, tmp_path: Path) -> None:
    artifact = Artifact.open(healthy)
    other = dataclasses.replace(artifact.contract, labels=("surprise", *artifact.contract.labels[1:]))
    dataclasses.replace(artifact, contract=other).save(tmp_path / "int8.tflite")

    with pytest.raises(ContractError, match="knows the labels surprise"):
        subject.measure(tmp_path / "int8.tflite")


def test_the_sabotaged_layer_is_named(subject: Subject, tmp_path: Path) -> None:
    victim = next(iter(subject.calibration.ranges))
    ranges = subject.calibration.ranges | {victim: (0.0, subject.calibration.ranges[victim][1] / 500)}
    sabotaged = dataclasses.replace(subject.calibration, ranges=ranges)
    source = dataclasses.replace(subject.reference, calibration=sabotaged.to_json())
    path = subject.save(tmp_path / "int8.tflite", ranges=ranges)

    measured = measure(dataclasses.replace(subject.model, reference=source), [path], subject.splits, "validation")

    assert any(f"most at: activations of {victim} " in line for line in measured.advice["int8.tflite"])


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny net as a user has it: a .keras file, good and sabotaged int8 files and a folder of pictures."""
    folder = tmp_path_factory.mktemp("parts")
    subject = make_subject(*tiny_reference())
    save_reference(subject.reference, folder / "parts.keras")
    broken = {name: (low / 50, high / 50) for name, (low, high) in subject.calibration.ranges.items()}
    validation = subject.splits.validation
    for label in TINY.labels:
        (folder / "pictures" / label).mkdir(parents=True)
    for i, (image, class_id) in enumerate(zip(validation.images, validation.class_ids, strict=True)):
        cv2.imwrite(str(folder / "pictures" / TINY.labels[class_id] / f"{i}.png"), image)
    good, bad = subject.save(folder / "good.tflite"), subject.save(folder / "bad.tflite", ranges=broken)
    return {"keras": folder / "parts.keras", "good": good, "bad": bad, "pictures": folder / "pictures", "folder": folder}


def run_parity(on_disk: dict[str, Path], *arguments: str) -> tuple[int, str]:
    data = ("--data", str(on_disk["pictures"]), "--split", "train")
    result = CliRunner().invoke(cli, ["parity", str(on_disk["keras"]), *arguments, *data], catch_exceptions=False)
    return result.exit_code, result.stdout


def test_the_command_exits_with_0_when_nothing_failed(on_disk: dict[str, Path]) -> None:
    code, output = run_parity(on_disk, str(on_disk["good"]), "--max-drop", "5")

    assert code == 0
    assert "\nPASS good.tflite" in output


def test_the_command_exits_with_1_on_a_fail(on_disk: dict[str, Path]) -> None:
    code, output = run_parity(on_disk, str(on_disk["good"]), str(on_disk["bad"]))

    assert code == 1
    assert "FAIL bad.tflite" in output


@pytest.mark.parametrize(("options", "expected"), [((), 0), (("--strict",), 3)])
def test_undecided_is_an_exit_code_only_when_strict(on_disk: dict[str, Path], options: tuple[str, ...], expected: int) -> None:
    code, output = run_parity(on_disk, str(on_disk["good"]), "--max-drop", "0.01", *options)

    assert "\nUNDECIDED good.tflite" in output
    assert code == expected


def test_the_command_prints_json(on_disk: dict[str, Path]) -> None:
    _, output = run_parity(on_disk, str(on_disk["good"]), str(on_disk["bad"]), "--json")

    report = json.loads(output)
    assert report["verdict"] == "fail"
    assert report["advice"]["bad.tflite"]


def test_the_command_writes_the_page(on_disk: dict[str, Path], tmp_path: Path) -> None:
    run_parity(on_disk, str(on_disk["good"]), "--html", str(tmp_path / "parity.html"))

    assert "good.tflite" in (tmp_path / "parity.html").read_text()


def test_an_exported_file_can_be_the_reference(on_disk: dict[str, Path]) -> None:
    data = ["--data", str(on_disk["pictures"]), "--split", "train"]

    result = CliRunner().invoke(cli, ["parity", str(on_disk["good"]), str(on_disk["bad"]), *data], catch_exceptions=False)

    assert result.exit_code == 1


def test_a_missing_candidate_is_one_line(on_disk: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"cannot read .*gone\.tflite: no such file"):
        run_parity(on_disk, str(on_disk["folder"] / "gone.tflite"))
