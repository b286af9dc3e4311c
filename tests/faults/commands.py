"""Running `edgecnn` as a process of its own, with less of something than it needs."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import edgecnn.shipped

SHIPPED = Path(edgecnn.shipped.__file__).parent
NO_DATA = Path(__file__).parent  # a folder without data, whatever this machine keeps


@dataclass(frozen=True)
class Done:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """Its last line on stderr, without `edgecnn: `."""
        lines = self.err.strip().splitlines()
        return lines[-1].removeprefix("edgecnn: ") if lines else ""

    @property
    def is_one_line(self) -> bool:
        """Whether it ended as a user's mistake ought to: exit code 2, one line, no traceback."""
        lines = [line for line in self.err.strip().splitlines() if line.startswith("edgecnn: ")]
        return self.code == 2 and len(lines) == 1 and "Traceback" not in self.err and self.err.strip().endswith(lines[0])


def run_edgecnn(
    *arguments: str | Path, timeout_s: float = 120, limits: dict[int, int] | None = None, cwd: Path | None = None
) -> Done:
    """Run a command; `limits` maps what `resource` calls RLIMIT_* to a number. A command that hangs fails the test."""
    command = [sys.executable, "-m", "edgecnn", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "EDGECNN_DATA": str(NO_DATA)}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
        env=environment,
        cwd=cwd,
        preexec_fn=_limiting(limits) if limits else None,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def _limiting(limits: dict[int, int]) -> Callable[[], None]:
    def apply() -> None:
        for kind, most in limits.items():
            resource.setrlimit(kind, (most, most))

    return apply


def fill(disk: Path, leave: int) -> Path:
    """Fill a disk but for about `leave` bytes; return the ballast."""
    ballast = disk / "ballast"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    with ballast.open("wb") as file:
        file.write(b"\0" * max(0, free - leave))
    return ballast
