"""What a board loads, looked at in interpreters of their own."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import edgecnn_device

HEAVY = ("tensorflow", "keras", "onnx", "tf2onnx", "matplotlib", "jinja2", "scipy", "ml_dtypes")


def loaded(code: str, *arguments: str) -> set[str]:
    """Run `code` and return the top-level modules that were then loaded."""
    report = "\nimport sys; print('|' + ' '.join({name.partition('.')[0] for name in sys.modules}))"
    result = subprocess.run(
        [sys.executable, "-c", code + report, *arguments], check=True, capture_output=True, text=True, timeout=60
    )
    return set(result.stdout.rpartition("|")[2].split())


def test_no_module_of_the_device_loads_an_ml_framework() -> None:
    names = [module.name for module in pkgutil.walk_packages(edgecnn_device.__path__, "edgecnn_device.")]

    modules = loaded("import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)", *names)

    assert modules & set(HEAVY) == set()


def test_a_camera_that_runs_loads_only_what_its_options_need(artifacts: Path, tmp_path: Path) -> None:
    code = "import sys; from edgecnn.cli.camera import camera; camera(sys.argv[1:], standalone_mode=False)"

    modules = loaded(code, str(artifacts / "neu.tflite"), "--no-realtime", "--frames", "3", "--jsonl", str(tmp_path / "o"))

    assert modules & {*HEAVY, "tomllib", "picamera2", "http", "ssl", "asyncio", "starlette", "uvicorn"} == set()


def test_a_camera_imports_nothing_for_what_was_not_asked_for(artifacts: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "picture.png"), np.random.default_rng(0).integers(0, 256, (200, 200), np.uint8))
    code = (
        "import sys; from edgecnn.cli.camera import camera; camera(sys.argv[1:], standalone_mode=False)\n"
        "unasked = {'numpy.random', 'numpy.fft', 'numpy.polynomial', 'socket', 'subprocess', 'logging', 'tempfile',\n"
        "           'edgecnn_device.sinks.samples',\n"
        "           'edgecnn_device.sinks.mqtt_broker', 'edgecnn_device.web.options', 'edgecnn_device.sources.v4l2_device',\n"
        "           'edgecnn_device.sources.prefetch', 'edgecnn_device.deploy', 'edgecnn_device.fleet',\n"
        "           'edgecnn_device.actions', 'edgecnn.tasks', 'edgecnn.where', 'edgecnn.metrics', 'edgecnn.mnist_form'}\n"
        "print(sorted(unasked & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", code, str(artifacts / "neu.tflite"), "--source", str(tmp_path / "picture.png")]

    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)

    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("module", ["edgecnn.cli.camera", "edgecnn.cli.doctor"])
def test_help_needs_neither_opencv_nor_numpy(module: str) -> None:
    assert loaded(f"import {module}") & {"cv2", "numpy"} == set()
