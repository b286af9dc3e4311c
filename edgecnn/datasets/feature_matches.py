"""Which pictures may show the same thing: features that match, and agree on how one picture lies on the other.

Comparing all features would cost the square of their number. Each is compared with those of its cell alone: cells are the
regions nearest to about sqrt(n) features drawn from all (an inverted file; Sivic and Zisserman, ICCV 2003), found by one
blocked matrix product. Matches of one pair of pictures then vote for a similarity (Lowe 2004, section 7.3), which least
squares refine.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.local_features import Features, as_units
from edgecnn.progress import report

LEAST_COSINE = 0.85  # of two descriptors that match
NEAREST = 4  # matches of one feature that count
MOST_IN_CELL = 4096  # what more features than that look like tells pictures apart no longer: it is compared in parts
LEAST_VOTES = 3
MOST_PARTNERS = 16  # candidates of one picture, those with the most matches: a long burst hangs together by fewer
TOLERANCE = 4.0  # pixels between a feature and where the similarity puts it
MOST_ZOOM = 2.5  # of one picture on the other
_ROWS = 2048  # of a matrix product
_TURNS, _PLACE = 12, 32  # bins of a vote: of the circle; pixels

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Candidate:
    """Two pictures (indices `first` < `second`) in which `matches` features agree on one similarity.

    `affine` `(2, 3)` float64 maps x, y from the centre of the second to x, y from the centre of the first, in pixels.
    """

    first: int
    second: int
    matches: int
    affine: NDArray[np.float64]


def find_candidates(features: Features, *, mirrored: bool = True) -> list[Candidate]:
    """List the pairs of pictures whose features agree on a shift, turn and scale of one onto the other, in order.

    `mirrored` also finds pictures of which one is a mirror image.
    """
    if len(features.vectors) < 2:
        return []
    cells = _Cells.of(features)
    found = [*_agreeing(features, *_matches(features, cells, features.vectors, "matching features"), mirror=False)]
    if mirrored:
        found += _agreeing(features, *_matches(features, cells, features.mirrored, "matching mirrored features"), mirror=True)
    best: dict[tuple[int, int], Candidate] = {}
    for candidate in found:
        pair = candidate.first, candidate.second
        if pair not in best or candidate.matches > best[pair].matches:
            best[pair] = candidate
    return _strongest([best[pair] for pair in sorted(best)])


def _strongest(candidates: list[Candidate]) -> list[Candidate]:
    """Keep those that are among the MOST_PARTNERS of either of their pictures."""
    taken: dict[int, int] = {}
    kept = []
    for candidate in sorted(candidates, key=lambda c: -c.matches):
        ends = candidate.first, candidate.second
        if min(taken.get(end, 0) for end in ends) < MOST_PARTNERS:
            kept.append(candidate)
            for end in ends:
                taken[end] = taken.get(end, 0) + 1
    return sorted(kept, key=lambda c: (c.first, c.second))


@dataclass(frozen=True, eq=False)
class _Cells:
    """The inverted file: `centres` `(c, d)`, and features `order` `(n,)`, those of cell `i` at `starts[i]:starts[i + 1]`."""

    centres: NDArray[np.float32]
    order: Indices
    starts: Indices

    @classmethod
    def of(cls, features: Features) -> _Cells:
        count = len(features.vectors)
        drawn = np.sort(np.random.default_rng(0).permutation(count)[: max(1, int(1.5 * count**0.5))])
        centres = as_units(features.vectors[drawn])
        return cls(centres, *_by_cell(_nearest(features.vectors, centres, 1)[:, 0], len(centres)))

    def members(self, cell: int) -> Indices:
        return self.order[self.starts[cell] : self.starts[cell + 1]]


def _by_cell(cells: NDArray[np.int32], count: int) -> tuple[Indices, Indices]:
    order = np.argsort(cells, kind="stable")
    return order, np.searchsorted(cells[order], np.arange(count + 1))


def _nearest(vectors: NDArray[np.int8], centres: NDArray[np.float32], ways: int) -> NDArray[np.int32]:
    """Return the cells `(n, ways)` whose centres are nearest to each vector."""
    cells = np.empty((len(vectors), ways), np.int32)
    for start in range(0, len(vectors), _ROWS):
        rows = slice(start, start + _ROWS)
        near = as_units(vectors[rows]) @ centres.T
        for way in range(ways):
            cells[rows, way] = near.argmax(axis=1)
            near[np.arange(len(near)), cells[rows, way]] = -2
        report("sorting features", min(start + _ROWS, len(vectors)), len(vectors))
    return cells


def _matches(features: Features, cells: _Cells, queries: NDArray[np.int8], stage: str) -> tuple[Indices, Indices]:
    """Return features and those of other pictures that match them, looked for in the two nearest cells of each."""
    ways = min(2, len(cells.centres))
    order, starts = _by_cell(_nearest(queries, cells.centres, ways).reshape(-1), len(cells.centres))
    owners = features.owners
    found: list[NDArray[np.int32]] = [np.zeros((2, 0), np.int32)]
    for cell in range(len(cells.centres)):
        asking, members = order[starts[cell] : starts[cell + 1]] // ways, cells.members(cell)
        for some, among in _parts(asking, members):
            for at in range(0, len(some), _ROWS):
                rows = some[at : at + _ROWS]
                found.append(_alike(queries, features.vectors, owners, rows, among))
        report(stage, cell + 1, len(cells.centres))
    first, second = np.concatenate(found, axis=1)
    return first.astype(np.int64), second.astype(np.int64)


def _parts(asking: Indices, members: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Cut a cell that holds too much into parts, which are compared within themselves."""
    parts = -(-len(members) // MOST_IN_CELL)
    for part in range(parts):
        yield asking[part * len(asking) // parts : (part + 1) * len(asking) // parts], members[part::parts]


def _alike(
    queries: NDArray[np.int8], vectors: NDArray[np.int8], owners: NDArray[np.int32], rows: Indices, among: Indices
) -> NDArray[np.int32]:
    """Return the matches `(2, n)` of the features `rows` in `among`, the NEAREST of each."""
    cosine = as_units(queries[rows]) @ as_units(vectors[among]).T
    row, column = np.nonzero(cosine >= LEAST_COSINE)
    other = owners[rows[row]] != owners[among[column]]
    row, column = row[other], column[other]
    order = np.lexsort((-cosine[row, column], row))
    row, column = row[order], column[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    kept = rank < NEAREST
    return np.stack([rows[row[kept]], among[column[kept]]]).astype(np.int32)


def _agreeing(features: Features, first: Indices, second: Indices, *, mirror: bool) -> list[Candidate]:
    """Make candidates of matches whose pairs of pictures have enough that vote for one similarity.

    `first` `(n,)` are the features that were looked up (mirrored where `mirror`), `second` those found.
    """
    owners, pictures = features.owners, len(features.starts) - 1
    swapped = owners[first] > owners[second]  # either of two pictures may have asked; a mirror image's mirror image is itself
    first, second = np.where(swapped, second, first), np.where(swapped, first, second)
    distinct = np.unique(first * len(owners) + second)
    first, second = distinct // len(owners), distinct % len(owners)
    pairs = owners[first].astype(np.int64) * pictures + owners[second]
    first, second, pairs = _of_frequent(first, second, pairs)
    if not len(pairs):
        return []
    turns, zooms, shifts = _votes(features, first, second, mirror)
    chosen = _best_votes(pairs, turns, zooms, shifts)
    if not chosen.any():
        return []
    return _fitted(features, first, second, pairs, chosen, mirror=mirror)


def _of_frequent(first: Indices, second: Indices, pairs: Indices) -> tuple[Indices, Indices, Indices]:
    """Keep the matches of pairs that have LEAST_VOTES of them, sorted by pair."""
    order = np.argsort(pairs, kind="stable")
    first, second, pairs = first[order], second[order], pairs[order]
    counts = np.searchsorted(pairs, pairs, "right") - np.searchsorted(pairs, pairs, "left")
    kept = counts >= LEAST_VOTES
    return first[kept], second[kept], pairs[kept]


def _complex(places: NDArray[np.float32]) -> NDArray[np.complex128]:
    return places[:, 0].astype(np.float64) + 1j * places[:, 1]


def _votes(
    features: Features, first: Indices, second: Indices, mirror: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.complex128]]:
    """Return what each match says: the turn, the binary logarithm of the scale, and where the second's centre comes to lie."""
    angle = features.angles[second].astype(np.float64)
    if mirror:
        angle = np.pi - angle
    turns = np.mod(features.angles[first] - angle, 2 * np.pi)
    zooms = np.log2(features.sizes[first] / features.sizes[second]).astype(np.float64)
    from_centre = _mirrored(_complex(features.places[second]), mirror)
    return turns, zooms, _complex(features.places[first]) - 2.0**zooms * np.exp(1j * turns) * from_centre


def _mirrored(places: NDArray[np.complex128], mirror: bool) -> NDArray[np.complex128]:
    """Turn x round, left to right."""
    return -places.conj() if mirror else places


def _best_votes(
    pairs: Indices, turns: NDArray[np.float64], zooms: NDArray[np.float64], shifts: NDArray[np.complex128]
) -> NDArray[np.bool_]:
    """Return which matches `(n,)` stand in the fullest bin of their pair, if that has LEAST_VOTES.

    Bins are laid out eight times, shifted by half of their size, so that no vote is lost at an edge.
    """
    most = np.zeros(len(pairs), np.int64)
    best = np.zeros(len(pairs), bool)
    zoom = np.clip(np.floor(zooms + 0.5) + 4, 0, 7).astype(np.int64)
    for along_x, along_y, around in itertools.product((0, 0.5), repeat=3):
        turn = np.floor(turns / (2 * np.pi) * _TURNS + around).astype(np.int64) % _TURNS
        x, y = (
            np.clip(np.floor(values / _PLACE + half) + 32, 0, 63).astype(np.int64)
            for values, half in ((shifts.real, along_x), (shifts.imag, along_y))
        )
        bins = (((pairs * _TURNS + turn) * 8 + zoom) * 64 + x) * 64 + y
        _, index, counts = np.unique(bins, return_inverse=True, return_counts=True)
        votes = counts[index.reshape(-1)]
        top = _max_by(pairs, votes)
        fullest = _first_of_each(pairs, votes == top, index.reshape(-1))
        better = top > most
        best[better] = fullest[better]
        most[better] = top[better]
    return best & (most >= LEAST_VOTES)


def _heads(pairs: Indices) -> tuple[Indices, Indices]:
    """Return where each run of equal `pairs` begins, and the run `(n,)` of each entry."""
    starts = np.flatnonzero(np.diff(pairs, prepend=-1))
    return starts, np.searchsorted(starts, np.arange(len(pairs)), "right") - 1


def _max_by(pairs: Indices, values: Indices) -> Indices:
    starts, run = _heads(pairs)
    return np.asarray(np.maximum.reduceat(values, starts)[run])


def _first_of_each(pairs: Indices, allowed: NDArray[np.bool_], bins: Indices) -> NDArray[np.bool_]:
    """Return the entries that stand in the same bin as the first allowed one of their pair."""
    starts, run = _heads(pairs)
    first = np.minimum.reduceat(np.where(allowed, np.arange(len(pairs)), len(pairs)), starts)
    return np.asarray(bins == bins[first][run])


def _fitted(
    features: Features, first: Indices, second: Indices, pairs: Indices, chosen: NDArray[np.bool_], *, mirror: bool
) -> list[Candidate]:
    """Fit a similarity to each pair's chosen matches by least squares, then once more to all that agree with it."""
    starts, run = _heads(pairs)
    target = _complex(features.places[first])
    source = _mirrored(_complex(features.places[second]), mirror)
    fits = _fit(source, target, chosen, starts, run)
    for _ in range(2):
        chosen = np.abs(fits[0][run] * source + fits[1][run] - target) <= TOLERANCE
        fits = _fit(source, target, chosen, starts, run)
    counts = np.minimum(_distinct(first, run, chosen, len(starts)), _distinct(second, run, chosen, len(starts)))
    pictures = len(features.starts) - 1
    return [
        Candidate(int(pairs[starts[i]] // pictures), int(pairs[starts[i]] % pictures), int(counts[i]), _affine(*pair, mirror))
        for i, pair in enumerate(zip(*fits, strict=True))
        if counts[i] >= LEAST_VOTES and 1 / MOST_ZOOM <= abs(pair[0]) <= MOST_ZOOM
    ]


def _fit(
    source: NDArray[np.complex128], target: NDArray[np.complex128], chosen: NDArray[np.bool_], starts: Indices, run: Indices
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Return `a` and `b` of `target = a * source + b` for each run, over what is chosen; of a run without any, identity."""
    weight = chosen.astype(np.float64)
    total = np.add.reduceat(weight, starts)
    safe = np.maximum(total, 1)
    mean_source = np.add.reduceat(weight * source, starts) / safe
    mean_target = np.add.reduceat(weight * target, starts) / safe
    centred = source - mean_source[run]
    spread = np.add.reduceat(weight * np.abs(centred) ** 2, starts)
    slope = np.add.reduceat(weight * centred.conj() * (target - mean_target[run]), starts) / np.maximum(spread, 1e-9)
    slope = np.where(spread > 1, slope, 1)
    return slope, mean_target - slope * mean_source


def _distinct(features: Indices, run: Indices, chosen: NDArray[np.bool_], runs: int) -> Indices:
    """Count the different features that are chosen in each run."""
    seen = np.unique(np.stack([run[chosen], features[chosen]]), axis=1)[0]
    return np.bincount(seen, minlength=runs)


def _affine(slope: complex, shift: complex, mirror: bool) -> NDArray[np.float64]:
    x = -1 if mirror else 1
    return np.array(
        [[slope.real * x, -slope.imag, shift.real], [slope.imag * x, slope.real, shift.imag]],
        np.float64,
    )
