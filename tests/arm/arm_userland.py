"""An ARM64 Debian under user-mode emulation: made once in build/arm, the wheel of this checkout installed by its pip."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from email import message_from_bytes
from importlib.metadata import distributions
from pathlib import Path

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
BUILD = CHECKOUT / "build" / "arm"
# What is emulated, and where it is found.
PROCESSORS = {"cortex-a53": "Pi Zero 2 W, Pi 3", "cortex-a72": "Pi 4", "cortex-a76": "Pi 5"}
USUAL_PROCESSOR = "cortex-a72"
# Environment in the userland -> the extras of edgecnn that are installed in it.
ENVIRONMENTS = {"litert": "web", "tflite": "tflite-runtime"}
# An emulated program takes ten to hundred times as long, and again as long on a busy machine.
_LIMIT_S = 1800


@dataclass(frozen=True)
class Userland:
    """One virtual environment in the ARM system. `exchange` is a folder that both sides see, in there as /exchange."""

    root: Path
    environment: str

    @property
    def exchange(self) -> Path:
        """The folder for files that go in or come out."""
        return self.root / "exchange"

    @property
    def site_packages(self) -> Path:
        """Where pip has put the packages, seen from outside."""
        return self.root / "opt" / self.environment / "lib" / "python3.11" / "site-packages"

    def run(self, program: str, *arguments: str, processor: str = USUAL_PROCESSOR) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment; its exit code is the caller's affair."""
        enter = [str(HERE / "enter.sh"), str(self.root), processor]
        command = [*enter, f"/opt/{self.environment}/bin/{program}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)

    def must(self, program: str, *arguments: str, processor: str = USUAL_PROCESSOR) -> str:
        """Run a program that has to succeed; return what it printed."""
        done = self.run(program, *arguments, processor=processor)
        if done.returncode != 0:
            raise RuntimeError(f"{program} {' '.join(arguments)} on an emulated {processor}: {done.stdout}{done.stderr}")
        return done.stdout

    def versions(self) -> dict[str, str]:
        """Return what pip has installed."""
        return {found.name: found.version for found in distributions(path=[str(self.site_packages)])}


def open_userland(environment: str) -> Userland:
    """Return an environment with this checkout's wheel in it, making what is not there yet."""
    root = BUILD / "root"
    subprocess.run([str(HERE / "userland.sh"), str(root)], check=True)
    userland = Userland(root, environment)
    install(userland, build_wheel())
    shutil.copytree(HERE / "inside", userland.exchange / "inside", dirs_exist_ok=True)
    return userland


def build_wheel() -> Path:
    """Build the wheel of this checkout; the same sources give the same bytes."""
    folder = BUILD / "wheel"
    shutil.rmtree(folder, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--wheel-dir", str(folder), str(CHECKOUT)], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(userland: Userland, wheel: Path) -> None:
    """Have the userland's pip install a wheel with its dependencies, unless this very wheel is installed already."""
    mark = userland.root / "opt" / userland.environment / "installed-wheel"
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if mark.exists() and mark.read_text() == digest:
        return
    mark.unlink(missing_ok=True)
    shutil.copy(wheel, userland.exchange)
    pip = ("-m", "pip", "--quiet", "install", "--no-compile", "--only-binary=:all:")
    requirement = f"edgecnn[{ENVIRONMENTS[userland.environment]}] @ file:///exchange/{wheel.name}"
    others = needs(userland) != needs_of(wheel)
    if others:
        userland.must("python", *pip, requirement)
    # For pip a wheel of the same version is installed already, whatever is in it.
    userland.must("python", *pip, "--force-reinstall", "--no-deps", requirement)
    if others:
        userland.must("python", "-m", "pip", "check")
    mark.write_text(digest)


def needs(userland: Userland) -> list[str]:
    """Return what the installed edgecnn requires; nothing where none is installed."""
    (requirements,) = [found.requires or [] for found in distributions(path=[str(userland.site_packages)], name="edgecnn")] or [
        []
    ]
    return sorted(requirements)


def needs_of(wheel: Path) -> list[str]:
    """Return what a wheel requires."""
    with zipfile.ZipFile(wheel) as file:
        (name,) = [name for name in file.namelist() if name.endswith(".dist-info/METADATA")]
        return sorted(message_from_bytes(file.read(name)).get_all("Requires-Dist", []))


def run_here(script: Path, *arguments: str) -> None:
    """Run a script of `inside` on this machine, with the Python that runs the tests."""
    subprocess.run([sys.executable, str(script), *arguments], check=True, env=os.environ | {"PYTHONPATH": ""})
