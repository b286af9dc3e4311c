"""A file that holds on clean pictures and falls under a camera's corruptions is caught."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset
from edgecnn.robustness.corruptions import corrupt, corruptions_for
from edgecnn.shipped import find_task
from edgecnn_export.pages.parity import render_page
from edgecnn_export.parity.compare import compare
from edgecnn_export.parity.corrupted import LEAST_EACH, MOST, SEVERITY, CorruptedFigures, deal
from edgecnn_export.parity.figures import ParityReport
from edgecnn_export.parity.text import format_report

CORRUPTIONS = corruptions_for(find_task("neu"))


class Stripes:
    """Tells upright stripes (class 1) from lying ones (class 0), but says 0 to any picture darker than `blind`."""

    name = "by stripes"

    def __init__(self, blind: float = 0) -> None:
        self.blind = blind

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        levels = images.astype(float)
        across, down = (np.abs(np.diff(levels, axis=axis)).mean(axis=(1, 2, 3)) for axis in (2, 1))
        upright = (across > down) & (levels.mean(axis=(1, 2, 3)) >= self.blind)
        return np.where(upright[:, None], (0.1, 0.9), (0.9, 0.1)).astype(np.float32)


def _stripes(count: int = 40, groups: bool = False) -> Dataset:
    """Broad stripes of random contrast on 32 x 32 pixels, upright in every second picture."""
    random = np.random.default_rng(0)
    class_ids = np.arange(count, dtype=np.int64) % 2
    lying = 120 + random.integers(30, 60, (count, 1, 1)) * np.sign(np.sin(np.arange(32) / 3))[None, :, None]
    images = np.broadcast_to(lying, (count, 32, 32)).astype(np.uint8)
    images = np.where(class_ids[:, None, None] == 1, images.transpose(0, 2, 1), images)[..., None]
    names = tuple(f"{i}.png" for i in range(count))
    return Dataset(np.ascontiguousarray(images), class_ids, names, class_ids // 2 if groups else None)


@pytest.fixture(scope="module")
def robust() -> ParityReport:
    return compare(Stripes(), {"int8": Stripes()}, _stripes(), corruptions=CORRUPTIONS)


@pytest.fixture(scope="module")
def fragile() -> ParityReport:
    return compare(Stripes(), {"int8": Stripes(blind=110)}, _stripes(), corruptions=CORRUPTIONS, max_drop=5)


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 60), kinds=st.integers(1, 5), seed=st.integers(0, 99))
def test_pictures_are_dealt_evenly_and_never_twice_alike(count: int, kinds: int, seed: int) -> None:
    dataset = Dataset(np.arange(count, dtype=np.uint8)[:, None, None, None], np.zeros(count, np.int64), ("",) * count)
    flat = [each for each in CORRUPTIONS if each.name in ("shift", "rotation", "jpeg", "contrast", "low_resolution")][:kinds]

    dealt = deal(dataset, flat, seed)

    taken = np.bincount(dealt.corruption_ids, minlength=len(flat))
    pairs = list(zip(np.asarray(dealt.dataset.groups).tolist(), dealt.corruption_ids.tolist(), strict=True))
    assert set(np.asarray(dealt.dataset.groups).tolist()) == set(range(count))
    assert taken.max() - taken.min() <= 1
    assert taken.min() >= min(LEAST_EACH, count) - 1
    assert len(pairs) <= count * len(flat)
    if count % len(flat) == 0 or np.gcd(count, len(flat)) == 1:
        assert len(set(pairs)) == len(pairs)


def test_large_sets_are_dealt_in_part() -> None:
    count = 5000
    dataset = Dataset(np.zeros((count, 8, 8, 1), np.uint8), np.zeros(count, np.int64), ("",) * count)

    dealt = deal(dataset, CORRUPTIONS[:2], 0)

    assert len(dealt.dataset) == MOST
    assert len(set(np.asarray(dealt.dataset.groups).tolist())) == MOST


def test_dealt_pictures_are_the_corrupted_ones() -> None:
    dataset = _stripes()

    dealt = deal(dataset, CORRUPTIONS, 3)

    chosen = [dataset.names.index(name) for name in dealt.dataset.names]
    expected = [
        corrupt(dataset.images[[i]], CORRUPTIONS[kind], SEVERITY, 3)[0]
        for i, kind in zip(chosen, dealt.corruption_ids.tolist(), strict=True)
    ]
    assert np.array_equal(dealt.dataset.images, np.stack(expected))
    assert np.array_equal(dealt.dataset.class_ids, dataset.class_ids[chosen])


def test_groups_stay_together_under_corruptions() -> None:
    dataset = _stripes(groups=True)
    assert dataset.groups is not None

    dealt = deal(dataset, CORRUPTIONS, 0)

    expected = [dataset.groups[dataset.names.index(name)] for name in dealt.dataset.names]
    assert np.asarray(dealt.dataset.groups).tolist() == expected


def test_the_same_answers_lose_nothing_under_corruptions(robust: ParityReport) -> None:
    figures = robust["int8"].corrupted

    assert figures is not None
    assert robust.corrupted is not None
    assert (figures.drop, figures.lost, figures.gained, figures.other) == (0, 0, 0, 0)
    assert figures.right == robust.corrupted.right
    assert figures.drop_bound > 0


def test_a_file_that_falls_only_under_corruptions_fails(fragile: ParityReport) -> None:
    candidate = fragile["int8"]

    assert candidate.drop == 0
    assert candidate.verdict == "fail"
    assert "under camera corruptions it lost" in candidate.reasons[0]


def test_the_largest_drop_names_its_corruption(fragile: ParityReport) -> None:
    figures = fragile["int8"].corrupted

    assert figures is not None
    assert fragile.corrupted is not None
    drops = [100 * (before - after) / 20 for before, after in zip(fragile.corrupted.right, figures.right, strict=True)]
    assert figures.worst_drop == max(drops) > 20
    assert figures.worst == fragile.corrupted.corruptions[drops.index(max(drops))]


def test_without_corruptions_the_same_file_passes_its_gate() -> None:
    report = compare(Stripes(), {"int8": Stripes(blind=110)}, _stripes(), max_drop=10)

    assert report["int8"].verdict == "pass"
    assert report.corrupted is None


@pytest.mark.parametrize(
    ("drop", "p", "exceeded"), [(2.0, 0.01, True), (2.0, 0.2, False), (0.9, 0.01, False), (-3.0, 0.001, False)]
)
def test_a_drop_counts_when_it_is_large_and_no_chance(drop: float, p: float, exceeded: bool) -> None:
    figures = CorruptedFigures((1,), 0.9, drop, 3.0, "Tango score", p, 5, 1, 0, "noise", 5.0)

    assert figures.exceeds(1.0, 0.95) is exceeded


def test_the_report_survives_json(fragile: ParityReport) -> None:
    restored = ParityReport.from_json(json.loads(json.dumps(fragile.to_json())))

    assert restored == fragile


def test_a_report_from_before_corruptions_still_opens(fragile: ParityReport) -> None:
    old = fragile.to_json()
    del old["corrupted"], old["candidates"][0]["corrupted"]

    restored = ParityReport.from_json(old)

    assert restored.corrupted is None
    assert "Under what cameras do" not in render_page(restored)
    assert "corruptions:" not in format_report(restored)


def test_text_and_page_show_what_was_lost(fragile: ParityReport) -> None:
    figures = fragile["int8"].corrupted
    assert figures is not None

    text, page = format_report(fragile), render_page(fragile)

    assert "under camera corruptions: 380 pictures, 20 under each of 19 corruptions at severity 3" in text
    assert f"{figures.drop:+.2f}" in text
    assert f"<td>{figures.lost} / {figures.gained} / {figures.other}</td>" in page
    assert "underexposure" in page


def test_progress_tells_both_comparisons() -> None:
    told: list[str] = []

    compare(
        Stripes(), {"int8": Stripes()}, _stripes(), corruptions=CORRUPTIONS[:2],
        progress=lambda name, done, total: told.append(f"{name}: {done} of {total}"),
    )  # fmt: skip

    expected = ["reference: 40 of 40", "reference, corrupted: 40 of 40", "int8: 40 of 40", "int8, corrupted: 40 of 40"]
    assert told == expected
