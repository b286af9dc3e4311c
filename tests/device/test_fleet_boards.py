"""What is made of the messages that boards leave at a broker, garbage among them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fleet_reports import NOW_S, PREFIX, fleet, hear_board, report
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.errors import InputError
from edgecnn_device.fleet.boards import BOARD_STATES, Boards, count_states, duration
from edgecnn_device.fleet.inventory import read_inventory
from edgecnn_device.fleet.report import MOST_BYTES, read_report
from edgecnn_device.fleet.tables import board_lines, list_lines, status_lines


def payload(**changes: object) -> bytes:
    return json.dumps(report(**changes)).encode()


def test_a_report_comes_back_as_it_was_published() -> None:
    assert read_report(payload()).to_json() == report()


def test_fields_of_a_later_version_are_left_out() -> None:
    body = report(colour="green")
    body["model"]["weight"] = 3

    assert read_report(json.dumps(body).encode()).to_json() == report()


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{",
        b"{}",
        b"[" * 8000,
        b'{"at": NaN}',
        payload(host="a\x1b[2J"),
        payload(host="press\u202e1"),
        payload(host="a" * 600),
        payload(at="yesterday"),
        payload(at="2026-11-29T02:26:05"),
        payload(every_s=0),
        payload(fps="fast"),
        payload(pictures="yes"),
        payload(page="javascript:alert(1)"),
        payload(page="http://user:password@10.0.0.1/"),
        payload(address="10.0.0.1; rm -rf /"),
        payload(today={"day": "d", "since": report()["at"], "answers": 1, "unsure": 2, "novel": 0}),
        payload(promise=report()["promise"] | {"low": 0.995}),
    ],
)
def test_a_broken_report_is_refused(broken: bytes) -> None:
    with pytest.raises(InputError):
        read_report(broken)


@given(st.binary(max_size=200), st.sampled_from(["status", "state", "board"]), st.text(max_size=30))
def test_no_message_makes_looking_fail(message: bytes, kind: str, name: str) -> None:
    boards = fleet()

    boards.hear(f"{PREFIX}/{name}/{kind}", message, retained=True)

    for board in boards.look():
        assert board.state in BOARD_STATES
        assert all(line.isprintable() for line in (*list_lines([board], NOW_S), *board_lines(board, NOW_S)))
    assert list(status_lines(boards.look()))


def test_a_healthy_board_has_no_problems() -> None:
    board = hear_board(fleet())

    assert (board.state, board.group, board.problems) == ("running", "line-1", ())


@pytest.mark.parametrize("state", ["stale", "blind", "error"])
def test_a_camera_in_trouble_is_a_problem_with_its_reason(state: str) -> None:
    board = hear_board(fleet(), state=state, reason="black picture")

    assert (board.state, board.problems) == (state, (f"{state}: black picture",))


def test_the_last_will_makes_a_board_offline_whatever_its_state_was() -> None:
    boards = fleet()
    hear_board(boards)

    boards.hear("plant/line-1/press-1/status", b"offline", retained=False)

    assert boards.find("line-1/press-1").state == "offline"


def test_a_board_that_nobody_has_heard_of_is_unknown_and_not_left_out() -> None:
    boards = fleet(known={"line-1/press-9": "line-1"})

    (board,) = boards.look("line-1")

    assert (board.state, board.problems) == ("unknown", ("unknown: never heard of at this broker",))


@pytest.mark.parametrize("kind", ["state", "board"])
def test_a_board_that_does_not_say_whether_it_is_online_was_heard_of_all_the_same(kind: str) -> None:
    boards = fleet()

    boards.hear("plant/press-9/" + kind, b"{}", retained=True)

    assert boards.find("press-9").reason == "it does not say whether it is online"


def test_a_name_that_no_board_has_is_a_mistake_and_the_nearest_is_named() -> None:
    boards = fleet(known={"line-1/press-9": "line-1"})

    with pytest.raises(InputError, match="no board is called 'press-9'; did you mean 'line-1/press-9'"):
        boards.demand("press-9")
    with pytest.raises(InputError, match="edgecnn fleet list"):
        boards.demand("x")


def test_the_group_of_an_inventory_counts_before_the_reported_one() -> None:
    boards = fleet(known={"line-1/press-1": "line-2"})

    assert hear_board(boards).group == "line-2"


def test_a_board_that_is_online_and_reports_no_more_is_stale() -> None:
    board = hear_board(fleet(), at_s=NOW_S - 600)

    assert (board.state, board.reason) == (
        "stale",
        "online, and the last report is 10 min old, by its clock, which may be wrong",
    )


def test_a_camera_that_takes_no_frames_is_stale() -> None:
    assert hear_board(fleet(), fps=0.0).reason == "no frame in the last minute"


@pytest.mark.parametrize(("ahead_s", "said"), [(7200, "ahead of"), (-7200, "behind")])
def test_a_wrong_clock_is_told_of_a_report_that_was_heard(ahead_s: float, said: str) -> None:
    board = hear_board(fleet(), retained=False, at_s=NOW_S + ahead_s)

    assert (board.state, board.problems) == ("running", (f"its clock is 2 h {said} this machine's",))


def test_a_retained_report_tells_only_of_a_clock_that_is_ahead() -> None:
    assert hear_board(fleet(), at_s=NOW_S + 7200).skew_s == 7200
    assert hear_board(fleet(), at_s=NOW_S - 50).skew_s is None


def test_silence_while_the_broker_was_away_is_not_held_against_a_board() -> None:
    now = [NOW_S]
    boards = fleet(wall_clock=lambda: now[0])
    hear_board(boards, retained=False)
    boards.disconnected()
    now[0] += 60

    assert boards.find("line-1/press-1").state == "running"


def test_what_should_be_looked_at_is_listed() -> None:
    model = report()["model"] | {"refused": True}

    board = hear_board(fleet(), model=model, drift="darker by 0.6 stops")

    assert board.problems == ("another model runs than its file", "drifting: darker by 0.6 stops since 2026-11-24 08:05 UTC")


@pytest.mark.parametrize("drift", ["dark", {"since": "x"}, {"words": 1}, ["words"], {"words": ""}, {"words": "", "since": "z"}])
def test_a_drift_that_cannot_be_read_leaves_the_state_unknown(drift: object) -> None:
    boards = fleet()
    hear_board(boards)

    boards.hear("plant/line-1/press-1/state", json.dumps({"state": "ok", "reason": "", "drift": drift}).encode(), retained=True)

    assert boards.find("line-1/press-1").state == "unknown"


def test_large_nameless_and_too_many_boards_are_ignored_and_counted() -> None:
    boards = fleet(most_boards=1)
    hear_board(boards)

    boards.hear("plant/line-1/press-1/board", b"x" * (MOST_BYTES + 1), retained=True)
    boards.hear("plant/a\x07b/status", b"online", retained=True)
    boards.hear("plant/another/status", b"online", retained=True)

    assert (boards.ignored, [board.name for board in boards.look()]) == (3, ["line-1/press-1"])
    assert boards.find("line-1/press-1").state == "running"


def test_an_empty_retained_message_takes_a_board_away() -> None:
    boards = fleet()
    hear_board(boards)

    for kind in ("status", "state", "board"):
        boards.hear(f"plant/line-1/press-1/{kind}", b"", retained=False)

    assert boards.look() == []


def test_a_report_is_read_once_however_often_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []
    monkeypatch.setattr("edgecnn_device.fleet.boards.read_report", lambda data: read.append(data) or read_report(data))
    boards = fleet()

    for _ in range(3):
        hear_board(boards)

    assert len(read) == 1


def test_states_are_counted() -> None:
    boards = fleet(known={"line-1/press-9": None})
    hear_board(boards)

    assert {state: count for state, count in count_states(boards.look()).items() if count} == {"running": 1, "unknown": 1}


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0 s"), (65, "1 min 5 s"), (7200, "2 h"), (100_000, "1 d 3 h")])
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_an_inventory_names_the_broker_and_the_boards(tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    file.write_text(
        'mqtt = "mqtt://broker/plant"\nmqtt-password-file = "secret"\n[boards]\n"line-1/press-1" = "edge@10.0.0.11"\n'
        'press-2 = { ssh = "edge@10.0.0.12", group = "line-2" }\n'
    )

    inventory = read_inventory(file)

    assert (inventory.mqtt, inventory.password_file) == ("mqtt://broker/plant", tmp_path / "secret")
    assert {name: listed.ssh for name, listed in inventory.boards.items()} == {
        "line-1/press-1": "edge@10.0.0.11",
        "press-2": "edge@10.0.0.12",
    }
    assert inventory.groups == {"line-1/press-1": None, "press-2": "line-2"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("broker = 1", "unknown key 'broker'"),
        ("mqtt = 1", "mqtt is not a text"),
        ("boards = 1", "boards is not a table"),
        ('[boards]\npress = "-oProxyCommand=sh"', "no SSH address"),
        ('[boards]\npress = "edge@-oProxyCommand=sh"', "no SSH address"),
        ('[boards]\npress = { host = "a" }', "give"),
        ('[boards]\n"a/#" = "edge@a"', "a name is a topic"),
        ('[boards]\na = { ssh = "edge@a", group = "x,y" }', "--group"),
    ],
)
def test_a_wrong_inventory_is_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "fleet.toml").write_text(text)

    with pytest.raises(InputError, match=complaint):
        read_inventory(tmp_path / "fleet.toml")


def test_boards_is_what_a_command_prints() -> None:
    boards: Boards = fleet()
    hear_board(boards)

    lines = list(list_lines(boards.look(), NOW_S))

    assert lines[0].split() == ["board", "group", "state", "model", "accuracy", "unsure", "novel", "fps", "ms", "seen"]
    assert lines[1].startswith("line-1/press-1  line-1  running  neu 5880c8e7  99.0 % (≥ 97.0)")
    assert lines[2] == "1 board: 1 running; nobody needs a look"
