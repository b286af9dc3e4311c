"""The fleet's page: what it serves, to whom, and what Prometheus and Grafana make of its metrics."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from fleet_reports import PREFIX, fleet, hear_board
from prometheus_client.parser import text_string_to_metric_families

from edgecnn.cli.main import cli
from edgecnn.testing import JumpingClock
from edgecnn_device.fleet.boards import Boards
from edgecnn_device.fleet.metrics import FleetMetrics
from edgecnn_device.fleet.page_server import serve_fleet
from edgecnn_device.fleet.rows import Rows
from edgecnn_device.web.options import WebOptions

TOKEN = "0123456789abcdef-secret"
ASKING = {"X-Edgecnn-Action": "picture"}
_METRIC = re.compile(r"\bedgecnn_fleet_[a-z_]+")


@dataclass
class Heard:
    """A listener with one board that answers."""

    is_connected: bool = True
    trouble: str = ""
    asked: list[str] = field(default_factory=list)

    def picture(self, name: str, *, limit_s: float) -> bytes | None:
        self.asked.append(name)
        return b"\xff\xd8\xff a picture" if name == "line-1/press-1" else None


@dataclass
class Page:
    port: int
    boards: Boards
    heard: Heard

    def ask(
        self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request(method, path, headers=dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def json(self, path: str) -> Any:
        return json.loads(self.ask(path)[2])


@contextlib.contextmanager
def serve(token: str | None = None) -> Iterator[Page]:
    boards, heard = fleet(), Heard()
    hear_board(boards)
    hear_board(boards, "line-2/press-1", state="blind", reason="black picture", group="line-2", pictures=False)
    with serve_fleet(boards, heard, WebOptions("127.0.0.1", 0, token)) as address:
        yield Page(int(address.rstrip("/").rpartition(":")[2]), boards, heard)


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with serve() as served:
        yield served


def test_the_page_and_its_files_are_served_with_a_policy_that_allows_nothing_of_elsewhere(page: Page) -> None:
    for path in ("/", "/fleet.js", "/fleet.css", "/style.css", "/icon.svg"):
        status, headers, body = page.ask(path)
        assert (status, headers["content-security-policy"].startswith("default-src 'none'")) == (200, True)
        assert not re.search(rb"https?://(?!www\.w3\.org/)", body)


def test_every_board_is_a_row(page: Page) -> None:
    body = page.json("/api/fleet")

    assert [(row["name"], row["state"]) for row in body["rows"]] == [("line-1/press-1", "running"), ("line-2/press-1", "blind")]
    assert (body["boards"], body["bad"], body["connected"]) == (2, 1, True)
    assert body["rows"][1]["problems"] == ["blind: black picture"]


@pytest.mark.parametrize("query", ["start=%00&since=-1", "since=1e9", "since=99999999999999999999", "start=x&since=5"])
def test_a_question_that_cannot_be_meant_gets_the_whole_list(page: Page, query: str) -> None:
    assert len(page.json(f"/api/fleet?{query}")["rows"]) == 2


def test_the_list_is_compressed() -> None:
    with serve() as served:
        for number in range(30):
            hear_board(served.boards, f"line-3/press-{number}")
        _, headers, body = served.ask("/api/fleet", headers={"Accept-Encoding": "gzip"})

    assert headers["content-encoding"] == "gzip"
    assert len(gzip.decompress(body)) > 5 * len(body)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_changed(page: Page, method: str) -> None:
    assert page.ask("/api/fleet", method)[0] == 405


def test_a_token_is_asked_for() -> None:
    with serve(TOKEN) as served:
        refused = [served.ask(path)[0] for path in ("/", "/api/fleet", "/metrics", "/api/picture?board=line-1/press-1")]
        allowed = served.ask("/api/fleet", headers={"Authorization": f"Bearer {TOKEN}"})[0]

    assert (refused, allowed) == ([401] * 4, 200)


@pytest.mark.parametrize(
    ("board", "headers", "status"),
    [
        ("line-1/press-1", ASKING, 200),
        ("line-1/press-1", {}, 403),
        ("line-2/press-1", ASKING, 404),
        ("nobody", ASKING, 404),
        ("../../etc/passwd", ASKING, 404),
        ("%23", ASKING, 404),
    ],
)
def test_a_picture_is_asked_of_a_board_that_gives_one(page: Page, board: str, headers: dict[str, str], status: int) -> None:
    before = len(page.heard.asked)

    answer = page.ask(f"/api/picture?board={board}", headers=headers)

    assert answer[0] == status
    assert len(page.heard.asked) - before == (status == 200)


def test_a_board_that_does_not_answer_is_said_so(page: Page) -> None:
    hear_board(page.boards, "line-4/press-1")

    assert page.ask("/api/picture?board=line-4/press-1", headers=ASKING)[0] == 504


def test_health_tells_whether_the_broker_is_there() -> None:
    with serve() as served:
        there = served.ask("/healthz")[0]
        served.heard.is_connected = False
        away = served.ask("/healthz")[0]

    assert (there, away) == (200, 503)


def test_only_what_has_changed_is_sent_again() -> None:
    boards, clock = fleet(), JumpingClock()
    for number in range(3):
        hear_board(boards, f"press-{number}")
    rows = Rows(boards, clock)
    first = rows.since("", 0)
    clock.jump(5)
    unchanged = rows.since(first["start"], first["version"])

    hear_board(boards, "press-1", state="blind")
    for kind in ("status", "state", "board"):
        boards.hear(f"{PREFIX}/press-2/{kind}", b"", retained=False)
    clock.jump(5)
    changed = rows.since(first["start"], unchanged["version"])

    assert (first["whole"], len(first["rows"])) == (True, 3)
    assert (unchanged["whole"], unchanged["rows"], unchanged["gone"]) == (False, [], [])
    assert ([row["name"] for row in changed["rows"]], changed["gone"]) == (["press-1"], ["press-2"])
    assert rows.since("another start", unchanged["version"])["whole"]


def test_boards_are_looked_at_once_a_second_however_many_ask() -> None:
    boards, clock = fleet(), JumpingClock()
    rows = Rows(boards, clock)
    rows.look()
    hear_board(boards)

    before = rows.look()
    clock.jump(2)

    assert (before, len(rows.look())) == ([], 1)


def metrics(boards: Boards, **settings: Any) -> dict[str, dict[tuple[str, ...], float]]:
    """Return the samples of a scrape by name and labels."""
    text = FleetMetrics(boards.look, lambda: True, **settings).text().decode()
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def test_a_scrape_has_one_set_of_lines_for_each_board() -> None:
    boards = fleet(known={"press-9": "line-1"})
    hear_board(boards, drift="darker by 0.6 stops")

    found = metrics(boards)

    assert found["edgecnn_fleet_board_up"] == {("line-1/press-1", "line-1"): 1, ("press-9", "line-1"): 0}
    assert found["edgecnn_fleet_board_drifting"] == {("line-1/press-1", "line-1"): 1, ("press-9", "line-1"): 0}
    assert found["edgecnn_fleet_board_novel_today"] == {("line-1/press-1", "line-1"): 10}
    assert found["edgecnn_fleet_boards"][("line-1", "unknown")] == 1


def test_the_lines_of_a_scrape_are_bounded() -> None:
    boards = fleet()
    for number in range(20):
        hear_board(boards, f"press-{number}")

    found = metrics(boards, most_boards=5)

    assert len(found["edgecnn_fleet_board_up"]) == 5
    assert found["edgecnn_fleet_boards_without_metrics"] == {(): 15}
    assert sum(found["edgecnn_fleet_boards"].values()) == 20


def grafana(name: str) -> str:
    return (files("edgecnn_device.fleet") / "grafana" / name).read_text("utf-8")


def all_metrics() -> set[str]:
    """Return the names of a scrape in which every figure is told."""
    boards = fleet()
    hear_board(boards, retained=False)
    return set(metrics(boards))


def test_every_metric_of_the_dashboard_and_the_alerts_is_in_a_scrape() -> None:
    dashboard, alerts = json.loads(grafana("dashboard.json")), yaml.safe_load(grafana("alerts.yml"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [variable["query"]["query"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    queries += [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]

    asked = {name for query in queries for name in _METRIC.findall(query)}

    assert asked
    assert asked <= all_metrics()


def test_the_dashboard_has_panels_that_do_not_overlap_and_names_no_data_source_of_ours() -> None:
    dashboard = json.loads(grafana("dashboard.json"))
    cells = [
        (x, y)
        for panel in dashboard["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]

    assert len(cells) == len(set(cells))
    assert all(x < 24 for x, _ in cells)
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {"${datasource}"}


def test_every_alert_says_what_is_wrong_and_how_much_it_matters() -> None:
    rules = [rule for group in yaml.safe_load(grafana("alerts.yml"))["groups"] for rule in group["rules"]]

    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}
        assert {"summary", "description"} == set(rule["annotations"])


def test_the_command_prints_both() -> None:
    printed = [CliRunner().invoke(cli, ["fleet", "dashboard", *options]).stdout for options in ([], ["--alerts"])]

    assert printed == [grafana("dashboard.json"), grafana("alerts.yml")]


def test_a_hostile_name_stays_text(page: Page) -> None:
    name = '<img src=x onerror="alert(1)">'
    hear_board(page.boards, name)

    script = page.ask("/fleet.js")[2]

    assert not re.search(rb"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)
    assert not page.boards.find(name).problems


def test_many_pictures_at_once_are_refused() -> None:
    with serve() as served:
        released = threading.Event()
        served.heard.picture = lambda name, *, limit_s: released.wait(10) and b"\xff\xd8\xff"  # type: ignore[method-assign]
        statuses: list[int] = []
        asking = [
            threading.Thread(target=lambda: statuses.append(served.ask("/api/picture?board=line-1/press-1", headers=ASKING)[0]))
            for _ in range(12)
        ]
        for thread in asking:
            thread.start()
        while len(statuses) < 4:
            released.wait(0.05)
        released.set()
        for thread in asking:
            thread.join()

    assert sorted(statuses) == [200] * 8 + [503] * 4
