"""What the page's server answers."""

from __future__ import annotations

import base64
import http.client
import re
import time
from collections.abc import Iterator
from importlib import resources
from typing import Any, get_args, get_type_hints

import cv2
import numpy as np
import pytest
from web_page import ACTION, Page, black, lost, next_event, next_picture, seen, seen_in_tiles, serve

from edgecnn.artifacts.contract import ParityInfo
from edgecnn_device.frames import Observation
from edgecnn_device.web.status import explain_parity

STATIC = ("/", "/app.js", "/style.css", "/icon.svg")
SHORT = (
    *STATIC,
    "/healthz",
    "/api/stats",
    "/api/model",
    "/api/history",
    "/api/history.csv",
    "/api/today",
    "/api/region?id=1",
    "/metrics",
    "/snapshot.jpg",
)
STREAMS = ("/api/predictions", "/api/live", "/stream.mjpg")


@pytest.fixture(scope="module")
def shared_page() -> Iterator[Page]:
    with serve() as opened:
        yield opened


@pytest.fixture
def page(shared_page: Page) -> Page:
    """Return a page that has just seen something."""
    shared_page.show(seen())
    return shared_page


@pytest.mark.parametrize("path", SHORT)
def test_a_route_answers(page: Page, path: str) -> None:
    assert page.status(path) == 200


@pytest.mark.parametrize("path", [*SHORT, *STREAMS])
def test_head_answers_without_a_body(page: Page, path: str) -> None:
    status, _, body = page.ask(path, "HEAD")

    assert (status, body) == (200, b"")


@pytest.mark.parametrize("path", [*SHORT, "/nowhere"])
def test_every_answer_has_the_security_headers(page: Page, path: str) -> None:
    _, headers, _ = page.ask(path)

    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(page: Page, method: str) -> None:
    status, headers, _ = page.ask("/api/stats", method)

    assert (status, headers["allow"], headers["connection"]) == (405, "GET, HEAD", "close")


@pytest.mark.parametrize("kind", [{"Content-Length": "5"}, {"Transfer-Encoding": "chunked"}])
def test_a_body_is_refused(page: Page, kind: dict[str, str]) -> None:
    status, headers, _ = page.ask("/api/stats", headers=kind)

    assert (status, headers["connection"]) == (413, "close")


@pytest.mark.parametrize(
    "path",
    [
        "/../pyproject.toml",
        "/%2e%2e/%2e%2e/app.py",
        "/page/index.html",
        "//etc/passwd",
        "/..%2f..%2fsink.py",
        "/app.js/../sink.py",
        "/%00",
        "/.",
    ],
)
def test_no_path_leads_to_a_file(page: Page, path: str) -> None:
    assert page.status(path) == 404


def test_the_page_asks_nobody_else_for_anything() -> None:
    folder = resources.files("edgecnn_device.web") / "page"
    texts = {name: (folder / name).read_text() for name in ("index.html", "app.js", "style.css")}

    addresses = [
        found for text in texts.values() for found in re.findall(r"(?:https?:)?//[a-z0-9][^\s\"'`]*", text) if ":" in found
    ]

    assert addresses == []


def test_the_page_has_no_address_that_a_proxy_at_a_sub_path_would_not_serve() -> None:
    folder = resources.files("edgecnn_device.web") / "page"
    texts = [(folder / name).read_text() for name in ("index.html", "app.js", "style.css")]

    absolute = [
        found for text in texts for found in re.findall(r"""(?:href=|src=|url\(|fetch\(|EventSource\()["'`]?/\S*""", text)
    ]

    assert absolute == []


def test_the_page_has_no_inline_script_or_style() -> None:
    html = (resources.files("edgecnn_device.web") / "page" / "index.html").read_text()

    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", html)


def test_statistics_say_what_the_loop_counted(page: Page) -> None:
    page.source.skipped, page.source.losses = 7, 2

    stats = page.json("/api/stats")

    assert (stats["state"], stats["source"], stats["skipped"], stats["losses"]) == ("ok", "fake camera", 7, 2)
    assert stats["frames"] == page.statistics.frames
    assert stats["latency_ms"]["invoke"] == {"p50": 1.0, "p95": 1.0}
    assert 0 <= stats["age_ms"] < 5000


def test_the_model_card_tells_the_parity_and_that_its_data_are_synthetic(page: Page) -> None:
    card = page.json("/api/model")

    assert (card["parity"]["verdict"], card["parity"]["data"]["synthetic"]) == ("pass", True)
    assert (card["model"], card["labels"], card["verified"]) == ("tiny", ["dark", "gray", "light"], True)


def test_the_history_can_be_downloaded_as_csv(page: Page) -> None:
    page.show(lost())

    _, headers, body = page.ask("/api/history.csv")

    rows = body.decode().splitlines()
    assert "attachment" in headers["content-disposition"]
    assert rows[0].startswith("captured_at,frame,source,state,reason,")
    assert any(",ok,," in row and ",gray,1,0.9," in row for row in rows)
    assert rows[-1].startswith(",,fake camera,stale,")


def test_the_snapshot_is_the_annotated_frame(page: Page) -> None:
    observation = seen(9)
    page.show(observation)

    picture = cv2.imdecode(np.frombuffer(page.ask("/snapshot.jpg")[2], np.uint8), cv2.IMREAD_COLOR)

    assert picture is not None and observation.frame is not None
    assert picture.shape == observation.frame.image_bgr.shape


def test_a_large_frame_is_shown_smaller() -> None:
    with serve() as page:
        page.show(seen(1, size_hw=(1080, 1920)))

        picture = cv2.imdecode(np.frombuffer(page.ask("/snapshot.jpg")[2], np.uint8), cv2.IMREAD_COLOR)

    assert picture is not None and picture.shape == (720, 1280, 3)


def test_predictions_arrive_as_events(page: Page) -> None:
    with page.watch("/api/predictions") as stream:
        next_event(stream, "prediction")
        page.show(seen(77, class_id=2))
        event = next_event(stream, "prediction")

    assert stream.headers["content-type"].startswith("text/event-stream")
    assert (event["frame"], event["state"], event["regions"][0]["label"]) == (77, "ok", "light")


def test_the_page_is_told_everything_in_one_stream(page: Page) -> None:
    with page.watch("/api/live") as stream:
        told = {kind: next_event(stream, kind) for kind in ("history", "model", "picture", "view", "stats", "today")}

    region = told["view"]["regions"][0]
    assert region["probabilities"] == [0.05, 0.9, 0.05]
    assert region["input"].startswith("data:image/png;base64,")
    assert told["view"]["worst"] == region["id"]
    assert told["model"]["parity"]["verdict"] == "pass"
    assert told["stats"]["export_id"] == "made-up-1"
    assert told["today"]["counts"][1]["label"] == "gray"
    assert isinstance(told["history"], list)


def test_the_pages_picture_has_nothing_drawn_on_it_but_says_what_to_draw(page: Page) -> None:
    observation = seen(31, class_id=2)
    with page.watch("/api/live") as stream:
        next_event(stream, "picture")
        page.show(observation)
        told = next_event(stream, "picture")

    picture = cv2.imdecode(np.frombuffer(base64.b64decode(told["jpeg"]), np.uint8), cv2.IMREAD_COLOR)
    assert observation.frame is not None and picture is not None
    assert cv2.PSNR(picture, observation.frame.image_bgr) > 25
    assert (told["size"], told["regions"]) == ([64, 48], [[1, 0, 0, 64, 48, 2]])


def test_a_page_sees_no_picture_while_there_is_none_to_believe(page: Page) -> None:
    with page.watch("/api/live") as stream:
        next_event(stream, "view")
        page.show(lost())
        kinds = [next_kind(stream) for _ in range(6)]

    assert "view" in kinds and "picture" not in kinds


def next_kind(stream: http.client.HTTPResponse) -> str:
    while line := stream.readline():
        if line.startswith(b"event: "):
            return line.split()[1].decode()
    raise AssertionError("the stream ended")


def test_the_headline_is_the_worst_of_several_tiles() -> None:
    with serve(defects=("light",)) as page:
        page.show(seen_in_tiles(("gray", 0.99), ("light", 0.7), (None, 0.4)))
        with page.watch("/api/live") as stream:
            view = next_event(stream, "view")

    assert view["worst"] == view["regions"][1]["id"]
    assert [region["input"] is not None for region in view["regions"]] == [False, True, False]


def test_when_a_lost_camera_is_tried_again_is_told(page: Page) -> None:
    page.source.retry_s = time.monotonic() + 12.0
    try:
        told = page.json("/api/stats")["retry_in_s"]
    finally:
        page.source.retry_s = None

    assert 10.0 < told <= 12.0
    assert page.json("/api/stats")["retry_in_s"] is None


@pytest.mark.parametrize("verdict", get_args(get_type_hints(ParityInfo)["verdict"]))
def test_every_verdict_of_a_parity_is_explained_in_one_line(verdict: Any) -> None:
    line = explain_parity(ParityInfo(verdict, max_drop=1.0))

    assert line.endswith(".") and "\n" not in line and len(line) < 120


def test_an_alarm_is_acknowledged_once_by_its_number() -> None:
    with serve(defects=("gray",)) as page:
        page.show(seen())
        number = page.json("/api/today")["alarm"]["number"]
        wrong = page.ask(f"/api/acknowledge?number={number + 1}", "POST", ACTION)[0]
        before = page.json("/api/today")["alarm"]["acknowledged_at"]
        right = page.ask(f"/api/acknowledge?number={number}", "POST", ACTION)[0]
        after = page.json("/api/today")["alarm"]["acknowledged_at"]

    assert (wrong, before, right) == (409, None, 200)
    assert after == pytest.approx(time.time(), abs=30)


@pytest.mark.parametrize("query", ["", "?number=", "?number=-1", "?number=1e3", "?number=" + "9" * 30, "?number=%D9%A3"])
def test_what_is_no_number_acknowledges_nothing(page: Page, query: str) -> None:
    assert page.ask(f"/api/acknowledge{query}", "POST", ACTION)[0] == 409


def test_a_page_of_elsewhere_cannot_acknowledge(page: Page) -> None:
    assert page.ask("/api/acknowledge?number=1", "POST")[0] == 403
    assert page.ask("/api/acknowledge?number=1", "OPTIONS", ACTION)[0] == 405


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_looking_at_an_action_does_nothing(page: Page, method: str) -> None:
    status, headers, _ = page.ask("/api/acknowledge?number=1", method, ACTION)

    assert (status, headers["allow"]) == (405, "POST")


def test_every_open_page_hears_of_an_alarm_and_of_who_saw_it() -> None:
    with serve(defects=("gray",)) as page, page.watch("/api/live") as one, page.watch("/api/live") as other:
        page.show(seen())
        raised = [wait_for_alarm(stream, acknowledged=False) for stream in (one, other)]
        page.ask(f"/api/acknowledge?number={raised[0]['number']}", "POST", ACTION)
        seen_by_all = [wait_for_alarm(stream, acknowledged=True) for stream in (one, other)]

    assert raised[0] == raised[1] and raised[0]["label"] == "gray"
    assert seen_by_all[0] == seen_by_all[1]


def wait_for_alarm(stream: http.client.HTTPResponse, *, acknowledged: bool) -> dict[str, Any]:
    for _ in range(20):
        alarm: dict[str, Any] | None = next_event(stream, "today")["alarm"]
        if alarm is not None and (alarm["acknowledged_at"] is not None) == acknowledged:
            return alarm
    raise AssertionError("no such alarm")


def test_the_last_picture_of_a_defect_is_told() -> None:
    with serve(defects=("gray",)) as page:
        page.show(seen())
        with page.watch("/api/live") as stream:
            told = next_event(stream, "defect")

    picture = cv2.imdecode(np.frombuffer(base64.b64decode(told["jpeg"]), np.uint8), cv2.IMREAD_COLOR)
    assert told["label"] == "gray"
    assert picture is not None and picture.shape == (48, 64, 3)


def test_the_picture_moves(page: Page) -> None:
    with page.watch("/stream.mjpg") as stream:
        first = next_picture(stream)
        page.show(seen(5))
        second = next_picture(stream)

    assert first != second
    assert second.startswith(b"\xff\xd8") and second.endswith(b"\xff\xd9")


@pytest.mark.parametrize("trouble", [lost(), black()], ids=["lost", "black"])
class TestTrouble:
    def test_no_route_tells_a_class(self, page: Page, trouble: Observation) -> None:
        page.show(trouble)

        with page.watch("/api/live") as live, page.watch("/api/predictions") as predictions:
            events = [next_event(live, "view"), next_event(predictions, "prediction")]

        assert [event["regions"] for event in events] == [[], []]
        assert {event["reason"] for event in events} == {trouble.state.reason}

    def test_there_is_no_snapshot(self, page: Page, trouble: Observation) -> None:
        page.show(trouble)

        status, _, body = page.ask("/snapshot.jpg")

        assert status == 503
        assert trouble.state.reason.encode() in body

    def test_the_stream_shows_a_placard_instead_of_the_last_picture(self, page: Page, trouble: Observation) -> None:
        page.show(seen(3))
        with page.watch("/stream.mjpg") as stream:
            next_picture(stream)
            page.show(trouble)
            placard = cv2.imdecode(np.frombuffer(next_picture(stream), np.uint8), cv2.IMREAD_GRAYSCALE)

        # The frame's gray is 128 everywhere, the placard's ground is dark.
        assert placard is not None and np.median(placard) < 60

    def test_healthz_says_503(self, page: Page, trouble: Observation) -> None:
        page.show(trouble)

        assert page.status("/healthz") == 503
        assert page.json("/healthz") == {"state": trouble.state.name, "reason": trouble.state.reason}


def test_before_the_first_frame_nothing_is_shown() -> None:
    with serve() as page:
        answers = page.status("/healthz"), page.status("/snapshot.jpg"), page.json("/api/stats")["reason"]

    assert answers == (503, 503, "no frame yet")
