"""Dividing pictures into train, validation and test so that no group stands on two sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Splits, concatenate
from edgecnn.errors import DatasetError

SHARES = (0.70, 0.15, 0.15)
TRAIN, VALIDATION, TEST = 0, 1, 2
FREE = -1  # in no part yet


def split_groups(
    class_ids: NDArray[np.int64],
    groups: NDArray[np.int64],
    labels: Sequence[str],
    *,
    seed: int,
    shares: tuple[float, ...] = SHARES,
) -> tuple[NDArray[np.int64], ...]:
    """Divide pictures with `class_ids` `(n,)` and `groups` `(n,)`; return one array of indices a part, sorted.

    `shares` are the wanted parts of each class, train first, then validation, then (if any) test. Groups stay whole: they are
    dealt out from the largest on, each to the part whose class counts then come closest to the wanted ones (least increase of
    chi-square), equal ones in seeded order. Each class gets a picture in train and in validation, and in test if it has three
    groups that can be parted. A class whose pictures are one group stands in train alone (see `undivided`): it can be learned,
    not measured. Raises DatasetError for a class of a single picture or none, and when no class could be measured.
    """
    counts, numbers = _counted(class_ids, groups, len(labels))
    whole = _undivided(counts)
    _refuse_single(counts, labels, whole)
    pinned = np.asarray((counts[:, whole] > 0).any(axis=1))
    fixed = np.where(pinned, TRAIN, FREE)
    wanted = np.array(shares)[:, None] * counts.sum(axis=0)[None]
    part_of_group = _deal(counts, wanted, np.random.default_rng(seed), fixed, np.zeros_like(wanted))
    _fill_gaps(part_of_group, counts, labels, len(shares), whole)
    return tuple(np.flatnonzero(part_of_group[numbers] == part).astype(np.int64) for part in range(len(shares)))


def undivided(class_ids: NDArray[np.int64], groups: NDArray[np.int64], classes: int) -> list[int]:
    """Return the classes all of whose pictures are one group: an empty belt, photographed many times."""
    return _undivided(_counted(class_ids, groups, classes)[0])


def unmeasurable(class_ids: NDArray[np.int64], groups: NDArray[np.int64], labels: Sequence[str]) -> list[str]:
    """Say which classes stand in train alone, because all of their pictures are one group, a line each."""
    counts = np.bincount(class_ids, minlength=len(labels))
    return [
        f"the {counts[i]} pictures of {labels[i]!r} are one group, which show the same thing: all are trained on, and how "
        "well others are recognised cannot be measured"
        for i in undivided(class_ids, groups, len(labels))
    ]


def _counted(
    class_ids: NDArray[np.int64], groups: NDArray[np.int64], classes: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return how many pictures of each class each group has `(groups, classes)`, and each picture's row there `(n,)`."""
    numbers = np.unique(groups, return_inverse=True)[1].reshape(-1).astype(np.int64)
    counts = np.zeros((int(numbers.max(initial=-1)) + 1, classes))
    np.add.at(counts, (numbers, class_ids), 1)
    return counts, numbers


def _undivided(counts: NDArray[np.float64]) -> list[int]:
    return [int(i) for i in np.flatnonzero(((counts > 0).sum(axis=0) == 1) & (counts.sum(axis=0) > 1))]


def _refuse_single(counts: NDArray[np.float64], labels: Sequence[str], whole: Sequence[int]) -> None:
    for class_id, label in enumerate(labels):
        pictures = int(counts[:, class_id].sum())
        if pictures < 2:
            raise DatasetError(
                f"class {label!r} has {pictures} picture(s); train and validation each need one that shows something else: "
                "add pictures"
            )
    if len(whole) == len(labels):
        raise DatasetError(
            f"each class ({', '.join(map(repr, labels))}) is one group of pictures that show the same thing: nothing could be "
            "measured; add pictures of other parts"
        )


def extend_split(
    class_ids: NDArray[np.int64], groups: NDArray[np.int64], kept: NDArray[np.int64], classes: int, *, seed: int
) -> NDArray[np.int64]:
    """Return the part `(n,)` of each picture: that of `kept` `(n,)`, and for those that are FREE there one that is dealt.

    A kept picture never moves. A new one joins the part of its group, where that stands in several the first of train,
    validation and test. Groups of new pictures alone are dealt so that they come closest to SHARES, whatever shares the kept
    ones have: a split without test pictures is not to swallow what is there to learn from. Only what was rounded away before,
    a picture of each class and part at most, is made good.
    """
    counts, numbers = _counted(class_ids, groups, classes)
    parts = kept.copy()
    fixed = np.full(len(counts), len(SHARES))
    np.minimum.at(fixed, numbers[kept != FREE], kept[kept != FREE])
    fixed[fixed == len(SHARES)] = FREE
    joining = (kept == FREE) & (fixed[numbers] != FREE)
    parts[joining] = fixed[numbers[joining]]
    have = np.zeros((len(SHARES), classes))
    np.add.at(have, (parts[parts != FREE], class_ids[parts != FREE]), 1)
    new = np.unique(numbers[parts == FREE])
    whole = np.asarray((counts[:, _undivided(counts)] > 0).any(axis=1))[new]
    random, shares = np.random.default_rng(seed), np.array(SHARES)[:, None]
    rounded_away = np.clip(shares * have.sum(axis=0) - have, -1, 1)
    wanted = have + np.maximum(rounded_away + shares * counts[new].sum(axis=0), 0)
    part_of_group = np.full(len(counts), FREE)
    part_of_group[new] = _deal(counts[new], wanted, random, np.where(whole, TRAIN, FREE), have)
    parts[parts == FREE] = part_of_group[numbers[parts == FREE]]
    return parts


def deal_folds(
    class_ids: NDArray[np.int64], groups: NDArray[np.int64], classes: int, folds: int, *, seed: int
) -> NDArray[np.int64]:
    """Return the fold `(n,)` of each picture: as many of each class in each as whole groups allow, in seeded order."""
    counts, numbers = _counted(class_ids, groups, classes)
    wanted = np.repeat(counts.sum(axis=0)[None] / folds, folds, axis=0)
    free = np.full(len(counts), FREE)
    return _deal(counts, wanted, np.random.default_rng(seed), free, np.zeros_like(wanted))[numbers]


def _deal(
    counts: NDArray[np.float64],
    wanted: NDArray[np.float64],
    random: np.random.Generator,
    fixed: NDArray[np.int64],
    have: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Assign each group (counts `(groups, classes)`) to a part, or leave it in the one where it is `fixed`.

    `wanted` and `have` `(parts, classes)` are how many pictures the parts shall have, and have already.
    """
    have = have.copy()
    part_of_group = np.zeros(len(counts), np.int64)
    order = random.permutation(len(counts))
    for group in order[np.argsort(-counts[order].sum(axis=1), kind="stable")]:
        increase = (counts[group] * (2 * (have - wanted) + counts[group]) / np.maximum(wanted, 1e-9)).sum(axis=1)
        part = int(increase.argmin()) if fixed[group] == FREE else int(fixed[group])
        part_of_group[group] = part
        have[part] += counts[group]
    return part_of_group


def _fill_gaps(
    part_of_group: NDArray[np.int64], counts: NDArray[np.float64], labels: Sequence[str], parts: int, whole: Sequence[int]
) -> None:
    """Move the smallest possible group wherever a class lacks a picture that it could have; changes `part_of_group`."""
    for part in range(parts):
        for class_id, label in enumerate(labels):
            shows = counts[:, class_id] > 0
            if class_id in whole or (shows & (part_of_group == part)).any() or (part == TEST and shows.sum() < parts):
                continue
            if not _move_one(part_of_group, counts, class_id, part) and part != TEST:
                raise DatasetError(
                    f"class {label!r} is linked to other classes (pictures that overlap under several labels) and "
                    "cannot stand in train and validation: see `edgecnn data check`"
                )


def _move_one(part_of_group: NDArray[np.int64], counts: NDArray[np.float64], class_id: int, part: int) -> bool:
    """Move the smallest group with this class to `part`, from a part that keeps every class it has; False if none can."""
    sizes = counts.sum(axis=1)
    candidates = np.flatnonzero((counts[:, class_id] > 0) & (part_of_group != part))
    for group in candidates[np.argsort(sizes[candidates], kind="stable")]:
        staying = part_of_group == part_of_group[group]
        staying[group] = False
        if ((counts[staying] > 0).any(axis=0) | (counts[group] == 0)).all():
            part_of_group[group] = part
            return True
    return False


def random_split(
    class_ids: NDArray[np.int64], *, seed: int, shares: tuple[float, ...] = SHARES
) -> tuple[NDArray[np.int64], ...]:
    """Divide pictures by class alone, as is commonly done: the split whose leakage `edgecnn data check` reports."""
    random = np.random.default_rng(seed)
    parts: list[list[NDArray[np.int64]]] = [[] for _ in shares]
    for class_id in np.unique(class_ids):
        members = random.permutation(np.flatnonzero(class_ids == class_id))
        edges = np.rint(np.cumsum(shares)[:-1] * len(members)).astype(int)
        for part, chosen in zip(parts, np.split(members, edges), strict=True):
            part.append(chosen)
    return tuple(np.sort(np.concatenate(part)).astype(np.int64) for part in parts)


def deal_at_random(splits: Splits, seed: int) -> Splits:
    """Deal the same pictures out again by class alone, in parts as large as before: a split that leaks what overlaps.

    It serves to show by how much such a split flatters a model.
    """
    parts = [splits.train, splits.validation, splits.test]
    whole = concatenate(parts)
    shares = tuple(len(part) / len(whole) for part in parts)
    train, validation, test = (whole.take(part) for part in random_split(whole.class_ids, seed=seed, shares=shares))
    info = replace(splits.info, rule="dealt at random by class; overlapping pictures stand on both sides", seed=seed)
    return replace(splits, train=train, validation=validation, test=test, info=info)
