"""Any model by what a user calls it: a task's name, an exported file, a `.keras` file, the folder of a run, a SavedModel."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgecnn import shipped
from edgecnn.artifacts import Artifact
from edgecnn.artifacts.artifact import SUFFIXES, is_foreign, read_file, split
from edgecnn.classifier import read_evidence
from edgecnn.datasets.dataset import Splits
from edgecnn.errors import ContractError, InputError, MissingDependencyError, UnknownTaskError
from edgecnn.foreign import open_foreign
from edgecnn.normalization import Normalization
from edgecnn.progress import note
from edgecnn.rejection.good_parts import GoodParts, Guard
from edgecnn.robustness.measure import Subject
from edgecnn.runtimes import Runtime, open_runtime
from edgecnn.shipped import reference_path, shipped_tasks, task_of
from edgecnn.tasks import Task
from edgecnn_export.foreign import UNSTATED_OPTIONS, ForeignOptions, check_model, foreign_reference
from edgecnn_export.frameworks import require_keras
from edgecnn_export.reference import MODEL_FILE, Reference, is_ours, read_entry
from edgecnn_export.run_folder import unfinished_in
from edgecnn_export.run_pictures import load_pictures

SAVED_MODEL_FILE = "saved_model.pb"
_SUFFIXES = (".keras", ".h5", ".hdf5")


@dataclass(frozen=True, eq=False)
class Model:
    """A model that a user named, ready to run: an `artifact` or a Keras `reference` stands behind its `runtime`.

    `path` is the file that was opened, None for a model that is in none; `notes` say what was deduced about another tool's
    model, or changed, and `normalization` how such a one wants its pixels: None for a model of ours.
    """

    name: str
    path: Path | None
    task: Task
    runtime: Runtime
    artifact: Artifact | None = None
    reference: Reference | None = None
    notes: tuple[str, ...] = ()
    normalization: Normalization | None = None

    @classmethod
    def of(cls, reference: Reference) -> Model:
        """Return a reference model that is in memory already."""
        return cls(
            reference.name,
            reference.path,
            reference.task,
            reference.runtime(),
            reference=reference,
            notes=reference.notes,
            normalization=None if reference.raw is None else reference.normalization,
        )

    @property
    def precision(self) -> str:
        """What it computes in: the artifact's precision, `float32` for a Keras model."""
        return "float32" if self.artifact is None else self.artifact.contract.precision

    @property
    def reject_threshold(self) -> float | None:
        """The probability below which its answer is `unknown`."""
        if self.artifact is not None:
            return self.artifact.contract.reject_threshold
        return None if self.reference is None else self.reference.reject_threshold

    @property
    def evidence(self) -> Guard | None:
        """When its answers are unsure or novel, None where it does not say."""
        if self.artifact is not None:
            return read_evidence(self.artifact.contract)
        good = None if self.reference is None else self.reference.good_parts
        return None if good is None else GoodParts(good)

    @property
    def trained_on(self) -> str | None:
        """The digest of the training pictures that an artifact's contract states."""
        data = None if self.artifact is None else self.artifact.contract.training_data
        return None if data is None else data.digest

    @property
    def size_bytes(self) -> int | None:
        """The size of its file, None for a model that is in none or in many."""
        return self.path.stat().st_size if self.path is not None and self.path.is_file() else None

    def require_classes(self) -> None:
        """Raise InputError for a model of good parts alone, which has no classes to measure."""
        if self.task.only_good:
            raise InputError(
                f"{self.name} knows good parts only, of which no accuracy is measured; edgecnn evaluate counts its false "
                "alarms, and edgecnn study only-good measures it on damaged parts"
            )

    def splits(self, data: Path | None, seed: int) -> Splits:
        """Load its pictures: those in `data`, else those that it was trained on, else what its task has.

        A model that was trained here gets the division that it was trained with, whatever `seed` says; an exported file gets it
        where `data` is its run, and is noted to be measured on another one, whose pictures it may have been trained on. Raises
        DatasetError in one line when the pictures of its training are gone or changed, and when there are none.
        """
        splits = load_pictures(self.task, data, seed, self.reference, foreign=self.normalization is not None)
        is_told = self.trained_on is not None and not splits.info.synthetic
        if is_told and self.trained_on != splits.train.digest():  # which reads all training pictures
            note(
                f"note: {self.name} was trained on other pictures than this train split, and perhaps on some that are held out "
                "here; --data RUN takes the split of its training"
            )
        return splits


def is_artifact(source: Path | str) -> bool:
    """Tell by its suffix whether a path is that of an exported file, also one that was rejected."""
    return Path(Path(source).name.removesuffix(".rejected")).suffix.lower() in SUFFIXES


def states_itself(source: Path | str) -> bool:
    """Tell whether a model is one of ours, which knows its labels and how it wants its pictures, without opening it."""
    if is_artifact(source):
        return split(Path(source))[1] is not None
    return str(source) in shipped_tasks() or is_ours(find_reference(source))


def open_models(
    sources: Sequence[Path | str],
    stated: ForeignOptions = UNSTATED_OPTIONS,
    *,
    of_task: Literal["int8", "keras"] = "int8",
) -> list[Model]:
    """Open several models; what is `stated` of other tools' models is for those among them, or for none: then an InputError."""
    of_ours = [stated.stated and states_itself(source) for source in sources]
    if all(of_ours):
        of_ours = [False] * len(of_ours)  # let opening the first one say that it has no use for them
    return [
        open_model(source, UNSTATED_OPTIONS if ours else stated, of_task=of_task)
        for source, ours in zip(sources, of_ours, strict=True)
    ]


def open_model(
    source: Path | str,
    stated: ForeignOptions = UNSTATED_OPTIONS,
    *,
    of_task: Literal["int8", "keras"] = "int8",
    runtime: str | None = None,
    threads: int = 1,
) -> Model:
    """Open any model; `of_task` says which of the shipped models the name of a task stands for.

    `stated` is for a model that another tool saved, `runtime` and `threads` for exported files and other tools' `.tflite`.
    Raises what opening it raises; InputError for options that the model has no use for.
    """
    if is_artifact(source) and is_foreign(Path(source), read_file(Path(source)), stated.labels):
        found = open_foreign(Path(source), stated.of_file, runtime=runtime, threads=threads)
        task, pixels = task_of(found.artifact.contract), found.runtime.pixels
        path, notes = Path(source), found.notes
        return Model(str(source), path, task, found.runtime, artifact=found.artifact, notes=notes, normalization=pixels)
    if is_artifact(source) or (of_task == "int8" and str(source) in shipped_tasks()):
        if stated.stated:
            raise InputError(f"{source} carries its own labels and preprocessing; omit --labels and the like")
        artifact = Artifact.open(source if is_artifact(source) else shipped.int8_path(str(source)))
        opened = open_runtime(artifact, runtime=runtime, threads=threads)
        return Model(str(source), artifact.path, task_of(artifact.contract), opened, artifact=artifact)
    if runtime is not None or threads != 1:
        raise InputError(f"{source} is run by Keras; --runtime and --threads are for exported files")
    reference = open_reference(source, stated)
    return dataclasses.replace(Model.of(reference), name=str(source))


def open_reference(source: Path | str, stated: ForeignOptions = UNSTATED_OPTIONS) -> Reference:
    """Open a reference model: a task's name, a `.keras` or `.h5` file, the folder of a training run, or a SavedModel folder.

    What is `stated` is for a model that another tool saved: a task is derived from its labels and its input shape, and the
    normalization is put in front of it. Files of our own know both, and labels may only repeat what they say.
    Raises InputError when there is no such thing or it cannot be used. Custom code inside a file is never run.
    """
    path = find_reference(source)
    require_keras()
    from edgecnn_export.keras_files import kind_of, load_model
    from edgecnn_export.saved_models import open_saved_model

    if path.is_dir():
        return dataclasses.replace(foreign_reference(open_saved_model(path, trust=stated.trust), path, stated), path=path)
    about = read_entry(path) if kind_of(path) == "zip" else None
    model = load_model(path)
    if about is None:
        return dataclasses.replace(foreign_reference(model, path, stated), path=path)
    reference = Reference.from_entry(about, model, path)
    if stated.beside_labels or stated.labels not in (None, reference.task.labels):
        labels = ", ".join(reference.task.labels)
        raise InputError(f"{path} states its own labels and pixel range: {labels}; omit --labels and --pixel-range")
    check_model(model, reference.task, path)
    return reference


def find_reference(source: Path | str) -> Path:
    """Return the `.keras` file or SavedModel folder that `source` names, without opening it.

    Raises UnknownTaskError when it is neither a path nor a shipped task, InputError for a folder without a model.
    """
    path = Path(source)
    is_task = str(source) in shipped_tasks()  # a folder of that name, such as the data set's, is ./neu
    if path.is_dir() and not is_task:
        return _model_in(path)
    if path.is_file():
        return path
    if not is_task:
        known = ", ".join(shipped_tasks())
        raise UnknownTaskError(
            f"no such model: {source}; give a .keras or .h5 file, the folder of a run, a SavedModel, or one of {known}"
        )
    return reference_path(str(source))


def _model_in(folder: Path) -> Path:
    """Return the model of a folder: of a run, a SavedModel, else the only model file or SavedModel in it.

    What operating systems put beside (`__MACOSX`, `._model.h5`) is no model. Raises InputError when there is none, or several.
    """
    if (folder / MODEL_FILE).is_file():
        return folder / MODEL_FILE
    if (folder / SAVED_MODEL_FILE).is_file():
        return folder
    visible = sorted(each for each in folder.iterdir() if not each.name.startswith((".", "__")))
    found = [each for each in visible if each.suffix in _SUFFIXES and each.is_file()]
    found += [each for each in visible if (each / SAVED_MODEL_FILE).is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(each.name for each in found[:5])
        raise InputError(f"the folder {folder} holds {len(found)} models: {names}; name one of them")
    if (checkpoint := unfinished_in(folder)) is not None:
        where = "" if checkpoint == folder else f" (in {checkpoint})"
        raise InputError(f"{folder} holds an unfinished training{where}; complete it with train --resume and its own options")
    raise InputError(f"the folder {folder} holds neither {MODEL_FILE} (a training run) nor {SAVED_MODEL_FILE} (a SavedModel)")


@dataclass(frozen=True, eq=False)
class OpenedSubjects:
    """Models of one task, the one among them that knows its pictures best, and notes."""

    subjects: tuple[Subject, ...]
    model: Model
    notes: tuple[str, ...]


def open_subjects(sources: Sequence[str], stated: ForeignOptions = UNSTATED_OPTIONS) -> OpenedSubjects:
    """Open exported files, `.keras` files, folders of training runs, and tasks by name (the shipped float and int8 model).

    A quantized file is compared with the float model named last before it, or else with the first one. Where TensorFlow is
    not installed a task's name stands for its int8 file alone, and a note says so. What is `stated` is for other tools'
    models among them. Raises ContractError unless all are of one task.
    """
    notes: list[str] = []
    files = [source for source in sources if source not in shipped_tasks()] or list(sources)
    others = open_models(files, stated)
    by_name = dict(zip(files, others, strict=True))
    opened = [model for s in sources for model in (_open_task(s, notes) if s in shipped_tasks() else [by_name[s]])]
    notes += [f"{Path(model.name).name}: {note}" for model in opened for note in model.notes]
    for model in opened[1:]:
        _check_same_task(opened[0], model)
    opened[0].require_classes()
    model = next((model for model in opened if model.reference is not None), opened[0])
    return OpenedSubjects(_paired(_named(opened)), model, tuple(notes))


def _open_task(name: str, notes: list[str]) -> list[Model]:
    int8 = open_model(shipped.int8_path(name))
    try:
        return [open_model(shipped.reference_path(name)), int8]
    except MissingDependencyError as error:
        notes.append(f"{name}: only the int8 file is measured, the float model needs TensorFlow. {error}")
        return [int8]


def _named(models: Sequence[Model]) -> list[Subject]:
    """Call each model by its file's name where that is enough to tell them apart, else as the user named it."""
    files = [Path(model.name).name for model in models]
    return [
        Subject(file if files.count(file) == 1 else model.name, model.precision, model.runtime)
        for file, model in zip(files, models, strict=True)
    ]


def _paired(subjects: Sequence[Subject]) -> tuple[Subject, ...]:
    """Give each quantized model the last float model before it, or else the first one there is."""
    reference = next((subject.name for subject in subjects if subject.precision == "float32"), None)
    paired = []
    for subject in subjects:
        if subject.precision == "float32":
            reference = subject.name
        paired.append(subject if subject.precision == "float32" else dataclasses.replace(subject, reference=reference))
    return tuple(paired)


def _check_same_task(first: Model, other: Model) -> None:
    for what, expected, found in (
        ("recognises", first.task.labels, other.task.labels),
        ("prepares pictures as", first.task.preprocessing, other.task.preprocessing),
    ):
        if expected != found:
            raise ContractError(f"{other.name} {what} {found}, {first.name} {expected}; measure them separately")
