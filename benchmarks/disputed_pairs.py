"""Where the search and a table of groups disagree, which of them is right? By three proofs that the search does not use.

    python -m benchmarks.disputed_pairs DATA/magnetic_tiles DATA/magnetic_tiles_groups.csv

The search joins pictures by local features and by their structure between 1 and 4 pixels. Here, pairs that it joins and the
table parts (disputed), and pairs that the table joins and it parts (lost) are compared with pairs that both join (agreed) and
that neither joins (unrelated), by

- *phase*: the peak of the phase correlation of both whole pictures, light evened out;
- *patches*: the share of nine patches of one picture that, each looked for alone in the other, are found at one displacement;
- *coarse*: the correlation of structure between 4 and 12 pixels after registration by the enhanced correlation coefficient
  (Evangelidis and Psarakis, PAMI 30, 2008), begun at the shift of the phase correlation.

A proof holds where it exceeds the best of all unrelated pairs. They serve for pictures that lie on each other but for a shift
and a small distortion. Then follows the precision against the table over the thresholds and three rules of joining groups, and
with the table's groups joined where at least two proofs hold.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.folder import read_layout
from edgecnn.datasets.group_table import GroupTable
from edgecnn.datasets.layout import find_layout
from edgecnn.datasets.local_features import even_light
from edgecnn.datasets.overlap import connected, reduced
from edgecnn.datasets.overlap_cache import known_overlaps

UNRELATED, AGREED = 500, 200  # pairs of these kinds that are drawn
TOLERANCE = 4  # pixels between a patch's displacement and the median one
LEAST_RECALL = 0.90

Picture = NDArray[np.float32]
Pair = tuple[int, int]


def common(first: Picture, second: Picture) -> tuple[Picture, Picture]:
    """Cut the middle of the size that both have."""
    height, width = (min(first.shape[side], second.shape[side]) for side in (0, 1))
    return cut(first, height, width), cut(second, height, width)


def cut(picture: Picture, height: int, width: int) -> Picture:
    """Cut the middle of a picture."""
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return np.ascontiguousarray(picture[top : top + height, left : left + width])


def phase(first: Picture, second: Picture) -> tuple[float, tuple[float, float]]:
    """Return the peak of the phase correlation, and the shift x, y of the second against the first."""
    window = cv2.createHanningWindow(first.shape[::-1], cv2.CV_32F)
    shift, peak = cv2.phaseCorrelate(first, second, window)
    return float(peak), (float(shift[0]), float(shift[1]))


def patches(first: Picture, second: Picture) -> float:
    """Return the share of nine patches that are found at one displacement."""
    side = min(first.shape) // 4
    tops, lefts = (np.linspace(0, length - side, 3).astype(int) for length in first.shape)
    found = []
    for top, left in itertools.product(tops, lefts):
        scores = cv2.matchTemplate(second, first[top : top + side, left : left + side], cv2.TM_CCOEFF_NORMED)
        x, y = cv2.minMaxLoc(scores)[3]
        found.append((x - left, y - top))
    places = np.array(found)
    return float((np.abs(places - np.median(places, axis=0)).max(axis=1) <= TOLERANCE).mean())


def coarse(first: Picture, second: Picture, shift: tuple[float, float]) -> float:
    """Return the correlation of structure between 4 and 12 pixels after registration; -1 where it does not converge."""
    halves = [cv2.resize(each, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for each in (first, second)]
    bands = [np.asarray(cv2.GaussianBlur(each, (0, 0), 2) - cv2.GaussianBlur(each, (0, 0), 6), np.float32) for each in halves]
    begin = np.array([[1, 0, shift[0] / 2], [0, 1, shift[1] / 2]], np.float32)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-5)
    try:
        return float(cv2.findTransformECC(bands[0], bands[1], begin, cv2.MOTION_AFFINE, stop)[0])
    except cv2.error:
        return -1.0


def proofs(grays: Sequence[NDArray[np.uint8]], pairs: Sequence[Pair]) -> NDArray[np.float64]:
    """Return the three proofs `(n, 3)` of pairs of pictures."""
    rows = []
    for one, other in pairs:
        first, second = common(*(even_light(reduced(grays[i])) for i in (one, other)))
        peak, shift = phase(first, second)
        raw = common(*(reduced(grays[i]).astype(np.float32) for i in (one, other)))
        rows.append((peak, patches(first, second), coarse(*raw, shift)))
    return np.array(rows).reshape(-1, 3)


def drawn(pairs: Sequence[Pair], most: int) -> list[Pair]:
    """Draw at most `most` of the pairs."""
    order = np.random.default_rng(0).permutation(len(pairs))[:most]
    return [pairs[i] for i in order]


def unrelated_pairs(groups: NDArray[np.int64], recorded: NDArray[np.int64]) -> list[Pair]:
    """Draw pairs that are of one group by neither."""
    some = np.random.default_rng(0).integers(0, len(groups), (20 * UNRELATED, 2))
    one, other = some[:, 0], some[:, 1]
    apart = (groups[one] != groups[other]) & (recorded[one] != recorded[other])
    return [(int(a), int(b)) for a, b in some[apart][:UNRELATED]]


def lost_pairs(groups: NDArray[np.int64], recorded: NDArray[np.int64]) -> list[Pair]:
    """List the pairs of one recorded group that the search did not join."""
    missed = np.triu((recorded[:, None] == recorded[None]) & (groups[:, None] != groups[None]), 1)
    return [(int(one), int(other)) for one, other in zip(*np.nonzero(missed), strict=True)]


def shares(groups: NDArray[np.int64], recorded: NDArray[np.int64]) -> tuple[float, float]:
    """Return recall and precision of the pairs of one group."""
    ours, true = (np.triu(ids[:, None] == ids[None], 1) for ids in (groups, recorded))
    return float((ours & true).sum() / true.sum()), float((ours & true).sum() / max(1, ours.sum()))


def linked(count: int, pairs: Sequence[Pair], share: float) -> NDArray[np.int64]:
    """Join groups, the strongest pairs first, where at least `share` of the pairs between their pictures were found."""
    found = np.zeros((count, count), bool)
    for pair in pairs:
        found[pair] = found[pair[::-1]] = True
    groups = np.arange(count)
    for one, other in pairs:
        mine, theirs = groups == groups[one], groups == groups[other]
        if groups[one] != groups[other] and found[np.ix_(mine, theirs)].mean() >= share:
            groups[theirs] = groups[one]
    return groups


def main() -> None:
    """Print what the proofs say, and what precision thresholds and rules of joining reach."""
    parser = argparse.ArgumentParser(description="Where the search and a table of groups disagree, which of them is right?")
    parser.add_argument("folder", type=Path)
    parser.add_argument("table", type=Path)
    stated = parser.parse_args()
    contents = read_layout(find_layout(stated.folder))
    grays = [picture.gray for picture in contents.pictures]
    class_ids = np.array([contents.labels.index(picture.file.label) for picture in contents.pictures], np.int64)
    found = known_overlaps(grays, class_ids, [picture.sha256 for picture in contents.pictures])
    table = GroupTable.read(stated.table).groups_of([picture.file.name for picture in contents.pictures])
    recorded = np.unique([str(group) for group in table], return_inverse=True)[1].reshape(-1)

    strongest = [(pair.first, pair.second) for pair in sorted(found.pairs, key=lambda pair: -pair.score)]
    disputed = [pair for pair in strongest if recorded[pair[0]] != recorded[pair[1]]]
    agreed = [pair for pair in strongest if recorded[pair[0]] == recorded[pair[1]]]
    of_unrelated = proofs(grays, unrelated_pairs(found.groups, recorded))
    bars = of_unrelated.max(axis=0)
    lost = lost_pairs(found.groups, recorded)
    holding = {
        name: proofs(grays, pairs) > bars
        for name, pairs in (("agreed", drawn(agreed, AGREED)), ("disputed", disputed), ("lost", lost))
        if pairs
    }
    print("| pairs | | phase | patches | coarse | two of three | none |\n|---|---|---|---|---|---|---|")
    for name, holds in holding.items():
        told = [*holds.mean(axis=0), (holds.sum(axis=1) >= 2).mean(), (holds.sum(axis=1) == 0).mean()]
        print(f"| {name} | {len(holds)} | " + " | ".join(f"{share:.3f}" for share in told) + " |")
    print(f"bars, the best of {len(of_unrelated)} unrelated pairs: " + ", ".join(f"{bar:.3f}" for bar in bars))

    proven = [pair for pair, holds in zip(disputed, holding.get("disputed", ()), strict=True) if holds.sum() >= 2]
    together = connected(len(recorded), [*proven, *zip(*_chains(recorded), strict=True)])
    ends = [{tuple(sorted((recorded[a], recorded[b]))) for a, b in some} for some in (disputed, proven)]
    print(f"\n{len(ends[0])} pairs of recorded groups are disputed, {len(ends[1])} of them proven by at least one pair")
    print("\n| joined by | threshold | recall | precision |\n|---|---|---|---|")
    rules: dict[str, Callable[[list[Pair]], NDArray[np.int64]]] = {
        "any pair": lambda pairs: connected(len(recorded), pairs),
        "half of the pairs": lambda pairs: linked(len(recorded), pairs, 0.5),
        "all pairs": lambda pairs: linked(len(recorded), pairs, 1.0),
    }
    for name, rule in rules.items():
        best = (0.0, 0.0, 0.0)
        for threshold in np.arange(0.75, 1.0, 0.02):
            chosen = [p for p in sorted(found.pairs, key=lambda pair: -pair.score) if p.score >= threshold]
            recall, precision = shares(rule([(p.first, p.second) for p in chosen]), recorded)
            if recall >= LEAST_RECALL and precision > best[2]:
                best = float(threshold), recall, precision
        print(f"| {name}, the best threshold for the table | {best[0]:.2f} | {best[1]:.3f} | {best[2]:.3f} |")
    recall, precision = shares(found.groups, recorded)
    print(f"| as it is | {found.threshold:.2f} | {recall:.3f} | {precision:.3f} |")
    recall, precision = shares(found.groups, together)
    print(f"| as it is, the table mended where two proofs hold | {found.threshold:.2f} | {recall:.3f} | {precision:.3f} |")


def _chains(groups: NDArray[np.int64]) -> tuple[list[int], list[int]]:
    """Return pictures and the next one of their group."""
    order = np.argsort(groups, kind="stable")
    same = groups[order[:-1]] == groups[order[1:]]
    return order[:-1][same].tolist(), order[1:][same].tolist()


if __name__ == "__main__":
    main()
