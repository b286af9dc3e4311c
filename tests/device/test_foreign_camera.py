"""A camera runs another tool's `.tflite` by what is stated of it and by what the file says itself."""

from __future__ import annotations

import contextlib
import io
import json
import time
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hostile_models import endless

from edgecnn.artifacts import Artifact, artifact
from edgecnn.artifacts.artifact import split
from edgecnn.cli.camera import camera
from edgecnn.errors import ContractError, InferenceError, InputError, SignatureError
from edgecnn.files import read_bytes
from edgecnn.foreign import ForeignModel
from edgecnn.testing import JumpingClock
from edgecnn_device.model import ModelOptions, ModelSlot, open_model

LABELS = ("a", "b", "c", "d", "e", "f")


@pytest.fixture
def foreign(artifacts: Path, tmp_path: Path) -> Path:
    """A model of six classes without a contract: int8, whose input says 0..255."""
    path = tmp_path / "theirs.tflite"
    path.write_bytes(split(artifacts / "neu.tflite")[0])
    return path


def add_label_file(path: Path) -> None:
    """Append a label file, as TFLite Metadata does."""
    tail = io.BytesIO()
    with zipfile.ZipFile(tail, "w") as archive:
        archive.writestr("labels.txt", "\n".join(LABELS))
    path.write_bytes(path.read_bytes() + tail.getvalue())


def run(*arguments: str) -> Result:
    ended = ("--source", "synthetic", "--no-realtime", "--frames", "5", "--no-terminal")
    return CliRunner().invoke(camera, [*arguments, *ended], catch_exceptions=False)


def wait_for_exchange(slot: ModelSlot) -> None:
    """Let the loop go on until a new file runs or is refused."""
    until_s = time.monotonic() + 30
    while not slot.refresh() and not slot.warning:
        assert time.monotonic() < until_s
        time.sleep(0.01)


def test_a_stated_list_of_labels_is_enough_where_the_file_says_its_range(foreign: Path, tmp_path: Path) -> None:
    result = run(str(foreign), "--labels", ",".join(LABELS), "--jsonl", str(tmp_path / "out.jsonl"))

    assert result.exit_code == 0
    assert "theirs.tflite: it takes pixels as 0..255, since its input holds 0 to" in result.stderr
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines[0]["regions"][0]["smoothed"]["label"] in LABELS


def test_a_label_file_inside_is_used(foreign: Path, tmp_path: Path) -> None:
    add_label_file(foreign)

    result = run(str(foreign))

    assert result.exit_code == 0
    assert "its 6 labels are those of its label file" in result.stderr


@pytest.mark.parametrize("kind", ["ours", "theirs"])
def test_a_camera_reads_its_model_file_once(artifacts: Path, foreign: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    path = artifacts / "neu.tflite" if kind == "ours" else foreign
    read = list[Path]()
    monkeypatch.setattr(artifact, "read_bytes", lambda path, **limits: read.append(path) or read_bytes(path, **limits))

    run(str(path), *([] if kind == "ours" else ["--labels", ",".join(LABELS)]))

    assert read == [path]


def test_options_may_stand_in_a_file(foreign: Path, tmp_path: Path) -> None:
    (tmp_path / "camera.toml").write_text(f'labels = "{",".join(LABELS)}"\npixel-range = "0..1"\ncolor = "gray"\n')

    result = run(str(foreign), "--config", str(tmp_path / "camera.toml"))

    assert result.exit_code == 0
    assert "it takes pixels as" not in result.stderr  # it was stated


def test_a_file_without_contract_and_labels_says_how_to_run_it(foreign: Path) -> None:
    with pytest.raises(ContractError, match=r"another tool's model; run such a file with: .*--labels a,b,c"):
        run(str(foreign))


def test_our_own_files_take_no_such_options(artifacts: Path) -> None:
    with pytest.raises(InputError, match="carries its own labels and preprocessing; omit --labels, --pixel-range"):
        run(str(artifacts / "neu.tflite"), "--labels", "a,b", "--pixel-range", "0..1")


def test_a_demanded_signature_is_no_other_tools(foreign: Path) -> None:
    trusted = object()

    with pytest.raises(SignatureError, match="cannot be signed"):
        open_model(ModelOptions(str(foreign), foreign=ForeignModel(LABELS), trusted=trusted))  # type: ignore[arg-type]


def test_an_exchanged_file_is_opened_by_the_same_options(foreign: Path) -> None:
    clock, said = JumpingClock(), list[str]()
    slot = ModelSlot(ModelOptions(str(foreign), foreign=ForeignModel(LABELS)), notice=said.append, clock=clock)
    before = slot.current
    add_label_file(foreign)
    clock.now_s += 5
    wait_for_exchange(slot)

    assert slot.current is not before
    assert slot.current.classifier.labels == LABELS
    assert not slot.current.verified
    assert sum("it takes pixels as 0..255" in line for line in said) == 2


def test_the_camera_goes_on_while_an_exchanged_file_that_never_ends_is_tried(artifacts: Path, foreign: Path) -> None:
    clock, said = JumpingClock(), list[str]()
    options = ModelOptions(str(foreign), foreign=ForeignModel(LABELS), timeout_s=2.0)
    with contextlib.closing(ModelSlot(options, notice=said.append, clock=clock)) as slot:
        before = slot.current
        foreign.write_bytes(endless(Artifact.open(artifacts / "neu.tflite")).model)
        clock.now_s += 5
        longest_s, until_s = 0.0, time.monotonic() + 30
        while not slot.warning and time.monotonic() < until_s:
            began_s = time.monotonic()
            assert not slot.refresh()
            longest_s = max(longest_s, time.monotonic() - began_s)
            time.sleep(0.01)

        assert longest_s < 1
        assert "within 2 s" in slot.warning
        assert slot.current is before


def test_an_exchanged_file_that_has_other_classes_is_refused(foreign: Path, artifacts: Path) -> None:
    clock, said = JumpingClock(), list[str]()
    slot = ModelSlot(ModelOptions(str(foreign), foreign=ForeignModel(LABELS)), notice=said.append, clock=clock)
    before = slot.current
    foreign.write_bytes(split(artifacts / "mnist.tflite")[0])
    clock.now_s += 5
    wait_for_exchange(slot)

    assert slot.current is before
    assert "the new model was refused" in slot.warning


def test_a_model_that_never_ends_is_refused_within_the_time_limit(artifacts: Path, foreign: Path) -> None:
    foreign.write_bytes(endless(Artifact.open(artifacts / "neu.tflite")).model)
    options = ModelOptions(str(foreign), foreign=ForeignModel(LABELS), timeout_s=1.0)

    with pytest.raises(InferenceError, match="within 1 s"):
        open_model(options)
