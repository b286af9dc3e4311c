"""What the page says about one region to who taps it."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from unittest.mock import patch

import cv2
import numpy as np
import pytest
from web_page import Page, lost, seen, serve

from edgecnn.classifier import Classifier
from edgecnn.testing import gray_picture
from edgecnn_device.finders import Tiles, look_at
from edgecnn_device.frames import OK, Frame, Observation
from edgecnn_device.tracking import Tracker
from edgecnn_device.web import views
from edgecnn_device.web.views import View

SIDE = 200


@pytest.fixture(scope="module")
def steel() -> Observation:
    """Return two tiles that the shipped steel model has looked at, as the loop does."""
    classifier, image = Classifier.open("neu"), gray_picture(120, size_hw=(SIDE, 2 * SIDE))
    image[60:64, 20:180] = 250
    looked = look_at(Tiles(2, 1), where=True)(image, classifier, time.monotonic)
    regions = Tracker(1).update("cam", looked, classifier)
    return Observation("cam", OK, Frame(image, 1, "cam", datetime.now(UTC), time.monotonic()), regions)


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with serve() as opened:
        yield opened


def read_picture(address: str) -> np.ndarray:
    data = np.frombuffer(base64.b64decode(address.partition(",")[2]), np.uint8)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED))


def test_a_region_is_explained_with_what_the_network_saw_and_both_maps(page: Page, steel: Observation) -> None:
    page.show(steel)

    found = page.json("/api/region?id=2")

    own = steel.predictions[1]
    assert (found["id"], found["box"], found["verdict"]) == (2, [SIDE, 0, SIDE, SIDE], own.raw.verdict)
    assert read_picture(found["input"]).shape == (SIDE, SIDE)
    assert set(found["maps"]) == {"class", "novelty"}
    assert all(read_picture(each).shape == (SIDE, SIDE, 4) for each in found["maps"].values())
    assert read_picture(found["maps"]["class"])[..., 3].max() > 100
    assert found["nearest"] == own.raw.nearest and 0 < found["distance"] < 2
    assert sum(found["probabilities"]) == pytest.approx(1, abs=0.001)


def test_an_explanation_says_how_old_its_picture_is(page: Page, steel: Observation) -> None:
    assert steel.frame is not None
    page.show(replace(steel, frame=replace(steel.frame, monotonic_s=time.monotonic() - 2)))

    first = page.json("/api/region?id=1")
    again = page.json("/api/region?id=1")

    assert 2000 <= first["age_ms"] < again["age_ms"]
    assert first["captured_at"] == again["captured_at"]


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/api/region", 400, "give the id of a region"),
        ("/api/region?id=-1", 400, "give the id of a region"),
        ("/api/region?id=" + "9" * 30, 400, "give the id of a region"),
        ("/api/region?id=77", 404, "region 77 is no longer in the picture"),
    ],
)
def test_what_cannot_be_explained_is_one_line(page: Page, path: str, status: int, reason: str) -> None:
    page.show(seen())

    assert page.status(path) == status
    assert reason in page.json(path)["error"]


def test_nothing_is_explained_while_there_is_no_picture(page: Page) -> None:
    page.show(seen())
    page.show(lost())

    assert page.status("/api/region?id=1") == 503
    assert "no frame for 2.0 s" in page.json("/api/region?id=1")["error"]


def test_a_region_of_a_model_without_a_map_is_explained_without_one(page: Page) -> None:
    page.show(seen())

    found = page.json("/api/region?id=1")

    assert (found["label"], found["maps"], found["distance"]) == ("gray", {}, None)


def test_an_explanation_is_made_once_for_all_who_ask_and_not_before(steel: Observation) -> None:
    with patch.object(views, "explain_region", wraps=views.explain_region) as made:
        view = View(1, steel)
        _ = view.page_event, view.picture_event
        before = made.call_count
        answers = [view.explain(1), view.explain(1)]

    assert (before, made.call_count) == (0, 1)
    assert answers[0] is answers[1]
