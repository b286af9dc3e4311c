"""What nobody vouches for is tried in a child process first: whatever it does there, here it is one line."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_models import crashing, endless, endless_onnx

from edgecnn.artifacts import Artifact
from edgecnn.classifier import Classifier
from edgecnn.cli.main import main
from edgecnn.errors import InferenceError, InputError
from edgecnn.runtimes.child import Child, Job
from edgecnn.runtimes.probe import Trial, Verification, verify
from edgecnn.sign import sign_file

LABELS = ("a", "b", "c")
WAYS = pytest.mark.parametrize("fork", [True, False], ids=["fork", "spawn"])


def ask(code: str, *, fork: bool, evaluate: bool = False, timeout_s: float = 60.0) -> object:
    """Run Python in a child process."""
    return Child(Job("it", f"builtins:{'eval' if evaluate else 'exec'}", code.encode()), fork=fork, timeout_s=timeout_s).wait()


@WAYS
def test_a_child_answers(fork: bool) -> None:
    assert ask("[1 + 1, 'ü', float('inf')]", fork=fork, evaluate=True) == [2, "ü", float("inf")]


@WAYS
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os; os.kill(os.getpid(), 11)", r"it crashes the runtime \(signal 11\): a damaged file, or not a model"),
        ("import os; os.kill(os.getpid(), 9)", r"signal 9\): it may need too much memory"),
        ("import os; os._exit(3)", r"it ends the process that tries it \(exit code 3\)"),
        ("bytearray(2**45)", "it needs more memory than a model may have"),
        ("raise ZeroDivisionError('a\\nb')", r"it cannot be used \(ZeroDivisionError: a b\)"),
        ("import sys; sys.setrecursionlimit(10**9); f = lambda: f(); f()", "it (crashes|cannot be used)"),
    ],
)
def test_whatever_a_child_does_is_one_line(code: str, reason: str, fork: bool) -> None:
    with pytest.raises(InferenceError, match=reason) as caught:
        ask(code, fork=fork)

    assert "\n" not in str(caught.value)


@WAYS
def test_an_error_of_ours_stays_what_it_is(fork: bool) -> None:
    with pytest.raises(InputError, match=r"^so it is$"):
        ask("from edgecnn.errors import InputError; raise InputError('so it is')", fork=fork)


@WAYS
@pytest.mark.parametrize("code", ["while True: pass", "import signal; signal.pthread_sigmask(0, {14}); signal.pause()"])
def test_a_child_that_never_ends_is_ended(code: str, fork: bool) -> None:
    started_s = time.monotonic()

    with pytest.raises(InferenceError, match=r"it did not load and answer within 0\.5 s"):
        ask(code, fork=fork, timeout_s=0.5)

    assert time.monotonic() - started_s < 5


@WAYS
def test_a_child_whose_parent_is_gone_ends_by_itself(fork: bool) -> None:
    """The parent's clock stands still: it never ends the child."""
    child = Child(Job("it", "builtins:exec", b"while True: pass"), fork=fork, timeout_s=0.2, clock=lambda: 0.0)

    with pytest.raises(InferenceError, match="did not load and answer"):
        child.wait()


@WAYS
def test_what_a_child_prints_goes_nowhere(fork: bool, capfd: pytest.CaptureFixture[str]) -> None:
    code = "import os; os.write(1, b'out'); os.write(2, b'err'); print('more', flush=True); raise ValueError"
    with pytest.raises(InferenceError):
        ask(code, fork=fork)

    assert capfd.readouterr() == ("", "")


@WAYS
def test_a_child_holds_no_lock_of_its_parents(tmp_path: Path, fork: bool) -> None:
    with (tmp_path / "locked").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        fcntl.flock(file, fcntl.LOCK_EX)
        child = Child(Job("it", "builtins:exec", b"while True: pass"), fork=fork)
        time.sleep(0.5)
    with (tmp_path / "locked").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    child.stop()


def test_a_child_is_asked_without_waiting() -> None:
    child = Child(Job("it", "builtins:eval", b"__import__('time').sleep(0.3) or 7"), fork=True)

    assert child.poll() is None
    assert child.wait() == 7


def test_a_child_that_is_given_up_is_gone() -> None:
    child = Child(Job("it", "builtins:exec", b"while True: pass"), fork=True)
    pid = child._process._pid  # type: ignore[attr-defined]

    child.stop()

    assert not Path(f"/proc/{pid}").exists()


@pytest.fixture
def another_thread() -> Iterator[None]:
    ending = threading.Event()
    thread = threading.Thread(target=ending.wait)
    thread.start()
    yield
    ending.set()
    thread.join()


def test_a_process_with_threads_does_not_fork(another_thread: None) -> None:
    assert Child(Job("it", "builtins:eval", b"'pytest' in __import__('sys').modules")).wait() is False


def test_a_good_artifact_is_verified_on_its_runtime(tiny_artifact: Artifact) -> None:
    found = verify(tiny_artifact)

    assert found.report.passed
    assert found.runtime.startswith("onnxruntime" if tiny_artifact.format == "onnx" else "ai-edge-litert")


def hostile(artifact: Artifact, path: Path, make: str) -> Artifact:
    made = {"endless": endless_onnx if artifact.format == "onnx" else endless, "crashing": crashing}[make](artifact)
    made.save(path)
    return Artifact.open(path)


def test_a_model_that_never_ends_is_not_verified(tiny_artifact: Artifact, tmp_path: Path) -> None:
    artifact = hostile(tiny_artifact, tmp_path / f"x.{tiny_artifact.format}", "endless")

    with pytest.raises(InferenceError, match=r"x\.\w+ did not load and answer within 1 s"):
        verify(artifact, timeout_s=1)


def test_a_model_that_crashes_its_runtime_is_not_verified(tiny_tflite_artifact: Artifact, tmp_path: Path) -> None:
    artifact = hostile(tiny_tflite_artifact, tmp_path / "x.tflite", "crashing")

    with pytest.raises(InferenceError, match=r"x\.tflite"):
        verify(artifact)


def test_a_check_that_is_asked_about_does_not_wait(tiny_tflite_artifact: Artifact, tmp_path: Path) -> None:
    checking = Verification(hostile(tiny_tflite_artifact, tmp_path / "x.tflite", "endless"))
    started_s = time.monotonic()

    assert [checking.poll() for _ in range(5)] == [None] * 5
    assert time.monotonic() - started_s < 1
    checking.stop()


@pytest.mark.parametrize("make", ["endless", "crashing"])
@pytest.mark.parametrize("command", ["verify", "sign"])
def test_the_commands_refuse_it_in_one_line(
    tiny_tflite_artifact: Artifact, tmp_path: Path, command: str, make: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = hostile(tiny_tflite_artifact, tmp_path / "x.tflite", make).path
    before = path.read_bytes()
    more = ["--key", str(tmp_path / "key.pem")] if command == "sign" else []

    with pytest.raises(SystemExit) as ended:
        main([command, str(path), "--timeout", "1", *more])

    said = capsys.readouterr()
    assert (ended.value.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert path.read_bytes() == before


def test_a_file_that_answers_otherwise_than_it_says_is_not_signed(tiny_tflite_artifact: Artifact, tmp_path: Path) -> None:
    from dataclasses import replace

    golden = tiny_tflite_artifact.contract.golden
    rows = tuple(tuple(reversed(row)) for row in golden.artifact)
    lying = replace(golden, artifact=rows, reference=rows, tolerance=1e-6)
    artifact = replace(tiny_tflite_artifact, contract=replace(tiny_tflite_artifact.contract, golden=lying))
    artifact.save(tmp_path / "x.tflite")

    with pytest.raises(ValueError, match="computes something else on this machine"):
        sign_file(tmp_path / "x.tflite", tmp_path / "no-key.pem")


@pytest.fixture
def foreign(tiny_tflite_artifact: Artifact, tmp_path: Path) -> Path:
    """A `.tflite` without a contract."""
    path = tmp_path / "foreign.tflite"
    path.write_bytes(tiny_tflite_artifact.model)
    return path


def test_a_model_of_another_tool_runs_with_labels(foreign: Path) -> None:
    assert Classifier.open_foreign(foreign, LABELS).labels == LABELS


def test_what_is_no_model_is_one_line(foreign: Path) -> None:
    foreign.write_bytes(b"TFL3" * 100)

    with pytest.raises(InferenceError, match=r"foreign\.tflite is not a usable TFLite model|foreign\.tflite crashes") as caught:
        Classifier.open_foreign(foreign, LABELS)
    assert "\n" not in str(caught.value)


def test_another_tools_model_that_never_ends_is_one_line(tiny_tflite_artifact: Artifact) -> None:
    with pytest.raises(InferenceError, match=r"theirs\.tflite did not load and answer within 1 s"):
        Trial(endless(tiny_tflite_artifact).model, Path("theirs.tflite"), None, timeout_s=1).wait()


def test_a_file_with_a_contract_needs_no_labels(tiny_tflite_artifact: Artifact) -> None:
    with pytest.raises(InputError, match="carries its own labels"):
        Classifier.open_foreign(tiny_tflite_artifact.path, LABELS)
