"""What Home Assistant is told, and how often; the real one is met in tests/home_assistant."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pytest
from click.testing import CliRunner
from device_fakes import frame
from tiny_broker import TinyBroker

from edgecnn.classifier import Prediction
from edgecnn.cli.camera import camera
from edgecnn.errors import InputError
from edgecnn.testing import JumpingClock, gray_picture
from edgecnn_device.classes import Classes
from edgecnn_device.frames import OK, Observation, Region, RegionPrediction, State
from edgecnn_device.sinks.mqtt import MqttSink
from edgecnn_device.sinks.mqtt_broker import MqttOptions
from edgecnn_device.sinks.mqtt_discovery import Answers, describe_sensors

STEEL = Classes.choose(("good", "scratch", "dent"))
LOST = State("stale", "lost: no frame for 1.6 s (refused)")


def seen(*answers: tuple[str | None, float]) -> Observation:
    """Return an observation with a region for each label and probability."""
    picture = gray_picture(128)
    regions = []
    for number, (label, probability) in enumerate(answers, 1):
        answer = Prediction(label, 0, probability, np.array([probability], np.float32))
        regions.append(RegionPrediction(number, Region((0, 0, 9, 9), picture), picture, answer, answer))
    return Observation("cam", OK, frame(picture), tuple(regions))


@pytest.fixture
def broker() -> Iterator[TinyBroker]:
    tiny = TinyBroker()
    yield tiny
    tiny.die()


def connect(broker: TinyBroker, memory: Path, *, discovery: bool, prefix: str = "homeassistant") -> None:
    """Be a camera that starts, connects, and ends."""
    options = MqttOptions(f"mqtt://127.0.0.1:{broker.port}/edge", discovery=discovery, discovery_prefix=prefix)
    with MqttSink(options, STEEL, memory=memory):
        deadline_s = time.monotonic() + 10
        while "online" not in broker.topics("edge/status")[-1:]:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)


def configs(broker: TinyBroker) -> dict[str, str]:
    """Return what the broker would keep of what was heard on discovery topics."""
    return {message.topic: message.payload for message in broker.received if message.topic.endswith("/config")}


def published(observations: list[Observation], rate_hz: float) -> list[dict[str, Any]]:
    """Return what is published of observations that come so many times a second."""
    clock = JumpingClock()
    answers, bodies = Answers(STEEL, clock=clock), []
    for observation in observations:
        bodies.append(answers.take(observation))
        clock.now_s += 1 / rate_hz
    return [body for body in bodies if body is not None]


def test_an_answer_that_wobbles_is_published_once_a_second() -> None:
    wobbling = [seen(("scratch", 0.8 + 0.01 * (number % 7))) for number in range(300)]

    assert 9 <= len(published(wobbling, 30.0)) <= 11


def test_an_answer_that_stays_is_published_once_a_minute() -> None:
    assert len(published([seen(("scratch", 0.8))] * 3600, 10.0)) == 6


def test_an_answer_that_changes_is_published_at_once() -> None:
    changing = [seen((label, 0.8)) for label in ("scratch", "scratch", "dent", "dent", None, "good")]

    assert [body["answer"] for body in published(changing, 30.0)] == ["scratch", "dent", "none of these", "good"]


def test_the_answer_is_that_of_the_worst_region_and_the_others_stand_beside_it() -> None:
    (body,) = published([seen(("good", 0.99), ("scratch", 0.7), (None, 0.3), ("dent", 0.912))], 1.0)

    assert body == {
        "answer": "dent",
        "probability": 91,
        "region": 4,
        "regions": ["good", "scratch", "none of these", "dent"],
    }


def test_a_reader_says_what_it_reads() -> None:
    reader = Answers(Classes.choose(tuple("0123456789"), reads=True))

    body = reader.take(seen(("4", 0.9), ("0", 0.8), (None, 0.2)))

    assert body is not None and body["answer"] == "4, 0, none of these"


def test_where_nothing_is_found_the_probability_is_not_known() -> None:
    (body,) = published([seen()], 1.0)

    assert (body["answer"], body["probability"]) == ("nothing", None)


def test_no_state_is_longer_than_home_assistant_takes() -> None:
    body = Answers(Classes.choose(("a" * 300, "b"), reads=True)).take(seen(*[("a" * 40, 0.9)] * 20))

    assert body is not None and len(body["answer"]) == 255


@pytest.mark.parametrize("label", ["unknown", "Unavailable", "None"])
def test_a_class_with_a_word_that_home_assistant_keeps_for_itself_gets_another(label: str) -> None:
    classes = Classes.choose((label, "b"))
    body = Answers(classes).take(seen((label, 0.9)))
    sensors = describe_sensors("edge", "homeassistant", classes)

    assert body is not None and body["answer"] == f"class {label}"
    assert body["answer"] in next(sensor["options"] for sensor in sensors.values() if sensor["name"] == "Prediction")


def test_after_a_trouble_the_answer_is_published_again(broker: TinyBroker, tmp_path: Path) -> None:
    options = MqttOptions(f"mqtt://127.0.0.1:{broker.port}/edge", discovery=True)
    with MqttSink(options, STEEL, memory=tmp_path) as sink:
        for observation in (seen(("dent", 0.9)), Observation("cam", LOST), seen(("dent", 0.9))):
            sink.write(observation)
        deadline_s = time.monotonic() + 10
        while len(broker.topics("edge/answer")) < 2:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)

    assert [json.loads(text)["answer"] for text in broker.topics("edge/answer")] == ["dent", "dent"]
    assert not any(message.retained for message in broker.received if message.topic == "edge/answer")


def test_what_a_sensor_of_numbers_needs_for_statistics_is_told() -> None:
    sensors = {sensor["name"]: sensor for sensor in describe_sensors("edge", "homeassistant", STEEL).values()}

    assert sensors["Probability"]["state_class"] == "measurement"
    assert "state_class" not in sensors["Prediction"] and "state_class" not in sensors["State"]
    assert sensors["Prediction"]["options"] == ["good", "scratch", "dent", "none of these", "nothing"]


@pytest.mark.parametrize(
    ("observation", "shown"),
    [(seen(("dent", 0.9)), ("dent", "90")), (seen((None, 0.9)), ("none of these", "90")), (seen(), ("nothing", "None"))],
)
def test_home_assistants_templates_read_an_answer(observation: Observation, shown: tuple[str, str]) -> None:
    sensors = {sensor["name"]: sensor for sensor in describe_sensors("edge", "homeassistant", STEEL).values()}
    body = json.loads(json.dumps(Answers(STEEL).take(observation)))

    rendered = [
        jinja2.Template(sensors[name]["value_template"]).render(value_json=body) for name in ("Prediction", "Probability")
    ]

    assert tuple(rendered) == shown


def test_sensors_stay_the_same_when_a_board_is_replaced() -> None:
    one, other = (describe_sensors(prefix, "homeassistant", STEEL) for prefix in ("plant/line-1", "plant/line-2"))

    assert [sensor["unique_id"] for sensor in one.values()] == [
        "edgecnn-e71fda554007-prediction", "edgecnn-e71fda554007-probability", "edgecnn-e71fda554007-state",
        "edgecnn-e71fda554007-drift",
    ]  # fmt: skip
    assert not set(one) & set(other)


def test_home_assistant_is_told_of_retained_sensors_only_when_asked(broker: TinyBroker, tmp_path: Path) -> None:
    connect(broker, tmp_path, discovery=False)
    assert configs(broker) == {}

    connect(broker, tmp_path, discovery=True)
    assert len(configs(broker)) == 4
    assert all(message.retained for message in broker.received if message.topic.endswith("/config"))
    assert all(json.loads(payload)["unique_id"] for payload in configs(broker).values())


def test_sensors_are_taken_back_once_when_discovery_is_switched_off(broker: TinyBroker, tmp_path: Path) -> None:
    connect(broker, tmp_path, discovery=True)

    connect(broker, tmp_path, discovery=False)
    assert set(configs(broker).values()) == {""}
    assert all(message.retained for message in broker.received if message.topic.endswith("/config"))

    broker.received.clear()
    connect(broker, tmp_path, discovery=False)
    assert configs(broker) == {}


def test_sensors_move_with_the_discovery_prefix(broker: TinyBroker, tmp_path: Path) -> None:
    connect(broker, tmp_path, discovery=True)
    connect(broker, tmp_path, discovery=True, prefix="home/two")

    told = configs(broker)
    assert {topic.partition("/sensor/")[0]: bool(payload) for topic, payload in told.items()} == {
        "homeassistant": False,
        "home/two": True,
    }


@pytest.mark.parametrize("prefix", ["", "a/#", "+", "$SYS/x", "a/", "/a", "a\x00b", "a\u202eb", "x" * 2000])
def test_a_discovery_prefix_that_is_no_topic_is_refused(prefix: str) -> None:
    with pytest.raises(InputError, match="--mqtt-discovery-prefix"):
        MqttOptions("mqtt://b/edge", discovery_prefix=prefix)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mqtt", "mqtt://b/edge", "--mqtt-discovery-prefix", "ha"], "--mqtt-discovery-prefix needs --mqtt-discovery"),
        (["--good", "patches"], r"--good needs --web \[HOST:\]PORT, --mqtt-discovery or --on"),
    ],
)
def test_options_that_would_do_nothing_are_refused(options: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CliRunner().invoke(camera, ["neu", *options], catch_exceptions=False)
