"""Each command takes another tool's model, or says in one line what does; what it advises works word for word."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgecnn.classifier import NO_THRESHOLDS
from edgecnn.cli.main import main
from edgecnn.quiet import quiet

import keras  # isort: skip
import tensorflow as tf  # isort: skip

LABELS = ("dark", "middle", "bright")
NAMES = ",".join(LABELS)
LEVELS = np.array([40, 128, 215])


def shades(count: int = 90, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    class_ids = np.arange(count) % 3
    images = random.normal(LEVELS[class_ids, None, None, None], 12, (count, 12, 12, 3))
    return np.clip(images, 0, 255).astype(np.uint8), class_ids


def from_minus_one() -> keras.Model:
    """A network that names the nearest shade of pixels from -1 to 1."""
    image = keras.Input((12, 12, 3))
    answer = keras.layers.Dense(3, activation="softmax")
    model = keras.Model(image, answer(keras.layers.GlobalAveragePooling2D()(image)), name="shades")
    centres = np.repeat((LEVELS / 127.5 - 1)[None], 3, axis=0)
    answer.set_weights([8 * centres, -4 * (centres**2).sum(axis=0)])
    return model


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model as .keras, SavedModel, .tflite of floats and of integers, and .onnx, and with its pictures."""
    folder = tmp_path_factory.mktemp("theirs")
    model, (images, class_ids) = from_minus_one(), shades()
    model.save(folder / "shades.keras")
    for integers in (False, True):
        with quiet():
            converter = tf.lite.TFLiteConverter.from_keras_model(model)
            if integers:
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
                ends = np.concatenate([images, images * 0, images * 0 + 255]).astype(np.float32) / 127.5 - 1
                converter.representative_dataset = lambda ends=ends: ([each[None]] for each in ends)
                converter.inference_input_type = converter.inference_output_type = tf.int8
            (folder / f"{'int8' if integers else 'float'}.tflite").write_bytes(converter.convert())
        if not integers:
            with quiet():
                model.export(folder / "saved", verbose=False)
    (folder / "shades.onnx").write_bytes(b"\x08\x0a\x12\x05torch\x3a\x00")
    (folder / "empty").mkdir()
    for label in LABELS:
        (folder / "pictures" / label).mkdir(parents=True)
    for i, (image, class_id) in enumerate(zip(images, class_ids, strict=True)):
        cv2.imwrite(str(folder / "pictures" / LABELS[class_id] / f"{i}.png"), image)
    return folder


@pytest.fixture(autouse=True)
def in_folder(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(theirs)


def run(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(line.split())
    told = capsys.readouterr()
    return int(end.value.code or 0), told.out, told.err


def complaint(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line with which a command ends that is given what it cannot take."""
    code, out, err = run(line, capsys)
    last = err.splitlines()[-1]
    assert (code, out) == (2, "")
    assert last.startswith("edgecnn: ")
    return last


def parity(line: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    code, out, _ = run(f"parity {line} --data pictures --json", capsys)
    assert code == 0
    return {candidate["name"]: candidate for candidate in json.loads(out)["candidates"]}


def test_other_tools_tflites_are_compared_with_the_keras_model_they_were_made_of(capsys: pytest.CaptureFixture[str]) -> None:
    found = parity(f"shades.keras float.tflite int8.tflite --labels {NAMES} --pixel-range -1..1", capsys)

    assert found["float.tflite"]["verdict"] == "pass"
    assert found["int8.tflite"]["verdict"] in ("pass", "undecided")
    assert found["int8.tflite"]["flips"] == []


@pytest.mark.parametrize("pair", ["int8.tflite float.tflite", "int8.tflite int8.tflite"])
def test_other_tools_tflites_are_compared_with_each_other(pair: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = parity(f"{pair} --labels {NAMES}", capsys)

    assert next(iter(found.values()))["flips"] == []


def test_what_a_candidate_says_of_its_pixels_counts_more_than_what_is_stated_of_the_reference(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, _, err = run(f"parity shades.keras int8.tflite --labels {NAMES} --pixel-range 0..1 --data pictures", capsys)

    assert "int8.tflite: it takes pixels as -1..1, since its input holds" in err


def test_a_model_of_ours_is_compared_with_another_tools_by_its_own_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    export = f"export shades.keras --labels {NAMES} --pixel-range -1..1 --data pictures --format tflite --out {out}"
    assert run(export, capsys)[0] == 0

    found = parity(f"{out}/shades-float32.tflite int8.tflite", capsys)

    assert found["int8.tflite"]["flips"] == []


@pytest.mark.parametrize("model", ["shades.keras", "saved", "float.tflite"])
@pytest.mark.parametrize("command", ["evaluate", "robustness --severity 3 --pictures 9"])
def test_commands_that_measure_take_another_tools_model(command: str, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(f"{command} {model} --labels {NAMES} --pixel-range -1..1 --data pictures", capsys)

    assert code == 0
    assert re.search(r"accuracy 1\.0000|clean +100\.0", out)


def test_evaluate_says_that_a_model_has_no_thresholds(capsys: pytest.CaptureFixture[str]) -> None:
    measured = f"evaluate float.tflite --labels {NAMES} --pixel-range -1..1 --data pictures --json"

    _, out, err = run(measured, capsys)

    assert NO_THRESHOLDS in err
    assert json.loads(out)["warning"] == NO_THRESHOLDS


PICTURE = "pictures/dark/0.png"


@pytest.mark.parametrize(
    "line",
    [
        "evaluate float.tflite",
        "rejection float.tflite",
        "robustness float.tflite",
        "parity float.tflite int8.tflite",
        f"classify float.tflite {PICTURE}",
        "camera float.tflite --source synthetic",
    ],
)
def test_what_is_missing_is_asked_for_step_by_step_by_options_that_the_command_has(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--labels a,b,c" in complaint(line, capsys)

    line += f" --labels {NAMES}"
    assert "--pixel-range" in complaint(line, capsys)

    line += " --pixel-range -1..1"
    if line.startswith(("classify", "camera")):
        assert run(f"{line} --frames 2" if line.startswith("camera") else line, capsys)[0] == 0
    else:
        assert "--data" in complaint(line, capsys)


@pytest.mark.parametrize(
    "line", ["evaluate shades.keras", "rejection saved", "robustness shades.keras", "parity saved int8.tflite"]
)
def test_a_keras_models_classes_are_asked_for_too(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--labels" in complaint(line, capsys)
    assert "--data" in complaint(f"{line} --labels {NAMES}", capsys)


@pytest.mark.parametrize(
    "line", ["inspect {}", "verify {}", f"classify {{}} {PICTURE}", "camera {} --source synthetic", "bench {}"]
)
@pytest.mark.parametrize("model", ["shades.keras", "saved"])
def test_what_no_board_can_run_is_to_be_exported(line: str, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = complaint(line.format(model), capsys)

    assert said.endswith(f"edgecnn export {model} --int8")
    assert "name them in order with --labels" in complaint(f"export {model} --int8", capsys)


def test_a_folder_of_exported_files_names_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(f"export shades.keras --labels {NAMES} --unproven --out {tmp_path}/out", capsys)

    assert "name one of those in it: shades-float32.onnx, shades-float32.tflite" in complaint(f"inspect {tmp_path}/out", capsys)
    assert "it holds none" in complaint("inspect empty", capsys)


@pytest.mark.parametrize(
    "line",
    [
        "evaluate {}",
        "evaluate {} --labels a,b",
        "rejection {}",
        "robustness {}",
        "parity shades.keras {} --data pictures",
        "parity {} float.tflite",
        "inspect {}",
        "verify {}",
        f"classify {{}} {PICTURE} --labels a,b",
        "camera {} --source synthetic --labels a,b",
    ],
)
def test_another_tools_onnx_is_to_be_made_anew_from_its_keras_model(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = line.format("shades.onnx")
    said = complaint(f"{line} --labels {NAMES}" if line.startswith("parity") else line, capsys)

    assert "carries no edgecnn contract" in said
    assert said.endswith("edgecnn export MODEL.keras --labels a,b,c")


@pytest.mark.parametrize(
    "line", ["export int8.tflite", "export shades.onnx", f"filters {PICTURE} --model int8.tflite --out f.png"]
)
def test_what_starts_from_a_keras_model_says_so_of_an_exported_file(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is an exported file; this starts from the Keras model" in complaint(line, capsys)


@pytest.mark.parametrize("line", ["evaluate neu", "robustness neu", "parity neu neu", "rejection neu"])
def test_what_is_stated_of_no_model_at_all_is_refused(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert re.search(r"(omit --labels|leave ours)", complaint(f"{line} --labels a,b,c", capsys))
