"""Against a small broker on a real socket; mosquitto itself is met in tests/system."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from device_fakes import frame, watcher
from published_schemas import check
from tiny_broker import ACCEPTED, BAD_PASSWORD, TinyBroker

from edgecnn.errors import OutputError
from edgecnn.testing import JumpingClock, ListSink, gray_picture
from edgecnn_device.frames import OK, Change, Drift, Missing, Observation, State
from edgecnn_device.loop import run_loop
from edgecnn_device.sinks.mqtt import MqttSink
from edgecnn_device.sinks.mqtt_broker import MqttOptions

LOST = State("stale", "lost: no frame for 1.6 s (refused)")


@pytest.fixture
def broker() -> Iterator[TinyBroker]:
    tiny = TinyBroker()
    yield tiny
    tiny.die()


def sink_for(broker: TinyBroker, *, queue_messages: int = 1000, first_retry_s: float = 1.0) -> MqttSink:
    options = MqttOptions(f"mqtt://127.0.0.1:{broker.port}/edge")
    return MqttSink(options, queue_messages=queue_messages, retry_s=(first_retry_s, 30))


def wait_until(condition: Callable[[], bool], limit_s: float = 10.0) -> None:
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def observed(level: int = 230, number: int = 1) -> Observation:
    """Return what the loop says of one gray frame."""
    remembered = ListSink()
    run_loop([frame(gray_picture(level), number)], watcher(JumpingClock()), [remembered])
    return remembered.observations[0]


def write_all(sink: MqttSink, observations: list[Observation]) -> list[str]:
    """Write each; return what the sink complained of."""
    complaints = []
    for observation in observations:
        try:
            sink.write(observation)
        except OutputError as error:
            complaints.append(str(error))
    return complaints


def test_a_prediction_is_the_json_of_the_observation(broker: TinyBroker) -> None:
    observation = observed()

    with sink_for(broker) as sink:
        sink.write(observation)
        wait_until(lambda: bool(broker.topics("/prediction")))

    assert json.loads(broker.topics("/prediction")[0]) == observation.to_json()


def test_state_and_status_are_retained_and_predictions_are_not(broker: TinyBroker) -> None:
    with sink_for(broker) as sink:
        sink.write(observed())
        wait_until(lambda: bool(broker.topics("/prediction")))

    assert {message.topic: message.retained for message in broker.received} == {
        "edge/status": True,
        "edge/state": True,
        "edge/prediction": False,
    }


def test_a_camera_in_trouble_publishes_its_state_once_and_no_prediction(broker: TinyBroker) -> None:
    longer = replace(LOST, reason="lost: no frame for 2.6 s (refused)")

    with sink_for(broker) as sink:
        write_all(sink, [Observation("cam", OK), Observation("cam", LOST), Observation("cam", longer)])
        wait_until(lambda: sink.waiting == 0 and len(broker.topics("/state")) == 3)

    assert [json.loads(text)["state"] for text in broker.topics("/state")] == ["stale", "ok", "stale"]
    assert json.loads(broker.topics("/state")[-1])["reason"] == LOST.reason
    assert len(broker.topics("/prediction")) == 1


def test_a_warning_that_comes_and_goes_is_published_beside_the_state(broker: TinyBroker) -> None:
    warned = replace(observed(number=2), warning="running the last good model")

    with sink_for(broker) as sink:
        write_all(sink, [observed(), warned, replace(warned, frame=observed(number=3).frame), observed(number=4)])
        wait_until(lambda: len(broker.topics("/prediction")) == 4)

    states = [json.loads(payload) for payload in broker.topics("/state")][-3:]
    for state in states:
        check("state", state)
    assert states == [
        {"state": "ok", "reason": ""},
        {"state": "ok", "reason": "", "warning": "running the last good model"},
        {"state": "ok", "reason": ""},
    ]


def test_a_drift_that_comes_and_goes_is_published_beside_the_state(broker: TinyBroker) -> None:
    change = Change("brightness", "falls", -0.62, "darker by 0.6 stops", 1e9)
    drifting = replace(observed(number=2), drift=Drift((change,)))

    with sink_for(broker) as sink:
        write_all(sink, [observed(), drifting, drifting, observed(number=4)])
        wait_until(lambda: len(broker.topics("/prediction")) == 4)

    states = [json.loads(payload) for payload in broker.topics("/state")][-3:]
    for state in states:
        check("state", state)
    assert [state.get("drift", {}).get("words") for state in states] == [None, "darker by 0.6 stops", None]


def test_the_end_says_offline_and_leaves_politely(broker: TinyBroker) -> None:
    with sink_for(broker):
        wait_until(lambda: broker.topics("/status") == ["online"])

    wait_until(lambda: broker.left == 1)
    assert broker.topics("/status") == ["online", "offline"]


def test_the_last_will_is_a_retained_offline(broker: TinyBroker) -> None:
    with sink_for(broker):
        wait_until(lambda: broker.topics("/status") == ["online"])

    body = broker.connects[0]
    assert b"edge/status\x00\x07offline" in body
    assert body[7] & 0b0010_0100 == 0b0010_0100  # will retain, will flag (MQTT 3.1.1, 3.1.2.3)


def test_what_was_said_while_the_broker_was_away_comes_in_order_when_it_is_back(broker: TinyBroker) -> None:
    with sink_for(broker, first_retry_s=0.05) as sink:
        wait_until(lambda: broker.topics("/status") == ["online"])
        broker.die()
        write_all(sink, [observed(number=1), Observation("cam", LOST), observed(number=3)])
        broker.received.clear()
        broker.start()
        wait_until(lambda: sink.waiting == 0 and len(broker.topics("/prediction")) == 2)

    told = [json.loads(message.payload) for message in broker.received if not message.topic.endswith("/status")]
    words = [body.get("frame", body["state"]) for body in told]
    assert [word for word in words if isinstance(word, int)] == [1, 3]
    assert "stale" in words[words.index(1) : words.index(3)]
    assert words[words.index(3) - 1] == "ok"


def test_a_full_queue_loses_the_oldest_and_counts_them(broker: TinyBroker) -> None:
    broker.die()
    with sink_for(broker, queue_messages=5, first_retry_s=0.05) as sink:
        complaints = write_all(sink, [observed(number=number) for number in range(20)])
        dropped, waiting = sink.dropped, sink.waiting
        broker.start()
        wait_until(lambda: len(broker.topics("/prediction")) == 5)

    assert (dropped, waiting) == (16, 5)  # twenty predictions and one state
    assert len(complaints) >= 16
    assert [json.loads(text)["frame"] for text in broker.topics("/prediction")] == [15, 16, 17, 18, 19]
    assert json.loads(broker.topics("/state")[-1])["state"] == "ok"


def test_writing_never_waits_for_a_broker_that_is_not_there(broker: TinyBroker) -> None:
    broker.die()
    observation = observed()

    with pytest.raises(OutputError, match="did not reach the broker"), sink_for(broker, queue_messages=50) as sink:
        started_s = time.monotonic()
        write_all(sink, [observation] * 500)
        took_s = time.monotonic() - started_s

    assert took_s < 0.5


@pytest.mark.parametrize("silent", [False, True])
def test_the_end_comes_within_a_second_when_the_broker_is_dead_or_silent(broker: TinyBroker, silent: bool) -> None:
    sink = sink_for(broker)
    sink.__enter__()
    wait_until(lambda: broker.topics("/status") == ["online"])
    broker.silent = silent
    if not silent:
        broker.die()
    write_all(sink, [observed()] * 100)
    started_s = time.monotonic()

    with pytest.raises(OutputError, match="messages did not reach the broker"):
        sink.__exit__(None, None, None)

    assert time.monotonic() - started_s < 1.0


def test_a_refused_password_is_told_once_and_the_loop_goes_on(broker: TinyBroker) -> None:
    broker.answer = BAD_PASSWORD
    complaints: list[str] = []
    frames = [frame(gray_picture(230, n), n) for n in range(3)]

    with pytest.raises(OutputError), sink_for(broker) as sink:
        wait_until(lambda: bool(broker.connects))
        time.sleep(0.2)
        statistics = run_loop(frames, watcher(JumpingClock()), [sink], complain=complaints.append)

    assert statistics.frames == 3
    assert len(complaints) == 1
    assert "refuses the connection: bad user name or password" in complaints[0]


def test_a_new_login_is_found_without_a_restart(broker: TinyBroker) -> None:
    broker.answer = BAD_PASSWORD
    with sink_for(broker, first_retry_s=0.05) as sink:
        wait_until(lambda: bool(broker.connects))
        broker.answer = ACCEPTED

        wait_until(lambda: "online" in broker.topics("/status"))

    assert sink.waiting == 0


def test_a_loop_over_a_lost_source_publishes_no_class(broker: TinyBroker) -> None:
    clock = JumpingClock()
    silence = [Missing("cam", "gone", since_s=90.0)]

    with sink_for(broker) as sink:
        run_loop([*silence, frame(gray_picture(3), 1, at_s=100.0)], watcher(clock), [sink])
        wait_until(lambda: len(broker.topics("/state")) == 3)

    assert [json.loads(text)["state"] for text in broker.topics("/state")] == ["stale", "stale", "blind"]
    assert broker.topics("/prediction") == []


@pytest.mark.parametrize("kind", [0x20, 0x30], ids=["CONNACK", "PUBLISH"])
def test_a_broker_that_announces_a_huge_packet_is_left_and_told_of(kind: int) -> None:
    """Its announcement of 268 MB is followed by bytes without end."""
    said: list[str] = []

    def is_told() -> bool:
        said.extend(write_all(sink, [observed()]))
        return bool(said)

    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.suppress(OutputError):  # of what did not get through
        server.settimeout(10)
        port = server.getsockname()[1]
        with MqttSink(MqttOptions(f"mqtt://127.0.0.1:{port}/cam")) as sink:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(10)
                connection.recv(1000)
                connection.sendall(bytes([kind, 0xFF, 0xFF, 0xFF, 0x7F]))
                with pytest.raises(OSError, match=r"reset|[Bb]roken"):
                    for _ in range(2000):
                        connection.sendall(bytes(100_000))
            wait_until(is_told)

    assert f"127.0.0.1:{port} announces a packet of 268435455 bytes" in said[0]
