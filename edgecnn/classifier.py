"""From pictures to predictions: the few lines between a camera, a folder or a data set and a runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgecnn import shipped
from edgecnn.artifacts import Artifact, Contract
from edgecnn.artifacts.artifact import SUFFIXES
from edgecnn.errors import InputError
from edgecnn.preprocessing import Fit, Preprocessing
from edgecnn.quick_dataclass import dataclass
from edgecnn.rejection.evidence import Evidence, Judged
from edgecnn.rejection.good_parts import GoodParts, Guard
from edgecnn.runtimes import Runtime, open_runtime
from edgecnn.runtimes.head import read_weights
from edgecnn.runtimes.runtime import Answers, answer

if TYPE_CHECKING:
    from edgecnn.normalization import InputConvention

KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")
NO_THRESHOLDS = "this model has no thresholds: every picture gets a label, whatever it shows; export it again with its pictures"

Verdict = Literal["label", "unsure", "novel"]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What was seen in one picture: `probabilities` `(classes,)` float32; `label` is None unless the `verdict` is `label`.

    An answer is `unsure` where no class is probable enough, and `novel` where the picture is like nothing that was taught:
    `novelty` is then above 1. `nearest` is the class whose training pictures are nearest. Both are None of a model without
    features. Two maps `(height, width)` float32, of the size of the model's input, are there where they were asked for: `where`
    says which places speak for the class, and `novel_where` which make the picture novel, on the scale of `novelty`. The
    second is None of a model without thresholds.
    """

    label: str | None
    class_id: int
    probability: float
    probabilities: NDArray[np.float32]
    verdict: Verdict = "label"
    novelty: float | None = None
    nearest: str | None = None
    between: tuple[str, str] | None = None
    where: NDArray[np.float32] | None = None
    novel_where: NDArray[np.float32] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the prediction with plain numbers; what is not known is left out."""
        evidence = {"novelty": self.novelty, "nearest": self.nearest, "between": self.between and list(self.between)}
        return {
            "label": self.label,
            "verdict": self.verdict,
            "class_id": self.class_id,
            "probability": self.probability,
            "probabilities": [float(p) for p in self.probabilities],
            **{name: value for name, value in evidence.items() if value is not None},
        }


@dataclass(frozen=True, eq=False)
class Classifier:
    """A runtime with what its answers mean: labels in class order, the way to its input, and when an answer is none.

    With `evidence` an answer may be unsure or novel; `reject_threshold` is the probability below which it is unsure without,
    and what a reader of digits asks of each. `novel_above` is the novelty, on the scale of the evidence, that predictions state
    as 1. `notes` are what was deduced about another tool's model, a sentence each.
    """

    runtime: Runtime
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    reject_threshold: float | None = None
    notes: tuple[str, ...] = ()
    evidence: Guard | None = None
    novel_above: float = 1.0

    @classmethod
    def open(cls, model: Path | str, *, runtime: str | None = None, threads: int = 1) -> Classifier:
        """Open an artifact by its path, or the shipped int8 artifact of a task by the task's name."""
        return cls.of(Artifact.open(artifact_path(model)), runtime=runtime, threads=threads)

    @classmethod
    def of(cls, artifact: Artifact, *, runtime: str | None = None, threads: int = 1) -> Classifier:
        """Run an artifact that was read already; raises what `open_runtime` raises."""
        return cls.running(open_runtime(artifact, runtime=runtime, threads=threads), artifact.contract)

    @classmethod
    def running(cls, runtime: Runtime, contract: Contract) -> Classifier:
        """Classify by what an opened model's contract says; ContractError where its evidence is malformed."""
        evidence = read_evidence(contract)
        return cls(runtime, contract.labels, contract.preprocessing, contract.reject_threshold, evidence=evidence)

    @classmethod
    def open_foreign(
        cls,
        path: Path,
        labels: Sequence[str] | None = None,
        *,
        convention: InputConvention | None = None,
        fit: Fit = "squash",
        output: str | None = None,
        runtime: str | None = None,
        threads: int = 1,
    ) -> Classifier:
        """Open another tool's `.tflite` with what is known of it; what is not stated is taken from the file.

        The file is tried in a child process first. Raises what `edgecnn.foreign.open_foreign` raises.
        """
        from edgecnn.foreign import ForeignModel, open_foreign
        from edgecnn.normalization import UNSTATED

        stated = ForeignModel(None if labels is None else tuple(labels), convention or UNSTATED, fit, output)
        opened = open_foreign(path, stated, runtime=runtime, threads=threads)
        contract = opened.artifact.contract
        return cls(opened.runtime, contract.labels, contract.preprocessing, notes=opened.notes)

    def classify(self, images_bgr: Sequence[NDArray[np.uint8]], *, where: bool = False) -> list[Prediction]:
        """Classify pictures of any size, gray `(h, w)` or BGR `(h, w, 3)` uint8.

        With `where`, a prediction says which places speak for it, and which make it novel; InputError for a model without a
        map of features.
        """
        if not images_bgr:
            return []
        inputs = np.stack([self.preprocessing(image) for image in images_bgr])
        answers = answer(self.runtime, inputs)
        predictions = self.interpret_all(answers, np.array([self.preprocessing.strangeness(image) for image in images_bgr]))
        return self.locate(inputs, answers, predictions) if where else predictions

    def locate(self, inputs: NDArray[np.uint8], answers: Answers, predictions: Sequence[Prediction]) -> list[Prediction]:
        """Return predictions of inputs `(n, height, width, channels)` with their maps; InputError without a map of features.

        Of good parts alone there is only what is novel: with one class nothing speaks for it rather than for another.
        """
        from edgecnn.where import enlarge, located_maps, novelty_maps  # few ask for maps

        maps: list[NDArray[np.float32] | None] = [None] * len(predictions)
        novel = maps
        size_hw = self.preprocessing.shape[:2]
        if not self.only_good:
            class_ids = [each.class_id for each in predictions]
            maps = [*located_maps(self.runtime, self.evidence, inputs, answers, class_ids)]
        if self.evidence is not None:
            novel = [enlarge(each, size_hw, size_hw[::-1]) for each in novelty_maps(self.evidence, answers)]
        rows = zip(predictions, maps, novel, strict=True)
        return [replace(each, where=own, novel_where=strange) for each, own, strange in rows]

    @property
    def unsure_below(self) -> float | None:
        """The probability below which an answer is unsure, None where every answer is named."""
        return self.reject_threshold if self.evidence is None else self.evidence.info.unsure_below

    @property
    def warning(self) -> str:
        """What should be known beside its answers: that all of them are labels; "" otherwise."""
        return NO_THRESHOLDS if self.unsure_below is None else ""

    def rejecting(self, threshold: float | None, novelty: float | None = None) -> Classifier:
        """Return the classifier whose answers are unsure below another probability, and novel above another novelty than 1.

        What is None stays as it is. InputError for a novelty where the model does not tell it.
        """
        evidence = self.evidence
        if novelty is not None:
            if evidence is None:
                raise InputError("this model does not tell what is novel; omit --novelty, or export it again with its pictures")
            evidence = evidence.with_thresholds(novel_above=novelty * evidence.info.novel_above)
        other = self if novelty is None else replace(self, evidence=evidence, novel_above=novelty * self.novel_above)
        if threshold is None:
            return other
        evidence = None if evidence is None else evidence.with_thresholds(unsure_below=threshold)
        return replace(other, reject_threshold=threshold, evidence=evidence)

    @property
    def only_good(self) -> bool:
        """True when the model knows good parts alone: its answers are `label` and `novel`, its maps those of novelty."""
        return len(self.labels) == 1

    def interpret_all(self, answers: Answers, strangeness: NDArray[np.float64] | None = None) -> list[Prediction]:
        """Say what each answer of a batch means; the novelty of each is at least the picture's own `strangeness` `(n,)`."""
        judged = self.judge(answers)
        if judged is not None and strangeness is not None:
            judged = replace(judged, novelty=np.maximum(judged.novelty, strangeness / self.novel_above))
        return self.interpret_rows(answers.probabilities, judged)

    def judge(self, answers: Answers) -> Judged | None:
        """Return how novel the pictures of a batch are, and what they are nearest to; None of a model without evidence."""
        pooled = None if self.evidence is None else answers.pooled
        if self.evidence is None or pooled is None:
            return None
        return self.evidence.judge(pooled, answers.probabilities)

    def distance(self, answers: Answers) -> float | None:
        """Return how far the first picture of a batch is from the nearest centre, 0 to 2; None of a model without evidence.

        Of good parts alone it is the mean distance of its oddest places to the nearest good ones.
        """
        pooled = None if self.evidence is None else answers.pooled
        if self.evidence is None or pooled is None:
            return None
        return self.evidence.distance(pooled[:1], answers.probabilities[:1])

    def interpret_rows(self, probabilities: NDArray[np.float32], judged: Judged | None) -> list[Prediction]:
        """Say what answers `(n, classes)` mean."""
        if judged is None:
            return [self.interpret(row) for row in probabilities]
        rows = zip(probabilities, judged.novelty.tolist(), judged.nearest.tolist(), judged.tempered, strict=True)
        return [self.interpret(*row) for row in rows]

    def interpret(
        self,
        probabilities: NDArray[np.float32],
        novelty: float | None = None,
        nearest: int | None = None,
        tempered: NDArray[np.float32] | None = None,
    ) -> Prediction:
        """Say what `(classes,)` as a runtime gives them mean, of a picture of this novelty where it is known.

        They are tempered here, unless that is done already.
        """
        threshold = self.reject_threshold
        if self.evidence is not None and novelty is not None:
            probabilities = self.evidence.temper(probabilities) if tempered is None else tempered
            threshold = self.evidence.info.unsure_below
        class_id = int(probabilities.argmax())
        probability: float = probabilities.item(class_id)
        verdict: Verdict = "label"
        if novelty is not None and novelty > 1:
            verdict = "novel"
        elif threshold is not None and probability < threshold:
            verdict = "unsure"
        return Prediction(
            self.labels[class_id] if verdict == "label" else None,
            class_id,
            probability,
            probabilities,
            verdict,
            novelty,
            None if nearest is None else self.labels[nearest],
            self._between(probabilities) if verdict == "unsure" else None,
        )

    def _between(self, probabilities: NDArray[np.float32]) -> tuple[str, str]:
        first, second = np.argsort(-probabilities, kind="stable")[:2]
        return self.labels[first], self.labels[second]


def read_evidence(contract: Contract) -> Guard | None:
    """Return when a model's answers are unsure or novel; None where its contract does not say."""
    if contract.good_parts is not None:
        return GoodParts(contract.good_parts)
    if contract.evidence is None or contract.head is None:
        return None
    taught = sum(each.centres for each in contract.taught)
    return Evidence(contract.evidence, len(read_weights(contract.head)), len(contract.labels), contract.head, taught)


def artifact_path(model: Path | str) -> Path:
    """Return the path of an artifact given as a path, or as a task's name for the shipped int8 one.

    Raises InputError for a folder and for what Keras saves, saying what to give instead; UnknownTaskError for an unknown name.
    """
    path = named_path(model)
    if path.is_dir():
        raise InputError(f"{path} is a folder, not an exported file; {_in_folder(path)}")
    if path.suffix.lower() in KERAS_SUFFIXES and path.is_file():
        raise InputError(f"{path} is what Keras saves, not an exported file; make one from it: edgecnn export {path} --int8")
    return path


def named_path(model: Path | str) -> Path:
    """Return the path that `artifact_path` looks at, whatever is there; UnknownTaskError for an unknown name."""
    path = Path(model)
    is_name = not path.suffix and path.name == str(model)
    if not is_name or path.is_file() or (path.is_dir() and path.name not in shipped.names()):
        return path
    return shipped.int8_path(path.name)


def _in_folder(folder: Path) -> str:
    """Say what to give instead of a folder: the exported files in it, else those that can be made of it."""
    exported = sorted(each.name for each in folder.iterdir() if each.suffix in SUFFIXES)
    if exported:
        return f"name one of those in it: {', '.join(exported[:4])}"
    if (folder / "model.keras").is_file() or (folder / "saved_model.pb").is_file():
        return f"make one from the model in it: edgecnn export {folder} --int8"
    return f"it holds none, nor a model to make one from ({' or '.join(SUFFIXES)} is run here)"
