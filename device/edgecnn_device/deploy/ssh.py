"""The way to a board: the system's OpenSSH with the user's own keys, agent, configuration and known hosts."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edgecnn.errors import InputError, MissingDependencyError, OutputError

HOME = ".local/share/edgecnn/venv"  # where --bootstrap installs, below the home folder
# The shell of ssh has no more than /usr/bin in its PATH; a board is installed by --bootstrap or by docs/how-to/board.md.
_FIND = (
    f'for p in "$HOME/{HOME}/bin/edgecnn" /opt/edgecnn/bin/edgecnn "$(command -v edgecnn)"; do '
    '[ -x "$p" ] && exec "$p" {words}; done; exit 127'
)
_ALIVE_S, _ALIVE_TIMES = 5, 3
_BOARD = re.compile(r"[^\s@-][^\s@]*(@[^\s@-][^\s@]*)?")


@dataclass(frozen=True)
class SshOptions:
    """What ssh is told: `-o` options, which win over ours, another configuration file, and seconds to connect in."""

    options: tuple[str, ...] = ()
    config: Path | None = None
    connect_s: float = 15.0


class BoardError(OutputError):
    """A board cannot be reached, or was never set up; nothing was changed on it."""


class LostError(BoardError):
    """The connection to a board is lost in the middle."""


def ssh_command(board: str, remote: str, options: SshOptions) -> list[str]:
    """Return the command that runs a line of shell on a board. InputError for what is no host, MissingDependencyError."""
    if not _BOARD.fullmatch(board):
        raise InputError(f"{board!r} is no board: give a host name as for ssh, such as pi@line-1.local")
    program = shutil.which("ssh")
    if program is None:
        raise MissingDependencyError("ssh is not installed. Install it with: apt install openssh-client")
    # The first value of an option counts for ssh, so the user's come first.
    own = [
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        f"ConnectTimeout={max(1, round(options.connect_s))}",
        f"ServerAliveInterval={_ALIVE_S}",
        f"ServerAliveCountMax={_ALIVE_TIMES}",
        "LogLevel=ERROR",
    ]
    words = [] if options.config is None else ["-F", str(options.config)]
    for option in (*options.options, *own):
        words += ["-o", option]
    return [program, "-T", *words, "--", board, f"exec sh -c {shlex.quote(remote)}"]


def edgecnn_on_board(words: str, program: str | None = None) -> str:
    """Return the line of shell that runs `edgecnn` with `words` on a board, wherever it is installed there."""
    return _FIND.format(words=words) if program is None else f"exec {shlex.quote(program)} {words}"


class Session:
    """A command that runs on a board: write to `stdin`, read from `stdout`; `fail` says why it ended."""

    def __init__(self, board: str, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        """Take a process that was started."""
        assert process.stdin is not None and process.stdout is not None
        self.board, self.stdin, self.stdout = board, process.stdin, process.stdout
        self._process, self._errors = process, errors

    def end(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and what was said on stderr."""
        code = self._process.wait()
        self._errors.seek(0)
        return code, self._errors.read().decode("utf-8", "replace").strip()

    def fail(self, *, begun: bool) -> BoardError:
        """Return what to raise for a session that ended without an answer; `begun` tells that the board had answered before."""
        code, said = self.end()
        return explain(self.board, code, said, begun=begun)


@contextlib.contextmanager
def session(board: str, remote: str, options: SshOptions) -> Iterator[Session]:
    """Run a line of shell on a board for the time of the block."""
    command = ssh_command(board, remote, options)
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, bufsize=0)
        try:
            yield Session(board, process, errors)
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]  # both are pipes


# What ssh says -> what is wrong, and the way out. `{board}` and `{host}` are filled in.
_REASONS = {
    "Host key verification failed": "{host} shows another host key than known_hosts has, or none is known: look at it with "
    "ssh {board}, and accept it there only if it is your board's",
    "REMOTE HOST IDENTIFICATION HAS CHANGED": "{host} shows another host key than before: somebody else answers, or the board "
    "was installed anew; look at it with ssh {board}",
    "Permission denied": "{board} refuses your keys, or there is no such user: try ssh {board}, and send a key there with "
    "ssh-copy-id {board}",
    "Could not resolve": "no host is called {host}: check the name, or give its address",
    "Connection refused": "nothing answers at ssh's port of {host}: is sshd running there?",
    "No route to host": "{host} cannot be reached: is it switched on, and in this network?",
    "timed out": "{host} does not answer: is it switched on, and in this network?",
}
_LOST = "the connection to {board} was lost; the board decides by itself: edgecnn deploy --history {board} tells how"
_NO_PROGRAM = "{board} has no edgecnn: set it up with edgecnn deploy --bootstrap {board}, or name the command with --program"


def explain(board: str, code: int, said: str, *, begun: bool) -> BoardError:
    """Return the error for what ssh or the board's shell ended with."""
    host = board.rpartition("@")[2]
    if code == 127:
        return BoardError(_NO_PROGRAM.format(board=board))
    if begun:
        return LostError(_LOST.format(board=board))
    for sign, reason in _REASONS.items():
        if sign.lower() in said.lower():
            return BoardError(reason.format(board=board, host=host))
    last = said.splitlines()[-1].strip() if said else f"exit code {code}"
    return BoardError(f"{board}: {last}")
