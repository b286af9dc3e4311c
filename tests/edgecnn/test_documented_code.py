"""The Python code of README and docs is typed correctly, as mypy and pyright see it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CODE = {
    f"{page.relative_to(ROOT)}:{number}": block
    for page in PAGES
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE), 1)
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each block as a module of its own, named after its page."""
    folder = tmp_path_factory.mktemp("documented")
    for name, block in CODE.items():
        (folder / (re.sub("[^a-z0-9]+", "_", name.lower()) + ".py")).write_text(block)
    return folder


def test_the_readme_shows_the_verbs() -> None:
    shown = "\n".join(block for name, block in CODE.items() if name.startswith("README"))

    assert re.findall(r"ec\.(load_folder|train|export|open|watch)\(", shown) == [
        "load_folder",
        "train",
        "export",
        "open",
        "watch",
    ]


def test_documented_code_is_typed_for_mypy(written: Path) -> None:
    ran = check("mypy", *map(str, written.glob("*.py")))

    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_documented_code_is_typed_for_pyright(written: Path) -> None:
    places = json.dumps([str(ROOT), str(ROOT / "export"), str(ROOT / "device")])
    (written / "pyrightconfig.json").write_text(f'{{"extraPaths": {places}}}')

    ran = check("pyright", "--project", str(written), "--pythonpath", sys.executable)

    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_the_checkers_know_our_types(checker: str, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text('import edgecnn as ec\n\nec.open("neu")(3)\n')

    ran = check(checker, str(tmp_path / "wrong.py"))

    assert ran.returncode == 1
    assert '"__call__"' in ran.stdout


def check(checker: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a type checker in the checkout, whose settings mypy takes."""
    command = [sys.executable, "-m", checker, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=300)
