"""The same part again: in another light, crop, turn or mirrored, before a background that every picture shares."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecnn.datasets.overlap import Overlaps, find_overlaps
from edgecnn.datasets.overlap_cache import known_overlaps

Picture = NDArray[np.uint8]
Pictures = list[Picture]
SIDE = 192
OUTLINES = {"disc": 40, "square": 4, "hexagon": 6}  # corners


def surface(seed: int, side: int = SIDE) -> Picture:
    random = np.random.default_rng(seed)
    noise = random.normal(size=(3, side, side)).astype(np.float32)
    layers = [cv2.GaussianBlur(layer, (0, 0), sigma) * sigma for layer, sigma in zip(noise, (1.2, 3.0, 8.0), strict=True)]
    return np.asarray(np.clip(128 + 35 * np.sum(layers, axis=0), 0, 255), np.uint8)


def turned(picture: Picture, degrees: float, shift: tuple[float, float] = (0, 0), zoom: float = 1.0) -> Picture:
    size = picture.shape[::-1]
    matrix = cv2.getRotationMatrix2D(((size[0] - 1) / 2, (size[1] - 1) / 2), degrees, zoom)
    matrix[:, 2] += shift
    return np.asarray(cv2.warpAffine(picture, matrix, size, borderMode=cv2.BORDER_REFLECT), np.uint8)


def exposed(picture: Picture, gain: float, seed: int = 0, noise: float = 2.0) -> Picture:
    """Another exposure: brighter or darker, light from one side, and noise of its own."""
    side_light = np.linspace(0.7, 1.3, picture.shape[1])[None]
    values = picture * gain * side_light + np.random.default_rng(seed).normal(0, noise, picture.shape)
    return np.asarray(np.clip(values, 0, 255), np.uint8)


def as_jpeg(picture: Picture, quality: int) -> Picture:
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 0), np.uint8)


AGAIN: dict[str, Callable[[Picture], Picture]] = {
    "darker": lambda picture: exposed(picture, 0.5),
    "brighter": lambda picture: exposed(picture, 1.4),
    "cropped by a few pixels": lambda picture: picture[7:-3, 2:-12],
    "shifted by a third": lambda picture: turned(picture, 0, (SIDE / 3, 10)),
    "turned by 17 degrees": lambda picture: turned(picture, 17),
    "turned by 90 degrees": lambda picture: np.ascontiguousarray(np.rot90(picture)),
    "mirrored": lambda picture: np.ascontiguousarray(picture[:, ::-1]),
    "upside down": lambda picture: np.ascontiguousarray(picture[::-1]),
    "nearer": lambda picture: turned(picture, 5, zoom=1.3),
    "a poor JPEG": lambda picture: as_jpeg(picture, 40),
    "all at once": lambda picture: as_jpeg(exposed(turned(picture[:, ::-1], 30, (9, -14), 1.1), 0.7), 80),
}


@cache
def others() -> tuple[Picture, ...]:
    return tuple(surface(seed) for seed in range(100, 111))


@pytest.mark.parametrize("how", AGAIN)
def test_the_same_part_is_found_again(how: str) -> None:
    part = surface(1)
    pictures = [part, AGAIN[how](part), *others()]

    pairs = find_overlaps(pictures, np.arange(13) % 2).pairs

    assert [(pair.first, pair.second) for pair in pairs] == [(0, 1)]


def test_a_burst_of_one_part_is_one_group() -> None:
    burst = [exposed(surface(1), 1.0, seed=frame, noise=3.0) for frame in range(20)]

    groups = find_overlaps([*burst, *others()], np.array([0] * 20 + [0, 1] * 5 + [1])).groups

    assert np.bincount(groups).tolist() == [20] + [1] * 11


def part_before(scene: Picture, outline: str, seed: int, random: np.random.Generator) -> Picture:
    """A part of its own texture, thrown before a fixed scene: a turn, a place and an exposure of its own."""
    place, turn = random.uniform(-12, 12, 2) + SIDE / 2, random.uniform(0, 360)
    corners = np.linspace(0, 2 * np.pi, OUTLINES[outline], endpoint=False) + np.deg2rad(-turn)
    shape = np.rint(place + 62 * np.stack([np.cos(corners), np.sin(corners)], axis=1)).astype(np.int32)
    mask = cv2.fillPoly(np.zeros_like(scene), [shape], 1)
    part = turned(surface(1000 + seed), turn, tuple(place - SIDE / 2))
    return as_jpeg(exposed(np.where(mask == 1, part, scene), random.uniform(0.7, 1.2), int(random.integers(1 << 30))), 90)


def thrown(count: int, times: int) -> tuple[Pictures, NDArray[np.int64], NDArray[np.int64]]:
    """Pictures, classes and the part that each shows: `count` parts per class, each thrown `times` times."""
    random, scene = np.random.default_rng(0), surface(7)
    pictures, class_ids, parts = [], [], []
    for class_id, outline in enumerate(OUTLINES):
        for part in range(class_id * count, (class_id + 1) * count):
            pictures += [part_before(scene, outline, part, random) for _ in range(times)]
            class_ids += [class_id] * times
            parts += [part] * times
    return pictures, np.array(class_ids), np.array(parts)


def pair_shares(found: Overlaps, truth: NDArray[np.int64]) -> tuple[float, float]:
    """Return recall and precision of pairs of one group."""
    ours, true = (np.triu(ids[:, None] == ids[None], 1) for ids in (found.groups, truth))
    return float((ours & true).sum() / true.sum()), float((ours & true).sum() / max(ours.sum(), 1))


def test_parts_before_a_fixed_scene_are_told_apart_and_found_again() -> None:
    pictures, class_ids, parts = thrown(count=6, times=3)

    recall, precision = pair_shares(find_overlaps(pictures, class_ids), parts)

    assert precision == 1
    assert recall >= 0.9


def test_different_parts_before_a_fixed_scene_are_no_group() -> None:
    pictures, class_ids, _ = thrown(count=12, times=1)

    assert find_overlaps(pictures, class_ids).pairs == ()


def test_even_pictures_are_no_copies_of_each_other() -> None:
    even = [np.full((SIDE, SIDE), level, np.uint8) for level in (60, 61, 62)]
    noise = [exposed(np.full((SIDE, SIDE), 60, np.uint8), 1.0, seed) for seed in range(8)]

    assert find_overlaps([*even, *noise], np.arange(11) % 2).pairs == ()


def test_another_small_part_before_the_same_background_is_no_copy() -> None:
    pictures = []
    for seed in range(8):
        picture = surface(7)
        picture[80:112, 80:112] = 128 + (surface(300 + seed, 32).astype(int) - 128) // 6
        pictures.append(picture)

    assert find_overlaps(pictures, np.arange(8) % 2).pairs == ()


def test_the_same_print_on_every_part_is_no_group() -> None:
    logo, random, pictures = surface(5, 48), np.random.default_rng(0), []
    for seed in range(24):
        picture = surface(200 + seed).copy()
        top, left = random.integers(0, SIDE - 48, 2)
        picture[top : top + 48, left : left + 48] = logo
        pictures.append(exposed(picture, random.uniform(0.7, 1.2), seed))

    assert find_overlaps(pictures, np.arange(24) % 3).pairs == ()


def rolled(seed: int) -> Picture:
    """A part with a grain of its own and the streaks of a roller that all parts went through, each at another place."""
    profile = cv2.GaussianBlur(np.random.default_rng(7).normal(size=(1, 400)), (0, 0), 1.5)[0]
    at = int(np.random.default_rng(seed).integers(0, 400 - SIDE))
    streaks = 30 * profile[at : at + SIDE] / profile.std()
    return np.asarray(np.clip(128 + streaks + 0.3 * (surface(400 + seed).astype(float) - 128), 0, 255), np.uint8)


def test_the_streaks_of_one_roller_on_every_part_are_no_group_and_hide_none() -> None:
    parts = [rolled(seed) for seed in range(16)]

    found = find_overlaps([*parts, exposed(parts[3], 0.7)], np.arange(17) % 2)

    assert [(pair.first, pair.second) for pair in found.pairs] == [(3, 16)]


def test_what_a_whole_class_looks_like_is_no_group() -> None:
    random = np.random.default_rng(0)
    packages = [surface(seed) for seed in (1, 2)]
    pictures = [
        exposed(turned(packages[i % 2], random.uniform(0, 360), tuple(random.uniform(-9, 9, 2))), random.uniform(0.7, 1.2), i)
        for i in range(40)
    ]

    found = find_overlaps(pictures, np.arange(40) % 2)

    assert found.looks == (0, 1)
    assert found.pairs == ()


@given(st.permutations(range(12)))
@settings(deadline=None, max_examples=5)
def test_groups_do_not_depend_on_the_order_of_the_files(order: list[int]) -> None:
    part, pictures = surface(1), list(others()[:9])
    pictures += [part, AGAIN["all at once"](part), AGAIN["darker"](part)]
    class_ids, digests = np.array([0] * 6 + [1] * 6), [str(i) for i in range(12)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGECNN_CACHE", "off")  # else the second search would be the first one's result
        straight = known_overlaps(pictures, class_ids, digests).groups

        moved = known_overlaps([pictures[i] for i in order], class_ids[order], [digests[i] for i in order]).groups

    assert np.array_equal(moved[:, None] == moved[None], straight[order][:, None] == straight[order][None])


def gear(random: np.random.Generator, *, defect: bool) -> Picture:
    """One of many gears of one design, thrown on an even belt; a defect is a scratch of its own."""
    drawn = np.full((SIDE, SIDE), 70, np.uint8)
    for tooth in np.linspace(0, 2 * np.pi, 12, endpoint=False):
        tip = np.rint(SIDE / 2 + 62 * np.array([np.cos(tooth), np.sin(tooth)])).astype(int)
        cv2.line(drawn, (SIDE // 2, SIDE // 2), tuple(tip.tolist()), 150, 16)
    cv2.circle(drawn, (SIDE // 2, SIDE // 2), 48, 160, -1)
    cv2.circle(drawn, (SIDE // 2 + 8, SIDE // 2), 12, 60, -1)
    if defect:
        ends = random.integers(SIDE // 2 - 40, SIDE // 2 + 40, (2, 2)).tolist()
        cv2.line(drawn, ends[0], ends[1], 230, 2)
    thrown_gear = turned(drawn, random.uniform(0, 360), tuple(random.uniform(-20, 20, 2)))
    return as_jpeg(exposed(thrown_gear, random.uniform(0.9, 1.1), int(random.integers(1 << 30))), 92)


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.85, 0.15)])
def test_parts_of_one_design_are_no_group(shares: tuple[float, float]) -> None:
    random = np.random.default_rng(0)
    class_ids = np.repeat([0, 1], [round(40 * share) for share in shares])
    pictures = [gear(random, defect=bool(class_id)) for class_id in class_ids]

    groups = find_overlaps(pictures, class_ids).groups

    assert np.bincount(groups).max() <= 4
