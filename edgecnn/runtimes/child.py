"""A child process for bytes that nobody vouches for: whatever they do to it, here it is an answer or an error in one line.

A runtime can crash on a model, or run it for ever, and the digests of a contract say nothing about that.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import resource
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edgecnn import errors
from edgecnn.errors import EdgecnnError, InferenceError
from edgecnn.memory import limit_bytes
from edgecnn.quiet import hidden_file

TIMEOUT_S = 10.0
_START_S = 60.0  # a fresh interpreter that imports a runtime from a slow card
_READY = b"."
_MOST_BYTES = 2**33  # a tensor of an absurd shape is to fail, and not to push everything else out of the machine's memory
_LOOK_EVERY_S = 0.002
_GRACE_S = 2.0  # after its time the child ends by itself, where nobody is left to end it
_LIKELY_VICTIM = b"1000"


@dataclass(frozen=True)
class Job:
    """A function to call in a child process, as `module:function`, with `data` and with JSON `options`.

    `name` stands for the data in messages.
    """

    name: str
    function: str
    data: bytes
    options: Mapping[str, Any] = field(default_factory=dict)


class Child:
    """One job in one child process, from its start to its answer."""

    def __init__(
        self,
        job: Job,
        *,
        timeout_s: float = TIMEOUT_S,
        fork: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the child, which has `timeout_s` seconds for its answer once it has imported what it needs.

        A `fork` shares all that is imported and so costs a few milliseconds; None forks where no other thread could hold a
        lock that the child then waits for, and starts a fresh interpreter elsewhere.
        """
        self._name, self._timeout_s, self._clock = job.name, timeout_s, clock
        self._deadline_s, self._is_ready = clock() + _START_S, False
        self._answer, self._silence = hidden_file(), hidden_file()
        start = _fork if (_can_fork() if fork is None else fork) else _spawn
        self._process = start(job, timeout_s, self._answer.fileno(), self._silence.fileno())

    def poll(self) -> Any:
        """Return the answer, which is never None, or None while the child works.

        Raises the EdgecnnError that was raised there, and InferenceError when it crashed or took too long.
        """
        code = self._process.poll()
        if code is None and not self._is_ready and os.fstat(self._answer.fileno()).st_size:
            self._deadline_s, self._is_ready = self._clock() + self._timeout_s, True
        if code is None and self._clock() < self._deadline_s:
            return None
        if code is None or -code == signal.SIGALRM:
            self.stop()
            raise InferenceError(
                f"{self._name} did not load and answer within {self._timeout_s:g} s in a process of its own: it never ends, or "
                "needs a longer timeout on this machine"
            )
        with self._answer, self._silence:
            self._answer.seek(0)
            return self._read(code, self._answer.read().removeprefix(_READY))

    def wait(self) -> Any:
        """Return the answer when it is there; raises what `poll` raises."""
        try:
            while (answer := self.poll()) is None:
                time.sleep(_LOOK_EVERY_S)
            return answer
        except BaseException:  # whoever interrupts the waiting has no use for the child
            self.stop()
            raise

    def stop(self) -> None:
        """End the child, if it still works."""
        self._process.kill()
        self._answer.close()
        self._silence.close()

    def _read(self, code: int, text: bytes) -> Any:
        if code < 0:
            why = "it may need too much memory" if -code == signal.SIGKILL else "a damaged file, or not a model"
            raise InferenceError(f"{self._name} crashes the runtime (signal {-code}): {why}")
        try:
            reply = json.loads(text)
        except ValueError:
            raise InferenceError(f"{self._name} ends the process that tries it (exit code {code}): not a model") from None
        if "error" not in reply:
            return reply["answer"]
        kind = getattr(errors, reply["error"], InferenceError)
        raise (kind if isinstance(kind, type) and issubclass(kind, EdgecnnError) else InferenceError)(reply["text"])


class _Process(Protocol):
    def poll(self) -> int | None: ...
    def kill(self) -> None: ...


class _Forked:
    """The part of `subprocess.Popen` that is needed, for a fork."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._code: int | None = None

    def poll(self) -> int | None:
        if self._code is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self._pid, signal.SIGKILL)
            self._code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


class _Spawned:
    """A fresh interpreter."""

    def __init__(self, job: Job, timeout_s: float, answer: int, silence: int) -> None:
        import subprocess  # most cameras never start one

        given = hidden_file()
        with given:
            options = {"name": job.name, "function": job.function, "options": job.options, "timeout_s": timeout_s}
            given.write(json.dumps(options).encode() + b"\n")
            given.write(job.data)
            given.seek(0)
            # -P: never import from the current folder.
            command = [sys.executable, "-P", "-m", "edgecnn.runtimes.child", str(answer)]
            self._popen = subprocess.Popen(command, stdin=given, stdout=silence, stderr=silence, pass_fds=(answer,))

    def poll(self) -> int | None:
        return self._popen.poll()

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait()


def _can_fork() -> bool:
    return threading.active_count() == 1 and "tensorflow" not in sys.modules


def _spawn(job: Job, timeout_s: float, answer: int, silence: int) -> _Process:
    return _Spawned(job, timeout_s, answer, silence)


def _fork(job: Job, timeout_s: float, answer: int, silence: int) -> _Process:
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():  # of threads of native code, which hold no lock of ours (Python 3.12)
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        return _Forked(pid)
    try:
        _be_silent(silence)
        _let_go(but=answer)
        _work(job, timeout_s, answer)
    finally:
        os._exit(0)  # nothing of the parent's is flushed, closed or tidied up twice
    raise AssertionError("unreachable")


def _be_silent(silence: int) -> None:
    """Say nothing, whoever had taken the parent's streams over."""
    for descriptor in (1, 2):
        os.dup2(silence, descriptor)
    sys.stdout = sys.stderr = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    faulthandler.disable()


def _let_go(*, but: int) -> None:
    """Close what the parent had open: a lock of its own would be held for as long as this process lives."""
    with contextlib.suppress(OSError):
        for descriptor in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
            if descriptor > 2 and descriptor != but:
                with contextlib.suppress(OSError):  # the one that looked
                    os.close(descriptor)


def _work(job: Job, timeout_s: float, answer: int) -> None:
    """Do the job under its limits and write what came of it."""
    _limit()
    module, _, name = job.function.partition(":")
    # The default action of the alarm needs no Python: it ends native code that runs for ever, where nobody else is left to.
    signal.setitimer(signal.ITIMER_REAL, _START_S + timeout_s)
    try:
        function = getattr(importlib.import_module(module), name)
        signal.setitimer(signal.ITIMER_REAL, timeout_s + _GRACE_S)
        os.write(answer, _READY)
        reply = {"answer": function(job.data, **job.options)}
    except MemoryError:
        reply = {"error": "InferenceError", "text": f"{job.name} needs more memory than a model may have"}
    except EdgecnnError as error:
        reply = {"error": type(error).__name__, "text": str(error)}
    except Exception as error:  # whatever it is, the bytes are to blame: this very code runs on all good ones
        text = " ".join(str(error).split())[:300] or "no reason"
        reply = {"error": "InferenceError", "text": f"{job.name} cannot be used ({type(error).__name__}: {text})"}
    with os.fdopen(answer, "wb", closefd=False) as file:
        file.write(json.dumps(reply).encode("utf-8", "replace"))


def _limit() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends us
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    most = min(_address_space() + min(_MOST_BYTES, 2 * limit_bytes()), sys.maxsize)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash here is an answer, not worth a file
    # Where memory runs out the child is to go, and not the camera that started it.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_bytes(_LIKELY_VICTIM)


def _address_space() -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()
    return 0


def _main() -> None:
    head, _, data = sys.stdin.buffer.read().partition(b"\n")
    given = json.loads(head)
    _work(Job(given["name"], given["function"], data, given["options"]), given["timeout_s"], int(sys.argv[1]))


if __name__ == "__main__":
    _main()
