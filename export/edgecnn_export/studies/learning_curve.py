"""What more pictures of a class would bring: the head's recall with parts of its pictures, and where that leads.

Each class in turn is thinned out to a quarter and a half of its groups while the others stay whole; a head on the features of
the pretrained network is fitted, and asked about groups that it has not seen. Errors fall as a power of the number of pictures
(Hestness et al., arXiv:1712.00409), down to what no number of pictures removes; how much that is cannot be seen from three
points, so the interval ranges over all of it. Nothing is said beyond twice the pictures that there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import InputError
from edgecnn.metrics import wilson_interval
from edgecnn.progress import report
from edgecnn.text import aligned, counted
from edgecnn_export.studies.frozen import Frozen
from edgecnn_export.studies.out_of_fold import fit, held_out
from edgecnn_export.studies.over_dask import map_over_dask

SHARES = (0.25, 0.5, 1.0)  # of a class's groups
MORE = 20  # pictures
FOLDS, REPEATS = 4, 2
MOST_CLASSES = 12  # that are thinned out, the worst read first: each costs 16 heads
LEVEL = 0.9  # confidence of the interval
FEWEST_GROUPS = 4  # of a class, to thin it out
_DRAWS = 2000
_STEEPEST = 1.5  # exponent of a power law that is believed: half as many errors with 1.6 times the pictures
_STAGE = "learning curve"
_ByClass = dict[int, NDArray[np.float64]]


@dataclass(frozen=True)
class ClassCurve:
    """How well a class is read with parts of its pictures, and what more of them would bring.

    `counts` are pictures that were learned from, of `pictures` in all, `recalls` what is read of those held out. `more`
    pictures would bring `gain` points of recall (0.02 is two), with LEVEL confidence within `interval`. All are None where the
    class has too few groups to say anything.
    """

    label: str
    pictures: int
    groups: int
    recall: float | None
    recall_interval: tuple[float, float]
    counts: tuple[float, ...] = ()
    recalls: tuple[float, ...] = ()
    more: int | None = None
    gain: float | None = None
    interval: tuple[float, float] | None = None

    def advice(self) -> str:
        """Say in a sentence what more pictures would bring."""
        if self.gain is None or self.interval is None:
            return f"{self.label}: {self.pictures} pictures in {self.groups} groups, too few to say what more would bring"
        low, high = (round(100 * each) for each in self.interval)
        brings = f"about +{100 * self.gain:.0f} points, {low} to {high}" if high else "next to nothing"
        parts = round(self.more * self.groups / self.pictures) if self.more else 0
        of = f", of about {counted(max(parts, 1), 'other part')}" if self.pictures > 1.5 * self.groups else ""
        return f"{self.more} more pictures of {self.label}{of}: {brings}"


@dataclass(frozen=True)
class LearningCurve:
    """The curves of the classes, those that more pictures would help most first; `left_out` were not thinned out."""

    classes: tuple[ClassCurve, ...]
    pictures: int
    level: float = LEVEL

    def to_json(self) -> dict[str, Any]:
        """Return it with plain values."""
        return asdict(self)


def learning_curve(frozen: Frozen, *, more: int = MORE, seed: int = 0, scheduler: str | None = None) -> LearningCurve:
    """Measure the curve of each class, and what `more` pictures of it, at most as many as there are, would bring.

    With the address of a Dask `scheduler` its workers fit the heads: see `map_over_dask`.
    """
    if more < 1:
        raise InputError(f"at least one more picture is needed to bring something, not {more}")
    classes = len(frozen.labels)
    counts = np.bincount(frozen.class_ids, minlength=classes)
    units = [np.unique(frozen.groups[frozen.class_ids == each]) for each in range(classes)]
    hits, learned, times = _measured(frozen, range(classes), (1.0,), seed, scheduler)
    read = np.array([_mean(hits[each][0], times[each][0], frozen.class_ids == each) for each in range(classes)])
    able = [each for each in np.argsort(np.nan_to_num(read, nan=2.0), kind="stable") if len(units[each]) >= FEWEST_GROUPS]
    chosen = [int(each) for each in able[:MOST_CLASSES]]
    thin_hits, thin_learned, thin_times = _measured(frozen, chosen, SHARES[:-1], seed, scheduler)
    curves = []
    for each in range(classes):
        own = frozen.class_ids == each
        recall = None if np.isnan(read[each]) else float(read[each])
        asked = 0 if recall is None else len(units[each])
        interval = wilson_interval((recall or 0) * asked, asked)
        bare = ClassCurve(frozen.labels[each], int(counts[each]), len(units[each]), recall, interval)
        if each not in chosen:
            curves.append(bare)
            continue
        all_hits = np.concatenate([thin_hits[each], hits[each]])[:, own]
        all_times = np.concatenate([thin_times[each], times[each]])[:, own]
        sizes = np.concatenate([thin_learned[each], learned[each]])
        curves.append(_extrapolated(bare, all_hits, all_times, sizes, frozen.groups[own], more, seed))
    order = sorted(range(classes), key=lambda each: -(curves[each].gain or -1))
    return LearningCurve(tuple(curves[each] for each in order), len(frozen.pool))


def _measured(
    frozen: Frozen, chosen: Sequence[int], shares: tuple[float, ...], seed: int, scheduler: str | None
) -> tuple[_ByClass, _ByClass, _ByClass]:
    """Return for each chosen class, by share, how often each picture `(shares, n)` was read and asked, and learned-from counts.

    The share 1 thins out nothing, and one head serves all classes.
    """
    n = len(frozen.pool)
    hits: _ByClass = {each: np.zeros((len(shares), n)) for each in chosen}
    times: _ByClass = {each: np.zeros((len(shares), n)) for each in chosen}
    learned: _ByClass = {each: np.zeros(len(shares)) for each in chosen}
    folds = [out for r in range(REPEATS) for out in held_out(frozen.class_ids, frozen.groups, FOLDS, seed + r)]
    jobs = [_Fold(out, tuple(chosen), shares, seed + number) for number, out in enumerate(folds, 1)]
    known = _Known(frozen.features, frozen.class_ids, frozen.groups, len(frozen.labels))
    done = 0
    report(_STAGE, done, len(folds))
    for fold, answers in _answered(known, jobs, scheduler):
        for (each, at), (right, counts) in answers.items():
            for one in [each] if shares[at] < 1 else chosen:
                hits[one][at, fold.out] += right
                times[one][at, fold.out] += 1
                learned[one][at] += counts[one] / len(folds)
        done += 1
        report(_STAGE, done, len(folds))
    report(_STAGE, len(folds), len(folds))
    return hits, learned, times


@dataclass(frozen=True, eq=False)
class _Known:
    """What heads are fitted to: features `(n, d)`, classes `(n,)` and groups `(n,)`."""

    features: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    groups: NDArray[np.int64]
    classes: int


@dataclass(frozen=True, eq=False)
class _Fold:
    """One fold: which pictures `(n,)` it holds out, which classes are thinned out to which shares, and the seed of that."""

    out: NDArray[np.bool_]
    chosen: tuple[int, ...]
    shares: tuple[float, ...]
    seed: int


_Answers = dict[tuple[int, int], tuple[NDArray[np.bool_], NDArray[np.int64]]]


def _answered(known: _Known, folds: Sequence[_Fold], scheduler: str | None) -> Iterator[tuple[_Fold, _Answers]]:
    """Yield each fold with its answers, here or by the workers of a Dask scheduler."""
    if scheduler is None:
        return ((fold, _answers(known, fold)) for fold in folds)
    return map_over_dask(scheduler, _answers, known, folds)


def _answers(known: _Known, fold: _Fold) -> _Answers:
    """Return by class and share which held-out pictures are read rightly, and how many of each class were learned from."""
    found: _Answers = {}
    for at, share in enumerate(fold.shares):
        for each in fold.chosen if share < 1 else fold.chosen[:1]:
            kept = _thinned(known, ~fold.out, each, share, fold.seed)
            head = fit(known.features[kept], known.class_ids[kept], known.classes)
            right = head.log_probabilities(known.features[fold.out]).argmax(axis=1) == known.class_ids[fold.out]
            found[each, at] = right, np.bincount(known.class_ids[kept], minlength=known.classes)
    return found


def _thinned(known: _Known, among: NDArray[np.bool_], class_id: int, share: float, seed: int) -> NDArray[np.bool_]:
    """Return which of `among` `(n,)` stay if a class keeps a share of its groups, at least one."""
    if share == 1:
        return among
    own = among & (known.class_ids == class_id)
    groups = np.random.default_rng((seed, class_id)).permutation(np.unique(known.groups[own]))
    kept = groups[: max(1, round(share * len(groups)))]  # of one permutation: smaller parts lie in the larger ones
    return np.asarray(among & ~(own & ~np.isin(known.groups, kept)))


def _mean(hits: NDArray[np.float64], times: NDArray[np.float64], own: NDArray[np.bool_]) -> float:
    asked = own & (times > 0)
    return float((hits[asked] / times[asked]).mean()) if asked.any() else float("nan")


def _extrapolated(
    bare: ClassCurve,
    hits: NDArray[np.float64],
    times: NDArray[np.float64],
    sizes: NDArray[np.float64],
    groups: NDArray[np.int64],
    more: int,
    seed: int,
) -> ClassCurve:
    """Add what was measured `(shares, n)` with `sizes` `(shares,)` pictures, and what `more` would bring."""
    asked = (times > 0).all(axis=0)
    errors = 1 - hits[:, asked] / times[:, asked]
    _, rows = np.unique(groups[asked], return_inverse=True)
    sums = np.stack([np.bincount(rows.reshape(-1), weights=each) for each in errors]).astype(np.float64)
    members = np.bincount(rows.reshape(-1)).astype(np.float64)
    more = min(more, bare.pictures)
    # What is learned from is a part of the pictures: the others are held out. More of them grow it by the same factor.
    factor = 1 + more / bare.pictures
    gain, interval = extrapolate(sums, members, sizes, factor, seed)
    recalls = tuple(float(1 - each.mean()) for each in errors)
    counts = tuple(map(float, sizes))
    return replace(bare, counts=counts, recalls=recalls, more=more, gain=gain, interval=interval)


def extrapolate(
    errors: NDArray[np.float64], members: NDArray[np.float64], sizes: NDArray[np.float64], factor: float, seed: int = 0
) -> tuple[float, tuple[float, float]]:
    """Return by how much the share of errors falls if the last of `sizes` `(s,)` grows by `factor`, and an interval.

    `errors` `(s, g)` are summed over the pictures of each group, of which there are `members` `(g,)`. Groups are drawn by the
    Bayesian bootstrap (Rubin, Annals of Statistics 9, 1981), with one more that errs by the square root of the size, so that
    no mistake among few groups does not promise none for ever; of each draw's errors a random part is taken to stay for ever.
    """
    if not 1 <= factor <= 2:
        raise InputError(f"a curve says something up to twice its size, not to {factor:g} times")
    random = np.random.default_rng(seed)
    prior = members.mean() * np.sqrt(sizes[0] / sizes)
    errors = np.concatenate([errors, 0.5 * prior[:, None]], axis=1)
    members = np.append(members, members.mean())
    weights = random.exponential(size=(_DRAWS, len(members)))
    rates = weights @ errors.T / (weights @ members)[:, None]
    gains = _falls(rates, sizes, factor, random.uniform(0, 1, _DRAWS))
    most = _falls(rates, sizes, factor, np.zeros(_DRAWS))  # nothing stays: the middle of the draws lies below what is possible
    low, high = np.quantile(gains, (1 - LEVEL) / 2), np.quantile(most, (1 + LEVEL) / 2)
    return float(np.median(gains)), (float(low), float(high))


def _falls(
    rates: NDArray[np.float64], sizes: NDArray[np.float64], factor: float, staying: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return by how much each row of `rates` `(draws, s)` falls, if a part of the last one, `staying` `(draws,)`, stays."""
    last = np.maximum(rates[:, -1], 1e-6)
    floor = staying * last
    falling = np.log(np.maximum(rates - floor[:, None], 1e-6))
    steps = np.log(sizes) - np.log(sizes).mean()
    exponent = np.clip(-(falling @ steps) / (steps @ steps), 0, _STEEPEST)
    return np.asarray((last - floor) * (1 - factor**-exponent))


def format_table(found: LearningCurve) -> str:
    """Return the curves as a table for terminals."""
    rows = [["class", "pictures", "recall by parts of them", f"what more would bring ({found.level:.0%} interval)"]]
    for each in found.classes:
        parts = ", ".join(f"{100 * r:.0f} % of {n:.0f}" for n, r in zip(each.counts, each.recalls, strict=True))
        rows.append([each.label, str(each.pictures), parts or "-", each.advice()])
    return "\n".join(aligned(rows, left=4))


def draw_curves(found: LearningCurve, path: Path) -> None:
    """Draw recall over pictures of each class, and what more would bring, whole or not at all."""
    from edgecnn_export.plots.figures import new_figure, save_figure

    figure = new_figure(8, 5)
    axes = figure.subplots()
    for number, each in enumerate(one for one in found.classes if one.counts):
        color = f"C{number % 10}"
        axes.plot(each.counts, [100 * r for r in each.recalls], marker="o", color=color, label=each.label.replace("$", r"\$"))
        if each.gain is not None and each.interval is not None and each.more is not None:
            at, last = each.counts[-1] * (1 + each.more / each.pictures), each.recalls[-1]
            axes.plot([each.counts[-1], at], [100 * last, 100 * (last + each.gain)], linestyle=":", color=color)
            axes.plot([at, at], [100 * (last + g) for g in each.interval], linewidth=3, alpha=0.5, color=color)
    axes.set(xlabel="pictures learned from", ylabel="recall of the class in %", xscale="log")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
    save_figure(figure, path)
