"""Many boards at one real mosquitto on loopback: what a board costs the broker and the fleet's page.

    python benchmarks/fleet_boards.py --boards 200 --seconds 120
    python benchmarks/fleet_boards.py --boards 200 --browser
    python benchmarks/fleet_boards.py --retained 10000

The first runs the cameras' own MQTT sinks with made-up pictures; the second also opens the page in Chromium, as a browser that
knows nothing of it; the third leaves at the broker what so many boards retain. Messages and bytes are those that the broker
counts itself ($SYS), CPU seconds those of the processes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from edgecnn.artifacts import Artifact
from edgecnn.classifier import Prediction
from edgecnn.shipped import int8_path
from edgecnn.testing import fake_classifier
from edgecnn_device.fleet.card import Card, CardOptions, Running
from edgecnn_device.frames import OK, STAGES, Frame, Observation, Region, RegionPrediction, State
from edgecnn_device.loop import Statistics
from edgecnn_device.model import Model
from edgecnn_device.sinks.mqtt import MqttSink
from edgecnn_device.sinks.mqtt_broker import MqttOptions

_SYS = ("messages/received", "messages/sent", "bytes/received", "bytes/sent")
_VERDICTS = (("label", 0.93), ("unsure", 0.05), ("novel", 0.02))


def main() -> None:
    """Measure as the options say, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--boards", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--predictions", type=float, default=0.0, help="predictions per second and board")
    parser.add_argument("--retained", type=int, default=0, help="leave the messages of so many boards, and look at them")
    parser.add_argument("--browser", action="store_true", help="print how long Chromium takes to show the page")
    parser.add_argument("--stay", action="store_true", help="stay until Ctrl-C, to look at the page")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, broker(Path(folder)) as (port, process):
        if options.retained:
            retain(port, options.retained)
            measure_retained(port, options.retained, stay=options.stay)
        else:
            measure(port, process, options)


@contextlib.contextmanager
def broker(folder: Path) -> Iterator[tuple[int, int]]:
    """Run mosquitto with its usual limits; give its port and process."""
    program = shutil.which("mosquitto", path="/usr/local/sbin:/usr/sbin:/usr/bin") or sys.exit("mosquitto is not installed")
    port = free_port()
    lines = [f"listener {port} 127.0.0.1", "user root", "allow_anonymous true", "persistence false", "sys_interval 1"]
    (folder / "mosquitto.conf").write_text("\n".join([*lines, "log_type none", ""]))
    process = subprocess.Popen([program, "-c", str(folder / "mosquitto.conf")], stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def page(port: int) -> Iterator[tuple[int, int]]:
    """Serve the fleet's page; give its port and process."""
    web = free_port()
    command = [sys.executable, "-m", "edgecnn", "fleet", "page", "--mqtt", f"mqtt://127.0.0.1:{port}/plant", "--web", str(web)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_for(web)
        yield web, process.pid
    finally:
        process.terminate()
        process.wait()


@dataclass(eq=False)
class MadeUp:
    """A board: its sink, its counters, and the state that its camera is in."""

    sink: MqttSink
    statistics: Statistics
    state: State
    seen: Observation

    def write(self) -> None:
        """Do what the loop does with a frame."""
        self.statistics.frames += 1
        observation = replace(self.seen, state=self.state, predictions=self.seen.predictions if self.state is OK else ())
        self.statistics.count(observation)
        self.sink.write(observation)


def make_boards(port: int, count: int, rng: random.Random) -> list[MadeUp]:
    """Return boards of eight groups; one in forty has a camera in trouble."""
    artifact = Artifact.open(int8_path("neu"))
    models = [Model(artifact, fake_classifier(), verified=True) for _ in range(2)]
    newer = replace(artifact.contract, export_id="9d1c44aa07be2f10")
    models[1] = replace(models[1], artifact=replace(artifact, contract=newer))
    return [_make_board(port, number, models[rng.random() < 0.3], rng) for number in range(count)]


def _make_board(port: int, number: int, model: Model, rng: random.Random) -> MadeUp:
    group, statistics = f"line-{number % 8 + 1}", Statistics()
    running = Running(statistics, lambda: model, page=lambda: "http://0.0.0.0:8080/", fps=15)
    card = Card(CardOptions(group, pictures=True), running)
    sink = MqttSink(MqttOptions(f"mqtt://127.0.0.1:{port}/plant/{group}/press-{number // 8 + 1}"), card=card)
    trouble = [State("stale", "lost: no frame for 12.0 s (refused)"), State("blind", "black picture")]
    state = rng.choice(trouble) if rng.random() < 0.025 else OK
    return MadeUp(sink, statistics, state, _observation(rng))


def _observation(rng: random.Random) -> Observation:
    image = np.random.default_rng(rng.randrange(2**31)).integers(60, 200, (240, 320, 3)).astype(np.uint8)
    frame = Frame(image, 1, "made up", datetime.now(UTC), time.monotonic())
    verdict = rng.choices([word for word, _ in _VERDICTS], [weight for _, weight in _VERDICTS])[0]
    label = "inclusion" if verdict == "label" else None
    answer = Prediction(label, 1, 0.97, np.full(6, 0.16, np.float32), verdict)  # type: ignore[arg-type]
    region = RegionPrediction(1, Region((0, 0, 320, 240), image), image[:200, :200, :1], answer, answer)
    return Observation("made up", OK, frame, (region,), 2.0, dict.fromkeys(STAGES, rng.uniform(0.5, 3.0)))


def measure(port: int, broker_pid: int, options: argparse.Namespace) -> None:
    """Let boards run, and print what each costs."""
    rng = random.Random(0)
    boards = make_boards(port, options.boards, rng)
    with contextlib.ExitStack() as stack:
        for board in boards:
            stack.enter_context(board.sink)
        ending = threading.Event()
        thread = threading.Thread(target=_drive, args=(boards, options.predictions, ending), daemon=True)
        thread.start()
        web, page_pid = stack.enter_context(page(port))
        counts = Counts(port)
        wait_until(lambda: len(rows(web)) >= options.boards, 120)
        if options.browser:
            measure_browser(web, options.boards)
            return
        if options.stay:
            print(f"the page is at http://127.0.0.1:{web}/", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()
            return
        time.sleep(5)
        unseen = _span(counts, {"broker": broker_pid, "page": page_pid}, options.seconds / 2, lambda: time.sleep(2))
        asked = Poller(web)
        seen = _span(counts, {"broker": broker_pid, "page": page_pid}, options.seconds / 2, asked.ask)
        ending.set()
    print(f"{options.boards} boards, {options.predictions:g} predictions per second and board, {os.cpu_count()} cores")
    sent = {name: unseen[f"{name}/received"] for name in ("messages", "bytes")}
    cpu = {"broker": unseen["broker"], "page, nobody looks": unseen["page"], "page, one looks": seen["page"]}
    _print("to the broker, per board and minute", sent, options.boards)
    _print("CPU in ms, per board and minute", {name: 1000 * value for name, value in cpu.items()}, options.boards)
    print(
        f"page: whole list {asked.whole_bytes} bytes in {1000 * asked.whole_s:.1f} ms, "
        f"then {asked.bytes / max(1, asked.asked):.0f} bytes every 2 s"
    )


_WHEN_SHOWN = """new MutationObserver(() => {
  if (window.shownAt || document.querySelectorAll('#rows tr').length < %d) return;
  requestAnimationFrame(() => { window.shownAt = performance.now(); });
}).observe(document, {childList: true, subtree: true});"""
_TIMES = """const [page] = performance.getEntriesByType('navigation');
return window.shownAt && page.loadEventEnd ? [page.loadEventEnd, window.shownAt] : null;"""


def measure_browser(web: int, count: int, loads: int = 5) -> None:
    """Print how long Chromium takes, from asking for the page to its load event and to the whole table, without its cache."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,900"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _WHEN_SHOWN % count})
    driver.execute_cdp_cmd("Network.enable", {})
    driver.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": True})
    driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})

    taken = []
    for _ in range(loads):
        driver.get(f"http://127.0.0.1:{web}/")
        wait_until(lambda: driver.execute_script(_TIMES), 60)
        metrics = {each["name"]: each["value"] for each in driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]}
        taken.append([*driver.execute_script(_TIMES), 1000 * metrics["TaskDuration"]])
    driver.quit()
    loaded, shown, worked = np.median(taken, axis=0)
    print(
        f"Chromium, median of {loads}: load event after {loaded:.0f} ms, all {count} rows after {shown:.0f} ms, "
        f"{worked:.0f} ms of CPU in the page's main thread"
    )


def _drive(boards: list[MadeUp], rate: float, ending: threading.Event) -> None:
    """Write observations: as many as are to be published, and without any one now and then, for the counters."""
    pause_s = 1 / rate if rate else 5.0
    while not ending.is_set():
        started_s = time.monotonic()
        for board in boards:
            if rate or not board.statistics.frames or board.state is not OK:
                with contextlib.suppress(OSError):
                    board.write()
            board.statistics.frames += round(15 * pause_s)
        ending.wait(max(0.0, pause_s - (time.monotonic() - started_s)))


def _span(counts: Counts, pids: dict[str, int], seconds: float, work: Any) -> dict[str, float]:
    """Return the counts and CPU seconds of a span as rates per minute."""
    before, cpu, started_s = counts.read(), {name: cpu_s(pid) for name, pid in pids.items()}, time.monotonic()
    while time.monotonic() - started_s < seconds:
        work()
    minutes = (time.monotonic() - started_s) / 60
    after = counts.read()
    spent = {name: (cpu_s(pid) - cpu[name]) / minutes for name, pid in pids.items()}
    return {name: (after[name] - before[name]) / minutes for name in _SYS} | spent


def _print(title: str, values: dict[str, float], boards: int) -> None:
    print(f"{title}: " + ", ".join(f"{name} {value / boards:.2f}" for name, value in values.items()))


class Counts:
    """What the broker counts."""

    def __init__(self, port: int) -> None:
        """Begin to listen."""
        self._counts: dict[str, float] = {}
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe([(f"$SYS/broker/{name}", 0) for name in _SYS])
        self._client.on_message = lambda _c, _u, message: self._counts.update(
            {message.topic.removeprefix("$SYS/broker/"): float(message.payload)}
        )
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        wait_until(lambda: len(self._counts) == len(_SYS), 10)

    def read(self) -> dict[str, float]:
        """Return the newest counts."""
        return dict(self._counts)


class Poller:
    """Asks the page as a browser does."""

    def __init__(self, web: int) -> None:
        """Have asked nothing yet."""
        self._web, self._start, self._version = web, "", 0
        self.asked = self.bytes = self.whole_bytes = 0
        self.whole_s = 0.0

    def ask(self) -> None:
        """Ask for what has changed, two seconds after the last time."""
        started_s = time.monotonic()
        data = fetch(f"http://127.0.0.1:{self._web}/api/fleet?start={self._start}&since={self._version}")
        body = json.loads(data)
        if body["whole"]:
            self.whole_bytes, self.whole_s = len(data), time.monotonic() - started_s
        else:
            self.asked, self.bytes = self.asked + 1, self.bytes + len(data)
        self._start, self._version = body["start"], body["version"]
        time.sleep(2)


def retain(port: int, count: int) -> None:
    """Leave at the broker what this many boards retain."""
    rng, statistics = random.Random(0), Statistics()
    model = Model(Artifact.open(int8_path("neu")), fake_classifier(), verified=True)
    client = Client(CallbackAPIVersion.VERSION2)
    client.max_queued_messages_set(0)
    client.max_inflight_messages_set(100)
    client.connect("127.0.0.1", port)
    client.loop_start()
    for number in range(count):
        group = f"line-{number % 100 + 1}"
        card = Card(CardOptions(group), Running(statistics, lambda: model))
        state = {"state": "ok" if rng.random() < 0.98 else "stale", "reason": ""}
        texts = {"status": "online", "state": json.dumps(state), "board": json.dumps(card.to_json("10.0.0.1"))}
        for kind, payload in texts.items():
            last = client.publish(f"plant/{group}/press-{number // 100 + 1}/{kind}", payload, qos=1, retain=True)
    last.wait_for_publish(120)
    client.disconnect()
    client.loop_stop()


def measure_retained(port: int, count: int, *, stay: bool) -> None:
    """Print how long a look at so many boards takes, and whether none is missing."""
    command = [
        sys.executable,
        "-m",
        "edgecnn",
        "fleet",
        "list",
        "--json",
        "--wait",
        "300",
        "--mqtt",
        f"mqtt://127.0.0.1:{port}/plant",
    ]
    started_s, cpu_before_s = time.monotonic(), children_s()
    done = subprocess.run(command, capture_output=True, check=False)
    took_s, worked_s = time.monotonic() - started_s, children_s() - cpu_before_s
    found = json.loads(done.stdout)["boards"]
    unknown = sum(board["report"] is None or board["state"] == "unknown" for board in found)
    print(
        f"fleet list: {len(found)} of {count} boards in {took_s:.1f} s ({worked_s:.1f} s of CPU), {unknown} of them incomplete"
    )
    with page(port) as (web, pid):
        wait_until(lambda: json.loads(fetch(f"http://127.0.0.1:{web}/healthz", errors=True))["state"] == "ok", 200)
        time.sleep(5)
        poller = Poller(web)
        poller.ask()
        scrape_s = time.monotonic()
        scraped = len(fetch(f"http://127.0.0.1:{web}/metrics"))
        scrape_s = time.monotonic() - scrape_s
        before_s = cpu_s(pid)
        for _ in range(10):
            poller.ask()
        print(
            f"page: whole list {poller.whole_bytes} bytes in {1000 * poller.whole_s:.0f} ms, "
            f"{1000 * (cpu_s(pid) - before_s) / 20:.0f} ms of CPU per second while one looks, "
            f"/metrics {scraped} bytes in {1000 * scrape_s:.0f} ms"
        )
        if stay:
            print(f"the page is at http://127.0.0.1:{web}/", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()


def rows(web: int) -> list[Any]:
    """Return the page's rows."""
    found: list[Any] = json.loads(fetch(f"http://127.0.0.1:{web}/api/fleet"))["rows"]
    return found


def fetch(address: str, *, errors: bool = False) -> bytes:
    """Return what stands at an address, or of an error what is said with it."""
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            data: bytes = answer.read()
    except urllib.error.HTTPError as error:
        if not errors:
            raise
        data = error.read()
    return data


def children_s() -> float:
    """Return the CPU seconds of the processes that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process."""
    fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    """Wait until something listens on a port."""

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(answers, 90)  # a busy machine starts a page slowly


def wait_until(condition: Any, limit_s: float) -> None:
    """Wait for a condition."""
    deadline_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline_s:
            sys.exit(f"nothing came of it within {limit_s:g} s")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
