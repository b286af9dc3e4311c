"""What a process that classifies settles before it loads anything."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_SETTLE = """
import os
from pathlib import Path
from edgecnn.cli.start import settle_process
settle_process()
import numpy
print(len(list(Path("/proc/self/task").iterdir())), os.environ.get("OPENBLAS_NUM_THREADS"))
"""


def said(program: str, threads: str | None = None) -> str:
    """Return what a Python program prints, where so many BLAS threads are asked for."""
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    environment |= {} if threads is None else {"OPENBLAS_NUM_THREADS": threads}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.strip()


def test_blas_gets_one_thread_and_other_programs_hear_nothing_of_it() -> None:
    assert said(_SETTLE) == "1 None"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="OpenBLAS starts no more threads than there are processors")
def test_who_asks_for_more_threads_gets_them() -> None:
    assert said(_SETTLE, "2") == "2 2"


@pytest.mark.parametrize("command", ["classify", "camera"])
def test_nothing_loads_numpy_before_it_is_settled(command: str) -> None:
    assert said(f"import sys, edgecnn.cli.main, edgecnn.cli.{command}; print('numpy' in sys.modules)") == "False"
