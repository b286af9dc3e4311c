"""Label suspects: groups whose label is contradicted, by other labels in them or by a head that never saw the group.

On features of the pretrained network, a head fitted to other groups says how probable each label is (after Northcutt, Jiang and
Chuang, Confident learning, JAIR 70, 2021, arXiv:1911.00068). Pictures of one group with one label are judged as one, by the
mean of their log odds: they are right or wrong together, and vouch neither for one another nor once for each. How probable
another label has to be is found by planting errors: where the head reads too little to tell errors from its own mistakes, it
accuses nobody.
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

SHOWN_NEAREST = 3
SHOWN_NAMES = 8
# Planted on top of the wrong labels that are there, which then count as none: where these are half as many as the planted ones
# (5 %), a half of planted ones among all accused means that at least a half of the others are wrong as well.
PLANTED, PRECISION = 0.1, 0.5
_ENOUGH = 40  # planted errors to choose a threshold by
_ROUNDS = 6  # in which they are planted at most
_FEWEST = 5  # found by a threshold, or it was luck
_FLOOR = 1e-6  # added to probabilities, or one picture would decide for a group
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

    def to_json(self) -> dict[str, Any]:
        """Return what is known of it."""
        return {"name": self.name, "label": self.label, "likeness": self.likeness}


@dataclass(frozen=True)
class Suspect:
    """The pictures of one group that have one label, which may be wrong; those that speak most for the `likely` one come first.

    `confidence` in the `likely` label and in the `given` one is that of all of them together.
    """

    names: tuple[str, ...]
    given: str
    likely: str
    confidence: float
    given_confidence: float
    reason: Reason
    nearest: tuple[Neighbour, ...]
    indices: tuple[int, ...]

    @property
    def title(self) -> str:
        """The first name, and how many more there are."""
        more = len(self.names) - 1
        return self.names[0] + (f" and {more} more of its group" if more else "")

    def why(self) -> str:
        """Say what contradicts the label."""
        return "others of its group have this label" if self.reason == "same group" else f"confidence {self.confidence:.2f}"

    def to_json(self) -> dict[str, Any]:
        """Return it with plain values; `name` is the first of `names`."""
        plain = {key: value for key, value in asdict(self).items() if key != "indices"}
        return {"name": self.names[0], **plain, "nearest": [each.to_json() for each in self.nearest]}


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
        found = [each.to_json() for each in self.found]
        return {"pictures": self.pictures, "right": self.right, "threshold": self.threshold, "suspects": found}

    def about(self) -> str:
        """Say in a sentence what was looked at, and whether the head may accuse."""
        read = "" if self.right is None else f", of which a head that never saw their group reads {self.right:.1%}"
        accused = sum(len(each.names) for each in self.found)
        several = f" ({counted(accused, 'picture')})" if accused > len(self.found) else ""
        looked = f"{counted(len(self.found), 'suspect')}{several} among {counted(self.pictures, 'picture')}{read}"
        if self.threshold is None:
            return f"{looked}: too few to tell wrong labels from its mistakes, so that only those within a group are listed"
        return looked

    def lines(self) -> list[str]:
        """Return the suspects as text: two lines each, and a third that names the pictures of a group."""
        lines = [self.about()]
        for each in self.found:
            lines.append(
                f"{each.title}: labelled {each.given} ({each.given_confidence:.2f}), likely {each.likely}, {each.why()}"
            )
            if more := each.names[1:]:
                cut = f" and {len(more) - SHOWN_NAMES} more" if len(more) > SHOWN_NAMES else ""
                lines.append(f"    with {', '.join(more[:SHOWN_NAMES])}{cut}")
            beside = "; ".join(f"{one.name} ({one.label}, {one.likeness:.2f})" for one in each.nearest)
            lines.append(f"    looks like {beside}" if beside else "    nothing of another group to compare with")
        return lines


@dataclass(frozen=True)
class Planted:
    """Of `planted` wrong labels, how many are among the `listed` suspects; pictures of a group with one label count once."""

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


def find_suspects(frozen: Frozen, *, seed: int = 0) -> Suspects:
    """Return the groups whose label is contradicted, those of a contradiction within a group first."""
    verdict = _judge(frozen, frozen.class_ids, seed)
    alike, judged = likeness(frozen), ~np.isnan(verdict.answers[:, 0])
    right = (verdict.answers.argmax(axis=1) == frozen.class_ids)[judged]
    found = tuple(_suspect(frozen, verdict, *each, alike) for each in verdict.accused)
    share = float(right.mean()) if len(right) else None
    return Suspects(found, len(frozen.pool), share, verdict.threshold, verdict.answers)


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
    verdict = _judge(frozen, changed, seed)
    wrong = set(verdict.units.of[changed != frozen.class_ids].tolist())
    hits = sum(unit in wrong for unit, _, _ in verdict.accused)
    return Planted(seed, by, len(changed), len(wrong), len(verdict.accused), hits)


@dataclass(frozen=True, eq=False)
class _Units:
    """What is judged as one: pictures of one group with one label.

    `of` `(n,)` tells of each picture its unit; `groups`, `given` and `counts` `(units,)` tell of each its group, its label and
    how many pictures it has.
    """

    of: NDArray[np.int64]
    groups: NDArray[np.int64]
    given: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of_pictures(cls, class_ids: NDArray[np.int64], groups: NDArray[np.int64]) -> _Units:
        """Divide pictures with their labels `(n,)` and groups `(n,)`."""
        pairs, of, counts = np.unique(np.stack([groups, class_ids]), axis=1, return_inverse=True, return_counts=True)
        return cls(of.reshape(-1), pairs[0], pairs[1], counts)


@dataclass(frozen=True, eq=False)
class _Verdict:
    """Unit, likely class and reason of each suspect; `answers` `(n, classes)` of pictures, `joint` `(units, classes)`."""

    units: _Units
    accused: list[tuple[int, int, Reason]]
    answers: NDArray[np.float64]
    joint: NDArray[np.float64]
    threshold: float | None


def _judge(frozen: Frozen, class_ids: NDArray[np.int64], seed: int) -> _Verdict:
    units = _Units.of_pictures(class_ids, frozen.groups)
    probabilities = answers(frozen.features, class_ids, frozen.groups, len(frozen.labels), repeats=2, seed=seed)
    joint = _joint(probabilities, units)
    threshold = _choose_threshold(frozen, class_ids, seed)
    accused: list[tuple[int, int, Reason]] = [(*each, "same group") for each in _contradicted(units, joint)]
    if threshold is not None:
        scores, likely = _scores(joint, units)
        known = {unit for unit, _, _ in accused}
        order = [int(unit) for unit in np.argsort(-scores, kind="stable") if scores[unit] >= threshold]
        accused += [(unit, int(likely[unit]), "held-out answer") for unit in order if unit not in known]
    return _Verdict(units, accused, probabilities, joint, threshold)


def _contradicted(units: _Units, joint: NDArray[np.float64]) -> Iterator[tuple[int, int]]:
    """Yield each unit whose group has another label more often, and that label.

    Of two labels that are equally often, the head says whether it is the other one.
    """
    for group in np.unique(units.groups):
        own = np.flatnonzero(units.groups == group)
        most = own[units.counts[own] == units.counts[own].max()]
        for unit in own:
            rivals = units.given[most[most != unit]]
            if len(rivals) == 0:
                continue
            likely = int(rivals[joint[unit, rivals].argmax()])
            if unit not in most or joint[unit, likely] > joint[unit, units.given[unit]]:
                yield int(unit), likely


def _joint(probabilities: NDArray[np.float64], units: _Units) -> NDArray[np.float64]:
    """Return the geometric means of the pictures' probabilities `(n, classes)` in each unit, `(units, classes)`, sums 1."""
    sums = np.zeros((len(units.counts), probabilities.shape[1]))
    np.add.at(sums, units.of, np.log(probabilities + _FLOOR))
    means = np.exp(sums / units.counts[:, None])
    return np.asarray(means / means.sum(axis=1, keepdims=True))


def _scores(joint: NDArray[np.float64], units: _Units) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return how far each unit speaks for another class than the given one, -inf where it does not, and that class.

    It is the logarithm of both joint probabilities' ratio, and so the mean over the unit's pictures.
    """
    rows, others = np.arange(len(joint)), np.nan_to_num(joint, nan=-1.0)
    given = others[rows, units.given]
    others[rows, units.given] = -1
    likely = others.argmax(axis=1)
    speaks = others[rows, likely] > given
    return np.where(speaks, np.log(others[rows, likely] / given, where=speaks), -np.inf), likely.astype(np.int64)


def likeness(frozen: Frozen) -> NDArray[np.float32]:
    """Return how alike each two pictures `(n, n)` are, -2 for those of one group."""
    alike = frozen.unit @ frozen.unit.T
    alike[frozen.groups[:, None] == frozen.groups[None]] = -2
    return np.asarray(alike, np.float32)


def _choose_threshold(frozen: Frozen, class_ids: NDArray[np.int64], seed: int) -> float | None:
    """Return the lowest score from which at least PRECISION of the accused had their label planted; None for none.

    Whole groups are planted, and what others of its group contradict is left out: it needs no head.
    """
    rounds = min(_ROUNDS, max(2, math.ceil(_ENOUGH / (PLANTED * len(np.unique(frozen.groups))))))
    scores, wrong = [], []
    for one in range(rounds):
        changed = plant(class_ids, frozen.groups, len(frozen.labels), PLANTED, 1000 + 100 * seed + one, "group")
        own = answers(frozen.features, changed, frozen.groups, len(frozen.labels), repeats=1, seed=seed + one)
        units = _Units.of_pictures(changed, frozen.groups)
        joint = _joint(own, units)
        asked = ~np.isin(np.arange(len(joint)), [unit for unit, _ in _contradicted(units, joint)])
        scores.append(_scores(joint, units)[0][asked])
        wrong.append((np.bincount(units.of, changed != class_ids) > 0)[asked])
    return lowest_threshold(np.concatenate(scores), np.concatenate(wrong))


def lowest_threshold(scores: NDArray[np.float64], wrong: NDArray[np.bool_], precision: float = PRECISION) -> float | None:
    """Return the lowest score `t` for which at least `precision` of the pictures with scores `(n,)` from `t` on are `wrong`."""
    order = np.argsort(-scores, kind="stable")
    order = order[np.isfinite(scores[order])]
    hits = np.cumsum(wrong[order])
    accused = np.arange(1, len(order) + 1)
    good = np.flatnonzero((hits - _DOUBT * np.sqrt(accused) >= precision * accused) & (hits >= _FEWEST))
    return float(scores[order[good[-1]]]) if len(good) else None


def _suspect(frozen: Frozen, verdict: _Verdict, unit: int, likely: int, reason: Reason, alike: NDArray[np.float32]) -> Suspect:
    pool, labels = frozen.pool, frozen.labels
    given, known = int(verdict.units.given[unit]), np.nan_to_num(verdict.joint[unit])
    members = np.flatnonzero(verdict.units.of == unit)
    members = members[np.argsort(-np.nan_to_num(verdict.answers[members, likely]), kind="stable")]
    return Suspect(
        tuple(pool.names[i] for i in members),
        labels[given],
        labels[likely],
        float(known[likely]),
        float(known[given]),
        reason,
        tuple(_nearest(frozen, alike[members].max(axis=0))),
        tuple(map(int, members)),
    )


def _nearest(frozen: Frozen, alike: NDArray[np.float32]) -> Iterator[Neighbour]:
    """Yield the pictures most alike `(n,)`, one of each group."""
    order = np.argsort(-alike, kind="stable")
    _, firsts = np.unique(frozen.groups[order], return_index=True)
    for i in order[np.sort(firsts)[:SHOWN_NEAREST]]:
        if alike[i] > -2:
            yield Neighbour(frozen.pool.names[i], frozen.labels[frozen.class_ids[i]], float(alike[i]), int(i))
