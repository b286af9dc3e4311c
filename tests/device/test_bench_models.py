"""`edgecnn bench FILE`: what it says is measured, in the form that it promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edgecnn.artifacts import Artifact
from edgecnn.cli.bench import _model_lines, bench
from edgecnn.errors import InferenceError, InputError, MissingDependencyError
from edgecnn_device import board
from edgecnn_device.bench.inputs import measured_pictures
from edgecnn_device.bench.models import Effort, bench_model, installed_backends, ratios, read_baseline
from edgecnn_device.bench.timing import Latency, repeat
from edgecnn_device.bench.worker import Request

QUICK = ("--runtime", "ai-edge-litert", "--threads", "1", "--runs", "5")


@pytest.fixture(scope="module")
def report(artifacts: Path) -> dict[str, Any]:
    result = CliRunner().invoke(bench, [str(artifacts / "neu.tflite"), *QUICK, "--json"], catch_exceptions=False)
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def test_it_measures_with_and_without_the_delegate(report: dict[str, Any]) -> None:
    (model,) = report["models"]

    assert [case["delegate"] for case in model["cases"]] == [True, False]
    assert model["failures"] == []


def test_each_stage_has_its_percentiles_in_order(report: dict[str, Any]) -> None:
    case = report["models"][0]["cases"][0]

    for stage in ("preprocess", "invoke", "whole"):
        assert case[stage]["count"] == 5
        assert 0 < case[stage]["p50_ms"] <= case[stage]["p95_ms"] <= case[stage]["p99_ms"]


def test_the_whole_path_takes_as_long_as_its_parts_at_least(report: dict[str, Any]) -> None:
    case = report["models"][0]["cases"][0]

    assert case["whole"]["mean_ms"] >= case["preprocess"]["mean_ms"] + case["invoke"]["mean_ms"]


def test_size_operators_memory_and_start_are_told(report: dict[str, Any], artifacts: Path) -> None:
    model = report["models"][0]
    case = model["cases"][0]

    assert model["bytes"] == (artifacts / "neu.tflite").stat().st_size
    assert model["operators"]["CONV_2D"] == 1
    assert case["rss_after_bytes"] > case["rss_before_bytes"] > 0
    assert min(case["import_ms"], case["load_ms"], case["first_run_ms"]) > 0


def test_the_table_names_runtime_and_file(artifacts: Path) -> None:
    result = CliRunner().invoke(bench, [str(artifacts / "neu.tflite"), *QUICK], catch_exceptions=False)

    assert "neu.tflite: " in result.stdout
    assert "without delegate" in result.stdout


def test_a_run_beside_itself_has_ratio_one(report: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "before.json"
    path.write_text(json.dumps(report))

    found = ratios(report["models"], read_baseline(path))

    assert [(ratio["invoke"], ratio["whole"], ratio["bytes"]) for ratio in found] == [(1, 1, 1)] * 2


@pytest.mark.parametrize("text", ["", "[]", '{"models": 3}', '{"models": [{"path": "a", "cases": [{}]}]}'])
def test_a_baseline_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "before.json"
    path.write_text(text)

    with pytest.raises(InputError, match="is not the output of `edgecnn bench --json`"):
        read_baseline(path)


@pytest.mark.parametrize("task", ["neu", "mnist"])
def test_no_picture_is_constant(artifacts: Path, task: str) -> None:
    contract = Artifact.open(artifacts / f"{task}.tflite").contract

    pictures = measured_pictures(contract, None, seed=0)

    assert len(pictures) == 16
    assert min(picture.std() for picture in pictures) > 1
    assert len({picture.tobytes() for picture in pictures}) == 16


def test_pictures_come_from_the_source_that_is_named(artifacts: Path, tmp_path: Path) -> None:
    import cv2

    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "one.png"), image)

    pictures = measured_pictures(Artifact.open(artifacts / "neu.tflite").contract, str(tmp_path), seed=0)

    assert [np.array_equal(picture, image) for picture in pictures] == [True]


def test_a_runtime_that_fails_is_told_and_does_not_end_the_run(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(request: Request) -> dict[str, Any]:
        raise InferenceError("it does not like this model")

    monkeypatch.setattr("edgecnn_device.bench.models.run_child", fail)

    result = bench_model(str(artifacts / "neu.tflite"), effort=Effort(runs=1))

    assert result.cases == ()
    assert set(result.failures) == {"it does not like this model"}


def test_a_model_of_which_every_case_fails_is_an_error_that_names_each_failure_once(
    artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(request: Request) -> dict[str, Any]:
        raise InferenceError("it does not like this model")

    monkeypatch.setattr("edgecnn_device.bench.models.run_child", fail)

    result = CliRunner().invoke(bench, [str(artifacts / "neu.tflite"), *QUICK])

    assert isinstance(result.exception, InferenceError)
    assert str(result.exception).endswith("neu.tflite failed; the first failure: it does not like this model")
    assert result.stdout.count("it does not like this model") == 1


@pytest.mark.parametrize("source", ["nowhere", "unreadable"])
def test_a_source_without_pictures_is_refused_before_the_first_case(artifacts: Path, tmp_path: Path, source: str) -> None:
    (tmp_path / "unreadable").mkdir()
    (tmp_path / "unreadable/a.png").write_bytes(b"\x89PNG\r\n\x1a\n")

    result = CliRunner().invoke(bench, [str(artifacts / "neu.tflite"), *QUICK, "--source", str(tmp_path / source)])

    assert isinstance(result.exception, InputError) and source in str(result.exception)
    assert "measuring" not in result.stderr


def test_a_second_model_is_checked_before_the_first_is_measured(artifacts: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(bench, [str(artifacts / "neu.tflite"), str(tmp_path / "none.tflite"), *QUICK])

    assert result.exit_code != 0
    assert "measuring" not in result.stderr


@pytest.mark.parametrize("tune", [[], ["--tune"]])
def test_a_runtime_of_another_format_is_refused_in_the_words_of_classify(artifacts: Path, tune: list[str]) -> None:
    result = CliRunner().invoke(bench, [str(artifacts / "neu.tflite"), "--runtime", "onnxruntime", *tune])

    assert isinstance(result.exception, InputError)
    assert str(result.exception) == "onnxruntime does not run .tflite files"


def test_a_runtime_that_is_not_installed_says_how_to_install_it(artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgecnn_device.bench.models.installed_backends", lambda file_format: [("ai-edge-litert", True)])

    with pytest.raises(
        MissingDependencyError, match=r"tflite-runtime is not usable here\. Install it with: pip install 'edgecnn"
    ):
        bench_model(str(artifacts / "neu.tflite"), effort=Effort(runs=1), runtime="tflite-runtime")


def test_the_columns_of_the_table_are_as_wide_as_their_widest_cell(report: dict[str, Any]) -> None:
    case = report["models"][0]["cases"][1] | {"runtime": "ai-edge-litert 2.3.0.dev20261130"}

    lines = _model_lines({"models": [report["models"][0] | {"cases": [report["models"][0]["cases"][0], case]}]})

    assert len({len(line) for line in lines[1:4]}) == 1


def test_only_litert_is_offered_without_its_delegate() -> None:
    assert [name for name, delegate in installed_backends("tflite") if not delegate] == ["ai-edge-litert"]


def test_percentiles_are_in_milliseconds() -> None:
    latency = Latency.of([0.001, 0.002, 0.003])

    assert (latency.count, latency.p50_ms) == (3, 2.0)


def test_slow_calls_end_when_the_time_is_up() -> None:
    calls: list[int] = []

    repeat(calls.append, runs=10, seconds=0.0, warmup=2)

    assert calls == [-1, -2, 0]


def throttled(flags: str) -> board.Board:
    return board.Board(50.0, 1500.0, board.throttling(lambda: f"throttled={flags}"))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("0x0", "0x0", ""),
        ("0x0", "0x40000", "the board was slowed down during the run: throttled"),
        ("0x40000", "0x40000", ""),
        ("0x0", "0x4", "the board is slowed down: throttled (began during the run)"),
    ],
)
def test_a_throttled_run_says_so(before: str, after: str, said: str) -> None:
    assert board.slowed_down(throttled(before), throttled(after)) == said


def test_the_clock_is_read_in_megahertz(tmp_path: Path) -> None:
    folder = tmp_path / "sys/devices/system/cpu/cpu0/cpufreq"
    folder.mkdir(parents=True)
    (folder / "scaling_cur_freq").write_text("1800000\n")

    assert board.look(tmp_path, ask=lambda: "").clock_mhz == 1800.0


def test_the_camera_loop_has_a_rate(report: dict[str, Any]) -> None:
    case = report["models"][0]["cases"][0]

    assert 0 < case["loop_fps"] < 10_000


def test_a_plot_is_drawn(report: dict[str, Any], tmp_path: Path) -> None:
    from edgecnn_export.plots.latency import draw_latencies

    draw_latencies(report["models"], tmp_path / "latency.png")

    assert (tmp_path / "latency.png").read_bytes()[:4] == b"\x89PNG"
