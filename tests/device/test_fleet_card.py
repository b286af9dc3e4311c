"""What a camera says of itself to the fleet, and its last picture."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from published_schemas import check
from tiny_broker import TinyBroker
from web_page import lost, model, seen, seen_in_tiles

from edgecnn.errors import InputError
from edgecnn.testing import JumpingClock
from edgecnn_device.classes import NO_CLASSES
from edgecnn_device.fleet.card import MOST_PICTURE_BYTES, Card, CardOptions, Running, promise, small_picture
from edgecnn_device.fleet.report import MOST_BYTES, read_report
from edgecnn_device.frames import Observation
from edgecnn_device.loop import Statistics
from edgecnn_device.sinks.mqtt import MqttSink
from edgecnn_device.sinks.mqtt_broker import MqttOptions

NOON = 1_795_953_600.0


def card(statistics: Statistics | None = None, clock: JumpingClock | None = None, **running: object) -> Card:
    found = Running(statistics or Statistics(), model, **running)  # type: ignore[arg-type]
    return Card(CardOptions("line-1", pictures=True), found, clock=clock or JumpingClock(), wall_clock=lambda: NOON)


def judged(*verdicts: str) -> Observation:
    """Return an observation with regions of these verdicts."""
    tiles = seen_in_tiles(*[("gray", 0.9)] * len(verdicts))
    return replace(
        tiles,
        predictions=tuple(
            replace(tile, raw=replace(tile.raw, verdict=verdict))  # type: ignore[arg-type]
            for tile, verdict in zip(tiles.predictions, verdicts, strict=True)
        ),
    )


def test_a_report_is_as_its_schema_says_and_can_be_read() -> None:
    body = card().to_json("10.0.0.11")

    check("board", body)
    assert read_report(json.dumps(body).encode()).to_json() == body
    assert len(json.dumps(body)) < MOST_BYTES / 4


def test_answers_of_today_are_counted_by_their_verdicts() -> None:
    found = card()

    found.add(judged("label", "unsure", "novel", "novel"))

    today = found.report(None).today
    assert (today.answers, today.unsure, today.novel) == (4, 1, 2)


def test_a_novel_part_that_stands_in_view_all_morning_is_one_novel_answer() -> None:
    found = card()

    for _ in range(1000):
        found.add(judged("novel"))

    today = found.report(None).today
    assert (today.answers, today.novel) == (1, 1)


def test_counting_begins_again_at_midnight() -> None:
    now = [NOON]
    found = Card(CardOptions(), Running(Statistics(), model), wall_clock=lambda: now[0])
    found.add(judged("novel"))

    now[0] += 86400

    assert found.report(None).today.answers == 0


def test_frames_per_second_are_those_of_the_last_minute() -> None:
    statistics, clock = Statistics(), JumpingClock()
    found = card(statistics, clock)
    first = found.report(None).fps
    rates = []
    for frames in (900, 0):
        statistics.frames += frames
        clock.jump(60)
        rates.append(found.report(None).fps)

    assert (first, rates) == (None, [15.0, 0.0])


def test_a_source_of_a_picture_a_minute_has_no_rate() -> None:
    assert card(fps=1 / 60).report(None).fps is None


def test_the_promise_is_the_accuracy_of_the_contract_with_its_interval() -> None:
    contract = model().artifact.contract

    found = promise(contract)

    assert found is not None
    assert (found.accuracy, found.pictures, found.synthetic) == (0.5, 1200, True)
    assert 0.46 < found.low < 0.5 < found.high < 0.54


def test_a_contract_without_labelled_pictures_promises_nothing() -> None:
    contract = model().artifact.contract
    assert contract.parity.data is not None
    unlabelled = replace(contract.parity, data=replace(contract.parity.data, labelled=False))

    assert promise(replace(contract, parity=unlabelled)) is None


@pytest.mark.parametrize(
    ("page", "seen_by_others"),
    [
        (None, None),
        ("http://127.0.0.1:8080/", None),
        ("http://localhost:8080/", None),
        ("http://0.0.0.0:8080/", "http://10.0.0.11:8080/"),
        ("http://[::]:8080/", "http://10.0.0.11:8080/"),
        ("http://10.1.1.1:8080/", "http://10.1.1.1:8080/"),
    ],
)
def test_the_page_is_reported_where_others_can_reach_it(page: str | None, seen_by_others: str | None) -> None:
    assert card(page=lambda: page).report("10.0.0.11").page == seen_by_others


@pytest.mark.parametrize("observation", [seen(), lost(), Observation("", lost().state)])
def test_the_last_picture_is_a_small_jpeg_whatever_there_is(observation: Observation) -> None:
    image = cv2.imdecode(np.frombuffer(small_picture(observation), np.uint8), cv2.IMREAD_COLOR)

    assert max(image.shape) <= 480


def test_a_picture_of_noise_stays_within_its_bytes() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (1080, 1920, 3), np.uint8)
    one = seen()
    assert one.frame is not None

    assert len(small_picture(replace(one, frame=replace(one.frame, image_bgr=noise)))) <= MOST_PICTURE_BYTES


@pytest.mark.parametrize("group", ["", " ", "a,b", "a\nb", "x" * 65])
def test_a_group_that_cannot_be_typed_is_refused(group: str) -> None:
    with pytest.raises(InputError, match="--group"):
        CardOptions(group)


@pytest.fixture
def broker() -> Iterator[TinyBroker]:
    tiny = TinyBroker()
    yield tiny
    tiny.die()


def sink_for(broker: TinyBroker, card: Card, *, picture_every_s: float = 0.0) -> MqttSink:
    options = MqttOptions(f"mqtt://127.0.0.1:{broker.port}/edge")
    return MqttSink(options, NO_CLASSES, card=card, picture_every_s=picture_every_s)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_the_report_is_retained_and_published_again_when_the_model_is_another(broker: TinyBroker) -> None:
    running = [model()]
    found = Card(CardOptions(), Running(Statistics(), lambda: running[0]))

    with sink_for(broker, found) as sink:
        wait_until(lambda: len(broker.topics("/board")) == 1)
        contract = replace(running[0].artifact.contract, export_id="made-up-2")
        running[0] = replace(running[0], artifact=replace(running[0].artifact, contract=contract))
        sink.write(seen())
        wait_until(lambda: len(broker.topics("/board")) == 2)

    reports = [message for message in broker.received if message.topic == "edge/board"]
    assert [json.loads(message.payload)["model"]["export_id"] for message in reports] == ["made-up-1", "made-up-2"]
    assert all(message.retained for message in reports)
    assert json.loads(reports[0].payload)["address"] == "127.0.0.1"


def test_an_empty_request_is_answered_with_one_picture(broker: TinyBroker) -> None:
    with sink_for(broker, card()) as sink:
        sink.write(seen())
        wait_until(lambda: bool(broker.subscriptions))
        broker.send("edge/picture/request", b"")
        wait_until(lambda: any(message.topic == "edge/picture" for message in broker.received))
        time.sleep(0.1)

    pictures = [message for message in broker.received if message.topic == "edge/picture"]
    assert [(message.payload[:3], message.retained) for message in pictures] == [("\ufffd\ufffd\ufffd", False)]


@pytest.mark.parametrize(
    ("topic", "payload", "retained"),
    [
        ("edge/picture/request", b"reboot", False),
        ("edge/picture/request", b"", True),
        ("edge/command", b"", False),
    ],
)
def test_nothing_else_is_answered(broker: TinyBroker, topic: str, payload: bytes, retained: bool) -> None:
    with sink_for(broker, card()):
        wait_until(lambda: bool(broker.subscriptions))
        broker.send(topic, payload, retained=retained)
        time.sleep(0.2)

    assert not [message for message in broker.received if message.topic == "edge/picture"]


def test_requests_soon_after_an_answer_get_none(broker: TinyBroker) -> None:
    with sink_for(broker, card(), picture_every_s=60):
        wait_until(lambda: bool(broker.subscriptions))
        for _ in range(5):
            broker.send("edge/picture/request", b"")
            time.sleep(0.05)

    assert len([message for message in broker.received if message.topic == "edge/picture"]) == 1


def test_a_camera_that_does_not_allow_pictures_subscribes_to_nothing(broker: TinyBroker) -> None:
    closed = Card(CardOptions(), Running(Statistics(), model))

    with sink_for(broker, closed):
        wait_until(lambda: bool(broker.topics("/board")))

    assert broker.subscriptions == []


def test_a_missing_proc_leaves_out_the_boot(tmp_path: Path) -> None:
    found = Card(CardOptions(), Running(Statistics(), model), root=tmp_path).report(None)

    assert (found.boot_id, found.up_s) == (None, None)
