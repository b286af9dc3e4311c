"""A real camera process and a real broker that is restarted, hangs, wants TLS and passwords, or is not there."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from brokers import Listener, Mosquitto, retained
from paho.mqtt.client import Client
from running import CameraProcess, CameraServer, a_second, wait_until

RESTARTS = int(os.environ.get("EDGECNN_RESTARTS", "20"))
Start = Callable[..., CameraProcess]


@pytest.fixture
def start(tmp_path: Path, model: str) -> Iterator[Start]:
    """Start cameras that publish to a port; they are ended with the test."""
    cameras: list[CameraProcess] = []

    def begin(port: int, *options: str, scheme: str = "mqtt", source: str = "synthetic") -> CameraProcess:
        folder = tmp_path / f"camera-{len(cameras)}"
        folder.mkdir()
        address = f"{scheme}://localhost:{port}/plant/line-1"
        cameras.append(
            CameraProcess(folder, model, "--source", source, "--mqtt", address, "--reject", "0", "--novelty", "100", *options)
        )
        return cameras[-1]

    yield begin
    for camera in cameras:
        camera.close()


@pytest.fixture
def broker(mosquitto: str, tmp_path: Path) -> Iterator[Mosquitto]:
    process = Mosquitto(mosquitto, tmp_path, "allow_anonymous true")
    yield process
    process.kill()


def await_predictions(listener: Listener) -> None:
    wait_until(lambda: bool(listener.on("/prediction")), 30, "prediction")


def state_of(port: int) -> str:
    """Return the retained state's name, empty when there is none."""
    text = retained(port).get("plant/line-1/state")
    return json.loads(text)["state"] if text else ""


def test_predictions_are_heard_as_they_stand_in_json_lines(broker: Mosquitto, start: Start) -> None:
    with Listener(broker.port) as listener:
        camera = start(broker.port, "--fps", "15")
        await_predictions(listener)
        time.sleep(1)
        camera.end()

    lines = [line.body for line in camera.lines if line.body["state"] == "ok"]
    assert [heard.body for heard in listener.on("/prediction")] == lines


def test_a_broker_restarted_under_load_harms_nothing(broker: Mosquitto, start: Start) -> None:
    rng = random.Random(1)
    camera = start(broker.port, "--fps", "30")
    recovered_s: list[float] = []
    with Listener(broker.port) as listener:
        await_predictions(listener)
        before = camera.holdings()
        for _ in range(RESTARTS):
            broker.kill()
            time.sleep(rng.uniform(0.1, 1.5))
            broker.start()
            recovered_s.append(wait_until(lambda: state_of(broker.port) == "ok", 20, "retained state"))
            assert camera.alive
            time.sleep(rng.uniform(0.0, 0.5))
        after = camera.holdings()
        kept = retained(broker.port)
    end_s = camera.end()

    print(f"restarts {RESTARTS}, worst recovery {max(recovered_s):.2f} s, end {end_s:.2f} s, {camera.said.splitlines()[-1]}")
    numbers = [line.body["frame"] for line in camera.lines]
    assert kept["plant/line-1/status"] == "online"
    assert after == before
    assert max(late - early for early, late in pairwise(line.at for line in camera.lines)) < a_second()
    assert len(numbers) == len(set(numbers))
    assert "Traceback" not in camera.said


def test_every_prediction_of_a_short_absence_arrives(broker: Mosquitto, start: Start) -> None:
    camera = start(broker.port, "--fps", "15")
    with Listener(broker.port) as before:
        await_predictions(before)
    broker.kill()
    time.sleep(2)
    broker.start()

    with Listener(broker.port) as after:
        wait_until(lambda: len(after.on("/prediction")) > 60, 30, "prediction")
        camera.end()

    numbers = [heard.body["frame"] for heard in after.on("/prediction")]
    written = [line.body["frame"] for line in camera.lines]
    assert numbers == written[written.index(numbers[0]) :]


def test_a_killed_camera_is_reported_by_its_last_will(broker: Mosquitto, start: Start) -> None:
    camera = start(broker.port)
    with Listener(broker.port) as listener:
        wait_until(lambda: listener.newest("/status") == "online", 30, "online")
        camera.end(signal.SIGKILL)
        wait_until(lambda: listener.newest("/status") == "offline", 5, "last will")

    assert retained(broker.port)["plant/line-1/status"] == "offline"


def test_sigterm_says_offline_within_a_second(broker: Mosquitto, start: Start) -> None:
    camera = start(broker.port)
    with Listener(broker.port) as listener:
        await_predictions(listener)
        end_s = camera.end()
        wait_until(lambda: listener.newest("/status") == "offline", 1, "offline")

    assert end_s < a_second()
    assert camera.returncode == 0
    assert "did not reach" not in camera.said


@pytest.mark.parametrize("trouble", ["kill", "hang"])
def test_sigterm_ends_within_a_second_without_the_broker(broker: Mosquitto, start: Start, trouble: str) -> None:
    camera = start(broker.port)
    with Listener(broker.port) as listener:
        await_predictions(listener)
    (broker.kill if trouble == "kill" else broker.hang)()
    time.sleep(1)

    assert camera.end() < a_second()
    assert camera.returncode == 0
    assert "did not reach the broker" in camera.said


def test_lost_messages_are_counted_when_the_broker_is_never_there(start: Start, free_port: int) -> None:
    # A drift would be told too, when the machine is slow enough for one to be found.
    camera = start(free_port, "--no-realtime", "--frames", "3000", "--no-drift")

    wait_until(lambda: not camera.alive, 60 * a_second(), "end")

    assert camera.returncode == 0
    assert "cannot connect to the broker" in camera.said
    assert "Connection refused" in camera.said
    # 3000 predictions and one state through a queue of 1000, and one error for the trouble itself.
    assert "2,002 errors of mqtt" in camera.said
    assert "1000 messages did not reach the broker" in camera.said


def test_two_cameras_of_one_name_say_that_they_take_each_other_over(broker: Mosquitto, start: Start) -> None:
    cameras = [start(broker.port, "--fps", "5") for _ in range(2)]

    wait_until(lambda: all("another client uses our client ID" in camera.said for camera in cameras), 60, "notice")

    assert all(camera.said.count("uses our client ID") == 1 for camera in cameras)


def test_a_lost_camera_is_stale_for_everybody_and_says_no_class(broker: Mosquitto, start: Start) -> None:
    server = CameraServer("mjpeg")
    try:
        start(broker.port, source=server.address)
        with Listener(broker.port) as listener:
            await_predictions(listener)
            server.trouble("die")
            began = time.time()
            reported_s = wait_until(lambda: '"stale"' in listener.newest("/state"), 10, "report")
            time.sleep(1)
            kept = state_of(broker.port)
            during = [heard for heard in listener.on("/prediction") if heard.at > began + 0.3]
            server.recover("die")
            wait_until(lambda: '"ok"' in listener.newest("/state"), 30, "recovery")
    finally:
        server.close()

    assert reported_s < 1.75 + 0.25 * a_second()
    assert kept == "stale"
    assert during == []


def login(folder: Path, text: str) -> list[str]:
    (folder / "login").write_text(text)
    return ["--mqtt-password-file", str(folder / "login")]


def test_tls_of_ones_own_ca_and_a_password_are_accepted(guarded: Mosquitto, certificates: Path, start: Start) -> None:
    def setup(client: Client) -> None:
        client.tls_set(str(certificates / "ca.pem"))
        client.tls_insecure_set(True)  # the listener of this test speaks to 127.0.0.1, the certificate is for localhost
        client.username_pw_set("edge", "hunter2")

    camera = start(
        guarded.port, "--mqtt-ca", str(certificates / "ca.pem"), *login(certificates, "edge:hunter2\n"), scheme="mqtts"
    )
    with Listener(guarded.port, setup) as listener:
        await_predictions(listener)

    assert "hunter2" not in Path(f"/proc/{camera.pid}/cmdline").read_text()


@pytest.mark.parametrize(
    ("ca", "password", "complaint"),
    [
        ("ca.pem", "edge:wrong-secret", "refuses the connection: not authorized"),
        ("other.pem", "edge:hunter2", "CERTIFICATE_VERIFY_FAILED"),
        (None, "edge:hunter2", "CERTIFICATE_VERIFY_FAILED"),
    ],
)
def test_a_broker_that_is_not_ours_or_refuses_us_is_an_error_that_one_sees(
    guarded: Mosquitto, certificates: Path, start: Start, ca: str | None, password: str, complaint: str
) -> None:
    trust = [] if ca is None else ["--mqtt-ca", str(certificates / ca)]

    camera = start(guarded.port, *trust, *login(certificates, password), scheme="mqtts")
    wait_until(lambda: complaint.lower() in camera.said.lower(), 30, complaint)
    frames = len(camera.lines)
    wait_until(lambda: len(camera.lines) > frames + 10, 10, "frame")

    assert camera.end() < a_second()
    assert camera.said.lower().count(complaint.lower()) == 1
    assert password.partition(":")[2] not in camera.said
