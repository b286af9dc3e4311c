"""What the fault tests share: artifacts of all formats, a small disk, the ledger. `make test-faults` runs them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import SHIPPED, run_edgecnn
from ledger import Ledger

_LEDGER = pytest.StashKey[Ledger]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_LEDGER] = Ledger()


def pytest_sessionfinish(session: pytest.Session) -> None:
    page = os.environ.get("EDGECNN_RELIABILITY")
    if page and session.config.stash[_LEDGER].rows:
        session.config.stash[_LEDGER].write(Path(page))


@pytest.fixture(scope="session")
def ledger(request: pytest.FixtureRequest) -> Ledger:
    return request.config.stash[_LEDGER]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the shipped steel model in both formats and both precisions."""
    folder = tmp_path_factory.mktemp("exported")
    done = run_edgecnn("export", "neu", "--data", "synthetic", "--int8", "--out", folder, timeout_s=600)
    assert done.code in (0, 1), done  # 1: a file failed its parity on synthetic pictures, and is called `.rejected`
    return folder


@pytest.fixture(scope="session")
def artifacts(exported: Path) -> dict[str, Path]:
    """Every kind of artifact by name: float and int8, TFLite and ONNX, and the shipped one of the other task."""
    found = {path.name.removesuffix(".rejected"): path for path in sorted(exported.glob("neu-*"))}
    return found | {"mnist-int8.tflite": SHIPPED / "mnist-int8.tflite"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 2 MB that can be full or read-only; skipped where this user may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("mount") is None or _mount("-t", "tmpfs", "-o", "size=2m", "edgecnn-test", str(folder)) != 0:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(*arguments: str) -> int:
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of synthetic steel."""
    folder = tmp_path_factory.mktemp("pictures")
    code = "import sys; from edgecnn.cli.main import main; main(['data', 'generate', 'neu', sys.argv[1], '--count', '1'])"
    subprocess.run([sys.executable, "-c", code, str(folder / "neu")], check=True, capture_output=True, timeout=300)
    return next(iter(sorted(folder.rglob("*.png"))))
