"""How a process that classifies begins."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_START = """
import os
from pathlib import Path
from edgecnn.cli.start import starting
with starting():
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
    assert said(_START) == "1 None"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="OpenBLAS starts no more threads than there are processors")
def test_who_asks_for_more_threads_gets_them() -> None:
    assert said(_START, "2") == "2 2"


def test_cyclic_garbage_is_looked_for_once_all_is_loaded() -> None:
    look = "import gc; from edgecnn.cli.start import starting\nwith starting(): during = gc.isenabled()\n"

    assert said(f"{look}print(during, gc.isenabled())") == "False True"


def test_nothing_is_done_where_numpy_is_loaded_already() -> None:
    look = "import gc, numpy; from edgecnn.cli.start import starting\nwith starting(): during = gc.isenabled()\n"

    assert said(f"{look}print(during, gc.get_freeze_count())") == "True 0"


@pytest.mark.parametrize("command", ["classify", "camera"])
def test_nothing_loads_numpy_before_the_start(command: str) -> None:
    assert said(f"import sys, edgecnn.cli.main, edgecnn.cli.{command}; print('numpy' in sys.modules)") == "False"
