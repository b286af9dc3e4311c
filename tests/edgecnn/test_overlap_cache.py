from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from picture_files import surface, write_classes

from edgecnn.datasets import overlap_cache
from edgecnn.datasets.check import check_folder
from edgecnn.datasets.folder import task_from_folder
from edgecnn.datasets.load import load_splits
from edgecnn.datasets.overlap import Overlaps, find_overlaps
from edgecnn.datasets.overlap_cache import known_overlaps
from edgecnn.files import cache_folder

Searches = list[int]


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Searches:
    """How many pictures each search went through, with a cache of its own."""
    done: Searches = []

    def search(images: list[NDArray[np.uint8]], class_ids: NDArray[np.int64]) -> Overlaps:
        done.append(len(images))
        return find_overlaps(images, class_ids)

    monkeypatch.setattr(overlap_cache, "find_overlaps", search)
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path / "cache"))
    return done


def entries(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").rglob("*.json"))


def grays() -> list[NDArray[np.uint8]]:
    """Six crops `(96, 96)` of three surfaces, neighbours overlapping, and two copies."""
    crops = [surface(seed, (160, 160))[at : at + 96, at : at + 96] for seed in range(3) for at in (0, 20)]
    return [*crops, crops[0], crops[3]]


CLASSES = np.array([0, 0, 1, 1, 2, 2, 0, 1])


def digests(images: list[NDArray[np.uint8]]) -> list[str]:
    return [hashlib.sha256(image.tobytes()).hexdigest() for image in images]


def test_the_same_pictures_are_searched_once_whatever_they_are_called(tmp_path: Path, searches: Searches) -> None:
    first = write_classes(tmp_path / "first")
    load_splits(task_from_folder(first), first, 0)
    first.rename(tmp_path / "second")
    (tmp_path / "second" / "nut").rename(tmp_path / "second" / "a nut")
    (tmp_path / "second" / "bolt" / "0.png").rename(tmp_path / "second" / "bolt" / "last.png")

    load_splits(task_from_folder(tmp_path / "second"), tmp_path / "second", 7)
    check_folder(tmp_path / "second", seed=3)

    assert searches == [16]


def test_another_picture_or_another_label_is_another_search(tmp_path: Path, searches: Searches) -> None:
    folder = write_classes(tmp_path / "parts")
    check_folder(folder)
    (folder / "nut" / "0.png").rename(folder / "bolt" / "from nut.png")
    check_folder(folder)
    (folder / "nut" / "1.png").unlink()
    check_folder(folder)

    assert searches == [16, 16, 15]


def test_what_is_remembered_is_what_was_found(tmp_path: Path, searches: Searches) -> None:
    images = grays()
    found = [known_overlaps(images, CLASSES, digests(images)) for _ in range(2)]

    assert (searches, len(entries(tmp_path))) == ([8], 1)
    assert found[0].pairs == found[1].pairs
    assert (found[0].groups == found[1].groups).all()
    assert (found[0].threshold, found[0].scenery) == (found[1].threshold, found[1].scenery)


@given(order=st.permutations(range(8)), labels=st.permutations(range(3)))
@settings(max_examples=20, deadline=None)
def test_the_same_content_gives_the_same_groups_in_any_order_under_any_labels(order: list[int], labels: list[int]) -> None:
    images = grays()
    plain = known_overlaps(images, CLASSES, digests(images))
    shuffled = [images[i] for i in order]

    found = known_overlaps(shuffled, np.array([labels[CLASSES[i]] for i in order]), digests(shuffled))

    back = {(*sorted((order[pair.first], order[pair.second])), pair.kind) for pair in found.pairs}
    # Of equal copies either may be the one that the others are joined with.
    partition = {frozenset(i for i in range(8) if plain.groups[i] == group) for group in plain.groups}
    assert {frozenset(order[i] for i in range(8) if found.groups[i] == group) for group in found.groups} == partition
    assert len(back) == len(plain.pairs)


def test_a_shift_belongs_to_the_pair_as_it_stands() -> None:
    images = grays()[:6]
    for order in ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]):
        ordered = [images[i] for i in order]
        for pair in known_overlaps(ordered, CLASSES[order], digests(ordered)).pairs:
            (y, x), first, second = pair.shift_yx, ordered[pair.first], ordered[pair.second]
            top, left = max(y, 0), max(x, 0)
            part = first[top : top + 96 - abs(y), left : left + 96 - abs(x)]
            other = second[max(-y, 0) : max(-y, 0) + 96 - abs(y), max(-x, 0) : max(-x, 0) + 96 - abs(x)]
            assert (part == other).all()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def another_body(path: Path) -> None:
    body = json.loads(path.read_text())
    body["found"]["pairs"] = []
    path.write_text(json.dumps(body))


def nested(path: Path) -> None:
    path.write_text("[" * 100_000)


def no_entry(path: Path) -> None:
    path.write_text("null")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [cut, another_body, nested, no_entry, a_folder])
def test_a_damaged_entry_is_as_good_as_none(tmp_path: Path, searches: Searches, spoil: Callable[[Path], None]) -> None:
    images = grays()
    whole = known_overlaps(images, CLASSES, digests(images))
    spoil(entries(tmp_path)[0])

    found = known_overlaps(images, CLASSES, digests(images))

    assert (searches, found.pairs) == ([8, 8], whole.pairs)


def test_an_entry_that_names_other_pictures_is_refused(tmp_path: Path, searches: Searches) -> None:
    images = grays()
    known_overlaps(images, CLASSES, digests(images))
    body = json.loads(entries(tmp_path)[0].read_text())["found"]
    body["pairs"] = [[0, 99, "overlap", 0, 0, 1.0, 1.0]]
    entries(tmp_path)[0].write_text(json.dumps({"found": body, "sha256": overlap_cache._digest(body)}))

    known_overlaps(images, CLASSES, digests(images))

    assert searches == [8, 8]


def test_a_cache_that_cannot_be_written_is_no_trouble(tmp_path: Path, searches: Searches) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    images = grays()

    assert len(known_overlaps(images, CLASSES, digests(images)).pairs) > 0


@pytest.mark.parametrize("value", ["off", "0", "", " OFF "])
def test_the_cache_can_be_switched_off(monkeypatch: pytest.MonkeyPatch, searches: Searches, value: str) -> None:
    monkeypatch.setenv("EDGECNN_CACHE", value)
    images = grays()

    for _ in range(2):
        known_overlaps(images, CLASSES, digests(images))

    assert searches == [8, 8]


def test_the_cache_is_where_the_desktop_standard_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EDGECNN_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    found = []
    for value in (str(tmp_path / "xdg"), "relative", ""):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        found.append(cache_folder())

    assert found == [tmp_path / "xdg" / "edgecnn", *[tmp_path / ".cache" / "edgecnn"] * 2]


def test_the_entries_used_longest_ago_make_room(tmp_path: Path, searches: Searches, monkeypatch: pytest.MonkeyPatch) -> None:
    images = grays()
    for count in (5, 6, 7):
        known_overlaps(images[:count], CLASSES[:count], digests(images[:count]))
    for number, file in enumerate(entries(tmp_path)):
        os.utime(file, (number, number))
    monkeypatch.setattr(overlap_cache, "MAX_BYTES", sum(file.stat().st_size for file in entries(tmp_path)))
    oldest = entries(tmp_path)[0]

    known_overlaps(images, CLASSES, digests(images))

    assert not oldest.exists()
    assert sum(file.stat().st_size for file in entries(tmp_path)) <= overlap_cache.MAX_BYTES
