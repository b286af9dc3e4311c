"""Trying models in a child process first: one with a contract by its golden vectors, one without by a few pictures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecnn.artifacts import Artifact, Contract, golden
from edgecnn.artifacts.golden import GoldenReport
from edgecnn.errors import ArtifactError, InferenceError
from edgecnn.runtimes.child import TIMEOUT_S, Child, Job
from edgecnn.runtimes.runtime import answer
from edgecnn.runtimes.select import import_runtime, open_runtime, open_tflite

if TYPE_CHECKING:  # a camera has no use for it
    from edgecnn.artifacts.operators import Graph


@dataclass(frozen=True, eq=False)
class Verified:
    """How this machine answered a file's golden vectors, on which runtime."""

    path: Path
    runtime: str
    report: GoldenReport

    def demand(self, way_out: str = "") -> None:
        """Raise ArtifactError, with a `way_out`, unless this machine computes what the contract says."""
        self.report.demand(str(self.path), self.runtime, way_out)


class Verification:
    """The golden vectors of an artifact, being replayed in a child process."""

    def __init__(
        self, artifact: Artifact, *, runtime: str | None = None, threads: int = 1, timeout_s: float = TIMEOUT_S
    ) -> None:
        """Start; the model has `timeout_s` seconds to load and to answer. InputError for a runtime that does not fit."""
        import_runtime(artifact.format, runtime)  # before a fork, so that the child need not
        options = {
            "name": str(artifact.path),
            "contract": artifact.contract.to_json().decode(),
            "runtime": runtime,
            "threads": threads,
        }
        self._path = artifact.path
        job = Job(str(artifact.path), "edgecnn.runtimes.probe:replay_golden", artifact.model, options)
        self._child = Child(job, timeout_s=timeout_s)

    def poll(self) -> Verified | None:
        """Return the outcome, None while there is none.

        Raises what `open_runtime` and `golden.replay` raise, and InferenceError when the model crashes or does not end.
        """
        answer = self._child.poll()
        return None if answer is None else self._read(answer)

    def wait(self) -> Verified:
        """Return the outcome when it is there; raises what `poll` raises."""
        return self._read(self._child.wait())

    def stop(self) -> None:
        """Give up."""
        self._child.stop()

    def _read(self, answer: dict[str, Any]) -> Verified:
        report = GoldenReport(
            np.array(answer["difference"]), np.array(answer["same_answer"]), answer["tolerance"], answer["contradiction"]
        )
        return Verified(self._path, answer["runtime"], report)


def verify(artifact: Artifact, *, runtime: str | None = None, threads: int = 1, timeout_s: float = TIMEOUT_S) -> Verified:
    """Replay an artifact's golden vectors in a child process; raises what `Verification.poll` raises."""
    return Verification(artifact, runtime=runtime, threads=threads, timeout_s=timeout_s).wait()


class Trial:
    """A `.tflite` without a contract, being loaded and run in a child process.

    `output` and `size_hw` are what the user states of a model that has several outputs or takes any size. `path` names the
    bytes in messages. They are handed over rather than read again, since a file may change meanwhile.
    """

    def __init__(
        self,
        model: bytes,
        path: Path,
        runtime: str | None,
        *,
        output: str | None = None,
        size_hw: tuple[int, int] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Start; the model has `timeout_s` seconds to load and to answer. InputError for a runtime that does not fit."""
        import_runtime("tflite", runtime)
        options = {"runtime": runtime, "output": output, "size_hw": size_hw}
        self._path = path
        job = Job(str(path), "edgecnn.runtimes.probe:run_pictures", model, options)
        self._child = Child(job, timeout_s=timeout_s)

    def poll(self) -> bool:
        """Tell whether it has answered. InferenceError when it fails, crashes or hangs."""
        with self._naming():
            return self._child.poll() is not None

    def wait(self) -> None:
        """Wait until it has answered; raises what `poll` raises."""
        with self._naming():
            self._child.wait()

    def stop(self) -> None:
        """Give up."""
        self._child.stop()

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except InferenceError as error:
            is_named = str(error).startswith(str(self._path))
            raise InferenceError(str(error) if is_named else f"{self._path} is not a usable TFLite model: {error}") from error


def describe(artifact: Artifact, *, timeout_s: float = TIMEOUT_S) -> Graph:
    """Read the operators of an artifact in a child process: a file whose digests are right can still lie about its inside.

    Raises what `read_graph` raises, and ArtifactError for a model that cannot be read.
    """
    from edgecnn.artifacts.operators import Graph

    job = Job(str(artifact.path), "edgecnn.runtimes.probe:list_operators", artifact.model, {"form": artifact.format})
    try:
        return Graph.from_json(Child(job, timeout_s=timeout_s).wait())
    except InferenceError as error:
        raise ArtifactError(f"the inside of this model cannot be read: {error}") from error


def replay_golden(model: bytes, *, name: str, contract: str, runtime: str | None, threads: int) -> dict[str, Any]:
    """Do the work of `Verification`, in the child."""
    artifact = Artifact(Path(name), model, Contract.from_json(contract.encode()))
    opened = open_runtime(artifact, runtime=runtime, threads=threads)
    report = golden.replay(artifact.contract, partial(answer, opened))
    return {
        "runtime": opened.name,
        "difference": report.difference.tolist(),
        "same_answer": report.same_answer.tolist(),
        "tolerance": report.tolerance,
        "contradiction": report.contradiction,
    }


def run_pictures(model: bytes, *, runtime: str | None, output: str | None, size_hw: Sequence[int] | None) -> bool:
    """Run black, white and noise: an index that is read from the picture can crash on one and not on the other."""
    size = None if size_hw is None else (size_hw[0], size_hw[1])
    tflite = open_tflite(model, runtime=runtime, output=output, size_hw=size)
    shape = tuple(side or 1 for side in tflite.input.shape[1:])
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for image in (np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8), noise):
        tflite.run(image[None])
    return True


def list_operators(model: bytes, *, form: str) -> dict[str, Any]:
    """Do the work of `describe`, in the child."""
    from edgecnn.artifacts.operators import read_graph

    return read_graph(model, form).to_json()
