"""The model that the loop runs: verified before its first frame, and exchanged between two frames."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edgecnn.artifacts import Artifact, golden
from edgecnn.artifacts.artifact import is_foreign, read_file
from edgecnn.artifacts.signature import TrustedKey
from edgecnn.classifier import Classifier, artifact_path, named_path
from edgecnn.errors import ArtifactError, EdgecnnError, SignatureError
from edgecnn.quick_dataclass import dataclass
from edgecnn.runtimes import open_runtime
from edgecnn.runtimes.runtime import answer
from edgecnn.runtimes.select import import_runtime
from edgecnn.shipped import is_shipped

if TYPE_CHECKING:
    from edgecnn.foreign import ForeignModel, OpenedModel
    from edgecnn.runtimes.probe import Verification
    from edgecnn_device.last_good import LastGood

_LOOK_EVERY_S, _LONGEST_CHECK_S = 1.0, 120.0
_INSIST = "; --no-verify runs it anyway"

Known = Callable[[Path, bytes, str], bool]


@dataclass(frozen=True, eq=False)
class Model:
    """A classifier with the artifact that it came from; `verified` tells that its golden vectors were replayed here.

    `digest` is the SHA-256 of the whole file.
    """

    artifact: Artifact
    classifier: Classifier
    verified: bool
    digest: str = ""


@dataclass(frozen=True)
class ModelOptions:
    """Which model and how: a path or a task's name, the runtime, its threads, other thresholds, the check.

    Where a `trusted` key is given, only files that it has signed are run, in an exchange too. The check is made in a process
    of its own, which has `timeout_s` seconds. `foreign` is what the user states of another tool's `.tflite`, None for nothing:
    a file of ours, or one that says all about itself.
    """

    model: str
    runtime: str | None = None
    threads: int = 1
    reject_threshold: float | None = None
    verify: bool = True
    trusted: TrustedKey | None = None
    timeout_s: float = 10.0
    novelty: float | None = None
    foreign: ForeignModel | None = None


class Ours:
    """A model file of ours that was read and whose digests are right, while its golden vectors are replayed.

    That is done in a child process, since a model can crash a runtime, or never end; but for one that came with edgecnn, or
    that `known` remembers to have passed on this machine before, for which this process will do.
    """

    def __init__(self, path: Path, data: bytes, options: ModelOptions, *, known: Known = lambda *_: False) -> None:
        """Check the bytes of a file that was read from `path`, and start; raises what `Artifact.read` raises."""
        self._options = options
        self.data = data
        self.artifact = self.promised = Artifact.read(data, path, trusted=options.trusted)
        runtime_name = import_runtime(self.artifact.format, options.runtime)
        self._is_known = options.verify and (is_shipped(path) or known(path, data, runtime_name))
        self._verification: Verification | None = None
        if options.verify and not self._is_known:
            from edgecnn.runtimes.probe import Verification  # with it comes what starts processes

            self._verification = Verification(
                self.artifact, runtime=options.runtime, threads=options.threads, timeout_s=options.timeout_s
            )

    def is_like(self, running: Artifact) -> bool:
        """Tell whether it is the very model that runs."""
        found = self.artifact
        return (found.model, found.contract, found.path) == (running.model, running.contract, running.path)

    def is_ready(self) -> bool:
        """Tell whether `model` need not wait for a child process; raises what speaks against the model, see there."""
        verified = None if self._verification is None else self._verification.poll()
        if verified is not None:
            self._verification = None
            verified.demand(_INSIST)
        return self._verification is None

    def model(self) -> Model:
        """Wait for the end of the check and open the model in this process.

        Raises what `open_runtime` raises, ArtifactError when this machine computes something else than the contract's golden
        vectors say, and InferenceError when the model crashes or does not end.
        """
        options, contract = self._options, self.artifact.contract
        if self._verification is not None:
            verification, self._verification = self._verification, None
            verification.wait().demand(_INSIST)
        runtime = open_runtime(self.artifact, runtime=options.runtime, threads=options.threads)
        if self._is_known:
            golden.replay(contract, partial(answer, runtime)).demand(str(self.artifact.path), runtime.name, _INSIST)
        classifier = Classifier.running(runtime, contract).rejecting(options.reject_threshold, options.novelty)
        return Model(self.artifact, classifier, options.verify, hashlib.sha256(self.data).hexdigest())

    def discard(self) -> None:
        """End the check."""
        if self._verification is not None:
            self._verification.stop()
            self._verification = None


class Theirs:
    """Another tool's `.tflite` that was read: it has no golden vectors, and is tried with a few pictures in a child process."""

    promised: Artifact | None = None  # what it is shows when it was tried

    def __init__(self, path: Path, data: bytes, options: ModelOptions) -> None:
        """Begin to try it; SignatureError where a signature is demanded, else what `ForeignTrial` raises."""
        from edgecnn.foreign import ForeignModel, ForeignTrial  # few cameras need what it reads files with

        if options.trusted is not None:
            raise SignatureError(f"{path} is another tool's model and cannot be signed; omit --require-signature")
        stated = ForeignModel() if options.foreign is None else options.foreign
        self._reject_threshold = options.reject_threshold
        self._opened: OpenedModel | None = None
        self._trial = ForeignTrial(
            path, data, stated, runtime=options.runtime, threads=options.threads, timeout_s=options.timeout_s
        )

    @property
    def artifact(self) -> Artifact:
        """The model in the form of an artifact, which waits for the end of the trial."""
        return self._open().artifact

    def is_like(self, running: Artifact) -> bool:
        """Tell whether it is the very model that runs."""
        return self._trial.model == running.model

    def is_ready(self) -> bool:
        """Tell whether `model` need not wait for the child process; InferenceError when a runtime refuses the model."""
        return self._trial.poll()

    def model(self) -> Model:
        """Wait for the end of the trial and open the model in this process; raises what `open_foreign` raises."""
        theirs = self._open()
        contract = theirs.artifact.contract
        classifier = Classifier(
            theirs.runtime, contract.labels, contract.preprocessing, self._reject_threshold, notes=theirs.notes
        )
        return Model(theirs.artifact, classifier, verified=False)

    def discard(self) -> None:
        """End the trial."""
        self._trial.stop()

    def _open(self) -> OpenedModel:
        if self._opened is None:
            self._opened = self._trial.open()
        return self._opened


Candidate = Ours | Theirs


def read_candidate(options: ModelOptions, *, known: Known = lambda *_: False) -> Candidate:
    """Read a model file, once, and begin to check it as what it is.

    Raises what `Artifact.open` raises, and InputError where something is stated of a file that has a contract.
    """
    path = artifact_path(options.model)
    data = read_file(path)
    return Theirs(path, data, options) if _is_foreign(path, data, options.foreign) else Ours(path, data, options, known=known)


def _is_foreign(path: Path, data: bytes, stated: ForeignModel | None) -> bool:
    """Tell which kind a file is; one of ours of which something is stated counts as another tool's, which then refuses it."""
    try:
        return is_foreign(path, data, None if stated is None else stated.labels) or stated is not None
    except EdgecnnError:
        if stated is not None:
            raise
        return False  # as one of ours it says what is wrong with it, or the last good one runs


def open_model(options: ModelOptions) -> Model:
    """Open and verify a model; raises what `read_candidate` and `Candidate.model` raise."""
    return read_candidate(options).model()


class ModelSlot:
    """Holds the running model and exchanges it when its file changes or when asked to; a bad file leaves the old one.

    Where the very first file is bad, the last good one that `last_good` keeps of it is run. `warning` says so for as long as it
    is true, and `notice` hears of it again and again.
    """

    def __init__(
        self,
        options: ModelOptions,
        *,
        notice: Callable[[str], None],
        last_good: LastGood | None = None,
        restarts: bool = False,
        clock: Callable[[], float] = time.monotonic,
        remind_s: float = 3600.0,
    ) -> None:
        """Read the first model and begin to check it, which `current` waits for.

        `notice` receives one line for every exchange and every refusal. Where the camera `restarts` when it is asked to, a
        model with more classes is not refused, but asks for that by `needs_restart` when it is checked. Raises what
        `Artifact.open` raises when there is no last good model either.
        """
        self.swaps = 0
        self.refusals = 0
        self.warning = ""
        self.needs_restart = False
        self._restarts = restarts
        self._path = named_path(options.model)
        self._options = replace(options, model=str(self._path))
        self._last_good = None if is_shipped(self._path) or not options.verify or options.foreign is not None else last_good
        self._notice = notice
        self._clock = clock
        self._remind_s, self._reminded_s = remind_s, clock()
        self._asked = self._insists = False
        self._print = fingerprint(self._path)
        self._look_s = clock() + _LOOK_EVERY_S
        self._began_s = clock()
        self._current: Model | None = None
        self._candidate: Candidate | None = self._first()
        self._kind = type(self._candidate)
        if self._kind is Theirs:
            self._last_good = None  # nothing proves such a model

    @property
    def path(self) -> Path:
        """The file whose changes are followed."""
        return self._path

    @property
    def first(self) -> Artifact:
        """The artifact that was read at the start, be it checked already or not."""
        return self.current.artifact if self._current is not None or self._candidate is None else self._candidate.artifact

    @property
    def current(self) -> Model:
        """The running model; at first it waits for the check and raises what `Candidate.model` raises."""
        while self._current is None:
            self._begin_to_run(wait=True)
        return self._current

    @property
    def warnings(self) -> str:
        """What should be known of the running model: why it is another than it should be, and that nothing is unsure to it."""
        return "; ".join(each for each in (self.warning, self.current.classifier.warning) if each)

    def is_ready(self) -> bool:
        """Tell whether `current` need not wait for the first model; raises what `Candidate.model` raises."""
        if self._current is None:
            self._begin_to_run(wait=False)
        return self._current is not None

    @property
    def is_checking(self) -> bool:
        """Whether a model is being checked that does not run yet."""
        return self._candidate is not None

    def ask(self) -> None:
        """Ask for an exchange at the next opportunity; safe in a signal handler."""
        self._asked = True

    def refresh(self) -> bool:
        """Go on with an exchange, between two frames; True when the model was exchanged.

        Reading a new file, checking it in a child process and opening it happen in different calls: the loop goes on between.
        """
        running, now_s = self.current, self._clock()
        if self._asked or now_s >= self._look_s:
            self._look_s = now_s + _LOOK_EVERY_S
            self._remind(now_s)
            found = fingerprint(self._path)
            if self._asked or (found is not None and found != self._print):
                self._insists, self._asked, self._print = self._asked, False, found
                self._begin_exchange(running.artifact)
        return self._candidate is not None and self._exchange(self._candidate)

    def close(self) -> None:
        """End a check that is going on."""
        if self._candidate is not None:
            self._candidate.discard()
            self._candidate = None

    def _first(self) -> Candidate:
        """Read the file, or the last good one where it is bad."""
        try:
            return read_candidate(self._options, known=self._is_known)
        except EdgecnnError as error:
            return self._fall_back(error)

    def _begin_to_run(self, *, wait: bool) -> None:
        """Open the first model when it is checked, or when that is waited for; else begin to check the last good one."""
        candidate = self._candidate
        assert candidate is not None
        try:
            if not wait and not candidate.is_ready():
                return
            self._current = candidate.model()
            self._candidate = None
        except EdgecnnError as error:
            if self.warning:
                raise type(error)(f"{error} ({self.warning})") from error
            self._candidate = self._fall_back(error, candidate)
            return
        self._keep(self._current, candidate)
        self._tell_notes(self._current)

    def _fall_back(self, error: EdgecnnError, refused: Candidate | None = None) -> Candidate:
        """Return the last good model, of the same task as the `refused` one; raises `error` when there is none."""
        kept = None if self._last_good is None else self._last_good.path(self._path)
        if kept is None or not kept.is_file():
            raise error
        try:
            candidate = self._read_like(None if refused is None else refused.promised, kept, Ours)
        except EdgecnnError as also:
            raise type(error)(f"{error}; nor can the last good model be used: {also}") from error
        self.refusals += 1
        kept_at = datetime.fromtimestamp(kept.stat().st_mtime).astimezone().isoformat(" ", "minutes")
        self.warning = f"running the last good model, of {kept_at}: the file was refused: {error}"
        self._notice(self.warning)
        return candidate

    def _read_like(self, other: Artifact | None, path: Path, kind: type[Candidate]) -> Candidate:
        """Read a model that is for the same as the `other`; ArtifactError when it is for something else."""
        candidate = kind(path, read_file(path), self._options)
        try:
            if other is not None and candidate.promised is not None:
                self._check_task(other, candidate.promised)
        except ArtifactError:
            candidate.discard()
            raise
        return candidate

    def _is_known(self, path: Path, data: bytes, runtime: str) -> bool:
        return self._last_good is not None and self._last_good.knows(path, data, runtime)

    def _keep(self, model: Model, candidate: Candidate) -> None:
        """Keep what has just passed, unless it is what was kept."""
        if self._last_good is None or model.artifact.path != self._path or isinstance(candidate, Theirs):
            return
        try:
            self._last_good.keep(self._path, candidate.data, model.classifier.runtime.name)
        except (EdgecnnError, OSError) as error:
            self._notice(f"the last good model could not be saved: {error}")

    def _tell_notes(self, model: Model) -> None:
        """Say what was deduced about another tool's model."""
        for note in model.classifier.notes:
            self._notice(f"{model.artifact.path.name}: {note}")

    def _remind(self, now_s: float) -> None:
        if self.warning and now_s >= self._reminded_s + self._remind_s:
            self._reminded_s = now_s
            self._notice(self.warning)

    def _begin_exchange(self, running: Artifact) -> None:
        """Read the new file; whatever was read before it and is still being checked is given up."""
        self.close()
        self._began_s = self._clock()
        try:
            candidate = self._read_like(running, artifact_path(self._path), self._kind)
        except Exception as error:  # whatever a new file does, the running camera goes on
            self._refuse(error)
            return
        if not self._insists and candidate.is_like(running):
            candidate.discard()  # it was touched, or put back, and is what runs
            self.warning = ""
        else:
            self._candidate = candidate

    def _exchange(self, candidate: Candidate) -> bool:
        try:
            # A check has ended long before that, if only because its time was up.
            if not candidate.is_ready() and self._clock() < self._began_s + _LONGEST_CHECK_S + self._options.timeout_s:
                return False
            model = candidate.model()
            self._check_task(self.current.artifact, model.artifact)
        except Exception as error:  # as above
            self._candidate = None
            self._refuse(error)
            return False
        if model.artifact.contract.differs_from(self.current.artifact.contract) is not None:
            self._candidate, self.needs_restart = None, True
            self._notice(f"{model.artifact.path} has new classes: the camera starts again with it")
            return False
        self._current, self._candidate, self.warning = model, None, ""
        self.swaps += 1
        self._notice(f"now running {model.artifact.path} of {model.artifact.contract.export_id}")
        self._keep(model, candidate)
        self._tell_notes(model)
        return True

    def _check_task(self, old: Artifact, new: Artifact) -> None:
        """Refuse a model that is for something else: finder and sinks were chosen for the task at the start."""
        if self._restarts and new.contract.extends(old.contract):
            return
        if (difference := new.contract.differs_from(old.contract)) is not None:
            raise ArtifactError(f"{new.path} {difference} than the running model; restart the camera to change that")

    def _refuse(self, error: Exception) -> None:
        self.refusals += 1
        reason = str(error) if isinstance(error, EdgecnnError) else f"{type(error).__name__}: {error}"
        self.warning = f"the new model was refused, the old one keeps running: {reason}"
        self._reminded_s = self._clock()
        self._notice(self.warning)


def fingerprint(path: Path) -> tuple[int, ...] | None:
    """Return what changes with a file's content, None without a file.

    The time of the change of its entry is among it: a copy that keeps the times of the content changes that alone.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev
