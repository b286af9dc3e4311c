"""The systemd units that come with edgecnn, and putting one in its place."""

from __future__ import annotations

import hashlib
import os
import pwd
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from edgecnn.errors import InputError, OutputError
from edgecnn.files import exists, read_bytes, write_bytes

NAME = "edgecnn-camera.service"
_MAX_BYTES = 2**16
_FIRST_LINE = "# Made by `edgecnn service`, SHA-256 of what follows {digest}. Make changes with: {edit} edgecnn-camera\n"
# What ProtectHome=yes of the unit hides from the service.
_HIDDEN = (Path("/home"), Path("/root"), Path("/run/user"))


@dataclass(frozen=True)
class Service:
    """Whose service it is, the system's or a user's own, what it runs, and the Python that this runs on in the end."""

    user: bool
    program: str
    interpreter: Path = Path("/usr/bin/python3")

    @classmethod
    def of_this(cls, *, user: bool) -> Service:
        """Return the service of the very edgecnn that runs."""
        return cls(user, find_program(), Path(sys.executable).resolve())

    @property
    def folder(self) -> Path:
        """Where systemd looks for units of this kind that an administrator, or the user, has made (systemd.unit(5))."""
        return _config_home() / "systemd/user" if self.user else Path("/etc/systemd/system")

    @property
    def config(self) -> Path:
        """The camera's configuration file."""
        return (_config_home() if self.user else Path("/etc")) / "edgecnn/camera.toml"

    @property
    def systemctl(self) -> str:
        """The command to control it."""
        return "systemctl --user" if self.user else "sudo systemctl"

    def unit(self) -> str:
        """Return the text of the unit. Its first line tells whether anybody has changed it."""
        template = resources.files(__package__) / ("user.service" if self.user else "system.service")
        text = template.read_text("utf-8").replace("@PROGRAM@", self.program)
        return _FIRST_LINE.format(digest=_digest(text), edit=f"{self.systemctl} edit") + text


def find_program(python: Path | None = None) -> str:
    """Return the command that starts this very edgecnn, as it stands in a unit (systemd.syntax(7))."""
    python = Path(sys.executable) if python is None else python
    program = python.parent / "edgecnn"
    words = [str(program)] if exists(program) else [str(python), "-m", "edgecnn"]
    return " ".join(_quoted(word) for word in words)


def install(service: Service, folder: Path | None = None) -> tuple[Path, bool]:
    """Write the unit into `folder`; return its path and whether it had to be written.

    Raises InputError when the service could not start what it runs, OutputError when there is a file of somebody else's, or
    one of ours that was changed, and when the folder cannot be written.
    """
    _check_reachable(service)
    path, text = (folder or service.folder) / NAME, service.unit()
    if exists(path):
        found = read_bytes(path, at_most=_MAX_BYTES).decode("utf-8", "replace")
        if found == text:
            return path, False
        if not _is_ours(found):
            raise OutputError(
                f"{path} was not written by edgecnn, or changed since, and is kept; compare it with `edgecnn service print`, "
                "and move it away to install that"
            )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, text.encode())
    except OSError as error:
        hint = "" if service.user else "; run it with sudo, or give --user"
        raise OutputError(f"cannot install {path}: {(error.strerror or str(error)).lower()}{hint}") from error
    return path, True


def next_steps(service: Service) -> Iterator[str]:
    """Yield the commands that are still to be given, in order; those that were given before are left out."""
    sudo = "" if service.user else "sudo "
    if not service.user and not _has_user("edgecnn"):
        home = "--home-dir /var/lib/edgecnn --shell /usr/sbin/nologin"
        yield f"sudo useradd --system {home} --groups video edgecnn"
    if not exists(service.config):
        owner = "" if service.user else "-o root -g edgecnn "
        folder_mode, mode = ("700", "600") if service.user else ("750", "640")
        yield f"{sudo}install -d -m {folder_mode} {owner}{service.config.parent}"
        yield (
            f"{service.program} camera neu --source 0 --jsonl predictions.jsonl --print-config | "
            f"{sudo}install -m {mode} {owner}/dev/stdin {service.config}"
        )
    yield f"{service.systemctl} daemon-reload"
    yield f"{service.systemctl} enable --now edgecnn-camera"
    yield f"journalctl {'--user ' if service.user else ''}-u edgecnn-camera -f"
    if service.user:
        yield "sudo loginctl enable-linger $USER    # to keep it running while nobody is logged in"


def _check_reachable(service: Service) -> None:
    for path in (Path(service.program.split(" ")[0].strip('"')), service.interpreter):
        if not service.user and any(path.is_relative_to(hidden) for hidden in _HIDDEN):
            raise InputError(
                f"{path} is in a home folder, which the service does not see; install edgecnn by the system's Python into "
                "/opt/edgecnn (sudo /usr/bin/python3 -m venv /opt/edgecnn), or give --user"
            )


def _config_home(environment: Mapping[str, str] = os.environ) -> Path:
    given = environment.get("XDG_CONFIG_HOME", "")
    return Path(given) if given.startswith("/") else Path.home() / ".config"


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if set(escaped) & set(" \t\"'") else escaped


def _is_ours(text: str) -> bool:
    """Tell whether a unit is one that was made here and that nobody has changed since."""
    first, _, rest = text.partition("\n")
    return first.startswith("# Made by `edgecnn service`") and _digest(rest) in first


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
