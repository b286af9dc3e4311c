"""Good parts alone, from a folder to a file that a board runs: promised, exported, compared, judged and shown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecnn.artifacts import Artifact
from edgecnn.classifier import Classifier
from edgecnn.cli.main import main
from edgecnn.datasets.dataset import Dataset
from edgecnn.datasets.folder import task_from_folder
from edgecnn.datasets.load import load_splits
from edgecnn.errors import ConversionError
from edgecnn.rejection.evidence import Judged
from edgecnn.runtimes.runtime import answer
from edgecnn.tasks import Task
from edgecnn.where import locating_maps
from edgecnn_device.bench.worker import Request, measure
from edgecnn_export.calibration_data import CORRUPTED_TOO, find_calibration
from edgecnn_export.contract_writer import ContractWriter
from edgecnn_export.conversion.calibration import Calibration, choose_calibration
from edgecnn_export.conversion.convert import convert
from edgecnn_export.conversion.fold import fold
from edgecnn_export.conversion.serving import parameter_count
from edgecnn_export.exporter import ExportResult, export
from edgecnn_export.models import open_reference
from edgecnn_export.parity.good_parts import calibration_pictures
from edgecnn_export.repair.ladder import Repair
from edgecnn_export.studies.only_good import OnlyGoodData, Score, study_only_good
from edgecnn_export.training.only_good import OnlyGoodRun, train_only_good

SIDE = 48


def surface(random: np.random.Generator) -> np.ndarray:
    """Draw a rough surface with bright stripes."""
    image = random.normal(110, 8, (SIDE, SIDE)) + 15 * np.sin(np.arange(SIDE) / 3)
    return np.clip(image, 0, 255).astype(np.uint8)


def holed(random: np.random.Generator) -> np.ndarray:
    """Draw a surface with a dark hole."""
    image = surface(random)
    y, x = random.integers(10, SIDE - 10, 2)
    cv2.circle(image, (int(x), int(y)), 5, 15, -1)
    return image


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, random = tmp_path_factory.mktemp("parts"), np.random.default_rng(0)
    for kind, draw, count in (("good", surface, 60), ("hole", holed, 12)):
        (folder / kind).mkdir()
        for i in range(count):
            cv2.imwrite(str(folder / kind / f"{i}.png"), draw(random))
    return folder


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> OnlyGoodRun:
    task = task_from_folder(folder / "good", only_good=True)
    splits = load_splits(task, folder / "good", 0)
    return train_only_good(task, splits, out=tmp_path_factory.mktemp("run"), false_alarms=0.05)


@pytest.fixture(scope="module")
def exported(run: OnlyGoodRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export")
    reference = open_reference(run.folder)
    splits = load_splits(reference.task, Path(json.loads((run.folder / "training.json").read_text())["data_folder"]), 0)
    result = export(reference, out=out, int8=True, splits=splits)
    assert not result.rejected
    assert not result.failures
    return out


def read(folder: Path, kind: str) -> list[np.ndarray]:
    return [cv2.imread(str(path)) for path in sorted((folder / kind).glob("*.png"))]


def command(*words: object) -> object:
    """Return the exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return ended.value.code


def test_a_run_says_what_it_promises_and_holds_for_good_parts(run: OnlyGoodRun) -> None:
    record = json.loads((run.folder / "training.json").read_text())

    assert record["only_good"]["parts"] == run.info.parts == 21
    assert record["only_good"]["false_alarms"] == pytest.approx(0.05)
    assert record["pretrained"]["name"] == "EfficientNet-Lite0"


@pytest.mark.parametrize("name", ["good-int8.tflite", "good-int8.onnx", "good-float32.tflite"])
def test_a_file_finds_holes_and_lets_good_parts_pass(exported: Path, folder: Path, name: str) -> None:
    classifier = Classifier.open(exported / name)

    good = classifier.classify(read(folder, "good"))
    holes = classifier.classify(read(folder, "hole"))

    assert classifier.labels == ("good",)
    assert sum(each.verdict == "novel" for each in good) <= 6
    assert all(each.verdict == "novel" and each.label is None for each in holes)
    assert {each.label for each in good} <= {"good", None}


def test_the_file_is_small_and_all_integer(exported: Path) -> None:
    artifact = Artifact.open(exported / "good-int8.tflite")

    assert artifact.path.stat().st_size < 1_000_000
    assert artifact.contract.precision == "int8"
    assert artifact.contract.good_parts is not None


def test_what_is_odd_about_a_hole_is_shown_over_the_whole_input(exported: Path, folder: Path) -> None:
    hole, *_ = read(folder, "hole")

    (found,) = Classifier.open(exported / "good-int8.tflite").classify([hole], where=True)

    assert found.where is None  # of one class
    assert found.novel_where is not None
    assert found.novel_where.shape == (SIDE, SIDE)
    assert found.novel_where.max() > 0  # above the threshold somewhere


def exported_again(run: OnlyGoodRun, out: Path) -> ExportResult:
    """Export a run to `.tflite` without a repair."""
    reference = open_reference(run.folder)
    splits = load_splits(reference.task, Path(json.loads((run.folder / "training.json").read_text())["data_folder"]), 0)
    return export(reference, out=out, formats=["tflite"], int8=True, repair=False, splits=splits)


def test_an_int8_file_of_ranges_that_are_too_narrow_is_rejected(
    run: OnlyGoodRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def narrow(*given: object) -> tuple[Calibration, np.ndarray | None]:
        calibration, images = find_calibration(*given)
        ranges = {name: (low / 8, high / 8) for name, (low, high) in calibration.ranges.items()}
        return replace(calibration, ranges=ranges), images

    monkeypatch.setattr("edgecnn_export.exporter.find_calibration", narrow)
    monkeypatch.setattr("edgecnn_export.parity.files.explain", lambda *_: [])  # it takes long, and is tested elsewhere

    result = exported_again(run, tmp_path / "out")

    assert [file.verdict for file in result.files] == ["pass", "fail"]
    assert result.files[1].path.name == "good-int8.tflite.rejected"


def test_an_int8_file_of_ranges_of_one_light_is_rejected_for_another_light(
    run: OnlyGoodRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_light(task: Task, train: Dataset, seed: int) -> Dataset:
        return choose_calibration(train, seed=seed)

    monkeypatch.setattr("edgecnn_export.calibration_data.calibration_pictures", one_light)
    monkeypatch.setattr("edgecnn_export.parity.files.explain", lambda *_: [])

    rejected = exported_again(run, tmp_path / "out").files[1]

    assert rejected.verdict == "fail"
    assert "exposure alone it lost" in rejected.reason  # too much or too little, whichever clips more


def test_a_repair_is_judged_by_good_and_novel_under_each_corruption_as_well(exported: Path, run: OnlyGoodRun) -> None:
    reference, artifact = open_reference(run.folder), Artifact.open(exported / "good-int8.tflite")
    splits = load_splits(reference.task, Path(json.loads((run.folder / "training.json").read_text())["data_folder"]), 0)
    calibration = Calibration.from_json(reference.calibration)
    repair = Repair(reference, fold(reference.model), calibration, splits, None, 0, lambda line: None)

    report = repair.comparison()([artifact])

    assert report.labels == ("good", "novel")
    assert report[artifact.path.name].corrupted.significant is not None


def test_a_file_without_a_map_of_features_is_not_made_for_good_parts(run: OnlyGoodRun, tmp_path: Path) -> None:
    reference = open_reference(run.folder)
    folded = fold(reference.model)
    (conversion,) = convert(folded, ["onnx"]).made
    writer = ContractWriter(reference, parameter_count(folded), None, "0" * 32, None)

    with pytest.raises(ConversionError, match="no map of features"):
        writer.write(replace(conversion, features=None), tmp_path / "good-float32.onnx")


def test_int8_says_what_it_was_calibrated_on_and_is_compared_under_corruptions(exported: Path, run: OnlyGoodRun) -> None:
    calibration = Artifact.open(exported / "good-int8.tflite").contract.calibration
    candidates = json.loads((exported / "parity.json").read_text())["candidates"]

    assert CORRUPTED_TOO in calibration.method
    assert calibration.data.count > 2 * json.loads((run.folder / "training.json").read_text())["data"]["train"]["count"]
    assert all(each["corrupted"]["significant"] for each in candidates)


def test_calibration_pictures_under_corruptions_are_drawn_by_seed_behind_the_clean_ones(run: OnlyGoodRun) -> None:
    random = np.random.default_rng(3)
    images = np.stack([surface(random) for _ in range(12)])[..., None]
    train = Dataset(images, np.zeros(12, np.int64), tuple(map(str, range(12))))

    first, again, other = (calibration_pictures(run.reference.task, train, seed) for seed in (0, 0, 1))

    assert np.array_equal(first.images[:12], images)
    assert first.digest() == again.digest() != other.digest()


def test_the_commands_take_the_file_as_any_other(
    exported: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, hole = exported / "good-int8.tflite", folder / "hole" / "0.png"

    assert command("classify", file, hole, "--json", "--where", tmp_path / "heat.png") == 0
    (row,) = json.loads(capsys.readouterr().out)["pictures"]
    assert command("verify", file) == 0
    assert command("inspect", file) == 0
    shown = capsys.readouterr().out

    assert (row["label"], row["verdict"]) == (None, "novel")
    assert row["novelty"] > 1
    assert (tmp_path / "heat.png").is_file()
    assert "of good parts novel" in shown


def test_a_study_holds_each_good_part_out_once() -> None:
    random = np.random.default_rng(2)

    def drawn(count: int, odd: bool) -> Dataset:
        images = np.stack([holed(random) if odd else surface(random) for _ in range(count)])[..., None]
        names = tuple(f"{odd}{i}" for i in range(count))
        return Dataset(images, np.zeros(count, np.int64), names, np.arange(count) // 2)

    from edgecnn.datasets.folder import good_task
    from edgecnn.preprocessing import Preprocessing

    def darkest(*_: object) -> Score:
        return lambda images: 255.0 - cv2.blur(np.moveaxis(images[..., 0], 0, 2), (5, 5)).min(axis=(0, 1))

    task = good_task(Path("good"), Preprocessing(SIDE, SIDE, "gray"))
    data = OnlyGoodData(task, drawn(36, False), {"hole": drawn(10, True)})
    found = study_only_good(data, false_alarms=0.1, fit=darkest)

    assert [row.kind for row in found.rows] == ["hole", "all"]
    assert found.rows[0].auroc > 0.95
    assert found.alarms.count == 36
    assert found.promised == pytest.approx(1 / 5)  # 4 of 9 parts choose the threshold


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only-good", "--epochs", "3"], "--epochs needs several classes"),
        (["--only-good", "--network", "compact"], "--network needs"),
        (["--only-good", "--teacher", "none"], "--teacher needs --network compact, without --only-good"),
        (["--only-good", "--max-kb", "900"], "--max-kb needs --network auto, without --only-good"),
        (["--only-good", "--splits", "new"], "--splits needs several classes"),
        (["--only-good", "--resume"], "--resume needs several classes"),
        (["--only-good", "--report"], "--report needs several classes"),
        (["--false-alarms", "1%"], "--false-alarms needs --only-good"),
        (["--only-good", "--false-alarms", "0"], "no share above 0"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(
    folder: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("train", folder / "good", *options) == 2
    assert message in capsys.readouterr().err


def test_false_alarms_are_counted_and_no_accuracy_is_claimed(run: OnlyGoodRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("evaluate", run.folder, "--split", "test") == 0
    evaluated = capsys.readouterr().out

    assert "good parts pass; the others are false alarms" in evaluated


def test_the_pictures_that_chose_the_threshold_are_no_proof(run: OnlyGoodRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("evaluate", run.folder) == 0

    assert "the threshold was chosen so that these pictures pass" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["export", "robustness", "rejection", "data suspects", "study learning-curve", "teach"])
def test_what_is_about_classes_refuses_good_parts(
    name: str, exported: Path, run: OnlyGoodRun, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = exported / "good-int8.tflite"
    about = {
        "export": [run.folder, "--others", folder / "hole", "--out", tmp_path],
        "robustness": [file, "--data", folder / "good"],
        "rejection": [file, "--data", folder / "good"],
        "data suspects": [run.folder],
        "study learning-curve": [run.folder],
        "teach": [file, "--class", "hole", folder / "hole", "--out", tmp_path / "taught.tflite"],
    }

    code = command(*name.split(), *about[name])

    assert code == 2
    assert "knows good parts only" in capsys.readouterr().err


def test_a_good_part_has_no_box_and_nothing_is_drawn_over_it(exported: Path, folder: Path) -> None:
    classifier, good = Classifier.open(exported / "good-int8.tflite"), next((folder / "good").glob("*.png"))
    inputs = classifier.preprocessing(cv2.imread(str(good)))[None]
    answers = answer(classifier.runtime, inputs)

    (found,) = classifier.rejecting(None, novelty=2).classify([cv2.imread(str(good))], where=True)

    assert classifier.distance(answers) == pytest.approx(found.novelty * 2 * classifier.evidence.info.novel_above, rel=0.01)
    assert locating_maps(
        classifier.runtime,
        classifier.evidence,
        inputs,
        answers,
        Judged(np.ones(1), np.zeros(1, np.int64), np.ones((1, 1), np.float32)),
    ) == [None]
    assert found.novel_where.max() < 0  # on the scale of the threshold that was chosen


def test_it_is_measured_without_a_delegate_as_well(exported: Path) -> None:
    request = Request(str(exported / "good-int8.tflite"), "ai-edge-litert", False, 1, 1, 0.05, None, 0)

    assert measure(request)["delegate"] is False


def test_a_camera_calls_an_odd_part_novel_and_says_in_which_box(exported: Path, folder: Path, tmp_path: Path) -> None:
    lines = tmp_path / "seen.jsonl"

    shown = "--where", "--jsonl", lines, "--no-terminal"
    code = command("camera", exported / "good-int8.tflite", "--source", folder / "hole", *shown)

    seen = [json.loads(line) for line in lines.read_text().splitlines()]
    assert code == 0
    (region,) = seen[0]["regions"]
    assert (region["label"], region["verdict"]) == (None, "novel")
    assert region["where"]
    assert region["where_map"] == "novelty"
