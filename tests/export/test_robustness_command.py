"""`edgecnn robustness` opens what it is given, pairs float with int8, and writes a plot and a page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgecnn import shipped
from edgecnn.artifacts.contract import DataInfo
from edgecnn.cli.main import cli
from edgecnn.errors import ContractError, InputError, MissingDependencyError, OutputError
from edgecnn.robustness.corruptions import corruptions_for
from edgecnn.robustness.report import ModelScores, PairScores, RobustnessReport
from edgecnn.shipped import find_task
from edgecnn_export import models
from edgecnn_export.pages.robustness import drop_shade, lost_shade, render_page
from edgecnn_export.plots.figures import save_figure
from edgecnn_export.plots.heatmap import plot_heatmap
from edgecnn_export.robustness import check_outputs
from edgecnn_export.training.augmentation import default_augmentation

HOSTILE = "\"><script>alert('1')</script>&.tflite"
BOARD_LACKS = ("tensorflow", "keras", "onnx", "onnxruntime", "matplotlib", "jinja2")
INT8 = str(shipped.int8_path("mnist"))

# Which setting of the augmentation draws the like of a corruption. A rectangle that is hidden under white is a highlight.
DRAWN_BY = {
    "underexposure": "exposure_stops", "overexposure": "exposure_stops", "gain": "shot_noise", "contrast": "contrast_stops",
    "light_gradient": "gradient", "defocus": "defocus", "motion_horizontal": "motion", "motion_vertical": "motion",
    "noise": "read_noise", "jpeg": "jpeg", "low_resolution": "scale_octaves", "rotation": "rotation_deg", "shift": "shift",
    "stroke_weight": "stroke", "slant": "slant", "banding": "banding", "highlight": "erasing",
}  # fmt: skip


def _report(task: str = "neu", names: tuple[str, str] = ("float", "int8"), *severities: int) -> RobustnessReport:
    corruptions, severities = corruptions_for(find_task(task)), severities or (1, 3)
    random = np.random.default_rng(0)
    hits = random.random((2, len(corruptions), len(severities), 50)) < 0.9
    models = tuple(
        ModelScores(name, precision, "fake 1.0", random.random(50) < 0.98, own)
        for name, precision, own in zip(names, ("float32", "int8"), hits, strict=True)
    )
    data = DataInfo("steel", "validation", 50, "0" * 64)
    return RobustnessReport(data, severities, corruptions, models, 0.95, 0, (PairScores(*names),))


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["robustness", *arguments])


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No data on this machine."""
    monkeypatch.setenv("EDGECNN_DATA", str(tmp_path))
    monkeypatch.setattr("edgecnn.datasets.mnist.TASK", replace(find_task("mnist"), load=None))


def test_a_task_is_its_float_and_its_int8_model() -> None:
    opened = models.open_subjects(["mnist"])

    rows = [(each.name, each.precision, each.reference) for each in opened.subjects]
    assert rows == [("mnist-compact.keras", "float32", None), ("mnist-int8.tflite", "int8", "mnist-compact.keras")]


def test_a_quantized_file_is_compared_with_the_float_model_before_it(tmp_path: Path) -> None:
    copy = tmp_path / "other-int8.tflite"
    copy.write_bytes(Path(INT8).read_bytes())
    keras = tmp_path / "other.keras"
    keras.write_bytes(shipped.reference_path("mnist").read_bytes())

    opened = models.open_subjects(["mnist", str(keras), str(copy)])

    assert [each.reference for each in opened.subjects] == [None, "mnist-compact.keras", None, "other.keras"]


def test_a_quantized_file_named_first_is_compared_with_the_float_model_after_it() -> None:
    opened = models.open_subjects([INT8, str(shipped.reference_path("mnist"))])

    assert [each.reference for each in opened.subjects] == ["mnist-compact.keras", None]


def test_files_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    copy = tmp_path / "mnist-int8.tflite"
    copy.write_bytes(Path(INT8).read_bytes())

    opened = models.open_subjects([INT8, str(copy)])

    assert [each.name for each in opened.subjects] == [INT8, str(copy)]


def test_without_tensorflow_the_int8_file_is_measured_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise MissingDependencyError("TensorFlow is not installed. Install it with: pip install 'edgecnn[train]'")

    monkeypatch.setattr("edgecnn_export.models.open_reference", missing)

    opened = models.open_subjects(["neu"])

    assert [each.precision for each in opened.subjects] == ["int8"]
    assert "pip install 'edgecnn[train]'" in opened.notes[0]


def test_models_of_two_tasks_are_refused() -> None:
    with pytest.raises(ContractError, match="measure them separately"):
        models.open_subjects([INT8, str(shipped.int8_path("neu"))])


@pytest.mark.usefixtures("no_data")
def test_the_command_measures_float_and_int8_and_writes_plot_and_page(tmp_path: Path) -> None:
    plot, page = tmp_path / "heat.png", tmp_path / "page.html"

    done = _run(
        "mnist",
        "--data",
        "synthetic",
        "--severity",
        "3",
        "--pictures",
        "20",
        "--json",
        "--plot",
        str(plot),
        "--html",
        str(page),
    )

    report = json.loads(done.stdout)
    assert done.exit_code == 0
    assert [model["precision"] for model in report["models"]] == ["float32", "int8"]
    assert (report["data"]["count"], report["severities"], report["data"]["synthetic"]) == (20, [3], True)
    assert len(report["corruptions"]) == 23
    assert plot.stat().st_size > 10_000
    assert "synthetic" in page.read_text("utf-8")


@pytest.mark.usefixtures("no_data")
def test_the_command_prints_a_table() -> None:
    done = _run(INT8, "--data", "synthetic", "--severity", "1", "--pictures", "10")

    assert "mean, out of family" in done.stdout
    assert "SYNTHETIC" in done.stdout


def test_a_board_measures_its_int8_file_without_any_framework(tmp_path: Path) -> None:
    code = f"""
import sys
for name in {BOARD_LACKS!r}:
    sys.modules[name] = None
from edgecnn.cli.main import main
main(["robustness", "mnist", "--data", "synthetic", "--severity", "1", "--pictures", "5", "--json"])
"""

    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env={"EDGECNN_DATA": str(tmp_path)},
    )

    assert [model["precision"] for model in json.loads(done.stdout)["models"]] == ["int8"]
    assert "pip install 'edgecnn[train]'" in done.stderr


def test_the_list_needs_no_model() -> None:
    done = _run("--list")

    assert done.exit_code == 0
    assert "| defocus |" in done.stdout


def test_the_documentation_holds_the_list() -> None:
    listed = _run("--list").stdout

    assert listed in (Path(__file__).resolve().parents[2] / "docs" / "reference" / "robustness.md").read_text("utf-8")


def test_nothing_to_measure_is_a_mistake() -> None:
    done = _run()

    assert done.exit_code == 2
    assert "missing FILE or TASK" in done.output


def test_a_picture_format_that_nobody_knows_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown picture format"):
        check_outputs(tmp_path / "heat.xyz", None)


def test_a_missing_folder_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        check_outputs(None, tmp_path / "gone" / "page.html")


@pytest.mark.parametrize("task", ["neu", "mnist"])
def test_in_family_is_what_the_augmentation_draws(task: str) -> None:
    augmentation = default_augmentation(find_task(task))

    named = {each.name for each in corruptions_for(find_task(task)) if each.in_family}

    known = {each.name for each in corruptions_for(find_task(task))}
    assert named == {name for name, setting in DRAWN_BY.items() if name in known and getattr(augmentation, setting) > 0}


def test_every_strength_of_the_augmentation_has_its_corruptions() -> None:
    weak, strong = (vars(default_augmentation(find_task("neu")).scaled(severity)) for severity in (0, 1))

    strengths = {name for name in weak if weak[name] != strong[name]} - {"flips", "turns"}

    assert strengths <= set(DRAWN_BY.values())


def test_a_heat_map_shows_every_corruption_and_both_models(tmp_path: Path) -> None:
    report = _report(names=("$x float", "int8"))

    figure = plot_heatmap(report)
    save_figure(figure, tmp_path / "heat.png")

    left, _, right = figure.axes
    names = [label.get_text() for label in left.get_yticklabels()]
    assert names[:2] == ["underexposure", "overexposure"]
    assert len(names) == 19 + 3
    assert {axes.get_title(loc="left").strip() for axes in figure.axes} == {"$x float", "int8", "drop"}
    assert len(right.texts) == 22 * 2 + 1


def test_a_heat_map_of_one_severity_can_be_drawn(tmp_path: Path) -> None:
    save_figure(plot_heatmap(_report("mnist", ("a", "b"), 3)), tmp_path / "heat.svg")

    assert (tmp_path / "heat.svg").stat().st_size > 0


def test_the_page_loads_nothing_and_escapes_names() -> None:
    page = render_page(_report(names=("float", HOSTILE)))

    assert "<script" not in page
    assert not re.findall(r"https?://", page)
    assert "&lt;script&gt;" in page


def test_the_page_holds_every_figure() -> None:
    report = _report()

    page = render_page(report)

    cell = report.cell(report["int8"], 4, 1)
    assert f">{100 * cell.value:.1f}</td>" in page
    assert page.count('class="heat') == (19 + 3) * 2 * 3
    assert "prefers-color-scheme:dark" in page


@pytest.mark.parametrize(("accuracy", "shade"), [(1.0, 0), (0.99, 10), (0.75, 50), (0.0, 100)])
def test_shades_grow_with_the_root_of_what_is_lost(accuracy: float, shade: int) -> None:
    assert lost_shade(accuracy) == shade
    assert drop_shade(-100 * (1 - accuracy)) == shade
