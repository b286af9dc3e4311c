"""How soon a camera notices each corruption of its pictures, and how often it raises a false alarm: both simulated.

A corruption is that of one camera: its lamp stands on one side and its dust in one place, for all pictures alike; a few
cameras are drawn. Each corrupted picture is judged by a baseline of all held-out pictures but those of its own part.

For false alarms parts drawn with replacement say what is usual, and plants that show all parts are judged by that, which is
then as wrong as so many parts make it (bootstrap). It is harder when halves of the parts judge each other: half as many say
what is usual, and what differs between the halves by chance never ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.classifier import Classifier
from edgecnn.datasets.dataset import Dataset
from edgecnn.drift import MIN_PICTURES, Baseline, alarm_level, grown, measure_all, statistics_for
from edgecnn.errors import DatasetError
from edgecnn.robustness.corruptions import Corruption, corrupt
from edgecnn.text import aligned

CAMERAS, RUNS, MOST_FRAMES = 4, 25, 1000
WANTED_FRAMES = 200
_DRAWS, _FALSE_RUNS = 20, 50
# More parts are left out together: a baseline without a hundredth of the pictures is as good as one without a part.
_MOST_FOLDS = 100
Floats = NDArray[np.float64]
Seen = tuple[Floats, NDArray[np.int64]]


@dataclass(frozen=True)
class Noticed:
    """How a corruption was noticed in `runs` of at most MOST_FRAMES pictures: after how many, and as what.

    `frames` are those of the runs in which it was, sorted.
    """

    name: str
    runs: int
    frames: tuple[int, ...]
    words: tuple[str, ...]

    @property
    def median(self) -> int | None:
        """The median; None where most runs did not notice it."""
        return self.frames[self.runs // 2] if len(self.frames) > self.runs // 2 else None

    @property
    def worst(self) -> int | None:
        """The latest; None where a run did not notice it."""
        return self.frames[-1] if len(self.frames) == self.runs else None

    def to_json(self) -> dict[str, Any]:
        """Return it with plain values."""
        seen = {"runs": self.runs, "noticed": len(self.frames), "median_frames": self.median, "worst_frames": self.worst}
        return {"corruption": self.name, **seen, "words": list(self.words)}


@dataclass(frozen=True)
class DriftStudy:
    """What was found: the pictures and their parts, corruptions at a severity, and false alarms in clean `frames`.

    `halves_alarms` are those in as many frames when halves of the parts judge each other.
    """

    pictures: int
    parts: int
    severity: int
    noticed: tuple[Noticed, ...]
    false_alarms: int
    halves_alarms: int
    frames: int

    @property
    def unseen(self) -> list[str]:
        """The corruptions that at least one run did not notice."""
        return [each.name for each in self.noticed if each.worst is None]

    def to_json(self) -> dict[str, Any]:
        """Return it with plain values."""
        return {
            "pictures": self.pictures,
            "parts": self.parts,
            "severity": self.severity,
            "corruptions": [each.to_json() for each in self.noticed],
            "unseen": self.unseen,
            "false_alarms": self.false_alarms,
            "halves_alarms": self.halves_alarms,
            "clean_frames": self.frames,
        }


def study_drift(
    classifier: Classifier,
    dataset: Dataset,
    corruptions: Sequence[Corruption],
    *,
    severity: int = 3,
    frames: int = 1_000_000,
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> DriftStudy:
    """Measure both; DatasetError for pictures of too few parts."""
    parts = np.arange(len(dataset)) if dataset.groups is None else np.unique(dataset.groups, return_inverse=True)[1]
    if parts.max(initial=-1) + 1 < 2 * MIN_PICTURES:
        raise DatasetError(f"a study of drift needs pictures of {2 * MIN_PICTURES} parts, and has {parts.max(initial=-1) + 1}")
    bench = _Bench(classifier, dataset, parts)
    progress(f"measuring {len(dataset)} clean pictures")
    clean = measure_all(classifier, dataset.images)
    others = bench.without_own(clean, seed)
    noticed = []
    for corruption in corruptions:
        progress(f"measuring {len(dataset)} pictures of {CAMERAS} cameras with {corruption.name}")
        noticed.append(bench.notice(corruption, severity, others, seed))
    progress(f"looking for false alarms in {frames:,} clean pictures")
    steps = -(-frames // (_DRAWS * _FALSE_RUNS))
    alarms = sum(bench.resampled(clean, steps, np.random.default_rng((seed, draw))) for draw in range(_DRAWS))
    halves = sum(bench.halved(clean, steps, np.random.default_rng((seed, draw))) for draw in range(_DRAWS // 2))
    seen = _DRAWS * steps * _FALSE_RUNS
    return DriftStudy(len(dataset), int(parts.max()) + 1, severity, tuple(noticed), alarms, halves, seen)


@dataclass(frozen=True, eq=False)
class _Bench:
    classifier: Classifier
    dataset: Dataset
    parts: NDArray[np.int64]

    def baseline(self, seen: Seen, chosen: NDArray[np.bool_], parts: NDArray[np.int64] | None = None) -> Baseline:
        """Return what is usual by the chosen pictures, of other parts than the data set's where these are given."""
        statistics, classes = statistics_for(self.classifier.preprocessing), len(self.classifier.labels)
        shown = (self.parts if parts is None else parts)[chosen]
        return Baseline.fit(statistics, seen[0][chosen], seen[1][chosen], classes, shown)

    def without_own(self, seen: Seen, seed: int) -> list[Baseline]:
        """Return the baseline of each picture: that of the parts that are not in its fold."""
        folds = np.random.default_rng(seed).permutation(self.parts.max() + 1)[self.parts] % _MOST_FOLDS
        found = {fold: self.baseline(seen, folds != fold) for fold in np.unique(folds)}
        return [found[fold] for fold in folds]

    def notice(self, corruption: Corruption, severity: int, baselines: Sequence[Baseline], seed: int) -> Noticed:
        """Show the pictures of each camera until the test notices them."""
        frames: list[int] = []
        words: Counter[str] = Counter()
        for camera in range(CAMERAS):
            images = corrupt(self.dataset.images, corruption, severity, seed + camera, one_camera=True)
            worth = _worth(baselines, measure_all(self.classifier, images))
            random = np.random.default_rng((seed, camera))
            for step, streams in _first_alarms(worth, random):
                frames.append(step)
                words.update(baselines[0].words(int(stream)) for stream in np.flatnonzero(streams))
        common = [word for word, count in words.most_common(3) if count > CAMERAS * RUNS // 10]
        return Noticed(corruption.name, CAMERAS * RUNS, tuple(sorted(frames)), tuple(common))

    def resampled(self, seen: Seen, steps: int, random: np.random.Generator) -> int:
        """Count the alarms of plants with all parts, by the baseline of as many that are drawn with replacement."""
        drawn = [
            np.flatnonzero(self.parts == part) for part in random.integers(self.parts.max() + 1, size=self.parts.max() + 1)
        ]
        groups = np.repeat(np.arange(len(drawn)), [len(each) for each in drawn])
        chosen = np.concatenate(drawn)
        baseline = self.baseline((seen[0][chosen], seen[1][chosen]), np.ones(len(chosen), bool), groups)
        return self._alarms(baseline, seen, np.ones(len(self.parts), bool), steps, random)

    def halved(self, seen: Seen, steps: int, random: np.random.Generator) -> int:
        """Count the alarms of plants with each half of the parts, by the baseline of the other."""
        first = random.permutation(self.parts.max() + 1)[self.parts] % 2 == 0
        return sum(self._alarms(self.baseline(seen, ~half), seen, half, steps, random) for half in (first, ~first))

    def _alarms(self, baseline: Baseline, seen: Seen, shown: NDArray[np.bool_], steps: int, random: np.random.Generator) -> int:
        """Count the alarms in plants with shares of the classes of their own, of the pictures that are shown."""
        worth = _worth([baseline] * int(shown.sum()), (seen[0][shown], seen[1][shown]))
        draw = _plants(self.dataset.class_ids[shown], random)
        return sum(int(found.any(axis=1).sum()) for _, found in _simulated(worth, steps, draw))


def _worth(baselines: Sequence[Baseline], seen: Seen) -> Floats:
    """Return the e-values of each picture by its own baseline, `(n, streams)`."""
    rows = zip(baselines, *seen, strict=True)
    return np.array([baseline.bets(values[None], class_id[None]).e_values for baseline, values, class_id in rows])


def _simulated(worth: Floats, steps: int, draw: Callable[[], NDArray[np.int64]]) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Yield each step and what alarms in it, `(runs, streams)`; a run that has alarmed begins again."""
    level = alarm_level(worth.shape[1])
    growth: Floats = np.zeros((1, worth.shape[1], 1))
    for step in range(1, steps + 1):
        growth = grown(growth, worth[draw()])
        alarms = growth.max(axis=2) >= level
        yield step, alarms
        growth[alarms.any(axis=1)] = 0.0


def _first_alarms(worth: Floats, random: np.random.Generator) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Yield when each run alarms first, and the streams that do."""
    waiting = np.ones(RUNS, bool)
    for step, alarms in _simulated(worth, MOST_FRAMES, lambda: random.integers(len(worth), size=RUNS)):
        for run in np.flatnonzero(alarms.any(axis=1) & waiting):
            yield step, alarms[run]
        waiting &= ~alarms.any(axis=1)
        if not waiting.any():
            return


def _plants(class_ids: NDArray[np.int64], random: np.random.Generator) -> Callable[[], NDArray[np.int64]]:
    """Return what draws a picture for each of _FALSE_RUNS plants, whose shares come from a flat Dirichlet distribution."""
    own = np.unique(class_ids, return_inverse=True)[1]
    shares = random.dirichlet(np.ones(own.max() + 1), _FALSE_RUNS)
    chances = shares[:, own] / np.bincount(own)[own]
    ends = np.cumsum(chances / chances.sum(axis=1, keepdims=True), axis=1)
    return lambda: np.minimum((random.random((_FALSE_RUNS, 1)) > ends).sum(axis=1), len(own) - 1)


def format_table(study: DriftStudy) -> list[str]:
    """Return the corruptions as lines."""
    rows = [("corruption", "median", "worst", "noticed", "as")]
    for each in study.noticed:
        median, worst = ("-" if found is None else str(found) for found in (each.median, each.worst))
        rows.append((each.name, median, worst, f"{len(each.frames)} of {each.runs}", ", ".join(each.words) or "-"))
    lines = aligned([row[:-1] for row in rows])
    return [f"{line}  {row[-1]}" for line, row in zip(lines, rows, strict=True)]


def verdict(study: DriftStudy) -> list[str]:
    """Say what the table adds up to."""
    late = [each.name for each in study.noticed if each.worst is not None and each.worst > WANTED_FRAMES]
    soon = len(study.noticed) - len(late) - len(study.unseen)
    lines = [f"{soon} of {len(study.noticed)} corruptions are noticed within {WANTED_FRAMES} frames in every run"]
    lines += [f"later: {', '.join(late)}"] if late else []
    lines += [f"not in every run within {MOST_FRAMES} frames: {', '.join(study.unseen)}"] if study.unseen else []
    alarms = f"{study.false_alarms} false alarms in {study.frames:,} clean frames"
    return [*lines, f"{alarms}; {study.halves_alarms} where halves of the parts judge each other, which is harder"]
