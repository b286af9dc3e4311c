"""A fleet at a real mosquitto: rollouts over real sshds and cameras, a broker that restarts, a board that never comes back."""

from __future__ import annotations

import contextlib
import getpass
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from boards import Sshd, install_program
from brokers import Listener as Anybody
from brokers import Mosquitto
from fleet_reports import report
from local_board import variant
from pages import read_log, text
from running import wait_until
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select
from web_page import model as made_up_model
from web_page import seen

from edgecnn.artifacts import Artifact
from edgecnn.errors import OutputError
from edgecnn_device.deploy import Outcome
from edgecnn_device.fleet.boards import Boards
from edgecnn_device.fleet.card import Card, CardOptions, Running
from edgecnn_device.fleet.history import History, Rollout, RolloutBoard
from edgecnn_device.fleet.listener import Listener
from edgecnn_device.fleet.rollout import Pace, Runner, plan_stages
from edgecnn_device.loop import Statistics
from edgecnn_device.model import Model
from edgecnn_device.sinks.mqtt import MqttSink
from edgecnn_device.sinks.mqtt_broker import MqttOptions, find_broker

pytestmark = pytest.mark.timeout(600)
NEW = "made-up-2"


@pytest.fixture
def broker(mosquitto: str, tmp_path: Path) -> Iterator[Mosquitto]:
    process = Mosquitto(mosquitto, tmp_path, "allow_anonymous true")
    yield process
    process.kill()


def edgecnn(*words: str | Path, limit_s: float = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgecnn", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)


class MadeUpBoard:
    """A camera's own MQTT sink and card, with a model that can be exchanged at once."""

    def __init__(self, port: int, name: str, *, pictures: bool = False, scheme: str = "mqtt", **login: Any) -> None:
        self.model: Model = made_up_model()
        card = Card(CardOptions("line-1", pictures), Running(Statistics(), lambda: self.model))
        address = MqttOptions(f"{scheme}://localhost:{port}/plant/{name}", **login)
        self.sink = MqttSink(address, card=card, retry_s=(0.2, 0.5))
        self.sink.__enter__()
        self.see()

    def see(self) -> None:
        """Let the camera see something; the loop only counts what a sink complains of."""
        with contextlib.suppress(OutputError):
            self.sink.write(seen())

    def exchange(self, export_id: str) -> None:
        """Run another model."""
        contract = replace(self.model.artifact.contract, export_id=export_id)
        self.model = replace(self.model, artifact=replace(self.model.artifact, contract=contract))
        self.see()

    def leave(self) -> None:
        """Go away for good."""
        with contextlib.suppress(OutputError):
            self.sink.__exit__(None, None, None)


@pytest.fixture
def plant(broker: Mosquitto) -> Iterator[dict[str, MadeUpBoard]]:
    boards = {f"press-{number}": MadeUpBoard(broker.port, f"press-{number}") for number in range(1, 6)}
    yield boards
    for board in boards.values():
        board.leave()


@dataclass
class Deployments:
    """Gives made-up boards the new model; something may happen to a board first."""

    plant: dict[str, MadeUpBoard]
    before: dict[str, Callable[[], None]] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)

    def live(self, address: str) -> str:
        return self.plant[address].model.artifact.contract.export_id

    def deploy(self, file: Path, address: str, say: object) -> Outcome:
        self.done.append(f"deploy {address}")
        self.plant[address].exchange(NEW)
        self.before.get(address, lambda: None)()
        return Outcome(address, NEW, live=True, rolled_back=False)

    def rollback(self, address: str, say: object) -> Outcome:
        self.done.append(f"rollback {address}")
        self.plant[address].exchange("made-up-1")
        return Outcome(address, "made-up-1", live=True, rolled_back=False)


def roll_out(port: int, folder: Path, deployments: Deployments, said: list[str], *, confirm_s: float) -> Rollout:
    """Roll the new model out to all made-up boards in stages of 1, 2 and the rest."""
    listening = find_broker(MqttOptions(f"mqtt://127.0.0.1:{port}/plant"))
    boards = Boards("plant")
    stages = plan_stages(sorted(deployments.plant), "1,2,rest")
    planned = tuple(RolloutBoard(name, i, name) for i, names in enumerate(stages, 1) for name in names)
    with History(folder / "fleet.sqlite") as history, Listener(listening, boards) as listener:
        listener.gather(10)
        begun = history.begin(Rollout(0, "new.tflite", NEW, "", NEW, "", None, "all", {}, "running", "", None, planned))
        return Runner(history, boards, listener, deployments, Pace(4, confirm_s), said.append).run(begun.id)


def test_a_broker_that_restarts_in_mid_rollout_is_waited_for(
    broker: Mosquitto, plant: dict[str, MadeUpBoard], tmp_path: Path
) -> None:
    said: list[str] = []

    def restart() -> None:
        broker.kill()
        threading.Timer(3, broker.start).start()

    rollout = roll_out(broker.port, tmp_path, Deployments(plant, {"press-2": restart}), said, confirm_s=10)

    assert (rollout.state, {board.state for board in rollout.boards}) == ("done", {"live"}), said


def test_a_board_that_never_comes_back_makes_its_stage_bad_in_time(
    broker: Mosquitto, plant: dict[str, MadeUpBoard], tmp_path: Path
) -> None:
    said: list[str] = []
    deployments = Deployments(plant, {"press-3": plant["press-3"].leave})

    started_s = time.monotonic()
    rollout = roll_out(broker.port, tmp_path, deployments, said, confirm_s=3)

    assert rollout.state == "rolled back"
    assert time.monotonic() - started_s < 30
    assert any(line.startswith("stage 2/3 is bad: press-3: offline") for line in said), said
    assert {board.name for board in rollout.of("waiting")} == {"press-4", "press-5"}
    assert {name for name in plant if deployments.live(name) == NEW} == set()


def test_a_board_that_is_gone_for_good_is_forgotten(broker: Mosquitto, plant: dict[str, MadeUpBoard]) -> None:
    where = ("--mqtt", f"mqtt://127.0.0.1:{broker.port}/plant")
    plant["press-3"].leave()

    running, gone = edgecnn("fleet", "forget", "press-2", *where), edgecnn("fleet", "forget", "press-3", *where)
    again, listed = edgecnn("fleet", "forget", "press-3", *where), edgecnn("fleet", "list", *where, "--json")

    assert (running.returncode, gone.returncode, again.returncode) == (2, 0, 2), (running, gone, again)
    assert "press-2 is running" in running.stderr and "no board is called 'press-3'" in again.stderr
    assert gone.stdout == "forgot press-3\n"
    assert [each["name"] for each in json.loads(listed.stdout)["boards"]] == ["press-1", "press-2", "press-4", "press-5"]


def test_a_fleet_is_listed_over_tls_with_a_password(guarded: Mosquitto, certificates: Path) -> None:
    (certificates / "secret").write_text("edge:hunter2\n")
    login = {"password_file": certificates / "secret", "ca": certificates / "ca.pem"}
    board = MadeUpBoard(guarded.port, "line-1/press-1", scheme="mqtts", **login)
    (certificates / "fleet.toml").write_text(
        f'mqtt = "mqtts://localhost:{guarded.port}/plant"\nmqtt-password-file = "secret"\nmqtt-ca = "ca.pem"\n'
        '[boards]\n"line-1/press-9" = "edge@press-9"\n'
    )
    try:
        wait_until(lambda: board.sink.waiting == 0, 10, "confirmation")
        done = edgecnn("fleet", "list", "--inventory", certificates / "fleet.toml", "--json")
        address = f"mqtts://localhost:{guarded.port}/plant"
        anonymous = edgecnn("fleet", "list", "--mqtt", address, "--mqtt-ca", certificates / "ca.pem")
    finally:
        board.leave()

    found = json.loads(done.stdout)
    states = {each["name"]: each["state"] for each in found["boards"]}
    assert states == {"line-1/press-1": "running", "line-1/press-9": "unknown"}
    assert (done.returncode, found["bad"]) == (1, 1)
    assert anonymous.returncode == 2
    assert "refuses the connection: not authorized" in anonymous.stderr
    assert "hunter2" not in done.stdout + done.stderr


def test_garbage_at_the_broker_harms_no_look_at_the_others(broker: Mosquitto, plant: dict[str, MadeUpBoard]) -> None:
    with Anybody(broker.port) as anybody:
        client = anybody._client
        client.publish("plant/hostile/board", b"x" * 300_000, qos=1, retain=True).wait_for_publish(10)
        client.publish("plant/hostile/status", b"online", qos=1, retain=True)
        client.publish("plant/hostile/state", b'{"state": "ok", "reason": "\\u001b[2J"}', qos=1, retain=True)
        client.publish("plant/liar/board", b'{"at": "now"}', qos=1, retain=True)
        client.publish("plant/a\x7fb/status", b"online", qos=1, retain=True).wait_for_publish(10)
        done = edgecnn("fleet", "list", "--mqtt", f"mqtt://127.0.0.1:{broker.port}/plant")

    lines = done.stdout.splitlines()
    assert sum(" running " in line for line in lines) == 5
    assert "hostile: unknown: its state cannot be read: a text with control characters" in lines
    assert "\x1b" not in done.stdout
    assert done.returncode == 1


def is_healthy(port: int) -> bool:
    """Tell whether a page has heard all that the broker keeps."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200


def test_a_picture_is_shown_by_the_page_of_a_board_that_gives_one(broker: Mosquitto, free_port: int, tmp_path: Path) -> None:
    board = MadeUpBoard(broker.port, "line-1/press-1", pictures=True)
    command = [sys.executable, "-m", "edgecnn", "fleet", "page", "--mqtt", f"mqtt://127.0.0.1:{broker.port}/plant"]
    with (tmp_path / "page.log").open("wb") as log:
        page = subprocess.Popen([*command, "--web", str(free_port)], stderr=log)
    try:
        wait_until(lambda: "the page is at" in (tmp_path / "page.log").read_text(), 60, "page")
        wait_until(lambda: is_healthy(free_port), 30, "fleet")
        connection = http.client.HTTPConnection("127.0.0.1", free_port, timeout=20)
        connection.request("GET", "/api/picture?board=line-1/press-1", headers={"X-Edgecnn-Action": "picture"})
        answer = connection.getresponse()
        picture = answer.read()
        connection.close()
    finally:
        board.leave()
        page.send_signal(signal.SIGTERM)
        page.wait(10)

    assert (answer.status, answer.getheader("content-type"), picture[:3]) == (200, "image/jpeg", b"\xff\xd8\xff")
    assert page.returncode == 0


class RealBoard:
    """An sshd with a home folder of its own, a model file, and a camera that runs it and publishes."""

    def __init__(self, folder: Path, name: str, model: Path, port: int, pictures: Path) -> None:
        folder.mkdir()
        self.name, self.sshd = name, Sshd(folder)
        self.live = self.sshd.home / "model.tflite"
        shutil.copy(model, self.live)
        self.program = install_program(folder)
        options = ["--source", str(pictures), "--loop", "--realtime", "--fps", "10", "--no-terminal", "--group", "line-1"]
        options += ["--mqtt", f"mqtt://127.0.0.1:{port}/plant/{name}", "--state-dir", str(folder / "state")]
        with (folder / "camera.log").open("ab") as log:
            command = [str(self.program), "camera", str(self.live), *options]
            self._camera = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def ssh_config(self) -> str:
        """Return the lines that lead to it by its name."""
        return self.sshd.ssh_config.read_text().replace("Host line-1", f"Host {self.name}")

    @property
    def runs(self) -> str:
        """The export ID of the file that is live."""
        return Artifact.open(self.live).contract.export_id

    def close(self) -> None:
        """End it."""
        os.killpg(self._camera.pid, signal.SIGKILL)
        self._camera.wait()
        self.sshd.close()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    assert edgecnn("data", "generate", "neu", tmp_path / "steel", "--count", "3").returncode == 0
    return tmp_path / "steel" / "patches"


@pytest.fixture
def real_plant(tmp_path: Path, model: str, broker: Mosquitto, pictures: Path) -> Iterator[list[RealBoard]]:
    first = variant(Artifact.open(model), tmp_path / "first.tflite")
    boards = [RealBoard(tmp_path / name, name, first, broker.port, pictures) for name in ("press-1", "press-2", "press-3")]
    yield boards
    for board in boards:
        board.close()


def test_a_good_model_reaches_a_real_fleet_and_a_sabotaged_one_stops_at_its_first_board(
    tmp_path: Path, model: str, broker: Mosquitto, real_plant: list[RealBoard]
) -> None:
    artifact = Artifact.open(model)
    good = variant(artifact, tmp_path / "good.tflite")
    swapped = (artifact.contract.labels[1], artifact.contract.labels[0], *artifact.contract.labels[2:])
    (tmp_path / "ssh_config").write_text("".join(board.ssh_config() for board in real_plant))
    user = getpass.getuser()
    boards = "\n".join(f'"{board.name}" = "{user}@{board.name}"' for board in real_plant)
    (tmp_path / "fleet.toml").write_text(f'mqtt = "mqtt://127.0.0.1:{broker.port}/plant"\n[boards]\n{boards}\n')
    fleet = ["--inventory", tmp_path / "fleet.toml"]
    where = ["-F", tmp_path / "ssh_config", "--program", real_plant[0].program, "--model", "model.tflite"]
    history = ["--history", tmp_path / "fleet.sqlite"]
    rollout = [*fleet, "--group", "line-1", "--stages", "1,rest", "--watch", "5s", *where, *history]
    wait_until(lambda: "3 running" in edgecnn("fleet", "status", *fleet).stdout, 60, "fleet")

    done = edgecnn("fleet", "deploy", good, *rollout, limit_s=300)

    assert done.returncode == 0, done.stderr
    assert {board.runs for board in real_plant} == {"good"}
    assert "stage 2/2" in done.stderr

    bad = variant(artifact, tmp_path / "bad.tflite", labels=swapped)
    refused = edgecnn("fleet", "deploy", bad, *rollout, limit_s=300)

    assert refused.returncode == 1, refused.stderr
    assert {board.runs for board in real_plant} == {"good"}
    assert "stage 1/2 is bad: press-1" in refused.stderr
    rollouts = json.loads(edgecnn("fleet", "history", *history, "--json").stdout)["rollouts"]
    assert [each["state"] for each in rollouts] == ["rolled back", "done"]

    back = edgecnn("fleet", "rollback", "1", *fleet, *history, limit_s=300)

    assert back.returncode == 0, back.stderr
    assert {board.runs for board in real_plant} == {"first"}


@pytest.fixture
def crowd(broker: Mosquitto) -> int:
    """The port of a broker that keeps what 200 boards of eight groups say; one in twenty is blind."""
    with Anybody(broker.port) as anybody:
        for number in range(200):
            state = {"state": "blind", "reason": "black picture"} if number % 20 == 0 else {"state": "ok", "reason": ""}
            body = report(time.time(), group=f"line-{number % 8 + 1}")
            for kind, payload in (("status", "online"), ("state", json.dumps(state)), ("board", json.dumps(body))):
                topic = f"plant/line-{number % 8 + 1}/press-{number // 8 + 1}/{kind}"
                last = anybody._client.publish(topic, payload, qos=1, retain=True)
        last.wait_for_publish(60)
    return broker.port


@pytest.fixture
def fleet_page(crowd: int, free_port: int, tmp_path: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "edgecnn", "fleet", "page", "--mqtt", f"mqtt://127.0.0.1:{crowd}/plant"]
    with (tmp_path / "page.log").open("wb") as log:
        page = subprocess.Popen([*command, "--web", str(free_port)], stderr=log, stdout=log)
    wait_until(lambda: "the page is at" in (tmp_path / "page.log").read_text(), 60, "page")
    yield f"http://127.0.0.1:{free_port}/"
    page.send_signal(signal.SIGTERM)
    page.wait(10)


def shown(browser: webdriver.Chrome) -> list[str]:
    """Return the names of the boards that the page shows, in their order."""
    script = 'return [...document.querySelectorAll("#rows th")].map((head) => head.firstChild.textContent)'
    return list(browser.execute_script(script))  # type: ignore[no-untyped-call]


def choose(browser: webdriver.Chrome, element: str, value: str) -> None:
    """Choose something of a list, as a person does."""
    Select(browser.find_element(By.ID, element)).select_by_value(value)


def test_a_page_of_200_boards_is_sorted_filtered_and_without_errors(browser: webdriver.Chrome, fleet_page: str) -> None:
    browser.get("about:blank")
    read_log(browser, "browser")  # what the tests before left there
    browser.get(fleet_page)
    wait_until(lambda: "190 running" in text(browser, "summary"), 60, "table")
    wait_until(lambda: len(Select(browser.find_element(By.ID, "group")).options) == 9, 60, "groups")
    first = shown(browser)[:10]
    choose(browser, "state", "look")
    wait_until(lambda: len(shown(browser)) == 10, 10, "filter")
    blind = shown(browser)
    choose(browser, "group", "line-5")
    wait_until(lambda: len(shown(browser)) == 5, 10, "filter")
    choose(browser, "state", "")
    browser.find_element(By.ID, "find").send_keys("press-2")
    wait_until(lambda: len(shown(browser)) == 7, 10, "filter")
    found = shown(browser)

    assert first == blind
    assert set(found) == {"line-5/press-2", *(f"line-5/press-{number}" for number in range(20, 26))}
    assert read_log(browser, "browser") == []
