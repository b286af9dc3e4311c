"""What native code says at every start is kept back, and nothing else."""

from __future__ import annotations

import os

import pytest

from edgecnn.artifacts import Artifact
from edgecnn.quiet import without_chatter
from edgecnn.runtimes import open_runtime


def test_the_usual_line_is_dropped_and_others_are_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with without_chatter():
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nERROR: something else\n")

    assert capfd.readouterr().err == "ERROR: something else\n"


def test_what_was_said_before_a_failure_is_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken"), without_chatter():
        os.write(2, b"why it broke\n")
        raise ValueError("broken")

    assert capfd.readouterr().err == "why it broke\n"


def test_opening_an_artifact_says_nothing(tiny_tflite_artifact: Artifact, capfd: pytest.CaptureFixture[str]) -> None:
    open_runtime(tiny_tflite_artifact, runtime="ai-edge-litert")

    assert capfd.readouterr().err == ""
