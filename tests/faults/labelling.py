"""Kills the page on which two people label at once, at random moments: `python labelling.py FOLDER SEED KILLS`.

Each time a forked child serves the page, and two editors post labels, and take some back, as fast as it answers; the parent
kills the child (SIGKILL) and looks at the log. Prints the counts as JSON; an AssertionError says what was lost or half-written.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from killing import observation

from edgecnn.samples.folder import read_samples
from edgecnn.samples.labels import LabelLog
from edgecnn_device.sinks.samples import SampleOptions, SampleSink
from edgecnn_device.web.options import WebOptions
from edgecnn_device.web.review_server import serve_review

SAMPLES, MOST_S = 12, 0.2


@dataclass(eq=False)
class Editor:
    """Posts what one person says, each label another one, until nobody answers; `answered` are the acts that were answered."""

    name: str
    port: int
    samples: list[str]
    random: random.Random
    sent: int = 0
    answered: dict[str, tuple[str | None, tuple[str, ...]]] = field(default_factory=dict)

    def work(self) -> None:
        """Post until the server is gone."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            token = _ask(connection, "GET", "/api/review")["csrf"]
            while True:
                self._label(connection, token)
        except (OSError, http.client.HTTPException):
            pass  # killed
        finally:
            connection.close()

    def _label(self, connection: http.client.HTTPConnection, token: str) -> None:
        names = tuple(self.random.sample(self.samples, self.random.randint(1, 3)))
        label, self.sent = f"{self.name} {self.sent}", self.sent + 1
        words = [("label", label), *(("sample", name) for name in names), ("by", self.name)]
        act = _ask(connection, "POST", f"/api/review/label?{urlencode(words)}", token)["act"]
        self.answered[act] = (label, names)
        if self.random.random() < 0.2:
            _ask(connection, "POST", f"/api/review/undo?{urlencode([('act', act), ('by', self.name)])}", token)
            self.answered[f"undo {act}"] = (None, ())


def _ask(connection: http.client.HTTPConnection, method: str, path: str, token: str = "") -> dict[str, Any]:
    headers = {"X-Edgecnn-Action": "review", "X-Edgecnn-CSRF": token} if token else {}
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body: dict[str, Any] = json.loads(answer.read())
    assert answer.status == 200, body
    return body


def look(folder: Path, editors: list[Editor], kills: int) -> int:
    """Demand that what was answered stands in the log once and whole, and nothing else but what was sent."""
    labels = LabelLog(folder).read()
    assert labels.damaged <= kills, "more half lines than kills"
    said = Counter((act.by, act.label) for act in labels.acts if act.label)
    assert not said or max(said.values()) == 1, "a label stands there twice"
    by_id = {f"undo {act.undo}" if act.undo else act.act: (act.label, act.samples) for act in labels.acts}
    for editor in editors:
        lost = [act for act, words in editor.answered.items() if by_id.get(act) != words]
        assert not lost, f"{len(lost)} answered acts of {editor.name} are lost or changed"
        known = {f"{editor.name} {number}" for number in range(editor.sent)}
        assert {label for by, label in said if by == editor.name} <= known, "a label that nobody sent"
    return len(labels.acts)


def check_page(port: int, folder: Path) -> None:
    """Demand that the page shows what the log says."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    body = _ask(connection, "GET", "/api/review?show=all")
    connection.close()
    shown = {sample["sample"]: sample.get("label") for group in body["groups"] for sample in group}
    holds = {name: said.label for name, said in LabelLog(folder).read().of.items()}
    assert {name: label for name, label in shown.items() if label} == holds, "the page says something else than the log"


def serve(folder: Path, port: int) -> int:
    """Serve the page in a forked child, and return its process id when it listens."""
    child = os.fork()
    if child == 0:
        try:
            with serve_review(folder, WebOptions("127.0.0.1", port)):
                signal.pause()
        finally:
            os._exit(1)
    deadline_s = time.monotonic() + 20
    while not _listens(port):
        assert time.monotonic() < deadline_s and os.waitpid(child, os.WNOHANG) == (0, 0), "the page did not start"
        time.sleep(0.002)
    return child


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _await_answers(editors: list[Editor]) -> None:
    """Wait until each of them has been answered once more."""
    before, deadline_s = [len(editor.answered) for editor in editors], time.monotonic() + 20
    while any(len(editor.answered) == count for editor, count in zip(editors, before, strict=True)):
        assert time.monotonic() < deadline_s, "the page answers nobody"
        time.sleep(0.002)


def main() -> None:
    """Kill as often as is asked for."""
    folder, seed, kills, counts = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Counter[str]()
    with SampleSink(SampleOptions(folder, every_s=1e-9)) as sink:
        for number in range(SAMPLES):
            sink.write(observation(number))
    samples = [sample.name for sample in read_samples(folder).samples]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    rng = random.Random(f"{seed} labelling")
    editors = [Editor(name, port, samples, random.Random(f"{seed} {name}")) for name in ("ann", "bob")]
    while counts["kills"] < kills:
        child = serve(folder, port)
        check_page(port, folder)
        threads = [threading.Thread(target=editor.work) for editor in editors]
        for thread in threads:
            thread.start()
        if rng.random() < 0.8:  # the others die while they begin
            _await_answers(editors)
        time.sleep(rng.uniform(0, MOST_S))
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL, "the page ended by itself"
        for thread in threads:
            thread.join()
        counts["kills"] += 1
        counts["written"] = look(folder, editors, counts["kills"])
    counts["answered"] = sum(len(editor.answered) for editor in editors)
    counts["cut"] = LabelLog(folder).read().damaged
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
