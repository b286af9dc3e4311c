from __future__ import annotations

import base64
import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgecnn.artifacts.contract import EvidenceInfo, TensorSpec
from edgecnn.classifier import Classifier
from edgecnn.cli.main import main
from edgecnn.errors import InputError
from edgecnn.rejection.evidence import Evidence
from edgecnn.runtimes.head import HeadRuntime, write_places, write_weights
from edgecnn.runtimes.runtime import Answers
from edgecnn.where import class_maps, enlarge, fine_map, hot_box, layer, located_maps, novelty_maps, overlay


def run(*arguments: str) -> object:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code


def test_a_place_lies_where_steps_of_two_over_padded_pictures_look() -> None:
    place_map = np.zeros((7, 7), np.float32)
    place_map[2, 4] = 1

    whole = enlarge(place_map, (200, 200), (200, 200))

    # 200 -> 100 -> 50 -> 25 -> 13 -> 7: place i looks at the pixels around 32 i + 7.
    y, x = np.unravel_index(int(whole.argmax()), whole.shape)
    assert (abs(y - (32 * 2 + 7)), abs(x - (32 * 4 + 7))) <= (1, 1)


def test_places_of_another_network_divide_the_picture_evenly() -> None:
    place_map = np.zeros((5, 5), np.float32)
    place_map[2, 2] = 1

    whole = enlarge(place_map, (96, 96), (48, 48))

    assert np.unravel_index(int(whole.argmax()), whole.shape) in {(y, x) for y in (23, 24) for x in (23, 24)}


def test_a_map_is_as_large_as_the_picture_whatever_the_model_takes() -> None:
    assert enlarge(np.ones((7, 7), np.float32), (200, 200), (640, 480)).shape == (480, 640)


@pytest.mark.parametrize("side", [28, 61, 200])
def test_a_map_with_a_place_for_each_pixel_stays_as_it_is(side: int) -> None:
    place_map = np.random.default_rng(side).normal(0, 1, (side, side)).astype(np.float32)

    assert enlarge(place_map, (side, side), (side, side)) is place_map


def test_the_hot_box_is_around_the_maximum_alone() -> None:
    place_map = np.zeros((7, 7), np.float32)
    place_map[1, 1], place_map[5, 5] = 1.0, 0.8

    x, y, width, height = hot_box(place_map, (200, 200), (200, 200))

    assert x < 39 < x + width < 120
    assert y < 39 < y + height < 120


def _scratched(channels: int = 1) -> np.ndarray:
    """Return one gray input with a scratch in its upper left and its lower right corner."""
    image = np.full((1, 100, 100, channels), 120, np.uint8)
    image[0, 10:14, 8:30], image[0, 84:88, 70:92] = 220, 220
    return image


@pytest.mark.parametrize("channels", [1, 3])
def test_a_fine_map_points_at_the_structure_in_the_place_that_speaks(channels: int) -> None:
    coarse = np.array([[0.9, 1.0, -0.3], [0.4, 0.3, -0.5], [-1.0, -0.5, -0.9]], np.float32)

    fine = fine_map(_scratched(channels)[0], coarse)

    assert fine.shape == (100, 100)
    y, x = np.unravel_index(int(fine.argmax()), fine.shape)
    assert 5 <= y <= 20
    assert 4 <= x <= 34
    assert fine.min() >= 0
    assert fine[60:, 60:].max() < fine.max() / 100
    left, top, width, height = hot_box(fine, (100, 100), (100, 100))
    assert left >= 0 and top <= 12 <= top + height <= 40
    assert width <= 50


def test_a_fine_map_of_a_class_that_nothing_speaks_for_is_none_of_nothing() -> None:
    fine = fine_map(_scratched()[0], np.array([[-1.0, -2.0], [-2.0, -3.0]], np.float32))

    assert fine.argmax() < 100 * 50
    assert np.isfinite(fine).all()


def test_the_edge_of_a_black_bar_is_no_structure() -> None:
    padded = np.zeros((1, 100, 100, 1), np.uint8)
    padded[0, 30:70] = 200
    padded[0, 48:51, 60:75] = 180

    fine = fine_map(padded[0], np.ones((4, 4), np.float32))

    y, x = np.unravel_index(int(fine.argmax()), fine.shape)
    assert 44 <= y <= 55
    assert 55 <= x <= 80


def test_an_even_picture_has_a_map_without_hot_places() -> None:
    fine = fine_map(np.full((64, 64, 1), 90, np.uint8), np.ones((4, 4), np.float32))

    assert not fine.any()
    assert len(hot_box(fine, (64, 64), (64, 64))) == 4


def test_only_places_that_speak_for_the_answer_are_red() -> None:
    place_map = np.full((7, 7), -1.0, np.float32)
    place_map[3, 3] = 2
    picture = np.full((200, 200), 90, np.uint8)

    shown = overlay(picture, place_map, (200, 200))

    assert shown[103, 103, 2] > 150
    assert shown[103, 103, 0] < 90
    np.testing.assert_array_equal(shown[0, 0], [90, 90, 90])


def _evidence(novel_above: float = 0.5) -> Evidence:
    """Return evidence of two classes, each with one centre: the first and the second of three channels."""
    centres = np.array([[127, 0, 0], [0, 127, 0]], np.int8)
    chosen = {"temperature": 1.0, "unsure_below": 0.0, "novel_above": novel_above, "log_weight": 0.0, "keep_rate": 0.9}
    measured = {"kept": 1.0, "pictures": 10, "false_accepts": 0.0, "kinds": (), "seed": 0}
    encoded = base64.b64encode(centres.tobytes()).decode()
    info = EvidenceInfo(centres=encoded, scale=1 / 127, centre_classes=(0, 1), **chosen, **measured)  # type: ignore[arg-type]
    return Evidence(info, 3, 2)


def _answers(features: np.ndarray) -> Answers:
    spec = TensorSpec("features", "float32", (1, *features.shape[1:]), None, None)
    return Answers(np.array([[0.9, 0.1]] * len(features), np.float32), features.astype(np.float32), spec)


class _Graph:
    """A model of which only the weights of its last layer count."""

    name = "graph"

    def run(self, images: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def answer(self, images: np.ndarray) -> Answers:
        raise NotImplementedError


def _head() -> HeadRuntime:
    """Return a runtime of two classes; the first channel speaks for the first, the second for the second."""
    weights = np.array([[1, 0], [0, 1], [0, 0]], np.float32)
    return HeadRuntime(_Graph(), write_weights(weights, np.zeros(2, np.float32)), 3)


def _located(weights: list[list[float]]) -> Evidence:
    """Return evidence with weights of places `(3, n)`."""
    info = dataclasses.replace(_evidence().info, places=write_places(np.array(weights)))
    return Evidence(info, 3, 2)


# Everywhere of the same contrast.
_CHECKS = (100 + 40 * (np.indices((64, 64)).sum(axis=0) % 2)).astype(np.uint8)[None, ..., None]


def test_a_class_is_where_the_weights_of_places_say() -> None:
    features = np.random.default_rng(0).uniform(0, 1, (1, 4, 4, 3))
    features[0, 2, 1] = [0, 0, 9]

    (found,) = located_maps(_head(), _located([[0, 0], [0, 0], [0.5, 0]]), _CHECKS, _answers(features), [0])

    y, x = np.unravel_index(int(found.argmax()), found.shape)
    assert (y // 16, x // 16) == (2, 1)
    assert found.min() >= 0


@pytest.mark.parametrize("weights", [[[1, 0], [1, 0], [1, 0]], [[1], [1], [1]]])
def test_a_class_without_weights_of_places_is_where_its_class_map_says(weights: list[list[float]]) -> None:
    answers = _answers(np.random.default_rng(1).normal(0, 1, (1, 4, 4, 3)))

    (found,) = located_maps(_head(), _located(weights), _CHECKS, answers, [1])

    np.testing.assert_array_equal(found, fine_map(_CHECKS[0], class_maps(_head(), answers, [1])[0]))


def test_without_evidence_a_class_is_where_its_class_map_says() -> None:
    answers = _answers(np.random.default_rng(2).normal(0, 1, (1, 4, 4, 3)))

    (found,) = located_maps(_head(), None, _CHECKS, answers, [0])

    np.testing.assert_array_equal(found, fine_map(_CHECKS[0], class_maps(_head(), answers, [0])[0]))


def test_what_is_novel_is_what_a_picture_would_be_less_novel_without() -> None:
    features = np.zeros((1, 7, 7, 3), np.float32)
    features[..., 0] = 1
    features[0, 1, 4] = [0, 0, 20]

    (found,) = novelty_maps(_evidence(), _answers(features))

    # Without the strange place the picture is the first class' own; with it, as far as two unit vectors of this angle are.
    mean = features[0].mean(axis=(0, 1))
    distance = np.linalg.norm(mean / np.linalg.norm(mean) - [1, 0, 0])
    assert found.shape == (7, 7)
    assert found[:3, 3:6] == pytest.approx(distance / 0.5, abs=1e-5)
    assert found[4:].max() < 0


def test_a_place_of_an_even_picture_makes_it_no_more_novel_than_another() -> None:
    features = np.ones((1, 7, 7, 3), np.float32)

    (found,) = novelty_maps(_evidence(), _answers(features))

    assert np.abs(found).max() < 1e-6


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.float32, (1, 4, 6, 3), elements=st.floats(0, 100, width=16)), st.floats(0.1, 2))
def test_the_novelty_of_places_is_in_units_of_the_threshold(features: np.ndarray, above: float) -> None:
    answers = _answers(features)

    (one,), (other,) = novelty_maps(_evidence(1.0), answers), novelty_maps(_evidence(above), answers)

    assert np.isfinite(one).all()
    np.testing.assert_allclose(one, other * above, atol=1e-5)


def test_features_without_places_have_no_novelty_map() -> None:
    with pytest.raises(InputError, match="no map of features"):
        novelty_maps(_evidence(), _answers(np.ones((1, 3), np.float32)))


def test_a_layer_over_a_picture_is_what_the_overlay_shows() -> None:
    place_map = np.random.default_rng(0).normal(0, 1, (60, 80)).astype(np.float32)
    picture = np.full((60, 80, 3), 200, np.uint8)

    over = layer(place_map, "novelty").astype(np.float32)

    share = over[..., 3:] / 255
    mixed = picture * (1 - share) + over[..., :3] * share
    shown = overlay(picture, place_map, (60, 80), "novelty")
    assert np.abs(mixed - shown).max() <= 1.5
    assert over[place_map <= 0, 3].max() == 0


def test_what_hardly_makes_a_picture_novel_is_hardly_drawn() -> None:
    place_map = np.full((10, 10), 0.001, np.float32)

    assert layer(place_map, "class")[..., 3].max() > 150
    assert layer(place_map, "novelty")[..., 3].max() < 5


def test_a_prediction_has_both_maps_where_they_were_asked_for() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (120, 160, 3)).astype(np.uint8)

    plain, located = (Classifier.open("neu").classify([picture], where=each)[0] for each in (False, True))

    assert plain.where is None and plain.novel_where is None
    assert located.where is not None and located.where.shape == (200, 200)
    assert located.novel_where is not None and located.novel_where.shape == (200, 200)


@pytest.mark.parametrize(("options", "blue"), [([], True), (["--map", "novelty"], True), (["--map", "class"], False)])
def test_the_map_of_a_novel_answer_is_that_of_novelty_unless_another_is_named(
    tmp_path: Path, options: list[str], blue: bool
) -> None:
    picture, out = tmp_path / "a.png", tmp_path / "where.png"
    noise = np.random.default_rng(0).integers(0, 256, (200, 200)).astype(np.uint8)
    noise[:100] = 128
    cv2.imwrite(str(picture), noise)

    assert run("classify", "neu", str(picture), "--where", str(out), *options) == 0

    excess = cv2.imread(str(out)).astype(int)
    assert ((excess[..., 0] - excess[..., 2]).max() > 20) == blue
    assert ((excess[..., 2] - excess[..., 0]).max() > 20) != blue


def test_a_map_that_nobody_draws_is_not_ignored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "a.png"
    cv2.imwrite(str(picture), np.zeros((60, 60), np.uint8))

    assert run("classify", "neu", str(picture), "--map", "novelty") == 2

    assert "give --where OUT.png too" in capsys.readouterr().err


def test_classify_draws_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture, out = tmp_path / "a.png", tmp_path / "where.png"
    cv2.imwrite(str(picture), np.random.default_rng(0).integers(0, 256, (120, 160, 3)).astype(np.uint8))

    assert run("classify", "neu", str(picture), "--where", str(out)) == 0

    assert str(picture) in capsys.readouterr().out
    assert cv2.imread(str(out)).shape == (200, 200, 3)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["mnist", "a.png", "--where", "w.png"], "no map of features"),
        (["neu", "a.png", "b.png", "--where", "w.png"], "--where draws one picture, got 2"),
    ],
)
def test_a_map_that_cannot_be_drawn_is_one_line(
    tmp_path: Path, arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.random.default_rng(0).integers(0, 256, (60, 60, 3)).astype(np.uint8))
    given = [arguments[0], *(str(tmp_path / each) if "." in each else each for each in arguments[1:])]

    assert run("classify", *given) == 2

    assert reason in capsys.readouterr().err
    assert not (tmp_path / "w.png").exists()
