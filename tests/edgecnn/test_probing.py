"""Another tool's model is tried in a child process first: whatever it does there, here it is one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecnn.artifacts import Artifact
from edgecnn.classifying import Classifier
from edgecnn.errors import InferenceError, InputError
from edgecnn.runtimes import probing
from edgecnn.runtimes.probing import probe_tflite

LABELS = ("a", "b", "c")


@pytest.fixture
def foreign(tiny_tflite_artifact: Artifact, tmp_path: Path) -> Path:
    """A `.tflite` without a contract."""
    path = tmp_path / "foreign.tflite"
    path.write_bytes(tiny_tflite_artifact.model)
    return path


def pretend(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Let the child process be a shell script."""
    child = folder / "child"
    child.write_text(f"#!/bin/sh\ncat >/dev/null\n{script}\n")
    child.chmod(0o755)
    monkeypatch.setattr(probing.sys, "executable", str(child))


def test_a_model_of_another_tool_runs_with_labels(foreign: Path) -> None:
    assert Classifier.open_foreign(foreign, LABELS).labels == LABELS


def test_what_is_no_model_is_one_line(foreign: Path) -> None:
    foreign.write_bytes(b"TFL3" * 100)

    with pytest.raises(InferenceError, match="is no usable TFLite model") as caught:
        Classifier.open_foreign(foreign, LABELS)
    assert "\n" not in str(caught.value)


def test_a_model_that_crashes_the_runtime_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, tmp_path, "kill -SEGV $$")

    with pytest.raises(InferenceError, match=r"bad\.tflite crashes the runtime \(signal 11\)"):
        probe_tflite(b"model", Path("bad.tflite"), None)


def test_a_model_that_never_answers_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, tmp_path, "exec sleep 30")
    monkeypatch.setattr(probing, "TIMEOUT_S", 0.5)

    with pytest.raises(InferenceError, match=r"did not load and run within 0\.5 s"):
        probe_tflite(b"model", Path("bad.tflite"), None)


def test_the_bytes_that_were_tried_are_the_bytes_that_run(
    foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen = foreign.read_bytes(), tmp_path / "seen"
    child = tmp_path / "child"
    child.write_text(f"#!/bin/sh\ncat >{seen}\n")
    child.chmod(0o755)
    monkeypatch.setattr(probing.sys, "executable", str(child))

    Classifier.open_foreign(foreign, LABELS)

    assert seen.read_bytes() == model


def test_a_file_with_a_contract_needs_no_labels(tiny_tflite_artifact: Artifact) -> None:
    with pytest.raises(InputError, match="carries its own labels"):
        Classifier.open_foreign(tiny_tflite_artifact.path, LABELS)
