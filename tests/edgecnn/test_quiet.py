from __future__ import annotations

import os
import sys
import warnings

import pytest

from edgecnn.artifacts import Artifact
from edgecnn.errors import ConversionError
from edgecnn.quiet import quiet, quiet_start
from edgecnn.runtimes import open_runtime


def test_prints_of_native_code_and_warnings_are_kept_back(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet():
        os.write(1, b"native out")
        os.write(2, b"native err")
        warnings.warn("never mind", stacklevel=1)

    assert capfd.readouterr() == ("", "")


def test_what_was_printed_is_shown_when_something_unforeseen_fails(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), quiet():
        os.write(2, b"the reason")
        raise RuntimeError

    assert "the reason" in capfd.readouterr().err


def test_an_error_that_says_it_all_is_not_drowned(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConversionError), quiet():
        os.write(2, b"forty lines of a compiler")
        raise ConversionError("one line")

    assert capfd.readouterr().err == ""


def test_prints_work_again_afterwards(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet(), quiet():
        os.write(1, b"inside")
    print("outside")
    print("errors too", file=sys.stderr)

    assert capfd.readouterr() == ("outside\n", "errors too\n")


def test_the_usual_line_is_dropped_and_others_are_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_start():
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nERROR: something else\n")

    assert capfd.readouterr().err == "ERROR: something else\n"


def test_what_was_said_before_a_failure_is_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken"), quiet_start():
        os.write(2, b"why it broke\n")
        raise ValueError("broken")

    assert capfd.readouterr().err == "why it broke\n"


def test_opening_an_artifact_says_nothing(tiny_tflite_artifact: Artifact, capfd: pytest.CaptureFixture[str]) -> None:
    open_runtime(tiny_tflite_artifact, runtime="ai-edge-litert")

    assert capfd.readouterr().err == ""
