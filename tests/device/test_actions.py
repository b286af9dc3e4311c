"""`--on`: which rules can be written, when they act, and that nothing they do makes the camera wait."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecnn.classifier import Prediction
from edgecnn.errors import InputError, OutputError
from edgecnn.testing import JumpingClock
from edgecnn_device.actions.pin_keeper import Keeper, KeptPin
from edgecnn_device.actions.queue import Event, Queue, Retry, queue_file
from edgecnn_device.actions.rules import (
    Command,
    Debounce,
    Debounced,
    Pin,
    Rule,
    Seen,
    Webhook,
    check_rules,
    parse_rule,
    parse_rules,
)
from edgecnn_device.actions.sink import ActionOptions, ActionSink
from edgecnn_device.actions.webhook import Poster, read_key, signature
from edgecnn_device.classes import Classes
from edgecnn_device.frames import Change, Drift, Observation, Outcome, Region, RegionPrediction, State
from edgecnn_device.frames import Event as Part

CLASSES = Classes(("good", "scratch", "hole"), frozenset({"scratch", "hole"}))
DRIFT = Drift((Change("brightness", "falls", -0.6, "darker by 0.6 stops", 0.0),))
IMAGE = np.zeros((4, 4, 3), np.uint8)


def region(word: str) -> RegionPrediction:
    label = None if word in ("unsure", "novel") else word
    verdict: Any = "label" if label else word
    answer = Prediction(label, 0, 0.9, np.array([0.9, 0.1], np.float32), verdict)
    return RegionPrediction(1, Region((0, 0, 4, 4), IMAGE), IMAGE, answer, answer)


def seen(*words: str, state: str = "ok", drift: Drift | None = None) -> Observation:
    return Observation("camera", State(state), None, tuple(region(word) for word in words), drift=drift)  # type: ignore[arg-type]


def labels(*words: str, **settings: Any) -> set[str]:
    return set(Seen.of(seen(*words, **settings), CLASSES).labels)


def wait_until(is_so: Callable[[], bool], seconds: float = 20.0) -> None:
    ends_s = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < ends_s
        time.sleep(0.01)


# rules


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("defect:webhook:https://a.example/x?y=1", Rule("defect", Webhook("https://a.example/x?y=1"))),
        ("a:b:command:/bin/true", Rule("a:b", Command(Path("/bin/true")))),
        ("novel:gpio:17", Rule("novel", Pin(17))),
        ("good:gpio:4:active-low:safe-on", Rule("good", Pin(4, True, True))),
    ],
)
def test_a_rule_says_what_happens_when(text: str, rule: Rule) -> None:
    assert parse_rule(text) == rule


@pytest.mark.parametrize(
    "text",
    [
        "defect",
        "defect:mail:me@example.com",
        ":gpio:17",
        "defect:gpio:28",
        "defect:gpio:x",
        "defect:gpio:17:inverted",
        "defect:command:stop.sh",
        "defect:webhook:ftp://a.example/",
        "defect:webhook:https:///x",
        "defect:webhook:https://a.example/a b",
        "defect:webhook:https://a.example:99999/",
        "defect:webhook:https://a..example/",
        f"defect:webhook:https://{'a' * 64}.example/",
    ],
)
def test_a_rule_that_cannot_be_read_says_how_one_is_written(text: str) -> None:
    with pytest.raises(InputError, match="--on"):
        parse_rule(text)


@pytest.mark.parametrize("text", ["defect:webhook:https://me:hunter2@a.example/", "defect:hook:https://a.example/hunter2"])
def test_no_message_repeats_what_may_be_a_secret(text: str) -> None:
    with pytest.raises(InputError) as error:
        parse_rule(text)

    assert "hunter2" not in str(error.value)


def test_an_address_is_shown_without_its_path() -> None:
    assert str(parse_rule("defect:webhook:https://hooks.example/T0/secret").action) == "webhook https://hooks.example"


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        (["rust:gpio:1"], "no such class"),
        (["scratch:gpio:1", "hole:gpio:1"], "pin 1 cannot do two things"),
    ],
)
def test_rules_that_no_answer_can_meet_are_refused(rules: list[str], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        check_rules(parse_rules(rules), CLASSES)


def test_defect_needs_a_class_that_is_one() -> None:
    with pytest.raises(InputError, match="no class of this model counts as a defect"):
        check_rules(parse_rules(["defect:gpio:1"]), Classes(("3", "7")))


def test_a_model_of_good_parts_alone_has_no_defect_and_names_novel_instead() -> None:
    with pytest.raises(InputError, match=r"--on defect: this model knows good parts only, .* use --on novel:ACTION"):
        check_rules(parse_rules(["defect:gpio:1"]), Classes.choose(("good",)))


def test_a_rule_given_twice_is_a_mistake() -> None:
    with pytest.raises(InputError, match="twice"):
        parse_rules(["novel:gpio:1", "novel:gpio:1"])


@pytest.mark.parametrize(("text", "debounce"), [("3", Debounce(3)), ("0.5s", Debounce(3, 0.5)), ("2 s", Debounce(3, 2.0))])
def test_a_debounce_is_of_answers_or_seconds(text: str, debounce: Debounce) -> None:
    assert Debounce.parse(text) == debounce


@pytest.mark.parametrize("text", ["", "0", "1.5", "-1", "s", "3 min"])
def test_another_debounce_is_a_mistake(text: str) -> None:
    with pytest.raises(InputError, match="--on-debounce"):
        Debounce.parse(text)


# what an observation says


def test_a_defect_in_one_region_is_there() -> None:
    assert labels("good", "scratch") == {"scratch", "defect"}


def test_good_is_only_what_is_good_everywhere() -> None:
    assert labels("good", "good") == {"good"}
    assert labels("good", "unsure") == {"unsure"}
    assert labels("good", "novel", "hole") == {"novel", "hole", "defect"}


def test_a_camera_that_sees_nothing_says_nothing() -> None:
    assert Seen.of(seen("scratch", state="stale"), CLASSES) == Seen(frozenset(), unknown=True)
    assert Seen.of(seen(), CLASSES).unknown


def test_drift_is_a_word_of_its_own() -> None:
    assert labels("good", drift=DRIFT) == {"good", "drift"}


# debouncing


def test_a_flicker_does_not_count() -> None:
    debounced = Debounced(Debounce(3))

    assert not any(debounced.see(there, 0.0) for there in [True, True, False] * 5)
    assert not debounced.on


def test_three_in_a_row_count_once() -> None:
    debounced = Debounced(Debounce(3))

    assert [debounced.see(True, 0.0) for _ in range(5)] == [False, False, True, False, False]


def test_seconds_count_from_the_first_answer() -> None:
    debounced = Debounced(Debounce(seconds=0.5))

    assert [debounced.see(True, at) for at in (10.0, 10.2, 10.4, 10.5, 10.6)] == [False, False, False, True, False]


def test_a_gap_without_an_answer_begins_again() -> None:
    debounced = Debounced(Debounce(2))
    debounced.see(True, 0.0)

    debounced.interrupt(forget=False)

    assert not debounced.see(True, 1.0)


# webhooks


class Server(ThreadingHTTPServer):
    """Answers with one status after the other, and remembers what came."""

    daemon_threads = True

    def __init__(self, *statuses: int, delay_s: float = 0.0, location: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses, self.delay_s, self.location = list(statuses), delay_s, location
        self.came: list[tuple[dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?token=abc"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.came.append((dict(self.headers), body))
        time.sleep(server.delay_s)
        self.send_response(server.statuses.pop(0) if len(server.statuses) > 1 else server.statuses[0])
        if server.location:
            self.send_header("Location", server.location)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*statuses: int, **settings: Any) -> Server:
        server = Server(*statuses, **settings)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


EVENT = Event("4f1c", 1000.0, {"schema": 1, "on": "defect"})


def test_a_webhook_is_signed_as_the_standard_says(serve: Callable[..., Server]) -> None:
    server = serve(200)

    Poster(server.url, b"secret", 5.0, lambda: 1234.5)(EVENT)

    ((headers, body),) = server.came
    assert json.loads(body) == {"id": "4f1c", "schema": 1, "on": "defect"}
    assert (headers["webhook-id"], headers["Idempotency-Key"], headers["webhook-timestamp"]) == ("4f1c", "4f1c", "1234")
    assert headers["webhook-signature"] == signature(b"secret", "4f1c", 1234, body)


def test_the_signature_is_that_of_the_standards_own_example() -> None:
    key = read_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'

    found = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)

    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(("secret", "reason"), [("whsec_", "nothing stands behind"), ("whsec_!", "not base64")])
def test_a_secret_without_a_key_is_refused(secret: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        read_key(secret)


def test_a_redirect_is_not_followed(serve: Callable[..., Server]) -> None:
    other = serve(200)
    server = serve(307, location=other.url)

    with pytest.raises(OutputError, match="redirects are not followed"):
        Poster(server.url, None, 5.0)(EVENT)

    assert other.came == []


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_trouble_of_the_other_side_is_tried_again(serve: Callable[..., Server], status: int) -> None:
    with pytest.raises(Retry, match=str(status)):
        Poster(serve(status).url, None, 5.0)(EVENT)


def test_a_refusal_is_given_up(serve: Callable[..., Server]) -> None:
    with pytest.raises(OutputError, match="refuses with 403"):
        Poster(serve(403).url, None, 5.0)(EVENT)


def test_nobody_there_is_tried_again_and_the_path_is_not_shown() -> None:
    with pytest.raises(Retry, match=r"cannot reach http://127\.0\.0\.1:1") as error:
        Poster("http://127.0.0.1:1/hunter2", None, 1.0)(EVENT)

    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(("url", "port"), [("http://[::1]/", 80), ("http://[::1]:81/", 81), ("http://10.0.0.1/", 80)])
def test_an_address_without_a_port_has_that_of_its_scheme(url: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def connect(address: tuple[str, int], *_: object) -> None:
        asked.append(address)
        raise OSError("nobody there")

    monkeypatch.setattr("socket.create_connection", connect)
    with pytest.raises(Retry):
        Poster(url, None, 1.0)(EVENT)

    assert asked == [(url.split("/")[2].removesuffix(":81").strip("[]"), port)]


def test_an_answer_that_does_not_come_is_not_waited_for(serve: Callable[..., Server]) -> None:
    server, began_s = serve(200, delay_s=5.0), time.monotonic()

    with pytest.raises(Retry):
        Poster(server.url, None, 0.3)(EVENT)

    assert time.monotonic() - began_s < 4


# the queue


def test_what_fails_for_a_while_arrives_once_with_the_same_id(serve: Callable[..., Server]) -> None:
    server = serve(503, 503, 200)
    queue = Queue(Poster(server.url, None, 5.0), first_retry_s=0.01)
    queue.start()

    queue.put(Event("4f1c", time.time(), {}))
    wait_until(lambda: queue.tally.done == 1)

    assert [headers["webhook-id"] for headers, _ in server.came] == ["4f1c"] * 3
    assert queue.stop() == 0


def test_a_queue_that_is_full_loses_the_oldest_and_says_so() -> None:
    queue = Queue(lambda event: None, most=2)
    queue.put(Event("1", 0.0, {}))
    queue.put(Event("2", 0.0, {}))

    with pytest.raises(OutputError, match="oldest was dropped"):
        queue.put(Event("3", 0.0, {}))

    assert (queue.waiting, queue.tally.dropped) == (2, 1)


def test_a_trouble_is_said_once() -> None:
    def fail(event: Event) -> None:
        raise OutputError("no")

    queue = Queue(fail)
    queue.start()
    for number in range(3):
        queue.put(Event(str(number), 0.0, {}))
        if number == 0:
            wait_until(lambda: queue.tally.failed == 1)
            with pytest.raises(OutputError, match="no; given up"):
                queue.complain()
    wait_until(lambda: queue.tally.failed == 3)

    queue.complain()
    assert queue.trouble == "no; given up"


def never(event: Event) -> None:
    raise Retry("nobody there")


def test_what_waits_is_delivered_after_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "queue.json"
    first = Queue(never, file=file)
    first.start()
    first.put(Event("1", time.time(), {"on": "defect"}))
    wait_until(file.exists)
    assert first.stop() == 1

    got: list[Event] = []
    second = Queue(got.append, file=file)
    second.start()
    wait_until(lambda: len(got) == 1)
    second.stop()

    assert (got[0].id, got[0].body) == ("1", {"on": "defect"})
    assert not file.exists()


def test_what_waits_survives_a_kill(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from edgecnn_device.actions.queue import Event, Queue, Retry\n"
        "def never(event): raise Retry('no')\n"
        "queue = Queue(never, file=Path(sys.argv[1])); queue.start()\n"
        "queue.put(Event('1', time.time(), {})); time.sleep(60)\n"
    )
    file = tmp_path / "queue.json"
    process = subprocess.Popen([sys.executable, "-c", program, str(file)])
    wait_until(file.exists, 60)

    process.kill()
    process.wait()

    assert Queue(never, file=file).waiting == 1


def test_what_waited_too_long_is_dropped_and_said(tmp_path: Path) -> None:
    file, said = tmp_path / "queue.json", list[str]()
    file.write_text(json.dumps([["1", time.time() - 90_000, {}], ["2", time.time(), {}]]))

    queue = Queue(never, file=file, notice=said.append)

    assert queue.waiting == 1
    assert said == ["1 events that waited for an action at the last end are older than a day and dropped"]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[["1"]]', "[[1, null, {}]]"])
def test_a_damaged_queue_is_said_to_be_lost(tmp_path: Path, text: str) -> None:
    file, said = tmp_path / "queue.json", list[str]()
    file.write_text(text)

    queue = Queue(never, file=file, notice=said.append)

    assert queue.waiting == 0
    assert len(said) == (text != "{}")  # an empty object holds nothing


def test_each_rule_waits_in_a_file_of_its_own(tmp_path: Path) -> None:
    assert queue_file(None, "a", "b") is None
    assert queue_file(tmp_path, "a", "b") != queue_file(tmp_path, "a", "c")


# the sink


def options(*rules: str, **settings: Any) -> ActionOptions:
    return ActionOptions(parse_rules(rules), settings.pop("debounce", Debounce(1)), **settings)


def script(folder: Path, text: str) -> Path:
    file = folder / "act"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


def test_a_webhook_is_told_when_a_label_comes_and_not_while_it_stays(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(200)
    (tmp_path / "secret").write_text("hunter2\n")
    given = options(f"defect:webhook:{server.url}", secret=tmp_path / "secret")
    with ActionSink(given, CLASSES) as sink:
        for word in ("good", "scratch", "scratch", "hole", "good", "scratch"):
            sink.write(seen(word))
        wait_until(lambda: len(server.came) == 2)

    bodies = [json.loads(body) for _, body in server.came]
    assert [body["on"] for body in bodies] == ["defect", "defect"]
    assert bodies[0]["observation"]["regions"][0]["smoothed"]["label"] == "scratch"
    assert len({body["id"] for body in bodies}) == 2


def part(*words: str, outcome: Outcome = "answered") -> Observation:
    return replace(seen(*words), event=Part(1, "line", outcome))


def test_a_webhook_is_told_of_every_part_with_the_label(serve: Callable[..., Server]) -> None:
    server = serve(200)
    with ActionSink(options(f"defect:webhook:{server.url}"), CLASSES, triggered=True) as sink:
        for observation in (part("scratch"), seen(), part("scratch"), part("good"), part(outcome="partial"), part("hole")):
            sink.write(observation)
        wait_until(lambda: len(server.came) == 3)


def test_a_webhook_that_fails_after_a_part_is_said_before_the_next(serve: Callable[..., Server]) -> None:
    said: list[str] = []
    rules = options(f"defect:webhook:{serve(404).url}")
    with ActionSink(rules, CLASSES, triggered=True, notice=said.append) as sink:
        sink.write(part("scratch"))
        wait_until(lambda: sink.to_json()[0]["failed"] == 1)
        sink.beat()
        sink.beat()

    failures = [line for line in said if "fails" in line]
    assert len(failures) == 1
    assert failures[0].endswith("given up; the camera continues")


def test_a_slow_webhook_does_not_make_the_camera_wait(serve: Callable[..., Server]) -> None:
    with ActionSink(options(f"drift:webhook:{serve(200, delay_s=0.8).url}"), CLASSES) as sink:
        began_s = time.monotonic()
        for _ in range(50):
            sink.write(seen("good", drift=DRIFT))
        took_s = time.monotonic() - began_s

    assert took_s < 0.5


def test_a_command_gets_the_event_on_its_standard_input(tmp_path: Path) -> None:
    program = script(tmp_path, f"cat > {tmp_path}/got.part && mv {tmp_path}/got.part {tmp_path}/got")
    with ActionSink(options(f"unsure:command:{program}"), CLASSES) as sink:
        sink.write(seen("unsure"))
        wait_until((tmp_path / "got").exists)

    assert json.loads((tmp_path / "got").read_text())["on"] == "unsure"


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    program = script(tmp_path, f"sleep 1000 & echo $! > {tmp_path}/child; wait")
    with ActionSink(options(f"unsure:command:{program}", timeout_s=0.5), CLASSES) as sink:
        sink.write(seen("unsure"))
        wait_until(lambda: sink.to_json()[0]["failed"] == 1)
        trouble = sink.to_json()[0]["trouble"]

    child = int((tmp_path / "child").read_text())
    wait_until(lambda: not is_running(child))
    assert "took more than 0.5 s and was killed" in trouble


def test_a_camera_that_ends_ends_what_it_has_started(tmp_path: Path) -> None:
    program = script(tmp_path, f"echo $$ > {tmp_path}/pid; sleep 1000")
    sink = ActionSink(options(f"unsure:command:{program}"), CLASSES)
    with pytest.raises(OutputError, match="1 events for command act were not delivered and are dropped"), sink:
        sink.write(seen("unsure"))
        wait_until((tmp_path / "pid").exists)
        wait_until(lambda: (tmp_path / "pid").read_text() != "")

    pid = int((tmp_path / "pid").read_text())
    wait_until(lambda: not is_running(pid))


def test_a_command_that_fails_is_shown_and_said_once(tmp_path: Path) -> None:
    program = script(tmp_path, "exit 3")
    with ActionSink(options(f"unsure:command:{program}"), CLASSES) as sink:
        sink.write(seen("unsure"))
        wait_until(lambda: sink.to_json()[0]["failed"] == 1)
        with pytest.raises(OutputError, match="command act: act failed with 3; given up"):
            sink.write(seen("unsure"))
        sink.write(seen("unsure"))

    assert sink.to_json()[0]["trouble"] == "act failed with 3; given up"


def test_what_is_no_program_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a program"):
        ActionSink(options(f"unsure:command:{tmp_path}/nothing"), CLASSES)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


# pins


class Level:
    """A pin that remembers its level."""

    def __init__(self) -> None:
        self.level: str | None = None

    def on(self) -> None:
        self.level = "on"

    def off(self) -> None:
        self.level = "off"


def kept(*, safe_on: bool = False, hold_s: float = 0.0) -> tuple[Keeper, Level, JumpingClock]:
    level, clock = Level(), JumpingClock()
    return Keeper([KeptPin(level, safe_on, hold_s)], 3.0, clock), level, clock


@pytest.mark.parametrize(("safe_on", "level"), [(False, "off"), (True, "on")])
def test_a_pin_begins_at_its_fail_safe_level(safe_on: bool, level: str) -> None:
    assert kept(safe_on=safe_on)[1].level == level


@pytest.mark.parametrize(("safe_on", "safe"), [(False, "off"), (True, "on")])
def test_silence_sets_the_fail_safe_level_until_a_line_comes(safe_on: bool, safe: str) -> None:
    keeper, level, clock = kept(safe_on=safe_on)
    levels = []
    for line, after_s in (("1", 0.0), ("", 2.9), ("", 0.2), ("0", 0.0), ("", 3.1), ("1", 0.0)):
        clock.jump(after_s)
        keeper.hear(line) if line else keeper.tick()
        levels.append(level.level)

    assert levels == ["on", "on", safe, "off", safe, "on"]


def test_what_is_on_stays_on_for_a_while() -> None:
    keeper, level, clock = kept(hold_s=1.0)
    levels = []
    for line, after_s in (("1", 0.0), ("0", 0.5), ("0", 0.4), ("0", 0.2)):
        clock.jump(after_s)
        keeper.hear(line)
        levels.append(level.level)

    assert levels == ["on", "on", "on", "off"]


def test_the_fail_safe_level_does_not_wait_for_a_hold() -> None:
    keeper, level, _ = kept(hold_s=100.0)
    keeper.hear("1")

    keeper.hear("s")

    assert level.level == "off"


@pytest.mark.parametrize("line", ["", "11", "x", "1\0", "01"])
def test_a_line_that_is_none_is_as_good_as_silence(line: str) -> None:
    keeper, level, clock = kept()
    keeper.hear("1")
    clock.jump(4.0)

    keeper.hear(line)
    keeper.tick()

    assert level.level == "off"


pytest.importorskip("gpiozero")


@pytest.mark.parametrize(
    ("active_low", "safe_on", "levels"),
    [(False, False, [0, 1, 0, 0]), (True, False, [1, 0, 1, 1]), (False, True, [1, 1, 0, 1]), (True, True, [0, 0, 1, 0])],
)
def test_levels_of_gpiozero_are_as_described(active_low: bool, safe_on: bool, levels: list[int]) -> None:
    from gpiozero import Device
    from gpiozero.pins.mock import MockFactory

    from edgecnn_device.actions.pin_keeper import open_pins

    Device.pin_factory = factory = MockFactory()
    keeper = Keeper(open_pins([{"pin": 17, "active_low": active_low, "safe_on": safe_on}], 0.0), 3.0)
    found = [factory.pin(17).state]
    for line in "10s":
        keeper.hear(line)
        found.append(factory.pin(17).state)
    factory.reset()

    assert found == levels


@pytest.fixture
def mock_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "mock")


@pytest.mark.usefixtures("mock_pins")
@pytest.mark.parametrize(
    ("label", "shown", "level"),
    [
        ("defect", ["scratch"], "1"),
        ("defect", ["good"], "0"),
        ("good", ["good", "scratch"], "0"),
        ("good", ["good", "unsure"], "s"),
        ("scratch", ["scratch", "novel"], "1"),
        ("scratch", ["novel"], "s"),
        ("novel", ["novel"], "1"),
        ("unsure", ["novel"], "0"),
        ("good", [], "s"),
    ],
)
def test_a_pin_is_on_off_or_fail_safe(label: str, shown: list[str], level: str) -> None:
    with ActionSink(options(f"{label}:gpio:17"), CLASSES) as sink:
        sink.write(seen(*shown))

        assert sink._pins is not None
        assert sink._pins.levels == [level]


@pytest.mark.usefixtures("mock_pins")
def test_a_camera_that_sees_nothing_has_fail_safe_pins_and_begins_again() -> None:
    given = options("good:gpio:17", debounce=Debounce(2))
    levels = []
    with ActionSink(given, CLASSES) as sink:
        assert sink._pins is not None
        levels.append(sink._pins.levels[0])
        for state in ("ok", "ok", "stale", "ok", "ok", "blind", "error"):
            sink.write(seen("good", state=state))
            levels.append(sink._pins.levels[0])

    assert "".join(levels) == "s01s01ss"


@pytest.mark.usefixtures("mock_pins")
def test_a_pin_is_on_for_a_while_after_each_part_with_the_label() -> None:
    clock = JumpingClock()
    with ActionSink(options("defect:gpio:17", hold_s=1.0), CLASSES, triggered=True, clock=clock) as sink:
        assert sink._pins is not None
        levels = []
        for observation in (part("scratch"), seen(), None, part("scratch"), part("good"), part("novel"), seen(), part("good")):
            if observation is None:
                clock.jump(1.0)
                sink.beat()
            else:
                sink.write(observation)
            levels.append(sink._pins.levels[0])

    assert "".join(levels) == "11010ss0"


@pytest.mark.usefixtures("mock_pins")
def test_a_keeper_that_is_killed_is_started_again_and_nobody_waits_for_it() -> None:
    clock = JumpingClock()
    with ActionSink(options("good:gpio:17"), CLASSES, clock=clock) as sink:
        pins = sink._pins
        assert pins is not None
        assert pins._process is not None
        os.kill(pins._process.pid, signal.SIGKILL)
        pins._process.wait()
        clock.jump(3.0)
        with pytest.raises(OutputError, match="the process that keeps the pins has ended"):
            sink.write(seen("good"))

        def is_well() -> bool:
            clock.jump(0.1)
            sink.beat()
            return not pins.trouble

        wait_until(is_well)

        assert pins.restarts == 1
        assert pins._process.poll() is None


@pytest.mark.usefixtures("mock_pins")
@pytest.mark.parametrize("death", ["kill", "stop"])
def test_a_camera_that_dies_or_hangs_leaves_fail_safe_levels(death: str, tmp_path: Path) -> None:
    """The keeper is one that writes its levels into a file; the camera is a process that says `1` and then no more."""
    keeper = tmp_path / "keeper.py"
    keeper.write_text(
        "import sys, os\nfrom pathlib import Path\nimport edgecnn_device.actions.pin_keeper as k\n"
        "class Level:\n"
        "    def on(self): self.put('on')\n"
        "    def off(self): self.put('off')\n"
        f"    def put(self, word): Path({str(tmp_path / 'part')!r}).write_text(word); "
        f"os.replace({str(tmp_path / 'part')!r}, {str(tmp_path / 'level')!r})\n"
        "sys.stdin.readline(); keeper = k.Keeper([k.KeptPin(Level(), False, 0.0)], 1.0)\n"
        "k.listen(keeper, 0); k.leave(keeper)\n"
    )
    camera = tmp_path / "camera.py"
    camera.write_text(
        "import subprocess, sys, time\n"
        f"p = subprocess.Popen([sys.executable, {str(keeper)!r}], stdin=subprocess.PIPE, start_new_session=True, bufsize=0)\n"
        "p.stdin.write(b'settings\\n')\n"
        "while True:\n    p.stdin.write(b'1\\n'); time.sleep(0.05)\n"
    )
    level = tmp_path / "level"
    process = subprocess.Popen([sys.executable, str(camera)])
    try:
        wait_until(lambda: level.exists() and level.read_text() == "on", 60)
        process.send_signal(signal.SIGKILL if death == "kill" else signal.SIGSTOP)
        wait_until(lambda: level.read_text() == "off")
    finally:
        process.kill()
        process.wait()


@pytest.mark.usefixtures("mock_pins")
def test_a_pin_that_cannot_be_opened_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "nonsense")

    with pytest.raises(OutputError, match=r"the pins cannot be used.*install a back end"):
        ActionSink(options("good:gpio:17"), CLASSES).__enter__()


def test_a_machine_without_pins_says_so_in_one_line_and_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OutputError, match="install a back end"):
        ActionSink(options("good:gpio:17"), CLASSES).__enter__()

    assert capfd.readouterr() == ("", "")


def test_the_start_says_that_this_is_not_a_safety_device(tmp_path: Path) -> None:
    said: list[str] = []
    with ActionSink(options(f"unsure:command:{script(tmp_path, 'true')}"), CLASSES, notice=said.append):
        pass

    assert said == ["acts on unsure: command act; not a safety device: nothing here may be all that keeps people from harm"]
