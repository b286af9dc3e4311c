"""Which pictures may show the same thing: features that match, and agree on how one picture lies on the other.

Comparing all features would cost the square of their number. Each is compared with those of its cell alone: cells are the
regions nearest to about sqrt(n) features drawn from all (an inverted file; Sivic and Zisserman, ICCV 2003), found by one
blocked matrix product. Matches of one pair of pictures then vote for a similarity (Lowe 2004, section 7.3), which least
squares refine.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
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
BLOCK_PICTURES = 4096  # whose matches vote at once: all of them at once would take gigabytes
_ROWS = 2048  # of a matrix product
_TURNS, _PLACE = 12, 32  # bins of a vote: of the circle; pixels

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Pairs of pictures in which features agree on one similarity.

    `pairs` `(n, 2)` int32 are pictures, the lower first, `matches` `(n,)` int32 how many features agree; `affines` `(n, 2, 3)`
    float32 map x, y from the centre of the second to x, y from the centre of the first, in pixels.
    """

    pairs: NDArray[np.int32]
    matches: NDArray[np.int32]
    affines: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, chosen: Indices | NDArray[np.bool_]) -> Candidates:
        return Candidates(self.pairs[chosen], self.matches[chosen], self.affines[chosen])

    @classmethod
    def joined(cls, some: Sequence[Candidates]) -> Candidates:
        """Return all of `some`, in order."""
        none = cls(np.zeros((0, 2), np.int32), np.zeros(0, np.int32), np.zeros((0, 2, 3), np.float32))
        all_of = [none, *some]
        return cls(
            np.concatenate([each.pairs for each in all_of]),
            np.concatenate([each.matches for each in all_of]),
            np.concatenate([each.affines for each in all_of]),
        )


def find_candidates(features: Features) -> Candidates:
    """List the pairs of pictures of which one, or its mirror image, is the other shifted, turned and scaled, in order."""
    if len(features.vectors) < 2:
        return Candidates.joined([])
    cells = _Cells.of(features)
    return _strongest(Candidates.joined([*_similar(features, cells, mirror=False), *_similar(features, cells, mirror=True)]))


def _similar(features: Features, cells: _Cells, *, mirror: bool) -> Iterator[Candidates]:
    """Yield the candidates of BLOCK_PICTURES first pictures at once."""
    blocks = _matches(features, cells, mirror=mirror)
    while blocks:
        yield _agreeing(features, *np.concatenate(blocks.pop(), axis=1).astype(np.int64), mirror=mirror)


def _strongest(found: Candidates) -> Candidates:
    """Keep the better candidate of each pair, and those that are among the MOST_PARTNERS of either of their pictures."""
    keys = found.pairs[:, 0].astype(np.int64) << 32 | found.pairs[:, 1]
    by_strength = np.lexsort((keys, -found.matches))
    best = by_strength[np.sort(np.unique(keys[by_strength], return_index=True)[1])]
    taken = [0] * (int(found.pairs.max(initial=0)) + 1)
    kept = np.zeros(len(found), bool)
    for i in best:
        first, second = found.pairs[i]
        if min(taken[first], taken[second]) < MOST_PARTNERS:
            kept[i] = True
            taken[first] += 1
            taken[second] += 1
    chosen = np.flatnonzero(kept)
    return found[chosen[np.argsort(keys[chosen])]]


@dataclass(frozen=True, eq=False)
class _Cells:
    """The inverted file: `centres` `(c, d)`, and features `order` `(n,)`, those of cell `i` at `starts[i]:starts[i + 1]`."""

    centres: NDArray[np.float32]
    order: NDArray[np.int32]
    starts: Indices

    @classmethod
    def of(cls, features: Features) -> _Cells:
        count = len(features.vectors)
        drawn = np.sort(np.random.default_rng(0).permutation(count)[: max(1, int(1.5 * count**0.5))])
        centres = as_units(features.vectors[drawn])
        return cls(centres, *_by_cell(_nearest(features, centres, 1)[:, 0], len(centres)))

    def members(self, cell: int) -> NDArray[np.int32]:
        return self.order[self.starts[cell] : self.starts[cell + 1]]


def _by_cell(cells: NDArray[np.int32], count: int) -> tuple[NDArray[np.int32], Indices]:
    """Return the entries in the order of their cells, and where each cell's begin."""
    sizes = np.bincount(cells, minlength=count)
    return np.argsort(cells, kind="stable").astype(np.int32), np.concatenate([[0], np.cumsum(sizes)])


def _units(features: Features, rows: slice | NDArray[np.int32], *, mirror: bool = False) -> NDArray[np.float32]:
    """Return the vectors of some features with unit length, as in a mirror image where asked."""
    units = as_units(features.vectors[rows])
    return units * features.mirror_signs if mirror else units


def _nearest(features: Features, centres: NDArray[np.float32], ways: int, *, mirror: bool = False) -> NDArray[np.int32]:
    """Return the cells `(n, ways)` whose centres are nearest to each feature."""
    count = len(features.vectors)
    cells = np.empty((count, ways), np.int32)
    for start in range(0, count, _ROWS):
        rows = slice(start, start + _ROWS)
        near = _units(features, rows, mirror=mirror) @ centres.T
        for way in range(ways):
            cells[rows, way] = near.argmax(axis=1)
            near[np.arange(len(near)), cells[rows, way]] = -2
        report("sorting features", min(start + _ROWS, count), count)
    return cells


def _matches(features: Features, cells: _Cells, *, mirror: bool) -> list[list[NDArray[np.int32]]]:
    """Return blocks of matches `(2, n)` of features of two pictures, looked for in the two nearest cells of each.

    Of two pictures the lower is the first, and BLOCK_PICTURES of these share a block. In a mirror image either
    picture may be the mirrored one: a mirror image's mirror image is the picture.
    """
    ways = min(2, len(cells.centres))
    order, starts = _by_cell(_nearest(features, cells.centres, ways, mirror=mirror).reshape(-1), len(cells.centres))
    none: NDArray[np.int32] = np.zeros((2, 0), np.int32)
    blocks = [[none] for _ in range(-(-(len(features.starts) - 1) // BLOCK_PICTURES))]
    for cell in range(len(cells.centres)):
        asking, members = order[starts[cell] : starts[cell + 1]] // ways, cells.members(cell)
        for some, among in _parts(asking, members):
            for at in range(0, len(some), _ROWS):
                _put(blocks, features.owners, _alike(features, some[at : at + _ROWS], among, mirror=mirror))
        report("matching mirrored features" if mirror else "matching features", cell + 1, len(cells.centres))
    return blocks


def _put(blocks: list[list[NDArray[np.int32]]], owners: NDArray[np.int32], matches: NDArray[np.int32]) -> None:
    """Put matches `(2, n)`, the lower picture's feature first, into the blocks of these pictures."""
    swapped = owners[matches[0]] > owners[matches[1]]
    matches[:, swapped] = matches[::-1, swapped]
    block = owners[matches[0]] // BLOCK_PICTURES
    for number in np.unique(block):
        blocks[number].append(matches[:, block == number])


def _parts(asking: NDArray[np.int32], members: NDArray[np.int32]) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """Cut a cell that holds too much into parts, which are compared within themselves."""
    parts = -(-len(members) // MOST_IN_CELL)
    for part in range(parts):
        yield asking[part * len(asking) // parts : (part + 1) * len(asking) // parts], members[part::parts]


def _alike(features: Features, rows: NDArray[np.int32], among: NDArray[np.int32], *, mirror: bool) -> NDArray[np.int32]:
    """Return the matches `(2, n)` of the features `rows` in `among`, the NEAREST of each."""
    cosine = _units(features, rows, mirror=mirror) @ _units(features, among).T
    row, column = np.nonzero(cosine >= LEAST_COSINE)
    other = features.owners[rows[row]] != features.owners[among[column]]
    row, column = row[other], column[other]
    order = np.lexsort((-cosine[row, column], row))
    row, column = row[order], column[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    kept = rank < NEAREST
    return np.stack([rows[row[kept]], among[column[kept]]])


def _agreeing(features: Features, first: Indices, second: Indices, *, mirror: bool) -> Candidates:
    """Make candidates of matching features `(n,)` whose pairs of pictures have enough that vote for one similarity."""
    owners, pictures = features.owners, len(features.starts) - 1
    distinct = np.unique(first * len(owners) + second)
    first, second = distinct // len(owners), distinct % len(owners)
    pairs = owners[first].astype(np.int64) * pictures + owners[second]
    first, second, pairs = _of_frequent(first, second, pairs)
    if not len(pairs):
        return Candidates.joined([])
    turns, zooms, shifts = _votes(features, first, second, mirror)
    chosen = _best_votes(pairs, turns, zooms, shifts)
    if not chosen.any():
        return Candidates.joined([])
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
) -> Candidates:
    """Fit a similarity to each pair's chosen matches by least squares, then once more to all that agree with it."""
    starts, run = _heads(pairs)
    target = _complex(features.places[first])
    source = _mirrored(_complex(features.places[second]), mirror)
    fits = _fit(source, target, chosen, starts, run)
    for _ in range(2):
        chosen = np.abs(fits[0][run] * source + fits[1][run] - target) <= TOLERANCE
        fits = _fit(source, target, chosen, starts, run)
    counts = np.minimum(_distinct(first, run, chosen, len(starts)), _distinct(second, run, chosen, len(starts)))
    kept = (counts >= LEAST_VOTES) & (np.abs(fits[0]) >= 1 / MOST_ZOOM) & (np.abs(fits[0]) <= MOST_ZOOM)
    ends = np.stack(np.divmod(pairs[starts], len(features.starts) - 1), axis=1).astype(np.int32)
    return Candidates(ends[kept], counts[kept].astype(np.int32), _affines(fits[0][kept], fits[1][kept], mirror=mirror))


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


def _affines(slopes: NDArray[np.complex128], shifts: NDArray[np.complex128], *, mirror: bool) -> NDArray[np.float32]:
    x = -1 if mirror else 1
    rows = [[slopes.real * x, -slopes.imag, shifts.real], [slopes.imag * x, slopes.real, shifts.imag]]
    return np.moveaxis(np.array(rows, np.float32), 2, 0)
