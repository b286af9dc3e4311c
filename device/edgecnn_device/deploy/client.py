"""The workstation's half of a deployment: it sends a file to a board and listens to what comes of it there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from edgecnn.artifacts import Artifact
from edgecnn.artifacts.artifact import read_file
from edgecnn.errors import EdgecnnError
from edgecnn.progress import report
from edgecnn.records import read_record
from edgecnn_device.deploy.plan import PROTOCOL, History, Outcome, Plan, Request
from edgecnn_device.deploy.ssh import BoardError, LostError, Session, SshOptions, edgecnn_on_board, session

Say = Callable[[str], None]
Message = dict[str, Any]
_AGAIN_S, _CHUNK = 5.0, 2**18


@dataclass(frozen=True)
class DeployOptions:
    """How to deploy: what the board is to do, how it is reached, where edgecnn is on it, and when to give it up as hung.

    `silence_s` are the seconds for which a board may be silent, or lost, beyond those that its plan takes.
    """

    plan: Plan = field(default_factory=Plan)
    ssh: SshOptions = field(default_factory=SshOptions)
    program: str | None = None
    silence_s: float = 120.0


def deploy(file: Path, board: str, options: DeployOptions | None = None, say: Say = lambda line: None) -> Outcome:
    """Put an exported file live on a board, or leave or put back what ran there; `say` hears each step in one line.

    Raises InputError and ArtifactError for what is no exported file, and BoardError for a board that cannot be reached, was
    never set up, or refuses: nothing was changed then. LostError when its connection was lost and it did not come back in time.
    """
    options = options or DeployOptions()
    data = read_file(file)
    digest = hashlib.sha256(data).hexdigest()
    if reason := rejection(file, Artifact.read(data, file)):
        return Outcome(board, digest, live=False, rolled_back=False, reason=reason)
    name = file.name.removesuffix(".rejected")
    request = Request("deploy", options.plan, PROTOCOL, name, digest, len(data))
    return _conclude(board, request, data, options, say)


def rollback(board: str, options: DeployOptions | None = None, say: Say = lambda line: None) -> Outcome:
    """Put the version before back live on a board; raises what `deploy` raises."""
    options = options or DeployOptions()
    return _conclude(board, Request("rollback", options.plan, PROTOCOL), b"", options, say)


def history(board: str, options: DeployOptions | None = None) -> History:
    """Return what was deployed to a board; raises BoardError when it cannot be reached or was never set up."""
    options = options or DeployOptions()
    with _asked(board, Request("history", options.plan, PROTOCOL), options) as messages:
        for message in messages:
            if message.pop("kind") == "history":
                return replace(read_record(History, message, f"the history of {board}"), board=board)
    raise BoardError(f"{board} ended without its history")


def rejection(file: Path, artifact: Artifact) -> str:
    """Say why a file is not even sent to a board; empty when it is."""
    if file.name.endswith(".rejected") or artifact.contract.parity.verdict == "fail":
        return f"{file} failed its parity with the trained model and was rejected: export it again, with --repair"
    return ""


def _conclude(board: str, request: Request, data: bytes, options: DeployOptions, say: Say) -> Outcome:
    """Send a request and its file, and return the board's outcome, after a lost connection too."""
    before: int | None = None
    try:
        with _asked(board, request, options) as messages:
            for message in messages:
                match message.pop("kind"):
                    case "begin":
                        before = message["events"]
                    case "need":
                        messages.send_file(data)
                    case "say":
                        say(f"{board}: {message['text']}")
                    case "progress":
                        report(f"{board}: {message['stage']}", message["done"], message["total"])
                    case "outcome":
                        return replace(read_record(Outcome, message, f"the outcome of {board}"), board=board)
        raise BoardError(f"{board} ended without an outcome")
    except KeyboardInterrupt:
        say(f"{board}: left alone; after the switch it decides by itself: edgecnn deploy --history {board}")
        raise
    except LostError as error:
        if before is None:
            raise
        say(f"{board}: the connection is lost; waiting for the board, which decides by itself")
        return _await_outcome(board, before, options, error)


def _await_outcome(board: str, before: int, options: DeployOptions, lost: LostError) -> Outcome:
    """Ask again and again what came of a deployment; raises `lost` when the board does not come back in time."""
    plan = options.plan
    until_s = time.monotonic() + plan.watch_s + options.silence_s
    while time.monotonic() < until_s:
        try:
            found = history(board, options)
        except EdgecnnError:
            found = None
        news = [] if found is None else [event for event in found.events if event.number > before and event.what != "adopted"]
        if found is not None and found.pending is None and news:
            last = news[-1]
            return Outcome(
                board, last.version, last.version == found.live, last.what == "rolled back", last.reason, last.measured
            )
        time.sleep(_AGAIN_S)
    raise lost


class _Messages:
    """What a board says, until its outcome; EdgecnnError when it says that it cannot, or ends, or is silent for too long."""

    def __init__(self, board: Session, silence_s: float) -> None:
        """Listen in a thread of its own, since ssh may wait for ever."""
        self._board, self._silence_s = board, silence_s
        self._lines: Queue[bytes] = Queue()
        self._begun = False
        threading.Thread(target=self._listen, name="board", daemon=True).start()

    def __iter__(self) -> Iterator[Message]:
        while line := self._next():
            message = self._read(line)
            self._begun = True
            if message.get("kind") == "error":
                raise BoardError(f"{self._board.board}: {message.get('text')}")
            yield message
        raise self._board.fail(begun=self._begun)

    def send_file(self, data: bytes) -> None:
        """Send a file's bytes and report how far that is; a connection that is lost is noticed by whoever reads."""
        stage = f"{self._board.board}: sending"
        try:
            for start in range(0, len(data), _CHUNK):
                report(stage, start, len(data))
                self._board.stdin.write(data[start : start + _CHUNK])
        except OSError:
            return
        report(stage, len(data), len(data))

    def _next(self) -> bytes:
        try:
            return self._lines.get(timeout=self._silence_s)
        except Empty:
            name = self._board.board
            raise LostError(
                f"{name} has said nothing for {self._silence_s:g} s and is left alone; edgecnn deploy --history {name} "
                "tells what came of it"
            ) from None

    def _read(self, line: bytes) -> Message:
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict) or "kind" not in message:
            text = line.decode("utf-8", "replace").strip()[:80]
            raise BoardError(
                f"{self._board.board} answers {text!r}: its shell prints at login, or another edgecnn is installed there"
            )
        return message

    def _listen(self) -> None:
        file = open(self._board.stdout.fileno(), "rb", closefd=False)  # noqa: SIM115  # of a pipe, which ssh ends
        try:
            for line in file:
                self._lines.put(line)
        except (OSError, ValueError):
            pass
        self._lines.put(b"")


@contextlib.contextmanager
def _asked(board: str, request: Request, options: DeployOptions) -> Iterator[_Messages]:
    """Put a request to a board and give what it says."""
    plan = options.plan
    remote = edgecnn_on_board("deploy --on-board", options.program)
    with session(board, remote, options.ssh) as opened:
        with contextlib.suppress(OSError):  # what is wrong is said by how it ends
            opened.stdin.write(json.dumps(asdict(request)).encode() + b"\n")
        yield _Messages(opened, options.silence_s + plan.verify_s + plan.confirm_s)
