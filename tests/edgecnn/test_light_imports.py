"""What a board imports stays light: each entrance is opened in a fresh interpreter, which then says what it loaded."""

from __future__ import annotations

import pkgutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

import edgecnn
import edgecnn_device

HEAVY = ("tensorflow", "keras", "jax", "torch", "onnx", "tf2onnx", "matplotlib", "jinja2", "scipy", "pandas", "edgecnn_export")


def _run(code: str) -> list[str]:
    """Return the heavy packages that are loaded after `code` ran in a fresh interpreter."""
    report = f"\nimport sys as s; print('HEAVY', *(name for name in {HEAVY!r} if name in s.modules))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


def _modules(package: object, but: tuple[str, ...] = ()) -> list[str]:
    name, paths = package.__name__, package.__path__  # type: ignore[attr-defined]
    found = [module.name for module in pkgutil.walk_packages(paths, f"{name}.")]
    return [module for module in found if not module.endswith("__main__") and module not in but]


def test_importing_edgecnn_loads_nothing_heavy() -> None:
    assert _run("import edgecnn") == []


def test_importing_edgecnn_loads_not_even_numpy() -> None:
    assert _run("import edgecnn, sys; assert not {'numpy', 'cv2', 'click'} & sys.modules.keys()") == []


def test_every_public_name_is_there_and_light() -> None:
    assert _run("import edgecnn\nfor name in edgecnn.__all__: getattr(edgecnn, name)") == []


def test_classifying_imports_nothing_for_what_was_not_asked_for(tmp_path: Path) -> None:
    picture = str(tmp_path / "picture.png")
    cv2.imwrite(picture, np.full((200, 200), 128, np.uint8))
    code = f"from edgecnn.cli.classify import classify\nclassify(['neu', {picture!r}], standalone_mode=False)"
    unasked = {"numpy.random", "socket", "subprocess", "logging", "tempfile", "random", "edgecnn.tasks", "edgecnn.where"}

    assert _run(f"{code}\nimport sys; assert not {unasked!r} & sys.modules.keys(), {unasked!r} & sys.modules.keys()") == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'edgecnn' has no attribute 'trian'"):
        _ = edgecnn.trian


def test_the_help_loads_nothing_heavy() -> None:
    code = "from edgecnn.cli.main import main\ntry: main(['--help'])\nexcept SystemExit as end: assert not end.code"

    assert _run(code) == []


@pytest.mark.parametrize("package", [edgecnn_device], ids=["device"])
def test_all_of_the_board_loads_nothing_heavy(package: object) -> None:
    code = "import importlib\n" + "\n".join(f"importlib.import_module({name!r})" for name in _modules(package))

    assert _run(code) == []


def test_all_of_the_core_loads_nothing_heavy() -> None:
    # One module a runtime, imported only when chosen: that of TensorFlow's own interpreter is TensorFlow.
    runtimes = tuple(f"edgecnn.runtimes.{name}" for name in ("tensorflow", "tflite_runtime", "litert", "onnx"))
    code = "import importlib\n" + "\n".join(f"importlib.import_module({name!r})" for name in _modules(edgecnn, runtimes))

    assert _run(code) == []


def _seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, timeout=120)
    return time.perf_counter() - start


def test_the_help_takes_at_most_half_again_as_long_as_importing_what_it_stands_on() -> None:
    bare, command = ["-c", "import click, numpy, cv2"], ["-m", "edgecnn", "--help"]
    _seconds(bare), _seconds(command)  # the first run of each reads the disk

    ratios = [_seconds(command) / _seconds(bare) for _ in range(7)]

    assert statistics.median(ratios) <= 1.5


def test_the_package_says_that_it_is_typed() -> None:
    assert all((Path(package.__path__[0]) / "py.typed").is_file() for package in (edgecnn, edgecnn_device))
