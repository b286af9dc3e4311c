"""Prove wheel and sdist in a fresh environment: `make dist`. Plain Python, since nothing of ours is installed yet.

python tests/packaging/prove.py dist
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOMS = {"edgecnn", "edgecnn_export", "edgecnn_device"}


def main(folder: Path) -> None:
    """Look into both files, install the wheel without extras, and run it as a board would."""
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    version = look_into(wheel, sdist)
    with tempfile.TemporaryDirectory() as place:
        say("installing the wheel without extras into a fresh environment")
        venv.create(place, with_pip=True)
        tools = Path(place, "bin")
        run(tools / "pip", "install", "--quiet", "--disable-pip-version-check", wheel.resolve())
        use(tools, Path(place), version)
        extras(tools, wheel.resolve())
    say(f"{wheel.name} and {sdist.name}: proven")


def look_into(wheel: Path, sdist: Path) -> str:
    """Check what the files hold; return the version."""
    held = zipfile.ZipFile(wheel).namelist()
    rooms = {name.partition("/")[0] for name in held}
    version = wheel.name.split("-")[1]
    expect(rooms == ROOMS | {f"edgecnn-{version}.dist-info"}, f"{wheel.name} holds {sorted(rooms)}")
    expect(
        not [name for name in held if re.search(r"(^|/)(tests?|tools|benchmarks|docs)/", name)],
        f"{wheel.name} holds tests or tools",
    )
    for needed in ("edgecnn/shipped/neu-int8.tflite", "edgecnn/py.typed", "edgecnn_device/py.typed", "edgecnn_export/py.typed"):
        expect(needed in held, f"{wheel.name} lacks {needed}")
    with tarfile.open(sdist) as archive:
        kept = {name.partition("/")[2] for name in archive.getnames()}
    for needed in (
        "pyproject.toml",
        "Makefile",
        "README.md",
        "LICENSE",
        "NOTICE",
        "mkdocs.yml",
        "docs/index.md",
        "tests/packaging/prove.py",
    ):
        expect(needed in kept, f"{sdist.name} lacks {needed}")
    return version


def use(tools: Path, place: Path, version: str) -> None:
    """Run what a board runs first."""
    edgecnn = tools / "edgecnn"
    expect(run(edgecnn, "--version").strip().endswith(version), "the command tells another version than the wheel's name")
    expect("same answers" in run(edgecnn, "verify", "neu", "mnist"), "the shipped models give other answers here")
    run(edgecnn, "data", "generate", "neu", place / "pictures", "--count", "1", "--seed", "7")
    expect(
        "inclusion" in run(edgecnn, "classify", "neu", place / "pictures/inclusion/inclusion_1.png"),
        "a drawn inclusion is not read",
    )
    expect("ExecStart=" in run(edgecnn, "service", "print"), "no systemd unit")
    run(edgecnn, "camera", "neu", "--frames", "3")
    run(
        tools / "python",
        "-c",
        "import edgecnn as ec; assert 'neu' in repr(ec.open('neu')); assert not ec.__version__.endswith('dev')",
    )


def extras(tools: Path, wheel: Path) -> None:
    """Show that the hint which the command gives installs an extra, though no index has edgecnn."""
    ran = subprocess.run([tools / "edgecnn", "camera", "neu", "--web", "8080"], capture_output=True, text=True, check=False)
    hint = re.search(r"pip install '(edgecnn\[[a-z]+\])'", ran.stderr)
    expect(ran.returncode == 2 and hint is not None, f"no hint at a missing extra: {ran.stderr}")
    assert hint is not None
    say(f"following the hint: pip install '{hint[1]}'")
    run(tools / "pip", "install", "--quiet", "--disable-pip-version-check", hint[1])
    run(tools / "python", "-c", "import starlette, uvicorn")
    run(tools / "pip", "install", "--quiet", "--disable-pip-version-check", f"{wheel}[sign]")
    run(tools / "python", "-c", "import cryptography")


def run(*command: object) -> str:
    """Run a command and return what it prints; end where it fails."""
    ran = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, cwd="/")
    expect(ran.returncode == 0, f"{' '.join(map(str, command))} exits with {ran.returncode}: {ran.stderr.strip()[-500:]}")
    return ran.stdout


def expect(holds: bool, complaint: str) -> None:
    """End with one line unless this holds."""
    if not holds:
        sys.exit(f"dist: {complaint}")


def say(line: str) -> None:
    """Tell how far we are."""
    print(f"dist: {line}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
