import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.datasets.dataset import Dataset
from edgecnn.datasets.neu import TASK
from edgecnn.datasets.synthetic import draw_surface, generate_steel, paste_defect, steel_strip
from edgecnn.errors import InputError


@pytest.fixture(scope="module")
def steel() -> Dataset:
    return generate_steel(12, seed=5)


def _of(steel: Dataset, label: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return steel.images[steel.class_ids == TASK.labels.index(label), :, :, 0].astype(np.float32)


def test_surfaces_have_the_form_of_neu(steel: Dataset) -> None:
    assert steel.images.shape == (72, 200, 200, 1)
    assert steel.images.dtype == np.uint8
    assert steel.class_ids.dtype == np.int64


def test_every_prefix_of_six_surfaces_holds_each_class_once(steel: Dataset) -> None:
    assert np.array_equal(steel.class_ids.reshape(12, 6), np.tile(np.arange(6), (12, 1)))


def test_names_of_surfaces_follow_the_class_order_of_neu(steel: Dataset) -> None:
    assert steel.names[:6] == tuple(f"synthetic/{label}_0000" for label in TASK.labels)
    assert len(set(steel.names)) == len(steel)


def test_no_two_surfaces_are_alike(steel: Dataset) -> None:
    assert len({image.tobytes() for image in steel.images}) == len(steel)


def test_every_surface_has_contrast(steel: Dataset) -> None:
    assert steel.images.std(axis=(1, 2, 3)).min() > 2


def test_another_seed_gives_other_surfaces(steel: Dataset) -> None:
    assert generate_steel(12, seed=6).digest() != steel.digest()


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 3))
def test_a_larger_set_of_surfaces_begins_with_the_smaller_one(seed: int, count: int) -> None:
    small, large = generate_steel(count, seed), generate_steel(count + 1, seed)

    assert np.array_equal(large.images[: len(small)], small.images)


def test_scratches_are_brighter_than_their_ground(steel: Dataset) -> None:
    images = _of(steel, "scratches")

    brightest = np.quantile(images, 0.999, axis=(1, 2)) - np.median(images, axis=(1, 2))

    assert brightest.min() > 15


def test_inclusions_run_along_the_strip(steel: Dataset) -> None:
    images = _of(steel, "inclusion")

    across, along = np.diff(images, axis=2).std(), np.diff(images, axis=1).std()

    assert across > 1.15 * along


def test_crazing_is_the_coarsest_grained_and_inclusion_the_smoothest(steel: Dataset) -> None:
    grain = {label: np.median(np.abs(np.diff(_of(steel, label), axis=1))) for label in TASK.labels}

    assert min(grain, key=grain.__getitem__) in ("inclusion", "scratches")
    assert max(grain, key=grain.__getitem__) in ("crazing", "patches")


def test_patches_have_the_most_contrast(steel: Dataset) -> None:
    contrast = {label: np.median(_of(steel, label).std(axis=(1, 2))) for label in TASK.labels}

    assert max(contrast, key=contrast.__getitem__) == "patches"


@settings(max_examples=10, deadline=None)
@given(height=st.integers(1, 300), width=st.integers(1, 300), seed=st.integers(0, 2**32 - 1))
def test_a_strip_has_the_size_asked_for_and_repeats_by_its_seed(height: int, width: int, seed: int) -> None:
    strip, again = (steel_strip(height, width, np.random.default_rng(seed)) for _ in range(2))

    assert strip.shape == (height, width)
    assert strip.dtype == np.uint8
    assert np.array_equal(strip, again)


def test_plain_steel_is_calmer_than_any_damage(steel: Dataset) -> None:
    strips = [steel_strip(200, 200, np.random.default_rng(seed)) for seed in range(12)]

    calm = np.median([strip.std() for strip in strips])

    assert calm < min(np.median(_of(steel, label).std(axis=(1, 2))) for label in TASK.labels)


def test_a_pasted_defect_changes_its_window_only() -> None:
    strip = steel_strip(400, 300, np.random.default_rng(1))

    damaged = paste_defect(strip, "patches", top=120, left=60, rng=np.random.default_rng(2))

    rows, columns = np.nonzero(damaged != strip)
    assert 120 <= rows.min() <= rows.max() < 320
    assert 60 <= columns.min() <= columns.max() < 260


def test_the_middle_of_a_pasted_defect_is_the_surface_itself() -> None:
    strip = steel_strip(200, 200, np.random.default_rng(1))

    damaged = paste_defect(strip, "crazing", top=0, left=0, rng=np.random.default_rng(2))

    surface = draw_surface("crazing", np.random.default_rng(2))
    assert np.array_equal(damaged[12:-12, 12:-12], surface[12:-12, 12:-12])


def test_a_defect_beyond_the_strip_is_refused() -> None:
    strip = steel_strip(250, 200, np.random.default_rng(1))

    with pytest.raises(InputError, match="at 60, 0 does not fit into a strip of 250 x 200"):
        paste_defect(strip, "patches", top=60, left=0, rng=np.random.default_rng(2))


def test_unknown_damage_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="unknown damage 'rust'; known: scratches, "):
        draw_surface("rust", np.random.default_rng(0))


def test_a_strip_without_width_is_refused() -> None:
    with pytest.raises(InputError, match="at least 1 x 1 pixels, got 5 x 0"):
        steel_strip(5, 0, np.random.default_rng(0))


def test_no_surfaces_at_all_are_refused() -> None:
    with pytest.raises(InputError, match="at least one picture a class, got 0"):
        generate_steel(0, seed=1)
