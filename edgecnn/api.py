"""The verbs of a notebook, for any folder of pictures: load_folder, train, export, compare, open, watch.

Everything heavy is imported by the verb that needs it, so that `open` and `watch` run on a board.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgecnn import markup
from edgecnn.errors import InputError
from edgecnn.preprocessing import as_bgr

if TYPE_CHECKING:
    from edgecnn.classifier import Classifier, Prediction, Verdict
    from edgecnn.datasets.check import FolderCheck
    from edgecnn.datasets.dataset import Splits
    from edgecnn.tasks import Task
    from edgecnn_device.frames import Observation, RegionPrediction
    from edgecnn_export.exporter import ExportedFile, ExportResult
    from edgecnn_export.parity.figures import ParityReport
    from edgecnn_export.successor import Comparison
    from edgecnn_export.training import TrainingRun

Network = Literal["auto", "compact", "lite", "course", "mobilenet"]
Color = Literal["gray", "rgb"]
FolderFit = Literal["auto", "squash", "pad", "crop"]
Conflicts = Literal["refuse", "drop", "keep"]
FileFormat = Literal["tflite", "onnx", "all"]
_SHOWN = 12
_Progress = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class LabelledFolder:
    """A folder of pictures, one folder per class, read and divided into train, validation and test.

    Pictures that overlap stand in one split. `task` holds the labels in class order and the model's input.
    """

    folder: Path
    task: Task
    splits: Splits

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes in their order."""
        return self.task.labels

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many pictures of each class stand in each split: `counts()["scratch"]["train"]`."""
        splits = {name: self.splits[name] for name in ("train", "validation", "test")}
        return {
            label: {name: int((part.class_ids == i).sum()) for name, part in splits.items()}
            for i, label in enumerate(self.labels)
        }

    def check(self, *, seed: int = 0) -> FolderCheck:
        """Look for copies, overlapping crops, conflicting labels and damaged files, as `edgecnn data check` does."""
        from edgecnn.datasets.check import check_folder

        return check_folder(self.folder, seed=seed)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(self.splits[name])} {name}" for name in ("train", "validation", "test"))
        return f"LabelledFolder({str(self.folder)!r}: {len(self.labels)} classes; {sizes})"

    def _repr_html_(self) -> str:
        rows = [[label, *map(str, counts.values())] for label, counts in self.counts().items()]
        first = [int(np.flatnonzero(self.splits.train.class_ids == i)[0]) for i in range(len(self.labels))]
        shown = [markup.figure(as_bgr(self.splits.train.images[i]), self.labels[c]) for c, i in enumerate(first[:_SHOWN])]
        return markup.table(["class", "train", "validation", "test"], rows) + markup.row(shown)


@dataclass(frozen=True, eq=False)
class Mistake:
    """A validation picture that the trained model gets wrong; `image` is gray `(h, w, 1)` or BGR `(h, w, 3)` uint8."""

    name: str
    image: NDArray[np.uint8]
    truth: str
    answer: str
    probability: float


class Mistakes(Sequence[Mistake]):
    """The mistakes of a model on its validation pictures, the surest first."""

    def __init__(self, mistakes: Sequence[Mistake], count: int) -> None:
        """Hold the `mistakes` among `count` pictures."""
        self._mistakes, self._count = tuple(mistakes), count

    def __len__(self) -> int:
        return len(self._mistakes)

    def __getitem__(self, index: int) -> Mistake:  # type: ignore[override]  # a slice of mistakes is of no use
        return self._mistakes[index]

    def __repr__(self) -> str:
        return f"{len(self)} mistakes among {self._count} validation pictures"

    def _repr_html_(self) -> str:
        shown = [
            markup.figure(each.image, f"{each.truth}, not {each.answer} ({each.probability:.0%})", title=each.name)
            for each in self._mistakes[:_SHOWN]
        ]
        return f"<p>{html.escape(repr(self))}</p>" + markup.row(shown)


@dataclass(frozen=True, eq=False)
class Run:
    """A training that is done: its `folder` holds `model.keras`, `training.json`, `curves.png` and `splits.csv`.

    `comparison` says how it does beside the run that it went on from, None where it went on from none.
    """

    data: LabelledFolder
    result: TrainingRun
    comparison: Comparison | None = None

    @property
    def folder(self) -> Path:
        """Where the run lies; `export` and the commands take this path as well."""
        return self.result.folder

    @property
    def accuracy(self) -> float:
        """Share of the validation pictures that are classified right, 0..1."""
        return self.result.validation_accuracy

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of `accuracy`."""
        return self.result.validation_interval

    def curves(self) -> markup.Png:
        """Return loss and accuracy over the epochs as a picture that Jupyter shows."""
        return markup.Png((self.folder / "curves.png").read_bytes())

    def confusion(self) -> markup.Confusion:
        """Return how often each class was taken for each other one, on the validation pictures."""
        return markup.Confusion(self.data.labels, np.asarray(self.result.record["validation"]["confusion"]))

    def mistakes(self) -> Mistakes:
        """Return the validation pictures that the model gets wrong, the surest first."""
        pictures = self.data.splits.validation
        probabilities = self.result.reference.runtime().run(pictures.images)
        answers = probabilities.argmax(axis=1)
        wrong = [
            Mistake(
                pictures.names[i],
                as_bgr(pictures.images[i]),
                self.data.labels[pictures.class_ids[i]],
                self.data.labels[answers[i]],
                float(probabilities[i, answers[i]]),
            )
            for i in np.flatnonzero(answers != pictures.class_ids)
        ]
        return Mistakes(sorted(wrong, key=lambda each: -each.probability), len(pictures))

    def __repr__(self) -> str:
        low, high = self.interval
        right = f"{self.result.correct} of {self.result.count} validation pictures right"
        return f"Run({str(self.folder)!r}: {right}, {self.accuracy:.1%}, 95 % interval {low:.1%} to {high:.1%})"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self))}</p>{self.curves()._repr_html_()}{self.confusion()._repr_html_()}"


@dataclass(frozen=True, eq=False)
class Export:
    """The files of an export with their proof; one that failed its parity is called `*.rejected`."""

    result: ExportResult

    @property
    def folder(self) -> Path:
        """Where the files lie, with parity.json and parity.html."""
        return self.result.folder

    @property
    def files(self) -> tuple[ExportedFile, ...]:
        """Each file with its size, verdict and the reason for it."""
        return self.result.files

    @property
    def parity(self) -> ParityReport | None:
        """The comparison with the trained model, None where there were no pictures to compare on."""
        return self.result.parity

    def file(self, precision: Literal["int8", "float32"] = "int8", file_format: Literal["tflite", "onnx"] = "tflite") -> Path:
        """Return the path of one file; InputError when it was not made or was rejected."""
        for each in self.files:
            if each.precision == precision and each.format == file_format:
                if each.rejected:
                    raise InputError(f"{each.path.name}: {each.reason}")
                return each.path
        raise InputError(f"this export has no {precision} .{file_format}: {', '.join(each.path.name for each in self.files)}")

    def __repr__(self) -> str:
        verdict = "not measured" if self.parity is None else self.parity.verdict
        return f"Export({str(self.folder)!r}: {', '.join(each.path.name for each in self.files)}; parity: {verdict})"

    def _repr_html_(self) -> str:
        rows = [[each.path.name, f"{each.size_bytes / 1000:.0f} kB", each.verdict, each.reason] for each in self.files]
        return markup.table(["file", "size", "verdict", "why"], rows)


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model says about one picture.

    `label` is None unless the `verdict` is `label`: `unsure` says that no class is probable enough, `novel` that the picture is
    like nothing that was taught. `best` names the most probable class all the same. `probabilities` are of all classes;
    `image_bgr` is the picture, `(h, w, 3)` uint8. `novelty` is above 1 for what is novel, and `nearest` is the class whose
    training pictures are nearest: both None of a model without features. `where` `(h, w)` float32 says which places speak for
    `best` (None of a model of good parts alone), `novel_where` which make the picture novel.
    """

    label: str | None
    best: str
    probability: float
    probabilities: dict[str, float]
    image_bgr: NDArray[np.uint8]
    verdict: Verdict = "label"
    novelty: float | None = None
    nearest: str | None = None
    where: NDArray[np.float32] | None = None
    novel_where: NDArray[np.float32] | None = None
    input_hw: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, prediction: Prediction, classifier: Classifier, image_bgr: NDArray[np.uint8]) -> Answer:
        """Name the classes of a prediction."""
        labels = classifier.labels
        named = {label: float(p) for label, p in zip(labels, prediction.probabilities, strict=True)}
        return cls(
            prediction.label,
            labels[prediction.class_id],
            prediction.probability,
            named,
            image_bgr,
            prediction.verdict,
            prediction.novelty,
            prediction.nearest,
            prediction.where,
            prediction.novel_where,
            classifier.preprocessing.shape[:2],
        )

    def __repr__(self) -> str:
        return f"Answer({self.label or self.verdict}, {self.best} {self.probability:.1%})"

    def _repr_html_(self) -> str:
        from edgecnn.where import overlay

        title = f"{self.label or self.verdict} ({self.best} {self.probability:.1%})"
        figures = [markup.figure(self.image_bgr, title)]
        if self.where is not None:
            figures.append(markup.figure(overlay(self.image_bgr, self.where, self.input_hw), f"what speaks for {self.best}"))
        if self.novel_where is not None:
            novel = overlay(self.image_bgr, self.novel_where, self.input_hw, "novelty")
            figures.append(markup.figure(novel, "what is novel"))
        return markup.row([*figures, markup.stems(self.probabilities)])


@dataclass(frozen=True, eq=False)
class Model:
    """A model that runs: call it with a picture."""

    name: str
    classifier: Classifier

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes in their order."""
        return self.classifier.labels

    @property
    def reject_threshold(self) -> float | None:
        """The probability below which an answer is unsure, 0..1; None when every answer is named."""
        return self.classifier.unsure_below

    def __call__(self, picture: Path | str | NDArray[np.uint8], *, where: bool = False) -> Answer:
        """Classify one picture: a file, or an array, gray `(h, w)` or BGR `(h, w, 3)` uint8.

        With `where`, the answer says which places speak for it, and which are novel; InputError for a model without a map of
        features. Raises PictureError for a file that is not a whole picture, ShapeError for another array.
        """
        from edgecnn.pictures import read_picture

        image = read_picture(Path(picture)) if isinstance(picture, (str, Path)) else picture
        (prediction,) = self.classifier.classify([image], where=where)
        return Answer.of(prediction, self.classifier, image)

    def __repr__(self) -> str:
        return f"Model({self.name!r} on {self.classifier.runtime.name}: {', '.join(self.labels)})"


@dataclass(frozen=True, eq=False)
class Seen:
    """What a camera or a video shows in one frame.

    `label` is that of the worst region, smoothed over the last frames; None when it is unknown, nothing was found, or `state`
    is not `ok` (`stale`, `blind` or `error`, with a `reason`). `regions` are all that was looked at.
    """

    label: str | None
    probability: float | None
    state: str
    reason: str
    regions: tuple[RegionPrediction, ...]
    observation: Observation

    @property
    def frame(self) -> int | None:
        """The frame's number from 0 on, None when there is no frame."""
        return None if self.observation.frame is None else self.observation.frame.number

    def __repr__(self) -> str:
        answer = (self.label or "unknown") if self.state == "ok" else f"{self.state}: {self.reason}"
        return f"Seen(frame {self.frame}: {answer})"

    def _repr_html_(self) -> str:
        frame = self.observation.frame
        return (
            f"<p>{html.escape(repr(self))}</p>" if frame is None else markup.row([markup.figure(frame.image_bgr, repr(self))])
        )


def load_folder(
    folder: Path | str,
    *,
    task: str | None = None,
    color: Color | None = None,
    fit: FolderFit = "auto",
    size_hw: tuple[int, int] | None = None,
    conflicts: Conflicts | None = None,
    group_by: Path | str | None = None,
    seed: int = 0,
) -> LabelledFolder:
    """Read pictures from one folder per class and divide them 70 : 15 : 15, or as train, val and test folders say.

    `color`, `fit` and `size_hw` are the model's input, by default what suits most pictures; `conflicts` says what to do
    about the same picture in two classes, by default `refuse`; `group_by` says which pictures show the same part: a CSV
    table (file, group), a regular expression with one group, `folder`, or `minutes:N`. With `task`, `mnist` or `neu`, the
    folder holds that data set as it is published, and is divided as the shipped model was trained. Raises DatasetError when
    the folder cannot be used, InputError for what says how to read a folder beside `task`.
    """
    from edgecnn.datasets.folder import task_from_folder
    from edgecnn.datasets.load import load_splits
    from edgecnn.datasets.reading import InputChoice
    from edgecnn.shipped import find_task

    path = Path(folder)
    if task is None:
        choice = InputChoice(color, fit, size_hw)
        found = task_from_folder(path, choice=choice, conflicts=conflicts or "refuse", group_by=group_by)
    elif (color, fit, size_hw, conflicts, group_by) != (None, "auto", None, None, None):
        raise InputError(
            "color, fit, size_hw, conflicts and group_by belong to a folder of your own; "
            f"{task} is a task whose pictures are known"
        )
    else:
        found = find_task(task)
    return LabelledFolder(path, found, load_splits(found, path, seed))


def train(
    data: LabelledFolder | None = None,
    *,
    start: Run | Path | str | None = None,
    add: Sequence[Path | str] = (),
    new_classes: Sequence[str] = (),
    network: Network = "auto",
    teacher: bool = True,
    epochs: int | None = None,
    minutes: float | None = None,
    splits: Path | str | None = None,
    seed: int = 0,
    out: Path | str | None = None,
    progress: _Progress = print,
) -> Run:
    """Train a network on the folder's pictures; the run is written to `out`, by default `runs/NAME`, or `runs/NAME-NETWORK`.

    Instead of `data`, `start` names a run to go on from, with the labelled samples or class folders in `add`, as
    `edgecnn train --from` does: its network, split and classes are kept, and `new_classes` are learned beside them. The new run
    is written to `out`, by default RUN-2, and its `comparison` says whether it is better.

    `auto` trains lite and, taught by it, compact, and takes one of them (`edgecnn train --help` has the rule); `compact` has
    the same teacher unless `teacher` is False. `epochs` is by default the recipe's, or as many as fit into `minutes`. `splits`
    is a run or a `splits.csv` whose split is kept, with new pictures dealt to it, or `new`; by default the run it replaces.
    Needs the extra `train`. Raises what `edgecnn_export.training.train` raises; InputError for both or none of `data` and
    `start`.
    """
    if (data is None) == (start is None):
        raise InputError("give either a folder to train on, or start=RUN to go on from, with add=[...]")
    if start is not None:
        if network != "auto" or splits is not None or not teacher:
            raise InputError("start=RUN keeps the run's network and split; leave network, teacher and splits out")
        return _go_on(start, add, new_classes, out, epochs=epochs, minutes=minutes, seed=seed, progress=progress)
    assert data is not None
    if add or new_classes:
        raise InputError("add and new_classes need start=RUN")
    from edgecnn_export.run_folder import usual_folder

    folder = Path(out) if out is not None else usual_folder(data.task.name, network)
    data = _with_kept_split(data, splits, seed, folder)
    if network == "auto":
        from edgecnn_export.training.auto import train_auto

        found, _ = train_auto(data.task, data.splits, out=folder, epochs=epochs, minutes=minutes, seed=seed, progress=progress)
        return Run(data, found)
    from edgecnn_export.training import train as run_training

    taught = teacher and network == "compact"
    result = run_training(
        data.task, data.splits, out=folder, model=network, teacher=taught, epochs=epochs, minutes=minutes, seed=seed,
        progress=progress,
    )  # fmt: skip
    return Run(data, result)


def _with_kept_split(data: LabelledFolder, stated: Path | str | None, seed: int, out: Path) -> LabelledFolder:
    from edgecnn.datasets.kept_split import keep_split, table_to_keep
    from edgecnn.tasks import SHIPPED

    table = table_to_keep(stated, own=data.task.name not in SHIPPED, random=False, out=out)
    if table is None:
        return data
    kept = keep_split(data.splits, len(data.labels), table, seed=seed, stated=stated is not None)
    return replace(data, splits=kept)


def _go_on(
    start: Run | Path | str, add: Sequence[Path | str], new_classes: Sequence[str], out: Path | str | None, **options: Any
) -> Run:
    """Go on from a run; InputError where nothing is added."""
    from edgecnn_export.frameworks import require_keras

    require_keras()
    from edgecnn_export.run_folder import next_folder
    from edgecnn_export.training.continuation import continue_training, open_start

    if not add:
        raise InputError("start=RUN needs add=[DIR, ...]: a samples folder, or class folders")
    opened = open_start(start.folder if isinstance(start, Run) else Path(start), new_classes=new_classes)
    folder = next_folder(opened.folder) if out is None else Path(out)
    found = continue_training(opened, [Path(each) for each in add], out=folder, **options)
    assert found.splits.folder is not None
    data = LabelledFolder(found.splits.folder, opened.task, found.splits)
    return Run(data, found.run, found.comparison)


def export(
    run: Run | Path | str,
    *,
    int8: bool = False,
    repair: bool | None = None,
    file_format: FileFormat = "all",
    out: Path | str | None = None,
    progress: _Progress = print,
) -> Export:
    """Write a model as TFLite and ONNX and prove each file against it, on the validation pictures of its training.

    `run` is a Run, the path of one or of a `.keras` file, or the name of a task that ships. With `repair`, int8 files that fail
    go through remedies until one passes. The files are written to `out`, by default `exports/NAME`. Needs the extra `export`.
    Raises what `edgecnn_export.exporter.export` raises; DatasetError when there are no pictures to prove the files with.
    """
    from edgecnn_export.frameworks import require_keras

    require_keras()
    from edgecnn_export.calibration_data import find_splits
    from edgecnn_export.exporter import export as run_export
    from edgecnn_export.exporter import formats_named
    from edgecnn_export.models import open_reference

    reference = run.result.reference if isinstance(run, Run) else open_reference(run)
    splits = run.data.splits if isinstance(run, Run) else find_splits(reference, None, None, 0)
    folder = Path(out) if out is not None else Path("exports") / reference.task.name
    wanted = formats_named(file_format)
    made = run_export(reference, out=folder, formats=wanted, int8=int8, repair=repair, splits=splits, progress=progress)
    return Export(made)


def compare(reference: Run | Path | str, *files: Path | str, data: Path | str | None = None, seed: int = 0) -> ParityReport:
    """Compare exported files with a model on labelled pictures: which answers flip, and how much accuracy that can cost.

    The pictures are those in `data`, by default the validation pictures of the model's training. Raises what opening the
    models and loading the pictures raises.
    """
    from edgecnn_export.models import open_model
    from edgecnn_export.parity.files import check_candidates, measure
    from edgecnn_export.parity.reference_check import check_reference

    if not files:
        raise InputError("name at least one exported file to compare with the reference")
    opened = open_model(str(reference.folder if isinstance(reference, Run) else reference), of_task="keras")
    check_candidates(files, opened)
    splits = opened.splits(None if data is None else Path(data), seed)
    doubt = None if opened.reference is None else check_reference(opened.reference, splits.validation, seed=seed)
    reason = None if doubt is None else doubt.text
    return measure(opened, [str(file) for file in files], splits, "validation", doubt=reason, seed=seed).report


def open(model: Path | str, *, runtime: str | None = None, threads: int = 1, verify: bool = True) -> Model:
    """Open an exported file, or the shipped int8 model of a task by the task's name (`mnist`, `neu`).

    With `verify`, the file must give the answers on this machine that it gave where it was exported; that is tried in a child
    process with a time limit. Raises ArtifactError for a file that is damaged, not ours, or answers otherwise,
    MissingDependencyError without a runtime for it.
    """
    from edgecnn.artifacts import Artifact
    from edgecnn.classifier import Classifier, artifact_path
    from edgecnn.runtimes import probe
    from edgecnn.shipped import is_shipped

    artifact = Artifact.open(artifact_path(model))
    if verify and not is_shipped(artifact.path):
        probe.verify(artifact, runtime=runtime, threads=threads).demand()
    return Model(str(model), Classifier.of(artifact, runtime=runtime, threads=threads))


def watch(
    model: Model | Path | str,
    source: Path | str = "synthetic",
    *,
    roi: tuple[float, float, float, float] | None = None,
    tiles: str | None = None,
    smooth: int = 5,
    fps: float | None = None,
    good: Collection[str] | None = None,
) -> Iterator[Seen]:
    """Return what a camera, video or folder of pictures shows, frame by frame, until it ends or you stop.

    `source` is what `edgecnn camera --source` takes: 0, /dev/video0, rtsp://..., a video file, a folder. `roi` is x, y, width
    and height in pixels, or as fractions of the picture where one is not an integer. `tiles` such as `3x2` looks at each part
    by itself; `good` are the labels that are no defect. Raises InputError for what cannot be opened.
    """
    from edgecnn_device.camera import watch as run_watch
    from edgecnn_device.classes import Classes

    opened = model if isinstance(model, Model) else open(model)
    classes = Classes.choose(opened.labels, good=None if good is None else tuple(good))
    observations = run_watch(opened.classifier, str(source), roi=roi, tiles=tiles, smooth=smooth, fps=fps)
    return (_seen(each, classes.worst(each.predictions)) for each in observations)


def _seen(observation: Observation, worst: RegionPrediction | None) -> Seen:
    answer, state = None if worst is None else worst.smoothed, observation.state
    label, probability = (None, None) if answer is None else (answer.label, answer.probability)
    return Seen(label, probability, state.name, state.reason, observation.predictions, observation)
