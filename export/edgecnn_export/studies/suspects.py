"""Label suspects: pictures whose label is contradicted, by others of their group or by a head that never saw their group.

Confident learning (Northcutt, Jiang and Chuang, JAIR 70, 2021, arXiv:1911.00068) on features of the pretrained network: a
picture is suspected where another class is as probable as it usually is for that class's own pictures. How much more probable
than the given one it has to be is found by planting errors: where the head reads too little to tell errors from its own
mistakes, it accuses nobody. Pictures of one group never vouch for one another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import InputError
from edgecnn.text import counted
from edgecnn_export.studies.frozen import Frozen
from edgecnn_export.studies.out_of_fold import answers

NEAREST, SHOWN_NEAREST = 10, 3
# Planted on top of the wrong labels that are there, which then count as none: where these are half as many as the planted ones
# (5 %), a half of planted ones among all accused means that at least a half of the others are wrong as well.
PLANTED, PRECISION = 0.1, 0.5
_ENOUGH = 40  # planted errors to choose a threshold by
_ROUNDS = 6  # in which they are planted at most
_FEWEST = 5  # found by a threshold, or it was luck
_DOUBT = 0.5  # standard deviations of a count of which a half is right: by one of them less has to be enough as well
Reason = Literal["same group", "held-out answer"]
By = Literal["picture", "group"]


@dataclass(frozen=True)
class Neighbour:
    """A picture that looks alike and is of another group; `likeness` is -1 to 1."""

    name: str
    label: str
    likeness: float
    index: int


@dataclass(frozen=True)
class Suspect:
    """A picture whose label may be wrong: `confidence` in the `likely` label and in the `given` one, and why it is named."""

    name: str
    given: str
    likely: str
    confidence: float
    given_confidence: float
    reason: Reason
    nearest: tuple[Neighbour, ...]
    index: int


@dataclass(frozen=True, eq=False)
class Suspects:
    """The suspects, the worst first; `threshold` is None where the head reads too little to accuse anybody.

    `answers` `(n, classes)` are the probabilities that it gives to pictures of groups that it has not seen, NaN where it was
    never asked; it reads the share `right` of them.
    """

    found: tuple[Suspect, ...]
    pictures: int
    right: float | None
    threshold: float | None
    answers: NDArray[np.float64]

    def to_json(self) -> dict[str, Any]:
        """Return them with plain values; `right` is null where nothing could be held out."""
        found = [_without_index(asdict(each)) for each in self.found]
        return {"pictures": self.pictures, "right": self.right, "threshold": self.threshold, "suspects": found}

    def about(self) -> str:
        """Say in a sentence what was looked at, and whether the head may accuse."""
        read = "" if self.right is None else f", of which a head that never saw their group reads {self.right:.1%}"
        looked = f"{counted(len(self.found), 'suspect')} among {counted(self.pictures, 'picture')}{read}"
        if self.threshold is None:
            return f"{looked}: too few to tell wrong labels from its mistakes, so that only those within a group are listed"
        return looked

    def lines(self) -> list[str]:
        """Return the suspects as text, two lines each."""
        lines = [self.about()]
        for each in self.found:
            why = "others of its group have this label" if each.reason == "same group" else f"confidence {each.confidence:.2f}"
            lines.append(f"{each.name}: labelled {each.given} ({each.given_confidence:.2f}), likely {each.likely}, {why}")
            beside = "; ".join(f"{one.name} ({one.label}, {one.likeness:.2f})" for one in each.nearest)
            lines.append(f"    looks like {beside}" if beside else "    nothing of another group to compare with")
        return lines


@dataclass(frozen=True)
class Planted:
    """Of `planted` wrong labels, how many are among the `listed` suspects."""

    seed: int
    by: By
    pictures: int
    planted: int
    listed: int
    hits: int

    @property
    def precision(self) -> float | None:
        """Share of the listed that were planted, None of nothing."""
        return self.hits / self.listed if self.listed else None

    @property
    def recall(self) -> float:
        """Share of the planted that were listed."""
        return self.hits / max(self.planted, 1)

    def to_json(self) -> dict[str, Any]:
        """Return the counts and both shares."""
        return asdict(self) | {"precision": self.precision, "recall": self.recall}

    def describe(self) -> str:
        """Return the counts as a line."""
        precision = "none listed" if self.precision is None else f"precision {self.precision:.2f}"
        return f"{self.hits} of {self.planted} found, {self.listed} listed: {precision}, recall {self.recall:.2f}"


def _without_index(found: dict[str, Any]) -> dict[str, Any]:
    """Leave out where in memory pictures are."""
    nearest = [{key: value for key, value in each.items() if key != "index"} for each in found["nearest"]]
    return {key: value for key, value in found.items() if key != "index"} | {"nearest": nearest}


def find_suspects(frozen: Frozen, *, seed: int = 0) -> Suspects:
    """Return the pictures whose label is contradicted, those of a contradiction within a group first."""
    found, probabilities, threshold = _judge(frozen, frozen.class_ids, seed)
    alike, judged = likeness(frozen), ~np.isnan(probabilities[:, 0])
    right = (probabilities.argmax(axis=1) == frozen.class_ids)[judged]
    suspects = tuple(_suspect(frozen, index, likely, reason, probabilities, alike) for index, likely, reason in found)
    return Suspects(suspects, len(frozen.pool), float(right.mean()) if len(right) else None, threshold, probabilities)


def plant(
    class_ids: NDArray[np.int64], groups: NDArray[np.int64], classes: int, share: float, seed: int, by: By = "picture"
) -> NDArray[np.int64]:
    """Return the class ids `(n,)` with the share of them changed to another class: single pictures, or whole groups alike."""
    random = np.random.default_rng(seed)
    changed, wanted = class_ids.copy(), max(1, round(share * len(class_ids)))
    units = groups if by == "group" else np.arange(len(class_ids))
    for unit in random.permutation(np.unique(units)):
        members = units == unit
        if (changed != class_ids).sum() + members.sum() > wanted and (changed != class_ids).any():
            continue
        changed[members] = (class_ids[members] + random.integers(1, classes)) % classes
        if (changed != class_ids).sum() >= wanted:
            break
    return changed


def measure_planted(frozen: Frozen, share: float, *, by: By = "picture", seed: int = 0) -> Planted:
    """Plant a share of wrong labels, look for suspects, and count; whatever errors there are already count as none."""
    if not 0 < share <= 0.5:
        raise InputError(f"a share of 0.1 to 50 % can be planted, not {share:.1%}")
    changed = plant(frozen.class_ids, frozen.groups, len(frozen.labels), share, seed, by)
    found, _, _ = _judge(frozen, changed, seed)
    wrong = changed != frozen.class_ids
    return Planted(seed, by, len(changed), int(wrong.sum()), len(found), int(sum(wrong[i] for i, _, _ in found)))


def _judge(
    frozen: Frozen, class_ids: NDArray[np.int64], seed: int
) -> tuple[list[tuple[int, int, Reason]], NDArray[np.float64], float | None]:
    """Return index, likely class and reason of each suspect, the probabilities `(n, classes)`, and the threshold."""
    classes = len(frozen.labels)
    probabilities = answers(frozen.features, class_ids, frozen.groups, classes, repeats=2, seed=seed)
    threshold = _choose_threshold(frozen, class_ids, seed)
    found: list[tuple[int, int, Reason]] = [
        (i, likely, "same group") for i, likely in _contradicted(class_ids, frozen.groups, probabilities)
    ]
    if threshold is not None:
        scores, likely_ids = _scores(frozen, class_ids, probabilities)
        known = {i for i, _, _ in found}
        by_score = np.argsort(-scores, kind="stable")
        found += [
            (int(i), int(likely_ids[i]), "held-out answer") for i in by_score if scores[i] >= threshold and i not in known
        ]
    return found, probabilities, threshold


def _contradicted(
    class_ids: NDArray[np.int64], groups: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> Iterator[tuple[int, int]]:
    """Yield each picture whose group has another label more often, and that label.

    Of two labels that are equally often, the head says for each picture whether it is the other one.
    """
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        counts = np.bincount(class_ids[members])
        if np.count_nonzero(counts) < 2:
            continue
        first, *others = np.flatnonzero(counts == counts.max())
        for i in members[class_ids[members] != first] if not others else members:
            rivals = [class_id for class_id in (first, *others) if class_id != class_ids[i]]
            likely = int(max(rivals, key=lambda class_id: probabilities[i, class_id]))
            if counts[likely] > counts[class_ids[i]] or probabilities[i, likely] > probabilities[i, class_ids[i]]:
                yield int(i), likely


def _scores(
    frozen: Frozen, class_ids: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return how far each picture speaks for another class than the given one, -inf where it does not, and that class.

    It is the logarithm of both probabilities' ratio, for pictures whose other class is as probable as among its own pictures
    (the confident joint), and is nearer to them than to the given one's.
    """
    rows, judged = np.arange(len(class_ids)), ~np.isnan(probabilities[:, 0])
    known = np.nan_to_num(probabilities)
    present = np.bincount(class_ids[judged], minlength=known.shape[1]) > 0
    usual = np.full(known.shape[1], np.inf)
    for class_id in np.flatnonzero(present):
        usual[class_id] = known[judged & (class_ids == class_id), class_id].mean()
    confident = np.where(known >= usual, known, -1.0)
    likely = confident.argmax(axis=1)
    votes = _votes(frozen, class_ids)
    speaks = judged & (confident.max(axis=1) > 0) & (likely != class_ids) & (votes[rows, likely] > votes[rows, class_ids])
    ratio = np.log(known[rows, likely] + 1e-12) - np.log(known[rows, class_ids] + 1e-12)
    return np.where(speaks, ratio, -np.inf), likely.astype(np.int64)


def likeness(frozen: Frozen) -> NDArray[np.float32]:
    """Return how alike each two pictures `(n, n)` are, -2 for those of one group."""
    alike = frozen.unit @ frozen.unit.T
    alike[frozen.groups[:, None] == frozen.groups[None]] = -2
    return np.asarray(alike, np.float32)


def _votes(frozen: Frozen, class_ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how many of the NEAREST pictures of other groups are of each class `(n, classes)`."""
    alike = likeness(frozen)
    count = min(NEAREST, len(alike) - 1)
    nearest = np.argpartition(-alike, count - 1, axis=1)[:, :count]
    votes = np.zeros((len(alike), len(frozen.labels)))
    for column in nearest.T:
        np.add.at(votes, (np.arange(len(alike)), class_ids[column]), 1)
    return votes


def _choose_threshold(frozen: Frozen, class_ids: NDArray[np.int64], seed: int) -> float | None:
    """Return the lowest score from which at least PRECISION of the accused had their label planted; None for none.

    Whole groups are planted: an error that their siblings give away needs no head.
    """
    rounds = min(_ROUNDS, max(2, math.ceil(_ENOUGH / (PLANTED * len(class_ids)))))
    scores, wrong = [], []
    for one in range(rounds):
        changed = plant(class_ids, frozen.groups, len(frozen.labels), PLANTED, 1000 + 100 * seed + one, "group")
        own = answers(frozen.features, changed, frozen.groups, len(frozen.labels), repeats=1, seed=seed + one)
        scores.append(_scores(frozen, changed, own)[0])
        wrong.append(changed != class_ids)
    return lowest_threshold(np.concatenate(scores), np.concatenate(wrong))


def lowest_threshold(scores: NDArray[np.float64], wrong: NDArray[np.bool_], precision: float = PRECISION) -> float | None:
    """Return the lowest score `t` for which at least `precision` of the pictures with scores `(n,)` from `t` on are `wrong`."""
    order = np.argsort(-scores, kind="stable")
    order = order[np.isfinite(scores[order])]
    hits = np.cumsum(wrong[order])
    accused = np.arange(1, len(order) + 1)
    good = np.flatnonzero((hits - _DOUBT * np.sqrt(accused) >= precision * accused) & (hits >= _FEWEST))
    return float(scores[order[good[-1]]]) if len(good) else None


def _suspect(
    frozen: Frozen,
    index: int,
    likely: int,
    reason: Reason,
    probabilities: NDArray[np.float64],
    alike: NDArray[np.float32],
) -> Suspect:
    pool, labels, known = frozen.pool, frozen.labels, np.nan_to_num(probabilities[index])
    nearest = np.argsort(-alike[index], kind="stable")[:SHOWN_NEAREST]
    beside = tuple(
        Neighbour(pool.names[i], labels[pool.class_ids[i]], float(alike[index, i]), int(i))
        for i in nearest
        if alike[index, i] > -2
    )
    given = int(pool.class_ids[index])
    return Suspect(
        pool.names[index], labels[given], labels[likely], float(known[likely]), float(known[given]), reason, beside, index
    )
