"""What all tests share: where real data is, and a header that says which data the suite runs on."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine takes a second over what needs a millisecond; that is no finding.
settings.register_profile("edgecnn", deadline=None)
settings.load_profile("edgecnn")


def pytest_collection_finish() -> None:
    """Let the collector of cycles pass over what importing made: TensorFlow's converter calls it, .3 s each time."""
    gc.collect()
    gc.freeze()


def _data_folder(task_name: str) -> Path | None:
    root = os.environ.get("EDGECNN_DATA")
    return Path(root) / task_name if root and (Path(root) / task_name).is_dir() else None


@pytest.fixture(scope="session", autouse=True)
def _state_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What cameras keep between two starts is not left in the home of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("STATE_DIRECTORY", raising=False)
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


def pytest_report_header() -> list[str]:
    found = {name: _data_folder(name) for name in ("mnist", "neu", "digit_photos")}
    return [f"edgecnn data: {name}: {folder or 'no real data, synthetic pictures only'}" for name, folder in found.items()]


@pytest.fixture(scope="session")
def neu_folder() -> Path | None:
    """The real NEU pictures, None where there are none: then tests run on synthetic ones."""
    return _data_folder("neu")


@pytest.fixture(scope="session")
def mnist_folder() -> Path | None:
    """The real MNIST files, None where there are none: then tests run on synthetic digits."""
    return _data_folder("mnist")


@pytest.fixture(scope="session")
def photos_folder() -> Path | None:
    """The photographs of handwritten digits, None where there are none: then tests run on synthetic sheets."""
    return _data_folder("digit_photos")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what is searched in the tests out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGECNN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
