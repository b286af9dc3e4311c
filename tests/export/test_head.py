"""The last layer fitted to features: the best that a linear layer can do, each class of the same weight."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecnn_export.training.balancing import MOST_REPEATS, alternating, balanced_draw, balanced_weights
from edgecnn_export.training.head import Head, balanced_loss, fit_head


def clouds(counts: tuple[int, ...], seed: int = 0, apart: float = 2.0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draw a cloud of features for each class, of very different scales and offsets."""
    random = np.random.default_rng(seed)
    class_ids = np.repeat(np.arange(len(counts)), counts)
    features = random.normal(size=(len(class_ids), 5)) + apart * np.eye(len(counts), 5)[class_ids]
    return (features * np.array([0.5, 1, 5, 1, 1]) + np.array([7, 0, -30, 0, 0])).astype(np.float32), class_ids


def gradient(head: Head, features: NDArray[np.float32], class_ids: NDArray[np.int64], penalty: float) -> float:
    """Return the largest component of the loss's gradient by the standardised weights."""
    standardised = (features - features.mean(axis=0)) / features.std(axis=0)
    shares = balanced_weights(class_ids, head.kernel.shape[1]) / len(class_ids)
    errors = np.exp(head.log_probabilities(features)) - np.eye(head.kernel.shape[1])[class_ids]
    weights = head.kernel * features.std(axis=0)[:, None]
    return float(np.abs(standardised.T @ (errors * shares[:, None]) + penalty * weights).max())


def test_the_fitted_layer_is_where_the_loss_has_no_slope() -> None:
    features, class_ids = clouds((40, 30, 50))

    head = fit_head(features, class_ids, 3, penalty=1e-2)

    assert gradient(head, features, class_ids, 1e-2) < 1e-5


def test_features_go_in_as_they_are() -> None:
    features, class_ids = clouds((60, 60, 60), apart=4.0)

    head = fit_head(features, class_ids, 3, penalty=1e-3)

    scores = features @ head.kernel + head.bias
    assert (scores.argmax(axis=1) == class_ids).mean() > 0.95


def test_a_small_class_counts_as_much_as_a_large_one() -> None:
    features, class_ids = clouds((500, 10), apart=1.5)
    test_features, test_ids = clouds((200, 200), seed=1, apart=1.5)

    head = fit_head(features, class_ids, 2, penalty=1e-2)

    answers = head.log_probabilities(test_features).argmax(axis=1)
    assert (answers[test_ids == 1] == 1).mean() > 0.75


def test_a_feature_that_never_changes_gets_no_weight() -> None:
    features, class_ids = clouds((20, 20))
    features[:, 3] = 4.25

    head = fit_head(features, class_ids, 2, penalty=1e-2)

    assert not head.kernel[3].any()
    assert np.isfinite(head.bias).all()


def test_a_feature_that_hardly_ever_changes_gets_no_huge_weight() -> None:
    features, class_ids = clouds((60, 60))
    features[:, 4] = 1e-4 * features[:, 0]  # tells the classes, but only int8 with a scale for itself could show it

    head = fit_head(features, class_ids, 2, penalty=1e-3)

    assert np.abs(head.kernel[4]).max() < np.abs(head.kernel[0]).max()


def test_features_that_all_hardly_change_get_no_huge_weights() -> None:
    class_ids = np.arange(40) % 2
    features = (6.0 + 1e-4 * np.random.default_rng(0).normal(size=(40, 8)) + 1e-4 * class_ids[:, None]).astype(np.float32)

    head = fit_head(features, class_ids, 2, penalty=1e-3)

    assert np.abs(head.kernel).max() < 255


def test_smoothed_targets_keep_the_probabilities_off_certainty() -> None:
    features, class_ids = clouds((40, 40), apart=8.0)

    sure, smoothed = (fit_head(features, class_ids, 2, penalty=1e-4, smoothing=share) for share in (0.0, 0.1))

    assert np.exp(sure.log_probabilities(features)).max(axis=1).mean() > 0.99
    assert np.exp(smoothed.log_probabilities(features)).max(axis=1).mean() == pytest.approx(0.95, abs=0.01)


def test_a_class_without_pictures_is_never_preferred() -> None:
    features, class_ids = clouds((20, 20))

    head = fit_head(features, class_ids, 3, penalty=1e-2)

    assert set(head.log_probabilities(features).argmax(axis=1)) == {0, 1}


def test_the_same_features_give_the_same_layer() -> None:
    features, class_ids = clouds((20, 30))

    first, second = (fit_head(features, class_ids, 2, penalty=1e-2) for _ in range(2))

    assert np.array_equal(first.kernel, second.kernel)


def test_the_balanced_loss_is_the_mean_over_classes() -> None:
    features, class_ids = clouds((30, 5))
    head = fit_head(features, class_ids, 2, penalty=1e-2)

    losses = -head.log_probabilities(features)[np.arange(35), class_ids]

    assert balanced_loss(head, features, class_ids) == pytest.approx((losses[:30].mean() + losses[30:].mean()) / 2)


def test_classes_take_turns_for_as_long_as_each_has_pictures() -> None:
    class_ids = np.repeat([0, 1, 2], (20, 3, 6))

    order = alternating(class_ids, np.random.default_rng(0))

    assert sorted(order) == list(range(29))
    assert [set(class_ids[order[i : i + 3]]) for i in (0, 3, 6)] == [{0, 1, 2}] * 3


def test_a_balanced_draw_has_equally_many_of_each_class() -> None:
    class_ids = np.repeat([0, 1, 2], (50, 20, 30))

    drawn = balanced_draw(class_ids, 90, np.random.default_rng(0))

    assert np.bincount(class_ids[drawn]).tolist() == [30, 30, 30]
    assert len(set(drawn[class_ids[drawn] == 0])) == 30  # of a large class none twice


def test_two_pictures_are_not_shown_hundreds_of_times() -> None:
    class_ids = np.repeat([0, 1], (1000, 2))

    drawn = balanced_draw(class_ids, 1002, np.random.default_rng(0))

    assert np.bincount(drawn)[1000:].tolist() == [MOST_REPEATS] * 2
