from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any, cast

import cv2
import keras
import numpy as np
import pytest
from click.testing import CliRunner

from edgecnn.artifacts import Artifact
from edgecnn.artifacts.golden import replay
from edgecnn.cli.main import cli
from edgecnn.datasets.dataset import Dataset, Splits
from edgecnn.errors import ConversionError, DatasetError, InputError, OutputError
from edgecnn.runtimes import open_runtime
from edgecnn.runtimes.head import HeadRuntime
from edgecnn.runtimes.runtime import Answers, answer
from edgecnn.runtimes.select import channels
from edgecnn.runtimes.tflite import TfliteRuntime
from edgecnn.tasks import Task
from edgecnn_export import contract_writer, exporter
from edgecnn_export.calibration_data import find_splits, record_calibration
from edgecnn_export.conversion.calibration import Calibration
from edgecnn_export.conversion.convert import Precision
from edgecnn_export.conversion.fold import fold
from edgecnn_export.conversion.folded import Folded
from edgecnn_export.evidence import give_baseline
from edgecnn_export.exporter import ExportedFile, ExportResult, export, formats_named
from edgecnn_export.models import open_reference
from edgecnn_export.parity.figures import ParityReport
from edgecnn_export.reference import Reference, save_reference
from edgecnn_export.staging import REJECTED

NAMES = ["bars-float32.tflite", "bars-int8.tflite", "bars-float32.onnx", "bars-int8.onnx"]


@pytest.fixture(scope="session")
def recorded(bar_reference: Reference, bar_splits: Splits) -> Reference:
    return record_calibration(bar_reference, bar_splits, seed=0)


@pytest.fixture(scope="session")
def exported(bar_reference: Reference, bar_splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    return export(bar_reference, out=tmp_path_factory.mktemp("exported"), int8=True, splits=bar_splits)


@pytest.fixture(scope="session")
def keras_file(recorded: Reference, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reference") / "model.keras"
    save_reference(recorded, path)
    return path


def sabotaged(reference: Reference) -> Reference:
    """Record ranges of a fiftieth of what they are: everything clips."""
    assert reference.calibration is not None
    ranges = {name: [low / 50, high / 50] for name, (low, high) in reference.calibration["ranges"].items()}
    return dataclasses.replace(reference, calibration=reference.calibration | {"ranges": ranges})


def without_training(splits: Splits) -> Splits:
    return dataclasses.replace(splits, train=splits.train.take(np.empty(0, np.int64)))


def test_too_few_pictures_for_a_baseline_of_drift_are_told(exported: ExportResult, bar_splits: Splits) -> None:
    few = dataclasses.replace(bar_splits, validation=bar_splits.validation.take(np.arange(0, 60, 3)))
    lines: list[str] = []
    file = Artifact.open(exported.files[0].path)

    (given,) = give_baseline([file], few, progress=lines.append)

    assert given.contract.drift == file.contract.drift
    assert "cannot notice drift" in lines[-1] and "20 different pictures" in lines[-1] and "at least 30" in lines[-1]


def test_an_export_is_four_files_and_a_report(exported: ExportResult) -> None:
    names = {path.name for path in exported.folder.iterdir()}

    assert names == {*NAMES, "parity.json", "parity.html"}


def made(*rejected: str) -> ExportResult:
    """Return an export of four files, of which those of these precisions were rejected."""
    files = []
    for name in NAMES:
        precision, _, form = name.removeprefix("bars-").partition(".")
        path = Path(name + REJECTED if precision in rejected else name)
        files.append(ExportedFile(path, form, cast(Precision, precision), 1000, "pass", ""))
    return ExportResult(Path("out"), tuple(files), None, None, 0.0)


def test_a_board_would_run_the_int8_tflite() -> None:
    assert made().for_board.path.name == "bars-int8.tflite"


def test_a_board_would_run_no_rejected_file() -> None:
    assert made("int8").for_board.path.name == "bars-float32.tflite"


@pytest.mark.parametrize("name", NAMES)
def test_each_file_opens_and_runs_and_answers_its_golden_vectors(exported: ExportResult, name: str) -> None:
    artifact = Artifact.open(exported.folder / name)

    report = replay(artifact.contract, partial(answer, open_runtime(artifact)))

    assert report.passed


def test_golden_vectors_hold_on_the_kernels_that_tflite_runtime_has(exported: ExportResult) -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    artifact = Artifact.open(exported.folder / "bars-int8.tflite")
    older = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=artifact.model, experimental_op_resolver_type=older)
    contract = artifact.contract
    assert contract.head is not None
    assert contract.features is not None
    graph = TfliteRuntime(interpreter, "older kernels", with_features=True)
    runtime = HeadRuntime(graph, contract.head, channels(contract.features, "tflite"))

    report = replay(contract, runtime.answer)

    assert report.passed


@pytest.mark.parametrize("name", NAMES)
def test_each_contract_tells_how_its_file_came_about(exported: ExportResult, bar_splits: Splits, name: str) -> None:
    contract = Artifact.open(exported.folder / name).contract

    assert (contract.task, contract.labels, contract.model) == ("bars", ("dark", "upright", "lying"), "tiny")
    assert contract.parameters == 835  # with the normalisations folded away
    assert contract.parity.verdict == "pass"
    assert contract.parity.data is not None
    assert contract.parity.data.digest == bar_splits.validation.digest()
    assert set(contract.versions) == {"edgecnn", "keras", "converter", "minimum_runtime"}


def test_only_int8_contracts_speak_of_calibration(exported: ExportResult) -> None:
    contracts = {name: Artifact.open(exported.folder / name).contract for name in NAMES}

    assert exported.calibration is not None
    for name, contract in contracts.items():
        assert contract.calibration == (exported.calibration.info() if "int8" in name else None)


def test_the_files_of_one_export_share_its_id(exported: ExportResult) -> None:
    ids = {Artifact.open(exported.folder / name).contract.export_id for name in NAMES}

    assert len(ids) == 1


def test_the_parity_report_can_be_read_back(exported: ExportResult) -> None:
    data = json.loads((exported.folder / "parity.json").read_text())

    assert ParityReport.from_json(data) == exported.parity


def test_recorded_ranges_give_the_same_int8_files_as_measured_ones(
    exported: ExportResult, recorded: Reference, tmp_path: Path
) -> None:
    export(recorded, out=tmp_path, int8=True, splits=None)

    for name in NAMES:
        assert Artifact.open(tmp_path / name).model == Artifact.open(exported.folder / name).model


def test_recorded_ranges_survive_the_keras_file(keras_file: Path, recorded: Reference) -> None:
    reopened = open_reference(keras_file)

    assert reopened.calibration is not None
    assert recorded.calibration is not None
    assert Calibration.from_json(reopened.calibration) == Calibration.from_json(recorded.calibration)


def test_a_file_that_contradicts_its_reference_is_rejected_even_where_no_picture_was_compared(
    recorded: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fold_wrongly(model: keras.Model) -> Folded:
        folded = fold(model)
        answer = next(layer for layer in reversed(folded.model.layers) if layer.get_weights())
        answer.set_weights([weights[..., ::-1] for weights in answer.get_weights()])
        return folded

    monkeypatch.setattr(exporter, "fold", fold_wrongly)

    result = export(recorded, out=tmp_path, formats=formats_named("tflite"))

    (rejected,) = result.rejected
    assert rejected.path.name == "bars-float32.tflite.rejected"
    assert "golden inputs it answers" in rejected.reason
    assert Artifact.open(rejected.path).contract.parity.verdict == "fail"


def test_without_pictures_parity_is_not_measured_and_an_old_report_goes(recorded: Reference, tmp_path: Path) -> None:
    (tmp_path / "parity.json").write_text('{"candidates": [], "verdict": "pass"}')

    result = export(recorded, out=tmp_path, formats=formats_named("tflite"))

    assert [file.verdict for file in result.files] == ["not measured"]
    assert not (tmp_path / "parity.json").exists()


def test_int8_without_ranges_and_pictures_is_one_line(bar_reference: Reference, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--data or --calibration"):
        export(bar_reference, out=tmp_path, int8=True)


def test_ranges_of_another_model_are_refused(recorded: Reference, tmp_path: Path) -> None:
    assert recorded.calibration is not None
    foreign = dataclasses.replace(recorded, calibration=recorded.calibration | {"ranges": {"elsewhere": [0.0, 1.0]}})

    with pytest.raises(ConversionError, match="elsewhere"):
        export(foreign, out=tmp_path, int8=True)


def test_a_file_that_fails_is_named_rejected_with_its_reasons(
    recorded: Reference, bar_splits: Splits, exported: ExportResult, tmp_path: Path
) -> None:
    good = (exported.folder / "bars-int8.tflite").read_bytes()
    (tmp_path / "bars-int8.tflite").write_bytes(good)

    result = export(
        sabotaged(recorded), out=tmp_path, formats=formats_named("tflite"), int8=True, splits=without_training(bar_splits)
    )

    (rejected,) = result.rejected
    assert rejected.path.name == "bars-int8.tflite.rejected"
    assert Artifact.open(rejected.path).contract.parity.verdict == "fail"
    assert rejected.advice
    assert not (tmp_path / "bars-int8.tflite").exists()
    assert (tmp_path / "bars-int8.tflite.previous").read_bytes() == good


def test_an_export_that_breaks_off_leaves_the_old_one_whole(
    recorded: Reference, bar_splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = "an old one, with its edgecnn.json"
    (tmp_path / "bars-float32.tflite").write_text(old)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(exporter, "write_page", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export(recorded, out=tmp_path, formats=formats_named("tflite"), splits=bar_splits)

    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("bars-float32.tflite", old)]


def test_a_folder_that_is_a_file_is_one_line(recorded: Reference, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")

    with pytest.raises(OutputError, match="--out"):
        export(recorded, out=tmp_path / "out", formats=formats_named("tflite"))


@pytest.mark.parametrize(("name", "formats"), [("tflite", ("tflite",)), ("onnx", ("onnx",)), ("all", ("tflite", "onnx"))])
def test_formats_have_names(name: str, formats: tuple[str, ...]) -> None:
    assert formats_named(name) == formats


def write_pictures(folder: Path, dataset: Dataset) -> None:
    folder.mkdir()
    for i, image in enumerate(dataset.images):
        cv2.imwrite(str(folder / f"{i}.png"), image)


def test_loose_pictures_calibrate_and_show_agreement(recorded: Reference, bar_splits: Splits, tmp_path: Path) -> None:
    write_pictures(tmp_path / "loose", bar_splits.train)

    splits = find_splits(recorded, None, tmp_path / "loose", 0)

    assert splits is not None
    assert len(splits.train) == len(splits.validation) == len(bar_splits.train)
    assert not splits.info.labelled


def test_a_folder_without_pictures_is_one_line(recorded: Reference, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no pictures"):
        find_splits(recorded, None, tmp_path, 0)


def test_without_pictures_nothing_is_proven_unless_that_is_wanted(recorded: Reference) -> None:
    with pytest.raises(DatasetError, match=r"nothing to prove the files with: .* --data, or give --unproven"):
        find_splits(recorded, None, None, 0)

    assert find_splits(recorded, None, None, 0, unproven=True) is None


def test_the_command_prints_a_line_for_each_file(keras_file: Path, bar_splits: Splits, tmp_path: Path) -> None:
    write_pictures(tmp_path / "loose", bar_splits.train)
    options = ["--int8", "--out", str(tmp_path / "out"), "--calibration", str(tmp_path / "loose")]

    result = CliRunner().invoke(cli, ["export", str(keras_file), *options], catch_exceptions=False)

    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert lines[0] == "reference: its accuracy is unknown, the 120 pictures have no labels"
    assert [line.split()[0] for line in lines[1:5]] == NAMES
    assert "integers only" in lines[2]
    assert all("agrees: 120 of 120" in line for line in lines[1:5])


def test_the_command_speaks_json(keras_file: Path, tmp_path: Path) -> None:
    options = ["--format", "tflite", "--out", str(tmp_path), "--json", "--unproven"]

    result = CliRunner().invoke(cli, ["export", str(keras_file), *options], catch_exceptions=False)

    data = json.loads(result.stdout)
    assert [Path(file["path"]).name for file in data["files"]] == ["bars-float32.tflite"]


def test_the_command_exits_with_1_when_a_file_is_rejected(
    recorded: Reference, bar_splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_reference(sabotaged(recorded), tmp_path / "bad.keras")
    monkeypatch.setattr("edgecnn_export.calibration_data.find_splits", lambda *_, **__: without_training(bar_splits))
    options = ["--int8", "--format", "tflite", "--out", str(tmp_path / "out")]

    result = CliRunner().invoke(cli, ["export", str(tmp_path / "bad.keras"), *options], catch_exceptions=False)

    assert result.exit_code == 1
    assert "bars-int8.tflite.rejected" in result.stdout


@pytest.mark.parametrize("name", ["bars-int8.tflite", "bars-float32.onnx.previous", "parity.json", "parity.html"])
def test_a_file_of_somebody_elses_in_the_folder_is_not_replaced(recorded: Reference, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"of another tool")

    with pytest.raises(OutputError, match=f"{name} was not made by edgecnn and is not overwritten"):
        export(recorded, out=tmp_path, formats=("tflite",))

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {name: b"of another tool"}


def odd_reference(task: Task, middle: keras.Layer) -> Reference:
    """Put a layer between the parts of a small net of the bars' task."""
    keras.utils.set_random_seed(4)
    image = keras.Input((16, 16, 1))
    x = keras.layers.Conv2D(4, 3, strides=2)(keras.layers.Rescaling(1 / 255)(image))
    x = keras.layers.Flatten()(middle(keras.layers.Reshape((7, 28))(x)))
    return Reference(keras.Model(image, keras.layers.Dense(3, activation="softmax")(x)), task, "odd")


def test_a_file_that_cannot_be_made_does_not_take_the_others_along(
    bar_reference: Reference, bar_splits: Splits, tmp_path: Path
) -> None:
    export(bar_reference, out=tmp_path, formats=("onnx",), int8=True, splits=bar_splits)

    result = export(
        odd_reference(bar_reference.task, keras.layers.GRU(3, name="memory")), out=tmp_path, int8=True, splits=bar_splits
    )

    assert [file.path.name for file in result.files] == ["bars-float32.tflite"]
    assert sorted(failure.suffix for failure in result.failures) == ["float32.onnx", "int8.onnx", "int8.tflite"]
    assert all("layer 'memory'" in failure.reason for failure in result.failures)
    assert not (tmp_path / "bars-int8.onnx").exists() and (tmp_path / "bars-int8.onnx.previous").exists()


def test_a_file_that_cannot_be_made_is_exit_code_1_and_named(
    bar_reference: Reference, bar_splits: Splits, tmp_path: Path
) -> None:
    save_reference(odd_reference(bar_reference.task, keras.layers.GRU(3, name="memory")), tmp_path / "odd.keras")

    ran = CliRunner().invoke(cli, ["export", str(tmp_path / "odd.keras"), "--unproven", "--out", str(tmp_path / "out")])

    assert ran.exit_code == 1, ran.output
    assert "float32.onnx: not made: layer 'memory':" in ran.output


def test_a_file_that_gives_no_numbers_is_told_and_the_others_are_written(
    recorded: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(artifact: Artifact, **options: Any) -> Any:
        runtime = open_runtime(artifact, **options)
        if artifact.path.name.endswith("float32.tflite"):
            flawed = Answers(np.full((8, 3), np.nan, np.float32))
            monkeypatch.setattr(runtime, "answer", lambda images: flawed)
        return runtime

    monkeypatch.setattr(contract_writer, "open_runtime", opened)

    result = export(recorded, out=tmp_path)

    assert [file.path.name for file in result.files] == ["bars-float32.onnx"]
    assert [(each.suffix, each.reason) for each in result.failures] == [
        ("float32.tflite", "to 8 of 8 generated inputs it gives answers that are not numbers (NaN)")
    ]


def test_nothing_made_at_all_is_an_error(bar_reference: Reference, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"float32.onnx: layer 'memory'"):
        export(odd_reference(bar_reference.task, keras.layers.GRU(3, name="memory")), out=tmp_path / "out", formats=("onnx",))

    assert not list(tmp_path.rglob("*.onnx"))


def test_layers_that_compute_in_floats_stand_in_output_contract_and_name(
    bar_reference: Reference, bar_splits: Splits, tmp_path: Path
) -> None:
    reference = odd_reference(bar_reference.task, keras.layers.LayerNormalization(name="norm"))

    result = export(reference, out=tmp_path, formats=("tflite",), int8=True, splits=bar_splits)

    file = result.files[1]
    assert (file.path.name.removesuffix(".rejected"), file.arithmetic) == ("bars-mixed.tflite", "int8, floats in norm")
    assert Artifact.open(file.path).contract.float_layers == ("norm",)
