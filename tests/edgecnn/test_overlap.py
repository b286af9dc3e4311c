from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecnn.datasets.neu import TASK, find_pictures, read_split_table
from edgecnn.datasets.overlap import connected, find_overlaps
from edgecnn.pictures import read_picture
from edgecnn.progress import listening

Pictures = list[NDArray[np.uint8]]


def texture(seed: int, side: int = 400) -> NDArray[np.uint8]:
    """A surface `(side, side)` with structure at several scales."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=(3, side, side)).astype(np.float32)
    layers = [cv2.GaussianBlur(layer, (0, 0), sigma) * sigma for layer, sigma in zip(noise, (1.0, 3.0, 9.0), strict=True)]
    return np.asarray(np.clip(128 + 40 * np.sum(layers, axis=0), 0, 255), np.uint8)


def as_jpeg(picture: NDArray[np.uint8], quality: int = 90) -> NDArray[np.uint8]:
    data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)


def crop(surface: NDArray[np.uint8], top: int, left: int, side: int = 200) -> NDArray[np.uint8]:
    return as_jpeg(np.ascontiguousarray(surface[top : top + side, left : left + side]))


def classes(count: int) -> NDArray[np.int64]:
    return np.arange(count, dtype=np.int64) % 2


def real_or_generated(limit: int) -> tuple[Pictures, NDArray[np.int64], NDArray[np.int64]]:
    """Pictures, classes and recorded groups: the first of NEU's groups where NEU is there, else crops of 12 textures."""
    stated = os.environ.get("EDGECNN_DATA")
    folder = Path(stated) / "neu" if stated else None
    if folder is not None and folder.is_dir():
        table, found = read_split_table(), find_pictures(folder)
        keys = sorted(found, key=lambda key: table[key].number)[:limit]
        pictures = [read_picture(found[key])[..., 0] for key in keys]
        ids = [TASK.labels.index(label) for label, _ in keys]
        return pictures, np.array(ids, np.int64), np.array([table[key].group for key in keys], np.int64)
    pictures = [crop(texture(seed), 10 + 60 * k, 20 + 45 * k) for seed in range(12) for k in range(3)]
    groups = np.repeat(np.arange(12), 3)
    return pictures, groups % 2, groups


@pytest.mark.parametrize("shift", [(0, 70), (120, 0), (-90, 60), (50, -110), (-101, -33), (150, 20)])
def test_overlapping_crops_of_one_surface_are_joined(shift: tuple[int, int]) -> None:
    surface = texture(0, 520)
    others = [crop(texture(seed), 0, 0) for seed in range(1, 11)]
    pair = [crop(surface, 160, 160), crop(surface, 160 + shift[0], 160 + shift[1])]

    groups = find_overlaps([*pair, *others], classes(12)).groups

    assert groups[0] == groups[1]


def test_the_shift_is_found_to_the_pixel() -> None:
    surface = texture(0)
    pictures = [crop(surface, 100, 100), crop(surface, 63, 141), *(crop(texture(seed), 0, 0) for seed in range(1, 11))]

    pairs = find_overlaps(pictures, classes(12)).pairs

    assert [(p.first, p.second, p.kind, p.shift_yx) for p in pairs] == [(0, 1, "overlap", (-37, 41))]


def test_independent_surfaces_are_not_joined() -> None:
    pictures = [crop(texture(seed), 0, 0) for seed in range(24)]

    found = find_overlaps(pictures, classes(24))

    assert found.pairs == ()


def test_the_same_line_on_different_surfaces_is_no_overlap() -> None:
    pictures = []
    for seed in range(16):
        picture = crop(texture(seed), 0, 0)
        picture[:, 90:100] = 250
        pictures.append(picture)

    found = find_overlaps(pictures, classes(16))

    assert found.pairs == ()


def test_a_chain_of_crops_is_one_group() -> None:
    surface = texture(0, 800)
    chain = [crop(surface, 100 * k, 100 * k) for k in range(5)]

    groups = find_overlaps([*chain, *(crop(texture(seed), 0, 0) for seed in range(1, 8))], classes(12)).groups

    assert groups.tolist() == [0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7]


def test_a_copy_saved_again_is_a_duplicate() -> None:
    pictures = [crop(texture(seed), 0, 0) for seed in range(8)]
    pictures.append(as_jpeg(pictures[3], quality=80))

    pairs = find_overlaps(pictures, classes(9)).pairs

    assert [(p.first, p.second, p.kind) for p in pairs] == [(3, 8, "duplicate")]


def test_a_picture_is_found_again_in_another_size() -> None:
    pictures = [crop(texture(seed), 0, 0) for seed in range(8)]
    pictures.append(np.asarray(cv2.resize(pictures[3], (240, 240), interpolation=cv2.INTER_CUBIC), np.uint8))

    found = find_overlaps(pictures, classes(9))

    assert [(p.first, p.second) for p in found.pairs if p.kind == "duplicate"] == [(3, 8)]


def test_equal_pixels_are_duplicates_even_without_structure() -> None:
    pictures = [np.full((100, 100), level, np.uint8) for level in (0, 0, 90, 255)]

    pairs = find_overlaps(pictures, classes(4)).pairs

    assert [(p.first, p.second, p.kind, p.score) for p in pairs] == [(0, 1, "duplicate", 1.0)]


def test_small_pictures_are_joined_only_as_copies() -> None:
    random = np.random.default_rng(0)
    pictures = list(random.integers(0, 256, (6, 28, 28)).astype(np.uint8))
    pictures += [np.roll(pictures[0], 3, axis=1), np.clip(pictures[1].astype(int) + 1, 0, 255).astype(np.uint8)]

    pairs = find_overlaps(pictures, classes(8)).pairs

    assert [(p.first, p.second, p.kind) for p in pairs] == [(1, 7, "duplicate")]


def test_a_shared_background_is_recognised_as_scenery() -> None:
    background = texture(0, 200)
    pictures = []
    for seed in range(24):
        picture = background.copy()
        picture[60:140, 60:140] = texture(seed + 1, 80)
        pictures.append(as_jpeg(picture))

    found = find_overlaps(pictures, classes(24))

    assert len(set(found.groups.tolist())) == 24


def test_the_search_can_be_stopped_by_its_progress() -> None:
    def stop(stage: str, done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with listening(stop), pytest.raises(KeyboardInterrupt):
        find_overlaps([crop(texture(seed), 0, 0) for seed in range(20)], classes(20))


def test_nothing_and_a_single_picture_have_no_overlaps() -> None:
    counts = [len(find_overlaps([texture(0, 100)] * n, classes(n)).pairs) for n in (0, 1)]

    assert counts == [0, 0]


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30))
@settings(deadline=None)
def test_connected_components_hold_exactly_what_is_reachable(pairs: list[tuple[int, int]]) -> None:
    groups = connected(20, pairs)

    reachable = np.eye(20, dtype=bool)
    for first, second in pairs:
        reachable[first, second] = reachable[second, first] = True
    for _ in range(5):
        reachable = reachable @ reachable
    assert np.array_equal(groups[:, None] == groups[None, :], reachable)


def test_recorded_overlaps_are_found_again() -> None:
    pictures, class_ids, recorded = real_or_generated(limit=180)

    ours = find_overlaps(pictures, class_ids).groups

    same = np.triu(recorded[:, None] == recorded[None, :], 1)
    companions = np.flatnonzero((same | same.T).any(axis=1))
    joined = [(ours[(recorded == recorded[i]) & (np.arange(len(ours)) != i)] == ours[i]).any() for i in companions]
    assert np.mean(joined) >= 0.9
