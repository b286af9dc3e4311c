from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecnn.classifier import Classifier
from edgecnn.cli.main import main
from edgecnn.datasets.dataset import Dataset
from edgecnn.shipped import find_task
from edgecnn_export.pages.explain import explain, render_page

TASK = find_task("neu")


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.open("neu")


@pytest.fixture(scope="module")
def train() -> Dataset:
    assert TASK.synthesize is not None
    return TASK.synthesize(2, 5)


def test_a_training_picture_is_its_own_nearest(classifier: Classifier, train: Dataset) -> None:
    found = explain(classifier, TASK, train.images[3][..., 0], train=train)

    name, image, distance = found.nearest[0]
    assert (name, distance) == (train.names[3], pytest.approx(0, abs=1e-6))
    np.testing.assert_array_equal(image, train.images[3])


def test_a_page_shows_the_map_the_probabilities_and_what_would_change_the_answer(
    classifier: Classifier, train: Dataset
) -> None:
    found = explain(classifier, TASK, train.images[0][..., 0], name="<b>.png", train=train)

    page = render_page(found)

    assert "&lt;b&gt;.png" in page and "<b>.png" not in page
    assert page.count("data:image/png;base64,") == 4 + len(found.nearest)
    assert "what speaks for " in page and "what is novel" in page
    assert all(f"<td>{flip.corruption}</td>" in page for flip in found.flips)
    assert found.flips == tuple(sorted(found.flips, key=lambda flip: flip.severity))


def test_a_picture_like_nothing_that_was_taught_says_so(classifier: Classifier) -> None:
    page = render_page(explain(classifier, TASK, np.full((90, 90), 128, np.uint8), absent="They are elsewhere."))

    assert ": novel</h1>" in page
    assert "above the threshold" in page
    assert "They are elsewhere." in page


def test_a_digits_page_says_that_the_picture_shows_none() -> None:
    digits, scratch = Classifier.open("mnist"), np.full((90, 90), 60, np.uint8)
    scratch[:, 40:46] = 200

    found = explain(digits, find_task("mnist"), scratch)

    assert found.prediction.verdict == "novel"
    assert not found.flips
    assert "does not show one digit" in render_page(found)


def test_a_model_without_a_map_is_explained_without_one() -> None:
    digits = Classifier.open("mnist")
    strokes = np.zeros((28, 28), np.uint8)
    strokes[4:24, 13:15] = 255

    page = render_page(explain(digits, find_task("mnist"), strokes))

    assert "what speaks for" not in page and "what is novel" not in page


def test_the_command_writes_the_page_where_the_training_pictures_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("EDGECNN_DATA", raising=False)
    picture, out = tmp_path / "a.png", tmp_path / "why.html"
    cv2.imwrite(str(picture), np.random.default_rng(0).integers(0, 256, (60, 60)).astype(np.uint8))

    with pytest.raises(SystemExit) as ended:
        main(["explain", "neu", str(picture), "--out", str(out)])

    assert ended.value.code == 0
    assert f"wrote {out}" in capsys.readouterr().out
    assert "The training pictures are not here" in out.read_text("utf-8")
