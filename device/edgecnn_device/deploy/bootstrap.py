"""Setting a bare board up over ssh: a virtual environment, edgecnn in it, a model, a configuration, and the unit that runs it.

Each step looks first whether it was done, so that the whole can be given again; nothing that a user has written is changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shlex
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edgecnn import __version__
from edgecnn.errors import InputError
from edgecnn.files import read_bytes
from edgecnn.progress import report
from edgecnn.text import counted
from edgecnn_device.deploy.client import DeployOptions, Say, deploy
from edgecnn_device.deploy.plan import Outcome
from edgecnn_device.deploy.ssh import HOME, BoardError, explain, session

_ROOT = str(Path(HOME).parent)  # below the home folder of the board's user
_MODEL = f"{_ROOT}/camera/model"
_OLDEST = (3, 11)
_MOST_WHEEL = 2**31
_LOOK = """
import importlib.util as u, json, os, platform, sys
home = os.path.expanduser("~")
at = lambda *names: os.path.join(home, *names)
read = lambda path: open(path).read() if os.path.exists(path) else ""
print(json.dumps({
    "python": sys.version_info[:3], "machine": platform.machine(), "home": home,
    "venv": all(u.find_spec(name) for name in ("venv", "ensurepip")),
    "picamera2": u.find_spec("picamera2") is not None,
    "made": os.path.exists(at("%(venv)s/bin/python")), "installed": read(at("%(venv)s/installed")),
    "config": os.path.exists(os.path.join(os.environ.get("XDG_CONFIG_HOME") or at(".config"), "edgecnn/camera.toml")),
}))
"""


@dataclass(frozen=True)
class Setup:
    """What a bare board gets: a `wheel` of edgecnn, or a folder of `wheels` with all that it needs, else from its index.

    `extras` are those of edgecnn, `source` is the camera's.
    """

    wheel: Path | None = None
    wheels: Path | None = None
    extras: str = ""
    source: str = "0"


@dataclass(frozen=True)
class _Found:
    """What a look at the board says."""

    python: tuple[int, int]
    home: str
    has_venv: bool
    has_picamera2: bool
    is_made: bool
    installed: str
    has_config: bool


class Bootstrap:
    """The steps; `remaining` are those that the board's user has to do."""

    def __init__(self, board: str, setup: Setup, options: DeployOptions, say: Say) -> None:
        """Look at nothing yet."""
        self.remaining: list[str] = []
        self._board, self._setup, self._options = board, setup, options
        self._say: Callable[[str], None] = lambda line: say(f"{board}: {line}")
        self._program = f"$HOME/{HOME}/bin/edgecnn"

    def run(self, file: Path | None) -> Outcome | None:
        """Do what is not done; with a file, also put it live, and return what came of that."""
        self._check_setup()
        found = self._look()
        self._make_environment(found)
        self._install(found)
        suffix = ".tflite" if file is None else file.suffix
        outcome = None if file is None or found.has_config else self._put_first_model(file, found, suffix)
        if outcome is None or outcome.live:
            self._configure(found, suffix, is_given=outcome is not None)
            self._install_unit()
        return outcome if file is None or outcome is not None else deploy(file, self._board, self._options, self._again)

    def _again(self, line: str) -> None:
        self._say(line.removeprefix(f"{self._board}: "))

    def _check_setup(self) -> None:
        for path, is_right in ((self._setup.wheel, Path.is_file), (self._setup.wheels, Path.is_dir)):
            if path is not None and not is_right(path):
                raise InputError(f"{path} is not there: --wheel names the file of `make dist`, --wheels a folder of wheels")
        if self._setup.wheels is not None and self._setup.wheel is None and not list(self._setup.wheels.glob("edgecnn-*.whl")):
            raise InputError(f"{self._setup.wheels} holds no edgecnn-*.whl; give it with --wheel, or put it there")

    def _look(self) -> _Found:
        text = self._shell(f"exec python3 -c {shlex.quote(_LOOK % {'venv': HOME})}")
        try:
            body = json.loads(text)
        except ValueError:
            raise BoardError(
                f"{self._board} answers {text[:80]!r} instead of telling what it has: its shell prints at login"
            ) from None
        version = (body["python"][0], body["python"][1])
        if version < _OLDEST:
            raise BoardError(f"{self._board} has Python {version[0]}.{version[1]}; edgecnn needs 3.11 or newer")
        self._say(f"Python {version[0]}.{version[1]} on {body['machine']}")
        return _Found(
            version, body["home"], body["venv"], body["picamera2"], body["made"], body["installed"].strip(), body["config"]
        )

    def _make_environment(self, found: _Found) -> None:
        if found.is_made:
            self._say(f"the virtual environment ~/{HOME} is there")
            return
        if not found.has_venv:
            raise BoardError(f"{self._board} has no python3-venv. Install it there with: sudo apt install python3-venv")
        # picamera2 comes by apt alone, and is seen by an environment that sees the system's packages.
        flag = "--system-site-packages " if found.has_picamera2 else ""
        self._shell(f'mkdir -p "$HOME/{_ROOT}" && exec python3 -m venv {flag}"$HOME/{HOME}"', stage="making the environment")
        self._say(f"made the virtual environment ~/{HOME}")

    def _install(self, found: _Found) -> None:
        """Install edgecnn unless this very one is installed."""
        wheels = self._wheels()
        extras = f"[{self._setup.extras}]" if self._setup.extras else ""
        wanted = f"{__version__}{extras} {_fingerprint(wheels)}".strip()
        if found.installed == wanted:
            self._say(f"edgecnn {__version__} is installed")
            return
        place = f"$HOME/{_ROOT}/wheels"
        self._send(wheels, place)
        ours = next((path.name for path in wheels if path.name.startswith("edgecnn-")), None)
        what = f'"{place}/{ours}{extras}"' if ours else shlex.quote(f"edgecnn{extras}=={__version__}")
        index = f'--no-index --find-links "{place}" ' if self._setup.wheels is not None else ""
        pip = f'"$HOME/{HOME}/bin/python" -m pip install --quiet --disable-pip-version-check {index}{what}'
        record = f'printf %s {shlex.quote(wanted)} > "$HOME/{HOME}/installed"'
        # Twice: another wheel of the same version counts as installed.
        script = f'{pip} && {pip} --force-reinstall --no-deps && {record} && rm -rf "{place}"'
        try:
            self._shell(script, stage="installing edgecnn")
        except BoardError as error:
            if ours is None and "no matching distribution found for edgecnn" in str(error).lower():
                raise BoardError(
                    f"the index of {self._board} has no edgecnn {__version__}: give the file of `make dist` by --wheel"
                ) from None
            raise
        self._say(f"installed edgecnn {__version__}{extras}, {'without' if index else 'with'} an index")

    def _wheels(self) -> list[Path]:
        folder = [] if self._setup.wheels is None else sorted(self._setup.wheels.glob("*.whl"))
        ours = [] if self._setup.wheel is None else [self._setup.wheel]
        return ours + [path for path in folder if not (ours and path.name.startswith("edgecnn-"))]

    def _send(self, wheels: list[Path], place: str) -> None:
        if wheels:
            data = _archive(wheels)
            self._say(f"sending {counted(len(wheels), 'wheel')}, {len(data) / 1e6:.0f} MB")
            self._shell(f'rm -rf "{place}" && mkdir -p "{place}" && exec tar -xf - -C "{place}"', data, stage="sending wheels")

    def _put_first_model(self, file: Path, found: _Found, suffix: str) -> Outcome:
        self._shell(f'exec mkdir -p "$HOME/{Path(_MODEL).parent}"')
        plan = replace(self._options.plan, live=f"{_MODEL}{suffix}", config=None, watch_s=0.0, shadow=0, find_s=0.0)
        return deploy(file, self._board, replace(self._options, plan=plan), self._again)

    def _configure(self, found: _Found, suffix: str, *, is_given: bool) -> None:
        """Write camera.toml, unless there is one."""
        if found.has_config:
            self._say("camera.toml is there, and kept as it is")
            return
        if not is_given:
            self.remaining.append(f"edgecnn deploy --bootstrap FILE {self._board}, with a model, for a camera that runs")
            return
        path = f"{found.home}/{_MODEL}{suffix}"
        camera = f'"{self._program}" camera {shlex.quote(path)} --source {shlex.quote(self._setup.source)} --no-terminal'
        self._shell(
            'c="${XDG_CONFIG_HOME:-$HOME/.config}/edgecnn"; umask 077; mkdir -p "$c" && '
            f'{camera} --print-config > "$c/camera.toml.part" && mv "$c/camera.toml.part" "$c/camera.toml"'
        )
        self._say(f"wrote camera.toml with the source {self._setup.source}")

    def _install_unit(self) -> None:
        if self.remaining:
            return
        said = self._shell(f'exec "{self._program}" service install --user').splitlines()[:1]
        self._say(f"unit {said[0].partition(';')[0] if said else 'installed'}")
        start = "systemctl --user daemon-reload && systemctl --user enable --now edgecnn-camera.service"
        for command, what in ((start, "the camera runs"), ("loginctl enable-linger", "it runs while nobody is logged in")):
            try:
                # A session without PAM has no XDG_RUNTIME_DIR, by which systemctl finds the user's manager.
                self._shell(f'export XDG_RUNTIME_DIR="${{XDG_RUNTIME_DIR:-/run/user/$(id -u)}}"; {command}')
                self._say(what)
            except BoardError as error:
                self._say(str(error).removeprefix(f"{self._board}: "))
                self.remaining.append(f"{command}    # on {self._board}")

    def _shell(self, script: str, data: bytes = b"", *, stage: str = "") -> str:
        """Run a script on the board and return what it prints; BoardError with its last line when it fails."""
        if stage:
            report(f"{self._board}: {stage}", 0, None)
        with contextlib.ExitStack() as stack:
            opened = stack.enter_context(session(self._board, script, self._options.ssh))
            with contextlib.suppress(OSError):
                for start in range(0, len(data), 2**18):
                    opened.stdin.write(data[start : start + 2**18])
                opened.stdin.close()
            out = opened.stdout.read()
            text = b"" if out is None else out
            code, said = opened.end()
        if stage:
            report(f"{self._board}: {stage}", 1, 1)
        if code == 127:
            raise BoardError(f"{self._board}: {said.splitlines()[-1] if said else 'a command is missing there'}")
        if code:
            raise explain(self._board, code, said, begun=False)
        return text.decode("utf-8", "replace").strip()


def bootstrap(
    board: str, setup: Setup, file: Path | None = None, options: DeployOptions | None = None, say: Say = lambda line: None
) -> tuple[Outcome | None, list[str]]:
    """Set a board up; return what came of deploying `file`, if one is given, and the commands that are left to the user.

    Raises InputError for wheels that are not there, BoardError for a board that cannot be reached or where a step fails.
    """
    steps = Bootstrap(board, setup, options or DeployOptions(), say)
    return steps.run(file), steps.remaining


def _archive(paths: list[Path]) -> bytes:
    """Return files as a tar archive, without the names of folders and users here."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for path in paths:
            data = read_bytes(path, at_most=_MOST_WHEEL)
            info = tarfile.TarInfo(path.name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return held.getvalue()


def _fingerprint(wheels: list[Path]) -> str:
    """Return 16 digits that tell one set of wheels from another; empty for none."""
    parts = [path.name.encode() + hashlib.sha256(read_bytes(path, at_most=_MOST_WHEEL)).digest() for path in wheels]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16] if parts else ""
