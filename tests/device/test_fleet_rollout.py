"""Rollouts over boards that are made up: what each is given, taken back, and told."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from fleet_reports import PREFIX, fleet, hear_board, report
from published_schemas import check

from edgecnn.cli.fleet import _OF_ONE, _deploy_options, _plain
from edgecnn.cli.fleet import deploy as fleet_deploy
from edgecnn.cli.main import main
from edgecnn.errors import InputError, OutputError
from edgecnn.shipped import int8_path
from edgecnn_device.deploy import Outcome
from edgecnn_device.fleet.history import History, OnFailure, Rollout, RolloutBoard
from edgecnn_device.fleet.rollout import Pace, Runner, order, plan_stages

OLD, NEW = "old file", "new file"
NAMES = [f"press-{number}" for number in range(1, 9)]


@dataclass
class Steady:
    """A broker that is there."""

    is_connected: bool = True
    trouble: str = ""


@dataclass
class Plant:
    """Boards that do as they are told, but for those that are `bad`, `unreachable` or `silent` at the broker afterwards."""

    online: list[str] = field(default_factory=lambda: list(NAMES))
    bad: set[str] = field(default_factory=set)
    unreachable: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    done: list[tuple[str, str]] = field(default_factory=list)
    interrupt: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.boards = fleet()
        self.files = dict.fromkeys(NAMES, OLD)
        for name in NAMES:
            self.tell(name)

    def tell(self, name: str) -> None:
        """Let a board say at the broker what it runs."""
        model = report()["model"] | {"sha256": self.files[name] + " model", "export_id": self.files[name]}
        hear_board(self.boards, name, model=model)
        if name not in self.online:
            self.boards.hear(f"{PREFIX}/{name}/status", b"offline", retained=True)

    def live(self, address: str) -> str:
        self._reach(address)
        return self.files[address]

    def deploy(self, file: Path, address: str, say: object) -> Outcome:
        self.done.append(("deploy", address))
        if address in self.interrupt:
            raise KeyboardInterrupt
        self._reach(address)
        if address in self.bad:
            return Outcome(address, NEW, live=False, rolled_back=True, reason="more unsure answers")
        self.files[address] = NEW
        if address in self.silent:
            self.online.remove(address)
        self.tell(address)
        return Outcome(address, NEW, live=True, rolled_back=False)

    def rollback(self, address: str, say: object) -> Outcome:
        self.done.append(("rollback", address))
        self._reach(address)
        self.files[address] = OLD
        self.tell(address)
        return Outcome(address, OLD, live=True, rolled_back=False)

    def _reach(self, address: str) -> None:
        if address in self.unreachable:
            raise OutputError(f"{address} cannot be reached")

    def told(self, verb: str) -> set[str]:
        """Return the boards to which this was done."""
        return {name for what, name in self.done if what == verb}


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with History(tmp_path / "fleet.sqlite") as found:
        yield found


def begin(history: History, plant: Plant, *, stages: str = "1,3,rest", on_failure: OnFailure = "all") -> Rollout:
    """Plan a rollout as the command does."""
    there, offline = order(plant.boards.look())
    planned = [*plan_stages(there, stages), *([offline] if offline else [])]
    boards = tuple(RolloutBoard(name, i, name) for i, names in enumerate(planned, 1) for name in names)
    return history.begin(
        Rollout(0, "new.tflite", NEW, f"{NEW} model", NEW, "broker:1883", None, on_failure, {}, "running", "", None, boards)
    )


def runner(history: History, plant: Plant, said: list[str] | None = None, *, jobs: int = 4) -> Runner:
    lines = [] if said is None else said
    return Runner(history, plant.boards, Steady(), plant, Pace(jobs, confirm_s=0.3), lines.append)


def states(rollout: Rollout) -> dict[str, str]:
    return {board.name: board.state for board in rollout.boards}


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("1,5,rest", [1, 5, 4]),
        ("rest", [10]),
        ("10%,50%,rest", [1, 5, 4]),
        ("1,9", [1, 9]),
        ("3,50,rest", [3, 7]),
        ("100%", [10]),
    ],
)
def test_stages_divide_the_boards_in_their_order(text: str, sizes: list[int]) -> None:
    names = [str(number) for number in range(10)]

    stages = plan_stages(names, text)

    assert [len(stage) for stage in stages] == sizes
    assert [name for stage in stages for name in stage] == names


@pytest.mark.parametrize("text", ["", "0,rest", "rest,1", "1,,rest", "1;2", "-1", "1.5", "1,2", "200%"])
def test_stages_that_cannot_be_meant_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--stages"):
        plan_stages([str(number) for number in range(10)], text)


def test_boards_that_run_come_first_and_those_that_are_offline_apart() -> None:
    boards = fleet()
    hear_board(boards, "a", state="blind")
    hear_board(boards, "b")
    hear_board(boards, "c")
    boards.hear(f"{PREFIX}/c/status", b"offline", retained=True)

    assert order(boards.look()) == (["b", "a"], ["c"])


def test_a_good_model_reaches_every_board_stage_by_stage(history: History) -> None:
    plant = Plant()

    rollout = runner(history, plant).run(begin(history, plant).id)

    assert (rollout.state, set(states(rollout).values())) == ("done", {"live"})
    order_of = [name for _, name in plant.done]
    assert order_of[0] == NAMES[0]
    assert set(order_of[1:4]) == set(NAMES[1:4])
    assert not plant.told("rollback")


@pytest.mark.parametrize(
    ("on_failure", "taken_back", "state"),
    [
        ("all", {"press-1", "press-2", "press-4"}, "rolled back"),
        ("stage", {"press-2", "press-4"}, "failed"),
        ("stop", set(), "failed"),
    ],
)
def test_a_bad_stage_ends_the_rollout_and_is_taken_back_as_stated(
    history: History, on_failure: OnFailure, taken_back: set[str], state: str
) -> None:
    plant, said = Plant(bad={"press-3"}), list[str]()

    rollout = runner(history, plant, said).run(begin(history, plant, on_failure=on_failure).id)

    assert rollout.state == state
    assert plant.told("rollback") == taken_back
    assert plant.told("deploy") == set(NAMES[:4])
    assert {name for name, file in plant.files.items() if file == NEW} == set(NAMES[:4]) - taken_back - {"press-3"}
    assert any("stage 2/3 is bad: press-3: more unsure answers, and it took it back by itself" in line for line in said)


def test_a_board_that_ran_the_model_before_is_neither_given_it_nor_does_it_lose_it(history: History) -> None:
    plant = Plant(bad={"press-3"})
    plant.files["press-1"] = NEW
    plant.tell("press-1")

    rollout = runner(history, plant).run(begin(history, plant).id)

    assert rollout.state == "rolled back"
    assert ("deploy", "press-1") not in plant.done
    assert (plant.files["press-1"], states(rollout)["press-1"]) == (NEW, "live")


def test_a_board_that_fails_keeps_others_of_its_stage_from_being_begun(history: History) -> None:
    plant = Plant(bad={"press-2"})

    runner(history, plant, jobs=1).run(begin(history, plant).id)

    assert plant.told("deploy") == {"press-1", "press-2"}


def test_a_board_that_never_comes_back_makes_its_stage_bad(history: History) -> None:
    plant, said = Plant(silent={"press-2"}), list[str]()

    rollout = runner(history, plant, said).run(begin(history, plant).id)

    assert rollout.state == "rolled back"
    assert any("press-2: offline, after 0.3 s" in line for line in said)
    assert OLD in set(plant.files.values()) and NEW not in set(plant.files.values())


def test_a_board_that_says_it_runs_another_model_makes_its_stage_bad(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, said = Plant(), list[str]()
    monkeypatch.setattr(plant, "tell", lambda name: None)

    runner(history, plant, said).run(begin(history, plant).id)

    assert any("it says at the broker that it runs old file, not new file" in line for line in said)
    assert plant.told("deploy") == {"press-1"}


def test_a_board_of_an_earlier_stage_that_is_lost_stops_the_next_one(history: History) -> None:
    plant = Plant()
    deploy = plant.deploy

    def lose_the_first(file: Path, address: str, say: object) -> Outcome:
        if address == "press-3":
            plant.boards.hear(f"{PREFIX}/press-1/status", b"offline", retained=False)
        return deploy(file, address, say)

    plant.deploy = lose_the_first  # type: ignore[method-assign]

    rollout = runner(history, plant).run(begin(history, plant).id)

    assert plant.told("deploy") == set(NAMES[:4])
    assert rollout.state == "rolled back"


def test_boards_that_are_offline_are_counted_and_reached_by_a_resumed_rollout(history: History) -> None:
    plant, said = Plant(online=NAMES[:6]), list[str]()
    first = runner(history, plant, said).run(begin(history, plant).id)

    plant.online = list(NAMES)
    for name in NAMES[6:]:
        plant.tell(name)
    second = runner(history, plant, said).run(history.unfinished().id)

    assert (first.state, [board.name for board in first.of("offline")]) == ("incomplete", NAMES[6:])
    assert "press-7: offline, left for: edgecnn fleet deploy --resume" in said
    assert (second.state, set(states(second).values())) == ("done", {"live"})
    assert sorted(name for what, name in plant.done if what == "deploy") == NAMES


def test_a_first_stage_that_is_offline_proves_nothing(history: History) -> None:
    plant = Plant()
    rollout = begin(history, plant)
    plant.boards.hear(f"{PREFIX}/press-1/status", b"offline", retained=False)

    ended = runner(history, plant).run(rollout.id)

    assert (ended.state, plant.done) == ("incomplete", [])


def test_an_interrupted_rollout_goes_on_and_does_nothing_twice(history: History) -> None:
    plant = Plant(interrupt={"press-3"})
    number = begin(history, plant).id
    with pytest.raises(KeyboardInterrupt):
        runner(history, plant).run(number)
    shown = history.all()[0].state

    plant.interrupt.clear()
    plant.files["press-3"] = NEW  # the board went on by itself
    plant.tell("press-3")
    rollout = runner(history, plant).run(history.unfinished().id)

    assert (shown, rollout.state) == ("interrupted", "done")
    assert sorted(name for _, name in plant.done) == NAMES


def test_an_interrupted_way_back_goes_on_backwards(history: History) -> None:
    plant = Plant(bad={"press-3"})
    rollback = plant.rollback
    plant.rollback = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]
    number = begin(history, plant).id
    with pytest.raises(KeyboardInterrupt):
        runner(history, plant).run(number)

    plant.rollback = rollback  # type: ignore[method-assign]
    rollout = runner(history, plant).run(number)

    assert rollout.state == "rolled back"
    assert plant.told("deploy") == set(NAMES[:4])
    assert NEW not in plant.files.values()


def test_a_finished_rollout_can_be_taken_back(history: History) -> None:
    plant = Plant()
    number = runner(history, plant).run(begin(history, plant).id).id
    plant.files["press-5"] = "a later file"

    rollout = runner(history, plant).roll_back(number)

    assert rollout.state == "rolled back"
    assert plant.told("rollback") == set(NAMES) - {"press-5"}


def test_a_board_that_cannot_be_taken_back_is_told(history: History) -> None:
    plant = Plant(bad={"press-3"})
    rollback = plant.rollback

    def refuse(address: str, say: object) -> Outcome:
        plant.unreachable.add("press-2")
        return rollback(address, say)

    plant.rollback = refuse  # type: ignore[method-assign]

    rollout = runner(history, plant, jobs=1).run(begin(history, plant).id)

    assert rollout.state == "failed"
    assert [states(rollout)[name] for name in NAMES[:4]] == ["rolled back", "not rolled back", "rolled back", "waiting"]


def test_a_broker_that_is_away_takes_no_time_from_a_board(history: History) -> None:
    plant, broker, said, back = Plant(), Steady(), list[str](), list[str]()
    deploy = plant.deploy

    def restart(file: Path, address: str, say: object) -> Outcome:
        broker.is_connected = False
        outcome = deploy(file, address, say)
        plant.boards.hear(f"{PREFIX}/{address}/status", b"offline", retained=False)

        def come_back() -> None:
            plant.tell(address)
            back.append(address)
            broker.is_connected = len(back) == len(NAMES)

        threading.Timer(0.6, come_back).start()
        return outcome

    plant.deploy = restart  # type: ignore[method-assign]
    there = Runner(history, plant.boards, broker, plant, Pace(8, confirm_s=0.3), said.append)

    rollout = there.run(begin(history, plant, stages="rest").id)

    assert rollout.state == "done"


def test_a_rejected_file_is_refused_before_the_broker_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rejected = tmp_path / "new.tflite.rejected"
    shutil.copy(int8_path("neu"), rejected)

    with pytest.raises(SystemExit) as ended:
        main(["fleet", "deploy", str(rejected), "--mqtt", "mqtt://127.0.0.1:1/plant", "--history", str(tmp_path / "h.sqlite")])

    assert (ended.value.code, "was rejected: export it again" in capsys.readouterr().err) == (2, True)


def test_stages_that_cannot_be_meant_are_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, words = tmp_path / "h.sqlite", ["--mqtt", "mqtt://127.0.0.1:1/plant", "--stages", "1,many"]

    with pytest.raises(SystemExit) as ended:
        main(["fleet", "deploy", str(int8_path("neu")), *words, "--history", str(path)])

    assert (ended.value.code, path.exists()) == (2, False)
    assert "--stages '1,many'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("history",), ("rollback", "--mqtt", "mqtt://127.0.0.1:1/plant")])
def test_a_history_that_is_not_there_is_not_made_by_looking(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mistyped.sqlite"

    with pytest.raises(SystemExit) as ended:
        main(["fleet", *words, "--history", str(path)])

    assert (ended.value.code, path.exists()) == (2, False)
    assert f"there is no history {path}" in capsys.readouterr().err


def test_a_history_keeps_how_boards_are_deployed_to(history: History) -> None:
    given = ["--watch", "5m", "--shadow", "10", "--ssh-option", "Port=2222", "-F", "ssh_config", "--max-doubt", "0.2"]
    with fleet_deploy.make_context("deploy", ["new.tflite", *given]) as context:
        values = context.params
    options = {name: _plain(values[name]) for name in _OF_ONE}
    plant = Plant()

    rollout = history.begin(replace(begin(history, plant), options=options))

    assert _deploy_options(rollout.options) == _deploy_options(values)
    assert _deploy_options(rollout.options).plan.watch_s == 300


def test_two_rollouts_of_one_history_are_refused(history: History, tmp_path: Path) -> None:
    with History(tmp_path / "fleet.sqlite") as other, other.alone(), pytest.raises(InputError, match="another rollout"):
        history.alone().__enter__()


def test_a_history_is_not_made_of_a_file_that_is_anothers(tmp_path: Path) -> None:
    text, others = tmp_path / "notes.txt", tmp_path / "others.sqlite"
    text.write_text("my thesis, " * 100)
    with sqlite3.connect(others) as database:
        database.execute("create table cats (name text)")
    database.close()

    for path in (text, others):
        before = path.read_bytes()
        with pytest.raises(OutputError, match="choose another"):
            History(path)
        assert path.read_bytes() == before


def test_the_history_is_as_its_schema_says(history: History) -> None:
    plant = Plant(online=NAMES[:7])
    runner(history, plant).run(begin(history, plant).id)

    body = [rollout.to_json() for rollout in history.all()]

    check("fleet-history", {"schema": 1, "rollouts": json.loads(json.dumps(body))})
    assert [board["state"] for board in body[0]["boards"]] == ["live"] * 7 + ["offline"]
