"""What the ARM tests share: the userland's two environments, the pictures in it, and the page. `make test-arm` runs them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from arm_counts import TASKS
from arm_figures import Page, page_path
from arm_pictures import lay_out
from arm_userland import Userland, open_userland


@pytest.fixture(scope="session")
def page() -> Iterator[Page]:
    """The tables of docs/reference/arm.md that this run measures."""
    found = Page()
    yield found
    path = page_path()
    if path is not None:
        found.write(path)


@pytest.fixture(scope="session")
def board() -> Userland:
    """The userland with ai-edge-litert."""
    return open_userland("litert")


@pytest.fixture(scope="session")
def old_board() -> Userland:
    """The userland with tflite-runtime and NumPy 1."""
    return open_userland("tflite")


@pytest.fixture(scope="session")
def pictures(board: Userland) -> dict[str, str]:
    """What the pictures in the userland are, by task."""
    return {task: lay_out(task, board.exchange / task) for task in TASKS}
