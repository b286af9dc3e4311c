"""Why a model gave its answer to one picture, as a self-contained HTML page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecnn import markup
from edgecnn.classifier import Classifier, Prediction
from edgecnn.datasets.dataset import Dataset
from edgecnn.errors import InputError
from edgecnn.files import write_bytes
from edgecnn.preprocessing import as_bgr
from edgecnn.rejection.evidence import run_with_features
from edgecnn.robustness.corruptions import SEVERITIES, corrupt, corruptions_for
from edgecnn.runtimes.head import unit
from edgecnn.runtimes.runtime import answer
from edgecnn.tasks import Task
from edgecnn.where import overlay
from edgecnn_export.pages import render

NEAREST = 6


@dataclass(frozen=True)
class Flip:
    """The first severity of a corruption at which the answer is another one, and that answer."""

    corruption: str
    severity: int
    answer: str


@dataclass(frozen=True, eq=False)
class Explanation:
    """What stands behind an answer: `image_bgr` is the picture, `seen` what the network saw of it.

    `distance` is that to the nearest centre of the training pictures, None of a model without thresholds. `nearest` are the
    training pictures of the nearest features by name, with their distance, none where there are none here; `absent` says why.
    `strangeness` is that of `Preprocessing.strangeness`.
    """

    name: str
    image_bgr: NDArray[np.uint8]
    seen: NDArray[np.uint8]
    prediction: Prediction
    labels: tuple[str, ...]
    input_hw: tuple[int, int]
    distance: float | None
    nearest: tuple[tuple[str, NDArray[np.uint8], float], ...]
    absent: str
    flips: tuple[Flip, ...]
    strangeness: float = 0.0


def explain(
    classifier: Classifier,
    task: Task,
    image_bgr: NDArray[np.uint8],
    *,
    name: str = "picture",
    train: Dataset | None = None,
    absent: str = "",
    seed: int = 0,
) -> Explanation:
    """Find out what stands behind the answer to one picture, gray `(h, w)` or BGR `(h, w, 3)` uint8.

    `train` are the training pictures, `absent` says why they are not here. A model without a map or without features leaves
    out what it has not.
    """
    try:
        (prediction,) = classifier.classify([image_bgr], where=True)
    except InputError:
        (prediction,) = classifier.classify([image_bgr])
    seen, strangeness = classifier.preprocessing(image_bgr), classifier.preprocessing.strangeness(image_bgr)
    return Explanation(
        name=name,
        image_bgr=image_bgr,
        seen=seen,
        prediction=prediction,
        labels=classifier.labels,
        input_hw=(classifier.preprocessing.height, classifier.preprocessing.width),
        distance=classifier.distance(answer(classifier.runtime, seen[None])),
        nearest=() if train is None else _nearest(classifier, seen, train),
        absent=absent,
        flips=_flips(classifier, task, seen, say(prediction), strangeness, seed),
        strangeness=strangeness,
    )


def say(prediction: Prediction) -> str:
    """Say an answer in a word."""
    return prediction.label or prediction.verdict


def _nearest(
    classifier: Classifier, seen: NDArray[np.uint8], train: Dataset
) -> tuple[tuple[str, NDArray[np.uint8], float], ...]:
    own = answer(classifier.runtime, seen[None]).pooled
    if own is None:
        return ()
    theirs = run_with_features(classifier.runtime, train.images).pooled
    distances = np.linalg.norm(unit(theirs) - unit(own), axis=1)
    return tuple(
        (str(train.names[i]), np.asarray(train.images[i]), float(distances[i])) for i in np.argsort(distances)[:NEAREST]
    )


def _flips(
    classifier: Classifier, task: Task, seen: NDArray[np.uint8], given: str, strangeness: float, seed: int
) -> tuple[Flip, ...]:
    """Corrupt what the network saw, as `edgecnn robustness` does, at one severity after the other.

    What was lost before it saw anything, by which the picture is strange, no corruption brings back.
    """
    flips = []
    for corruption in corruptions_for(task):
        pictures = np.concatenate([corrupt(seen[None], corruption, severity, seed) for severity in SEVERITIES])
        found_in = classifier.interpret_all(answer(classifier.runtime, pictures), np.full(len(pictures), strangeness))
        answers = [say(each) for each in found_in]
        found = next((i for i, each in enumerate(answers) if each != given), None)
        if found is not None:
            flips.append(Flip(corruption.name, SEVERITIES[found], answers[found]))
    return tuple(sorted(flips, key=lambda flip: flip.severity))


def write_page(explanation: Explanation, path: Path) -> None:
    """Write the page, whole or not at all."""
    write_bytes(path, render_page(explanation).encode())


def render_page(explanation: Explanation) -> str:
    """Return the page as HTML; raises MissingDependencyError without Jinja2."""
    prediction, seen = explanation.prediction, as_bgr(explanation.seen)
    pictures = [markup.figure(explanation.image_bgr, "the picture"), markup.figure(seen, "what the network saw")]
    if prediction.where is not None:
        best = explanation.labels[prediction.class_id]
        pictures.append(markup.figure(overlay(seen, prediction.where, explanation.input_hw), f"what speaks for {best}"))
    if prediction.novel_where is not None:
        novel = overlay(seen, prediction.novel_where, explanation.input_hw, "novelty")
        pictures.append(markup.figure(novel, f"what is novel{_novel_most(prediction)}"))
    named = dict(zip(explanation.labels, map(float, prediction.probabilities), strict=True))
    flips = [[flip.corruption, str(flip.severity), flip.answer] for flip in explanation.flips]
    return render(
        Path(__file__).with_name("explain.html"),
        headline=f"{explanation.name}: {_headline(explanation)}",
        about=_about(prediction, explanation.labels),
        pictures=markup.row(pictures),
        stems=markup.stems(named),
        likeness=_likeness(prediction, explanation.distance, explanation.strangeness),
        nearest=markup.row([markup.figure(as_bgr(i), f"{d:.2f} {n}", title=n) for n, i, d in explanation.nearest])
        if explanation.nearest
        else "",
        absent=explanation.absent or "This model gives no features, by which training pictures could be compared.",
        flips=markup.table(["corruption", "from severity", "answer"], flips)
        if flips
        else "<p>Nothing that was tried changes it.</p>",
    )


def _about(prediction: Prediction, labels: tuple[str, ...]) -> str:
    if len(labels) == 1:
        return f"It is like good parts by {prediction.probability:.1%}; 50.0% is the threshold."
    return f"The most probable class is {labels[prediction.class_id]}, with {prediction.probability:.1%}."


def _novel_most(prediction: Prediction) -> str:
    """Say how much of the novelty the most novel place is due to; it is none of a picture that is novel all over."""
    assert prediction.novel_where is not None
    most = float(prediction.novel_where.max())
    if len(prediction.probabilities) == 1:  # of good parts alone
        return f": up to {most:.2f} above the threshold" if most >= 0.005 else ": no place is above the threshold"
    return f": up to {most:.2f} of the novelty" if most >= 0.005 else ": no place more than others"


def _headline(explanation: Explanation) -> str:
    prediction = explanation.prediction
    if prediction.between is not None:
        return f"unsure between {' and '.join(prediction.between)}"
    return say(prediction)


def _likeness(prediction: Prediction, distance: float | None, strangeness: float) -> str:
    if prediction.novelty is None or distance is None:
        return "This model has no thresholds: it cannot tell how similar the picture is to its training pictures."
    verdict = "above the threshold" if prediction.novelty > 1 else "within what was taught"
    nearest = f"Nearest class: {prediction.nearest}, at a distance of {distance:.3f}."
    if len(prediction.probabilities) == 1:
        nearest = f"Its oddest places are at a distance of {distance:.3f} from those of good parts."
    strange = " The picture does not show one digit on even paper; what the network saw keeps strokes alone."
    return f"Novelty {prediction.novelty:.2f}, 1 is the threshold: {verdict}. {nearest}{strange if strangeness > 1 else ''}"
