"""What augmentation may do to pictures and what it may not."""

import dataclasses

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecnn.errors import InputError
from edgecnn.shipped import find_task
from edgecnn_export.training.augmentation import DIGIT, SURFACE, Augmentation, augment, default_augmentation

SETTINGS = {"surface": dataclasses.replace(SURFACE, flips=True), "digit": DIGIT}


def pictures(count: int, height: int, width: int, channels: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, channels)).astype(np.uint8)


@pytest.mark.parametrize("name", list(SETTINGS))
@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(0, 5),
    height=st.integers(8, 40),
    width=st.integers(8, 40),
    channels=st.sampled_from([1, 3]),
    severity=st.floats(0, 2),
    seed=st.integers(0, 2**32),
)
def test_shape_and_dtype_survive(
    name: str, count: int, height: int, width: int, channels: int, severity: float, seed: int
) -> None:
    images = pictures(count, height, width, channels)

    seen = augment(images, SETTINGS[name].scaled(severity), np.random.default_rng(seed))

    assert seen.shape == images.shape
    assert seen.dtype == np.uint8


@pytest.mark.parametrize("name", list(SETTINGS))
@given(seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_severity_zero_is_the_identity(name: str, seed: int) -> None:
    images = pictures(3, 20, 20, 1)

    seen = augment(images, SETTINGS[name].scaled(0), np.random.default_rng(seed))

    assert np.array_equal(seen, images)


@pytest.mark.parametrize("name", list(SETTINGS))
@given(seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_the_same_seed_gives_the_same_pictures(name: str, seed: int) -> None:
    images = pictures(4, 24, 24, 1)

    first, second = (augment(images, SETTINGS[name], np.random.default_rng(seed)) for _ in range(2))

    assert np.array_equal(first, second)


def test_another_seed_gives_other_pictures() -> None:
    images = pictures(4, 24, 24, 1)

    first, second = (augment(images, SURFACE, np.random.default_rng(seed)) for seed in (1, 2))

    assert not np.array_equal(first, second)


def test_the_originals_are_left_alone() -> None:
    images = pictures(4, 24, 24, 1)
    before = images.copy()

    augment(images, SURFACE, np.random.default_rng(0))

    assert np.array_equal(images, before)


def test_flips_only_rearrange_the_pixels() -> None:
    images = pictures(8, 16, 16, 1)
    flips = Augmentation(flips=True)

    seen = augment(images, flips, np.random.default_rng(0))

    assert np.array_equal(np.sort(seen.reshape(8, -1)), np.sort(images.reshape(8, -1)))
    assert not np.array_equal(seen, images)


def test_mirroring_leaves_a_stripe_its_direction() -> None:
    images = np.broadcast_to(np.arange(30, dtype=np.uint8)[None, None, :, None], (16, 30, 30, 1)).copy()

    seen = augment(images, Augmentation(flips=True), np.random.default_rng(0))

    assert all(np.array_equal(image, image[:1].repeat(30, axis=0)) for image in seen)
    assert not np.array_equal(seen, images)


def test_quarter_turns_change_a_stripes_direction() -> None:
    images = np.broadcast_to(np.arange(30, dtype=np.uint8)[None, None, :, None], (16, 30, 30, 1)).copy()

    seen = augment(images, Augmentation(turns=1), np.random.default_rng(0))

    assert any(np.array_equal(image, image[:, :1].repeat(30, axis=1)) for image in seen)


def test_a_long_picture_is_never_turned_by_a_quarter() -> None:
    images = np.broadcast_to(np.arange(30, dtype=np.uint8)[None, None, :, None], (16, 10, 30, 1)).copy()

    seen = augment(images, Augmentation(turns=1), np.random.default_rng(0))

    assert all(np.array_equal(image, image[:1].repeat(10, axis=0)) for image in seen)


@pytest.mark.parametrize(
    "only",
    [
        Augmentation(defocus=0.1, share=1),
        Augmentation(motion=0.3, share=1),
    ],
    ids=["defocus", "motion"],
)
def test_blur_takes_contrast_from_fine_grain(only: Augmentation) -> None:
    images = pictures(16, 32, 32, 1)

    seen = augment(images, only, np.random.default_rng(0))

    assert seen.std() < 0.9 * images.std()


def test_a_bent_line_stays_near_its_place() -> None:
    images = np.zeros((32, 32, 32, 1), np.uint8)
    images[:, :, 16] = 255

    seen = augment(images, Augmentation(bend=0.1, share=1, black_border=True), np.random.default_rng(0))

    columns = np.flatnonzero(seen.max(axis=(0, 1, 3)))
    assert columns[0] < 15
    assert columns[-1] > 17
    assert np.all(np.abs(columns - 16) <= 6)


def test_noise_has_the_strength_asked_for_at_most() -> None:
    images = np.full((16, 32, 32, 1), 128, np.uint8)

    seen = augment(images, Augmentation(read_noise=20, share=1), np.random.default_rng(0))

    deviations = seen.std(axis=(1, 2, 3))
    assert deviations.max() < 22
    assert deviations.max() > 10


def test_exposure_of_a_gray_card_stays_within_its_stops() -> None:
    images = np.full((64, 8, 8, 1), 100, np.uint8)

    seen = augment(images, Augmentation(exposure_stops=1, light_share=1), np.random.default_rng(0))

    assert 50 <= seen.min() < 70
    assert 150 < seen.max() <= 200


def test_contrast_keeps_the_mean() -> None:
    images = pictures(8, 32, 32, 1) // 4 + 96

    seen = augment(images, Augmentation(contrast_stops=1, light_share=1), np.random.default_rng(0))

    assert np.abs(seen.mean(axis=(1, 2, 3)) - images.mean(axis=(1, 2, 3))).max() < 1


def test_a_gradient_leaves_the_centre_alone() -> None:
    images = np.full((8, 33, 33, 1), 100, np.uint8)

    seen = augment(images, Augmentation(gradient=0.5, share=1), np.random.default_rng(0))

    assert (seen[:, 16, 16, 0] == 100).all()
    assert seen.std() > 5


def test_strokes_become_thicker_and_thinner() -> None:
    image = np.zeros((28, 28), np.uint8)
    cv2.line(image, (8, 4), (20, 24), 255, 3)
    images = np.broadcast_to(image[None, :, :, None], (64, 28, 28, 1)).copy()

    seen = augment(images, Augmentation(stroke=0.8, share=1, black_border=True), np.random.default_rng(0))

    ink = seen.mean(axis=(1, 2, 3))
    assert ink.min() < 0.8 * image.mean()
    assert ink.max() > 1.2 * image.mean()


def test_digits_keep_a_black_border_when_they_move() -> None:
    images = np.full((16, 28, 28, 1), 200, np.uint8)

    seen = augment(images, Augmentation(shift=0.2, share=1, black_border=True), np.random.default_rng(0))

    assert seen.min() == 0


def test_digits_are_not_flipped_and_steel_is() -> None:
    digit, steel = default_augmentation(find_task("mnist")), default_augmentation(find_task("neu"))

    assert (digit.flips, steel.flips) == (False, True)


def test_a_negative_severity_is_refused() -> None:
    with pytest.raises(InputError, match="severity must not be negative, got -1"):
        SURFACE.scaled(-1)


@pytest.mark.parametrize("whole", [SURFACE, DIGIT, default_augmentation(find_task("neu"))])
def test_geometry_and_appearance_are_all_of_an_augmentation_and_share_nothing(whole: Augmentation) -> None:
    strengths = [
        each.name for each in dataclasses.fields(Augmentation) if each.name not in ("share", "light_share", "black_border")
    ]

    for name in strengths:
        parts = (getattr(whole.geometry, name), getattr(whole.appearance, name))
        assert sorted(map(float, parts)) == [0.0, float(getattr(whole, name))]


def test_appearance_leaves_everything_in_its_place() -> None:
    board = np.kron(np.indices((4, 4)).sum(axis=0) % 2, np.ones((16, 16))).astype(np.uint8)[None, ..., None] * 100 + 70
    noise = dataclasses.replace(SURFACE.appearance, erasing=0.0, defocus=0.0, motion=0.0)

    seen = np.concatenate([augment(board, noise, np.random.default_rng(seed)) for seed in range(20)]).astype(float)

    dark, light = board[0] == 70, board[0] == 170
    assert all(each[light].mean() > each[dark].mean() + 10 for each in seen)


def test_a_reflection_only_brightens_and_saturates_somewhere() -> None:
    gray = np.full((40, 64, 48, 1), 60, np.uint8)

    seen = augment(gray, Augmentation(glare=0.3, share=1.0), np.random.default_rng(0))

    assert seen.min() == 60
    assert (seen == 255).any(axis=(1, 2, 3)).mean() > 0.5
    assert (seen == 60).mean() > 0.3  # a spot, not a light
