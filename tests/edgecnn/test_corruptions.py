"""Corruptions are fixed: the same picture gives the same bytes, damage grows with severity, and nothing else changes."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from edgecnn.datasets.synthetic import generate_digits, generate_steel
from edgecnn.errors import InputError, ShapeError
from edgecnn.robustness.corruptions import CORRUPTIONS, SEVERITIES, Corruption, corrupt, corruptions_for
from edgecnn.robustness.paper import form_of, photographed
from edgecnn.shipped import find_task

SURFACE = corruptions_for(find_task("neu"))
DIGIT = corruptions_for(find_task("mnist"))
ALL = [pytest.param(each, id=f"{'digit' if each.on_paper else 'surface'}-{each.name}") for each in SURFACE + DIGIT]

# Of severity 3 and seed 0, on `_texture` for surfaces and on three synthetic digits, which `mnist_form` draws.
PINNED = {
    "surface-underexposure": "ab3afb55a1a5c909",
    "surface-overexposure": "9c3dfa719337df94",
    "surface-gain": "2ea3a49ac0bd8331",
    "surface-gamma": "2667a2cff1c4f6bd",
    "surface-contrast": "ea9b06c9421b8089",
    "surface-light_gradient": "a8517119f3fb426d",
    "surface-vignette": "4507a75223b832e6",
    "surface-highlight": "6ed15a423e37afab",
    "surface-defocus": "804a6131f049e1cc",
    "surface-motion_horizontal": "44c49b70edb1d41e",
    "surface-motion_vertical": "41b6246ebf9e5292",
    "surface-noise": "70c3265c87f50cba",
    "surface-banding": "eaf381987aae250d",
    "surface-jpeg": "a56fbca08a3152dd",
    "surface-low_resolution": "da1208e6b4a12870",
    "surface-rotation": "3085aed79356f3d1",
    "surface-perspective": "808dc3a3fef35e7f",
    "surface-shift": "b5c42173871880da",
    "surface-dust": "3322ce414c8667c9",
    "digit-underexposure": "174509d98263d40f",
    "digit-overexposure": "99091fe9ed8ddc78",
    "digit-gain": "5dc5d328580615f4",
    "digit-gamma": "9900955472823623",
    "digit-contrast": "16a984882681cf46",
    "digit-light_gradient": "b524981667fbef97",
    "digit-vignette": "61749229f22dbb71",
    "digit-highlight": "b917fb50e4f17b3a",
    "digit-defocus": "21a78534ac86cdd5",
    "digit-motion_horizontal": "c0914ae24f78d3ed",
    "digit-motion_vertical": "d09061cae4ab32d9",
    "digit-noise": "5c48c1efec707513",
    "digit-banding": "f112e36812a8796a",
    "digit-jpeg": "1035e476f540d639",
    "digit-low_resolution": "8dcbe2160201248d",
    "digit-rotation": "4cf663b990b6d410",
    "digit-perspective": "5603c72b90deb4c5",
    "digit-shift": "9f0ea3939b0d0729",
    "digit-dust": "e4609ae1028ee5d2",
    "digit-stroke_weight": "8cc8c08b3663fcf5",
    "digit-slant": "0ebcdfb841ab397c",
    "digit-paper_texture": "4666e87c7b1ad567",
    "digit-ink_color": "e20f68fd327f1a0e",
}


def _texture(height: int = 40, width: int = 48, channels: int = 1, count: int = 3) -> NDArray[np.uint8]:
    """Stripes and noise around middle gray, made by integers only."""
    random = np.random.RandomState(0)
    stripes = 80 + 60 * (np.arange(width) // 6 % 2)[None, None, :, None]
    return np.asarray(stripes + random.randint(0, 50, (count, height, width, channels)), np.uint8)


def _pictures(corruption: Corruption) -> NDArray[np.uint8]:
    return generate_digits(1, 0).images[:3] if corruption.on_paper else _texture()


@pytest.fixture(scope="module")
def steel() -> NDArray[np.uint8]:
    return generate_steel(1, 0).images


@pytest.fixture(scope="module")
def digits() -> NDArray[np.uint8]:
    return generate_digits(4, 0).images


@pytest.mark.parametrize("corruption", ALL)
@pytest.mark.parametrize("severity", [1, 5])
def test_a_picture_keeps_its_form_and_the_original_its_pixels(corruption: Corruption, severity: int) -> None:
    images = _pictures(corruption)
    before = images.copy()

    corrupted = corrupt(images, corruption, severity, 0)

    assert corrupted.shape == images.shape
    assert corrupted.dtype == np.uint8
    assert np.array_equal(images, before)


@pytest.mark.parametrize("corruption", ALL)
def test_damage_grows_with_severity(corruption: Corruption, steel: NDArray[np.uint8], digits: NDArray[np.uint8]) -> None:
    images = digits if corruption.on_paper else steel

    damage = [np.abs(corrupt(images, corruption, severity, 0).astype(int) - images).mean() for severity in SEVERITIES]

    assert damage[0] > 0
    assert damage == sorted(set(damage))


@pytest.mark.parametrize("corruption", ALL)
def test_a_picture_does_not_depend_on_those_beside_it(corruption: Corruption) -> None:
    images = _pictures(corruption)

    together, alone = corrupt(images, corruption, 3, 7), corrupt(images[2:], corruption, 3, 7)

    assert np.array_equal(together[2:], alone)


@pytest.mark.parametrize("corruption", ALL)
def test_corruptions_are_pinned_to_the_bit(corruption: Corruption) -> None:
    corrupted = corrupt(_pictures(corruption), corruption, 3, 0)

    found = hashlib.sha256(corrupted.tobytes()).hexdigest()[:16]

    assert found == PINNED[f"{'digit' if corruption.on_paper else 'surface'}-{corruption.name}"]


@pytest.mark.parametrize("name", ["noise", "shift", "gamma", "dust"])
def test_another_seed_draws_otherwise(name: str) -> None:
    corruption = next(each for each in SURFACE if each.name == name)
    images = _texture()

    seen = {corrupt(images, corruption, 3, seed).tobytes() for seed in range(4)}

    assert len(seen) > 1


@pytest.mark.parametrize("corruption", SURFACE)
def test_color_pictures_can_be_corrupted(corruption: Corruption) -> None:
    images = _texture(24, 20, channels=3)

    corrupted = corrupt(images, corruption, 3, 0)

    assert corrupted.shape == images.shape


@settings(max_examples=60, deadline=None)
@given(
    images=arrays.arrays(np.uint8, st.tuples(st.integers(1, 2), st.integers(8, 20), st.integers(8, 20), st.just(1))),
    corruption=st.sampled_from(SURFACE + DIGIT),
    severity=st.sampled_from(SEVERITIES),
    seed=st.integers(0, 2**70),
)
def test_any_picture_can_be_corrupted(images: NDArray[np.uint8], corruption: Corruption, severity: int, seed: int) -> None:
    corrupted = corrupt(images, corruption, severity, seed)

    assert corrupted.shape == images.shape


@pytest.mark.parametrize("severity", [-1, 0, 6])
def test_a_severity_outside_one_to_five_is_refused(severity: int) -> None:
    with pytest.raises(InputError, match=f"got {severity}"):
        corrupt(_texture(), SURFACE[0], severity, 0)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(InputError, match="got -1"):
        corrupt(_texture(), SURFACE[0], 3, -1)


@pytest.mark.parametrize("images", [_texture()[0], _texture().astype(np.float32), _texture(channels=2)])
def test_what_is_no_batch_of_pictures_is_refused(images: NDArray[np.uint8]) -> None:
    with pytest.raises(ShapeError, match="expected pictures"):
        corrupt(images, SURFACE[0], 3, 0)


def test_surfaces_have_no_pen() -> None:
    names = {each.name for each in SURFACE}

    assert names == {each.name for each in CORRUPTIONS} - {"stroke_weight", "slant", "paper_texture", "ink_color"}


def test_digits_have_all_corruptions_on_paper() -> None:
    assert [each.name for each in DIGIT] == [each.name for each in CORRUPTIONS]
    assert all(each.on_paper for each in DIGIT)


def test_each_name_is_used_once_and_each_has_five_levels() -> None:
    assert len({each.name for each in CORRUPTIONS}) == len(CORRUPTIONS)
    assert {len(each.levels) for each in SURFACE + DIGIT} == {5}


def test_ink_and_paper_survive_being_photographed(digits: NDArray[np.uint8]) -> None:
    returned = np.stack([form_of(photographed(form)) for form in digits])

    assert np.abs(returned.astype(int) - digits).max() <= 1


def test_a_dark_photograph_is_a_faint_digit_on_black(digits: NDArray[np.uint8]) -> None:
    underexposure = DIGIT[0]

    faint = corrupt(digits, underexposure, 3, 0)

    assert faint[digits == 0].max() == 0
    assert abs(int(faint.max()) - round(255 * 2**-0.75)) <= 2


def test_beyond_the_border_of_a_digit_is_paper() -> None:
    shift = replace(next(each for each in DIGIT if each.name == "shift"), levels=(0.5,) * 5)
    digits = np.zeros((1, 28, 28, 1), np.uint8)
    digits[:, 4:24, 4:24] = 255

    moved = corrupt(digits, shift, 3, 0)

    assert moved.sum() < digits.sum()
    assert (moved[0, :, :, 0].max(axis=1) == 0).sum() + (moved[0, :, :, 0].max(axis=0) == 0).sum() > 16


def test_exposure_anchors_are_those_of_the_first_measurement() -> None:
    gray = np.full((1, 8, 8, 1), 100, np.uint8)
    under, over = SURFACE[0], SURFACE[1]

    dark, bright = corrupt(gray, under, 3, 0), corrupt(gray, over, 3, 0)

    assert (int(dark[0, 0, 0, 0]), int(bright[0, 0, 0, 0])) == (59, 152)


def test_noise_has_the_stated_deviation() -> None:
    noise = next(each for each in SURFACE if each.name == "noise")
    gray = np.full((1, 200, 200, 1), 128, np.uint8)

    noisy = corrupt(gray, noise, 3, 0)

    assert abs(noisy.std() - 15) < 0.3
    assert abs(noisy.mean() - 128) < 0.3


def test_a_smear_spreads_a_point_over_its_length() -> None:
    across = next(each for each in SURFACE if each.name == "motion_horizontal")
    point = np.zeros((1, 200, 200, 1), np.uint8)
    point[0, 100, 100] = 255

    smeared = corrupt(point, across, 3, 0)[0, :, :, 0]

    assert np.flatnonzero(smeared.any(axis=1)).tolist() == [100]
    assert np.ptp(np.flatnonzero(smeared.any(axis=0))) == 8  # 8 pixels: 7 whole and two halves
    assert abs(int(smeared.sum()) - 255) <= 9


def test_a_vignette_takes_the_stated_light_from_the_corners() -> None:
    vignette = next(each for each in SURFACE if each.name == "vignette")
    gray = np.full((1, 101, 101, 1), 200, np.uint8)

    dark = corrupt(gray, vignette, 3, 0)[0, :, :, 0]

    assert (int(dark[50, 50]), int(dark[0, 0])) == (200, 110)
