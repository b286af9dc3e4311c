"""Overlaps that were searched once are known ever after: kept in the user's cache folder, by the content of the pictures."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.overlap import Kind, Overlap, Overlaps, connected, find_overlaps
from edgecnn.errors import EdgecnnError
from edgecnn.files import cache_folder, make_folder, read_bytes, write_bytes
from edgecnn.mapped import let_go

VERSION = 4  # of the search and of the form of an entry: another one finds nothing of this one
MAX_BYTES = 64 * 2**20  # of all entries; the ones that were used longest ago go
MAX_ENTRY_BYTES = 16 * 2**20
_LET_GO = 1024  # pictures, behind which mapped memory is let go


def known_overlaps(images_gray: Sequence[NDArray[np.uint8]], class_ids: NDArray[np.int64], digests: Sequence[str]) -> Overlaps:
    """Return what `find_overlaps` finds among pictures `(h, w)`, searching only where these pictures were never searched.

    `digests` are those of the pictures' contents. The result depends on them and on which pictures share a class, neither on
    their order nor on any name. A cache that cannot be read or written is as good as none.
    """
    order = canonical_order(class_ids, digests)
    key = _key(class_ids[order], [digests[i] for i in order])
    folder = cache_folder()
    path = None if folder is None else folder / f"overlaps-{VERSION}" / f"{key}.json"
    found = None if path is None else _read(path, len(order))
    if found is None:
        found = find_overlaps(_Ordered(images_gray, order), numbered(class_ids[order]))
        if path is not None:
            _write(path, found)
    return _reordered(found, order, class_ids)


class _Ordered(Sequence[NDArray[np.uint8]]):
    """A sequence of pictures in another order; none is kept."""

    def __init__(self, pictures: Sequence[NDArray[np.uint8]], order: NDArray[np.int64]) -> None:
        self._pictures, self._order, self._asked = pictures, order, 0

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:  # type: ignore[override]  # never asked for a slice
        self._asked += 1
        if self._asked % _LET_GO == 0:
            let_go()
        return self._pictures[int(self._order[index])]


def canonical_order(class_ids: NDArray[np.int64], digests: Sequence[str]) -> NDArray[np.int64]:
    """Return indices `(n,)` that put pictures into the order of their contents, whatever they and their classes are called.

    The same content under two labels is put in order by all that the two classes hold.
    """
    members: dict[int, list[str]] = {}
    for class_id, digest in zip(class_ids.tolist(), digests, strict=True):
        members.setdefault(class_id, []).append(digest)
    about = {class_id: hashlib.sha256("".join(sorted(own)).encode()).hexdigest() for class_id, own in members.items()}
    keys = [(digest, about[class_id]) for class_id, digest in zip(class_ids.tolist(), digests, strict=True)]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)


def numbered(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number ids `(n,)` from 0 in the order of their first appearance."""
    seen: dict[int, int] = {}
    return np.array([seen.setdefault(one, len(seen)) for one in ids.tolist()], np.int64)


def _key(class_ids: NDArray[np.int64], digests: Sequence[str]) -> str:
    lines = [f"{digest} {class_id}\n" for digest, class_id in zip(digests, numbered(class_ids).tolist(), strict=True)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _reordered(found: Overlaps, order: NDArray[np.int64], class_ids: NDArray[np.int64]) -> Overlaps:
    """Return what was found among pictures `order` in terms of the pictures themselves and their classes `(n,)`."""
    pairs = []
    for pair in found.pairs:
        first, second = int(order[pair.first]), int(order[pair.second])
        shift = pair.shift_yx
        if first > second:
            first, second, shift = second, first, (-shift[0], -shift[1])
        pairs.append(Overlap(first, second, pair.kind, shift, pair.share, pair.score))
    pairs.sort(key=lambda pair: (pair.first, pair.second))
    groups = connected(len(order), ((pair.first, pair.second) for pair in pairs))
    classes = dict(zip(numbered(class_ids[order]).tolist(), class_ids[order].tolist(), strict=True))
    looks = tuple(sorted(classes[look] for look in found.looks))
    return Overlaps(tuple(pairs), groups, found.threshold, found.scenery, looks)


def _read(path: Path, count: int) -> Overlaps | None:
    """Return an entry, None when there is none or it is damaged."""
    try:
        entry = json.loads(read_bytes(path, at_most=MAX_ENTRY_BYTES))
        body = entry["found"]
        if entry["sha256"] != _digest(body):
            return None
        pairs = tuple(_pair(row, count) for row in body["pairs"])
        groups = connected(count, ((pair.first, pair.second) for pair in pairs))
        found = Overlaps(pairs, groups, float(body["threshold"]), bool(body["scenery"]), tuple(map(int, body["looks"])))
    except (EdgecnnError, ValueError, KeyError, TypeError, RecursionError):
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # used just now: it stays longest
    return found


def _pair(row: Any, count: int) -> Overlap:
    first, second, kind, shift_y, shift_x, share, score = row
    if not (0 <= first < second < count and kind in get_args(Kind) and math.isfinite(share + score)):
        raise ValueError("no pair of these pictures")
    return Overlap(int(first), int(second), kind, (int(shift_y), int(shift_x)), float(share), float(score))


def _write(path: Path, found: Overlaps) -> None:
    rows = [[p.first, p.second, p.kind, *p.shift_yx, p.share, p.score] for p in found.pairs]
    body = {"pairs": rows, "threshold": found.threshold, "scenery": found.scenery, "looks": found.looks}
    data = json.dumps({"found": body, "sha256": _digest(body)}).encode()
    if len(data) > MAX_ENTRY_BYTES:
        return
    with contextlib.suppress(EdgecnnError, OSError):
        make_folder(path.parent)
        _make_room(path.parent, MAX_BYTES - len(data))
        write_bytes(path, data)


def _digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _make_room(folder: Path, at_most: int) -> None:
    """Remove entries, those used longest ago first, until the rest have `at_most` bytes."""
    entries = sorted((file.stat().st_mtime, file.stat().st_size, file) for file in folder.glob("*.json"))
    total = sum(size for _, size, _ in entries)
    for _, size, file in entries:
        if total <= at_most:
            return
        file.unlink(missing_ok=True)
        total -= size
