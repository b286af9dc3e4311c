"""Which Pythons find a wheel of everything on ARM, as their resolvers see the registry: nothing is downloaded for it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from arm_figures import Page
from arm_userland import BUILD, CHECKOUT

pytestmark = pytest.mark.timeout(900)
# Python -> the C library of the system that comes with it: Raspberry Pi OS Bookworm has 2.36, Trixie 2.41.
SYSTEMS = {"3.11": "manylinux_2_36", "3.12": "manylinux_2_36", "3.13": "manylinux_2_40"}
SHOWN = ("numpy", "opencv-python-headless", "ai-edge-litert", "tensorflow")
EXTRAS = ("", "web,mqtt,sign", "export")
# Of what a board needs, 32-bit ARM (armv7l, of which Bookworm's Python 3.11 is the newest with a runtime) has only this.
ON_32_BIT = {"numpy": False, "opencv-python-headless": False, "ai-edge-litert": False, "tflite-runtime": True}


@pytest.fixture(scope="session")
def uv() -> Path:
    """uv in an environment of its own: pip evaluates a requirement's markers for the machine that it runs on."""
    folder = BUILD / "uv"
    program = folder / "bin" / "uv"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv>=0.8"]
        subprocess.run(pip, check=True)
    return program


def resolve(uv: Path, python: str, extras: str) -> dict[str, str]:
    """Return the versions that ARM64 of this Python would install, from wheels alone; fails when there are none."""
    platform = ("--python-version", python, "--python-platform", f"aarch64-{SYSTEMS[python]}")
    options = (*platform, "--only-binary", ":all:", "--no-header", "--no-annotate")
    chosen = [option for extra in extras.split(",") if extra for option in ("--extra", extra)]
    command = [str(uv), "pip", "compile", "--quiet", *options, *chosen, str(CHECKOUT / "pyproject.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(line.split("==", 1) for line in done.stdout.splitlines() if "==" in line)


@pytest.mark.parametrize("extras", EXTRAS)
@pytest.mark.parametrize("python", SYSTEMS)
def test_everything_has_wheels_for_64_bit(uv: Path, page: Page, python: str, extras: str) -> None:
    found = resolve(uv, python, extras)

    shown = ", ".join(f"{name} {found[name]}" for name in SHOWN if name in found)
    what = f"edgecnn[{extras}]" if extras else "edgecnn"
    page.add("wheels", ("Python", "installed", "packages", "among them"), python, f"`{what}`", len(found), shown)
    assert {"numpy", "opencv-python-headless", "ai-edge-litert", "click"} <= set(found)


def test_the_older_runtime_ends_with_python_3_11(uv: Path) -> None:
    on_3_11, on_3_12 = resolve(uv, "3.11", "tflite-runtime"), resolve(uv, "3.12", "tflite-runtime")

    assert on_3_11["tflite-runtime"] == "2.14.0"
    assert on_3_11["numpy"].startswith("1.")
    assert "tflite-runtime" not in on_3_12


@pytest.mark.parametrize("package", ON_32_BIT)
def test_32_bit_has_the_wheels_that_the_readme_says(tmp_path: Path, page: Page, package: str) -> None:
    platforms = [option for glibc in range(17, 37) for option in ("--platform", f"manylinux_2_{glibc}_armv7l")]
    target = ["--only-binary=:all:", "--no-deps", "--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--dry-run", "--target", str(tmp_path)]

    done = subprocess.run(
        [*pip, "--ignore-installed", *target, "--abi", "abi3", "--abi", "none", *platforms, package],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    found = re.search(rf"Would install {package}-(\S+)", done.stdout)
    missing = "No matching distribution found" in done.stderr
    page.add("32-bit", ("package", "wheel for armv7l"), package, found[1] if found else "none")
    assert bool(found) != missing, done.stderr
    assert bool(found) == ON_32_BIT[package]
