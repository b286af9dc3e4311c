"""What a batch holds: the same pictures for the same seed, blended with each other where the recipe says so."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgecnn_export.training.batches import EpochBatches, blend, one_hot


@given(seed=st.integers(0, 2**32 - 1), alpha=st.floats(0.05, 5), count=st.integers(1, 8))
def test_a_blend_of_pictures_is_the_same_blend_of_their_targets(seed: int, alpha: float, count: int) -> None:
    targets = one_hot(np.arange(count), count)
    images = targets[:, :, None, None].astype(np.float32)

    blended, blended_targets = blend(images, targets, alpha, np.random.default_rng(seed))

    np.testing.assert_array_equal(blended[:, :, 0, 0], blended_targets)
    np.testing.assert_allclose(blended_targets.sum(axis=1), 1, rtol=1e-5)


def test_without_mixup_each_picture_stays_as_it_is() -> None:
    images = np.arange(4 * 9, dtype=np.uint8).reshape(4, 3, 3, 1)
    batches = EpochBatches(images, one_hot(np.arange(4), 4), None, batch_size=4, seed=0, epoch=0)

    drawn, targets = batches[0]

    np.testing.assert_array_equal(drawn, images[targets.argmax(axis=1)])


def test_with_mixup_the_same_seed_blends_alike() -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 3, 3, 1)).astype(np.uint8)
    epochs = [EpochBatches(images, one_hot(np.arange(8), 8), None, batch_size=4, seed=1, epoch=2, mixup=0.5) for _ in range(2)]

    (first, first_targets), (second, second_targets) = (epoch[1] for epoch in epochs)

    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first_targets, second_targets)
    assert not set(np.unique(first_targets)) <= {0.0, 1.0}
