"""What a process that classifies settles before it loads anything."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from edgecnn.cli.start import settle_process


@pytest.fixture(autouse=True)
def _collector() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_blas_gets_one_thread() -> None:
    environment: dict[str, str] = {}
    settle_process(environment)

    assert environment == {"OPENBLAS_NUM_THREADS": "1"}


def test_who_asks_for_more_threads_keeps_them() -> None:
    environment = {"OPENBLAS_NUM_THREADS": "4"}
    settle_process(environment)

    assert environment == {"OPENBLAS_NUM_THREADS": "4"}


@pytest.mark.parametrize("command", ["classify", "camera"])
def test_nothing_loads_numpy_before_it_is_settled(command: str) -> None:
    look = f"import sys, edgecnn.cli.main, edgecnn.cli.{command}; print('numpy' in sys.modules)"
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, env=environment)

    assert done.stdout.strip() == "False"
