"""Home Assistant itself with its MQTT integration, a real mosquitto, and a camera as a process of its own.

`make test-home-assistant` installs it; EDGECNN_HOME_ASSISTANT names its Python.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from brokers import Mosquitto, retained
from running import CameraProcess, CameraServer, need, wait_until

from edgecnn.artifacts import Artifact
from edgecnn.shipped import int8_path

MODEL = str(int8_path("neu"))
_START_S = 120.0


class HomeAssistant:
    """A Home Assistant that has just been set up and looks at a broker; `found` is what it knows at the end of the block."""

    def __init__(self, port: int, folder: Path, prefix: str = "homeassistant") -> None:
        self.found: dict[str, dict[str, Any]] = {}
        self.said = ""
        folder.mkdir()
        script = Path(__file__).with_name("run_home_assistant.py")
        self._errors = folder / "stderr.txt"
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [os.environ["EDGECNN_HOME_ASSISTANT"], str(script), str(port), prefix, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
            )

    def __enter__(self) -> HomeAssistant:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "started\n", self._errors.read_text()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            out, _ = self._process.communicate("", timeout=_START_S)
            self.found = json.loads(out.splitlines()[-1])
            self.said = self._errors.read_text()
        finally:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    process = Mosquitto(need("mosquitto"), tmp_path, "allow_anonymous true")
    yield process
    process.kill()


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def start(broker: Mosquitto, folder: Path, *options: str, source: str = "synthetic") -> CameraProcess:
    folder.mkdir(exist_ok=True)
    address = f"mqtt://127.0.0.1:{broker.port}/plant/line-1"
    camera = CameraProcess(folder, MODEL, "--source", source, "--mqtt", address, *options)
    wait_until(lambda: retained(broker.port).get("plant/line-1/status") == "online", 30, "camera")
    return camera


def test_a_camera_appears_with_what_it_sees_at_a_pace_that_a_database_can_bear(broker: Mosquitto, tmp_path: Path) -> None:
    with HomeAssistant(broker.port, tmp_path / "home") as home:
        camera = start(broker, tmp_path / "camera", "--mqtt-discovery", "--tiles", "3x1", "--fps", "30")
        time.sleep(20)
        lines = [line.body for line in camera.lines]
    camera.close()

    prediction, probability, state = (home.found[name] for name in ("Prediction", "Probability", "State"))
    labels = Artifact.open(Path(MODEL)).contract.labels
    assert state["state"] == "ok"
    assert prediction["state"] in (*labels, "none of these")
    assert prediction["attributes"]["options"] == [*labels, "none of these", "nothing"]
    assert len(prediction["attributes"]["regions"]) == 3
    assert 0 <= float(probability["state"]) <= 100
    assert (probability["attributes"]["state_class"], probability["attributes"]["unit_of_measurement"]) == ("measurement", "%")
    # A change of the answer is published at once; all else once a second.
    answers = [max((r["smoothed"]["label"] or "" for r in line["regions"]), default="") for line in lines]
    changed = sum(one != other for one, other in pairwise(answers))
    assert len(lines) > 300
    assert max(prediction["changes"], probability["changes"]) < 45 + 2 * changed < len(lines)
    assert [line for line in home.said.splitlines() if "mqtt" in line and ("WARNING" in line or "ERROR" in line)] == []


def test_a_camera_that_is_lost_is_unavailable_and_says_why(broker: Mosquitto, tmp_path: Path) -> None:
    server = CameraServer("mjpeg")
    with HomeAssistant(broker.port, tmp_path / "home") as home:
        camera = start(broker, tmp_path / "camera", "--mqtt-discovery", source=server.address)
        wait_until(lambda: bool(camera.lines) and camera.lines[-1].body["state"] == "ok", 30, "frame")
        server.trouble("die")
        wait_until(lambda: camera.lines[-1].body["state"] == "stale", 30, "stale")
        time.sleep(2)
    camera.close()

    assert home.found["State"]["state"] == "stale"
    assert home.found["State"]["attributes"]["reason"].startswith("lost: ")
    assert {home.found[name]["state"] for name in ("Prediction", "Probability")} == {"unavailable"}


def test_sensors_go_when_discovery_is_switched_off(broker: Mosquitto, tmp_path: Path) -> None:
    with HomeAssistant(broker.port, tmp_path / "home") as home:
        start(broker, tmp_path / "camera", "--mqtt-discovery").end()
        time.sleep(2)
        start(broker, tmp_path / "camera").end()
        time.sleep(2)

    assert home.found == {}
    assert not [topic for topic in retained(broker.port) if topic.endswith("/config")]


def test_another_discovery_prefix_is_where_home_assistant_looks(broker: Mosquitto, tmp_path: Path) -> None:
    with (
        HomeAssistant(broker.port, tmp_path / "home") as usual,
        HomeAssistant(broker.port, tmp_path / "other", "home/two") as other,
    ):
        camera = start(broker, tmp_path / "camera", "--mqtt-discovery", "--mqtt-discovery-prefix", "home/two")
        time.sleep(3)
    camera.close()

    assert usual.found == {}
    assert set(other.found) == {"Prediction", "Probability", "State"}
