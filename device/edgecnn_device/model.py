"""The model that the loop runs: verified before its first frame, and exchanged between two frames."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgecnn.artifacts import Artifact, golden
from edgecnn.artifacts.signature import TrustedKey
from edgecnn.classifying import Classifier, artifact_path
from edgecnn.errors import ArtifactError, EdgecnnError, SignatureError
from edgecnn.runtimes import open_runtime

if TYPE_CHECKING:
    from edgecnn.foreign import ForeignModel

_LOOK_EVERY_S = 1.0


@dataclass(frozen=True, eq=False)
class Model:
    """A classifier with the artifact that it came from; `verified` tells that its golden vectors were replayed here."""

    artifact: Artifact
    classifier: Classifier
    verified: bool


@dataclass(frozen=True)
class ModelOptions:
    """Which model and how: a path or a task's name, the runtime, its threads, another reject threshold, the check.

    Where a `trusted` key is given, only files that it has signed are run, in an exchange too. `foreign` is what is stated of
    another tool's `.tflite`: such a file has no contract to be verified by.
    """

    model: str
    runtime: str | None = None
    threads: int = 1
    reject_threshold: float | None = None
    verify: bool = True
    trusted: TrustedKey | None = None
    foreign: ForeignModel | None = None


def open_model(options: ModelOptions) -> Model:
    """Open and verify a model.

    Raises what `Artifact.open` and `open_runtime` raise, and ArtifactError when this machine computes something else than
    the contract's golden vectors say.
    """
    if options.foreign is not None:
        return _open_foreign(options, options.foreign)
    artifact = Artifact.open(artifact_path(options.model), trusted=options.trusted)
    contract = artifact.contract
    runtime = open_runtime(artifact, runtime=options.runtime, threads=options.threads)
    if options.verify:
        report = golden.replay(contract, runtime.run)
        if report.contradiction:
            raise ArtifactError(f"{artifact.path} contradicts its own reference: {report.contradiction}; export it again")
        if not report.passed:
            raise ArtifactError(
                f"{artifact.path} computes something else on this machine than where it was exported: {runtime.name} differs "
                f"by {report.difference.max():.2g} (tolerance {report.tolerance:.2g}); --no-verify runs it nevertheless"
            )
    threshold = contract.reject_threshold if options.reject_threshold is None else options.reject_threshold
    classifier = Classifier(runtime, contract.labels, contract.preprocessing, threshold)
    return Model(artifact, classifier, options.verify)


def _open_foreign(options: ModelOptions, stated: ForeignModel) -> Model:
    """Open another tool's `.tflite`; raises what `open_foreign` raises, and SignatureError where a signature is demanded."""
    from edgecnn.foreign import open_foreign  # few cameras need what it reads files with

    path = Path(options.model)
    if options.trusted is not None:
        raise SignatureError(f"{path} is another tool's model, which nobody can have signed; leave --require-signature away")
    opened = open_foreign(path, stated, runtime=options.runtime, threads=options.threads)
    contract = opened.artifact.contract
    classifier = Classifier(
        opened.runtime, contract.labels, contract.preprocessing, options.reject_threshold, notes=opened.notes
    )
    return Model(opened.artifact, classifier, verified=False)


class ModelSlot:
    """Holds the running model and exchanges it when its file changes or when asked to; a bad file leaves the old one."""

    def __init__(
        self, options: ModelOptions, *, notice: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Open the first model; `notice` is told in one line of every exchange and of every refusal."""
        self.current = open_model(options)
        self.swaps = 0
        self.refusals = 0
        self._options = replace(options, model=str(self.current.artifact.path))
        self._notice = notice
        self._clock = clock
        self._asked = False
        self._print = _fingerprint(self.current.artifact.path)
        self._look_s = clock() + _LOOK_EVERY_S
        self._tell_notes()

    def _tell_notes(self) -> None:
        """Say what was deduced about another tool's model."""
        for note in self.current.classifier.notes:
            self._notice(f"{self.current.artifact.path.name}: {note}")

    def ask(self) -> None:
        """Ask for an exchange at the next opportunity; safe in a signal handler."""
        self._asked = True

    def refresh(self) -> bool:
        """Exchange the model if that is due, between two frames; True when it was exchanged."""
        now_s = self._clock()
        if not self._asked and now_s < self._look_s:
            return False
        self._look_s = now_s + _LOOK_EVERY_S
        found = _fingerprint(self.current.artifact.path)
        if not self._asked and (found is None or found == self._print):
            return False
        self._asked, self._print = False, found
        return self._exchange()

    def _exchange(self) -> bool:
        try:
            model = open_model(self._options)
            _check_task(self.current, model)
        except EdgecnnError as error:
            self.refusals += 1
            self._notice(f"the new model was refused, the old one goes on: {error}")
            return False
        self.current = model
        self.swaps += 1
        self._notice(f"now running {model.artifact.path} of {model.artifact.contract.export_id}")
        self._tell_notes()
        return True


def _check_task(old: Model, new: Model) -> None:
    """Refuse a model that is for something else: finder and sinks were chosen for the task at the start."""
    if (
        old.artifact.contract.task != new.artifact.contract.task
        or old.classifier.preprocessing.fit != new.classifier.preprocessing.fit
    ):
        raise ArtifactError(
            f"{new.artifact.path} is for the task {new.artifact.contract.task!r}, "
            f"{old.artifact.contract.task!r} is running; start the camera anew to change the task"
        )


def _fingerprint(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
