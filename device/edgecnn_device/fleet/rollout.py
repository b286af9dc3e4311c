"""A new model for many boards: stage by stage, stopped and taken back at the first stage that goes bad."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

from edgecnn.errors import EdgecnnError, InputError
from edgecnn_device.fleet.boards import Board, Boards
from edgecnn_device.fleet.history import History, OnFailure, Rollout, RolloutBoard
from edgecnn_device.fleet.inventory import Inventory

if TYPE_CHECKING:
    from edgecnn.artifacts import Artifact
    from edgecnn_device.deploy import DeployOptions, Outcome

Say = Callable[[str], None]
_LOOK_EVERY_S, _SAY_EVERY_S = 0.2, 10.0
# Why a board is live that a rollout has not changed, and which it does not take back.
_BEFORE = "it ran this model before"
_STAGE = re.compile(r"rest|[1-9][0-9]{0,5}|(?:[1-9][0-9]?|100)%")


class Actions(Protocol):
    """What is done to a board at its SSH address. EdgecnnError when it cannot be done."""

    def live(self, address: str) -> str | None:
        """Return the SHA-256 of the file that is live, when nothing is being decided on the board any more."""

    def deploy(self, file: Path, address: str, say: Say) -> Outcome:
        """Put a file live, watched."""

    def rollback(self, address: str, say: Say) -> Outcome:
        """Put the version before back live."""


class Broker(Protocol):
    """Whether the broker is there and tells what changes."""

    trouble: str

    @property
    def is_connected(self) -> bool:
        """Whether it is there."""


@dataclass(frozen=True)
class SshActions:
    """What is done over SSH: see `edgecnn_device.deploy`. A board that still watches a model is waited for."""

    options: DeployOptions

    def live(self, address: str) -> str | None:
        """Return the SHA-256 of the file that is live."""
        from edgecnn_device.deploy import history

        plan = self.options.plan
        until_s = time.monotonic() + plan.watch_s + 2 * plan.confirm_s
        while (found := history(address, self.options)).pending is not None and time.monotonic() < until_s:
            time.sleep(min(5.0, max(1.0, plan.watch_s / 10)))
        return found.live

    def deploy(self, file: Path, address: str, say: Say) -> Outcome:
        """Put a file live, watched."""
        from edgecnn_device.deploy import deploy

        return deploy(file, address, self.options, say)

    def rollback(self, address: str, say: Say) -> Outcome:
        """Put the version before back live."""
        from edgecnn_device.deploy import rollback

        return rollback(address, self.options, say)


@dataclass(frozen=True)
class Pace:
    """How many boards at once, and how many seconds a board may take to say at the broker that it runs the new model."""

    jobs: int = 8
    confirm_s: float = 120.0


def read_stages(text: str) -> list[str]:
    """Return the sizes in a list of stages; InputError for what is none."""
    parts = [part.strip() for part in text.split(",")]
    if not all(_STAGE.fullmatch(part) for part in parts) or "rest" in parts[:-1]:
        raise InputError(
            f"--stages {text[:80]!r}: give numbers or percentages of boards, and rest at the end, such as 1,5,rest"
        )
    return parts


def plan_stages(names: Sequence[str], text: str) -> list[list[str]]:
    """Divide boards, in their order, into stages such as `1,5,rest` or `10%,rest`; stages that would be empty are left out.

    InputError for what is no list of stages, and for one that leaves boards out.
    """
    parts = read_stages(text)
    stages, left = [], list(names)
    for part in parts:
        size = len(left) if part == "rest" else _size(part, len(names))
        stages.append(left[:size])
        left = left[size:]
    if left:
        raise InputError(f"--stages {text[:80]} leave {len(left)} of {len(names)} boards out; end them with rest")
    return [stage for stage in stages if stage]


def order(boards: Sequence[Board]) -> tuple[list[str], list[str]]:
    """Return the names of boards that can be reached and those that are offline.

    The running ones come first: what a blind camera says of a new model is worth nothing.
    """
    there = [board for board in boards if board.state not in ("offline", "unknown")]
    there.sort(key=lambda board: (board.state != "running", board.name))
    return [board.name for board in there], [board.name for board in boards if board.state in ("offline", "unknown")]


def plan_rollout(
    artifact: Artifact,
    data: bytes,
    boards: Sequence[Board],
    inventory: Inventory,
    *,
    broker: str,
    group: str | None,
    stages: str,
    on_failure: OnFailure,
    ssh_user: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Rollout:
    """Return the rollout of a file, whose bytes are `data`, to boards. Those that are offline stand in a stage of their own.

    The address of a board is that of the inventory, else, for `ssh_user`, the one that it states. InputError for boards without
    one, for two of the same, and when none is there.
    """
    there, offline = order(boards)
    if not there:
        raise InputError(f"none of {len(offline)} boards is online; nothing was begun")
    addresses = {board.name: _address(board, inventory, ssh_user) for board in boards}
    if missing := [name for name, address in addresses.items() if address is None]:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise InputError(f"no SSH address of {', '.join(missing[:5])}{more}: add them to --inventory, or give --ssh-user NAME")
    if twice := [name for name, address in addresses.items() if list(addresses.values()).count(address) > 1]:
        raise InputError(f"{' and '.join(twice[:3])} have the same SSH address {addresses[twice[0]]}")
    planned = [*plan_stages(there, stages), *([offline] if offline else [])]
    return Rollout(
        id=0,
        file=str(artifact.path.absolute()),
        sha256=hashlib.sha256(data).hexdigest(),
        model_sha256=artifact.contract.model_sha256,
        export_id=artifact.contract.export_id,
        broker=broker,
        group=group,
        on_failure=on_failure,
        options=dict(options or {}),
        state="running",
        started_at="",
        ended_at=None,
        boards=tuple(
            RolloutBoard(name, number, addresses[name] or "", "offline" if name in offline else "waiting")
            for number, names in enumerate(planned, 1)
            for name in names
        ),
    )


def _address(board: Board, inventory: Inventory, ssh_user: str | None) -> str | None:
    listed = inventory.boards.get(board.name)
    if listed is not None and listed.ssh is not None:
        return listed.ssh
    stated = None if board.report is None else board.report.address
    return None if ssh_user is None or stated is None else f"{ssh_user}@{stated}"


class Runner:
    """Works at one rollout, which the history holds; `say` hears each step in one line, from several threads."""

    def __init__(self, history: History, boards: Boards, broker: Broker, actions: Actions, pace: Pace, say: Say) -> None:
        """Take what the work is done with."""
        self._history, self._boards, self._broker = history, boards, broker
        self._actions, self._pace, self._say = actions, pace, say

    def run(self, number: int) -> Rollout:
        """Go on with a rollout to its end and return it; what an interruption left in the middle is settled first.

        One that was being taken back goes on with that.
        """
        self._history.set_state(number, "running")
        if backwards := self._read(number).of("rolling back"):
            self._take_back(number, backwards)
            return self._end_taken_back(number)
        self._settle(number)
        for stage in range(1, len(self._read(number).stages) + 1):
            if not self._run_stage(number, stage):
                break
        else:
            left = self._read(number).of("offline", "waiting")
            self._history.set_state(number, "incomplete" if left else "done")
        return self._read(number)

    def roll_back(self, number: int) -> Rollout:
        """Take the new model back from all boards of a rollout on which it is, or may be, live."""
        self._history.set_state(number, "running")
        self._take_back(number, self._read(number).of("live", "deploying", "rolling back", "not rolled back"))
        return self._end_taken_back(number)

    def _run_stage(self, number: int, stage: int) -> bool:
        """Run one stage; False when the rollout has ended with it."""
        self._await_broker()
        rollout = self._read(number)
        title = f"stage {stage}/{len(rollout.stages)}"
        if lost := self._no_longer_well([board for board in rollout.of("live") if board.stage < stage], rollout):
            self._say(f"{title} is not begun: {'; '.join(lost)}")
            return self._fail(number, stage - 1)
        waiting = self._without_offline(rollout, stage)
        before = {board.name: self._boards.find(board.name).state for board in waiting}
        if waiting:
            self._say(f"{title}: {', '.join(board.name for board in waiting)}")
        self._on_each(waiting, lambda board: self._deploy(rollout, board, before[board.name]))
        done = [board for board in self._read(number).boards if board.stage == stage]
        if bad := [board for board in done if board.state == "failed"]:
            self._say(f"{title} is bad: " + "; ".join(f"{board.name}: {board.reason}" for board in bad))
            return self._fail(number, stage)
        if stage < len(rollout.stages) and not any(board.state == "live" for board in done):
            self._say(f"{title} has proven nothing: all its boards are offline; go on with: edgecnn fleet deploy --resume")
            self._history.set_state(number, "incomplete")
            return False
        return True

    def _deploy(self, rollout: Rollout, board: RolloutBoard, before: str) -> bool:
        """Give one board the new model; False stops others of the stage from being begun."""
        try:
            if self._actions.live(board.address) == rollout.sha256:
                self._history.note(rollout.id, board.name, "live", _BEFORE)
                return True
            self._history.note(rollout.id, board.name, "deploying")
            outcome = self._actions.deploy(Path(rollout.file), board.address, self._say)
        except EdgecnnError as error:
            self._history.note(rollout.id, board.name, "failed", str(error))
            return False
        if not outcome.live:
            back = ", and it took it back by itself" if outcome.rolled_back else ""
            self._history.note(rollout.id, board.name, "failed", f"{outcome.reason or 'refused'}{back}")
            return False
        return self._confirm(rollout, board, before)

    def _confirm(self, rollout: Rollout, board: RolloutBoard, before: str) -> bool:
        """Wait until a board says at the broker that it runs the new model; it counts as live until then, to be taken back."""
        self._history.note(rollout.id, board.name, "live")
        if complaint := self._await_well(rollout, board, before):
            self._history.note(rollout.id, board.name, "failed", complaint)
            return False
        self._say(f"{board.name}: live")
        return True

    def _await_well(self, rollout: Rollout, board: RolloutBoard, before: str = "running") -> str:
        """Wait until a board is well with the new model; return what is wrong when its time is over.

        The seconds that the broker was away do not count.
        """
        left_s, last_s, said_s = self._pace.confirm_s, time.monotonic(), time.monotonic()
        while complaint := _complaint(self._boards.find(board.name), rollout, before):
            if left_s <= 0:
                return f"{complaint}, after {self._pace.confirm_s:g} s"
            time.sleep(_LOOK_EVERY_S)
            now_s = time.monotonic()
            if self._broker.is_connected:
                left_s -= now_s - last_s
            last_s = now_s
            if now_s - said_s > _SAY_EVERY_S:
                said_s = now_s
                self._say(f"{board.name}: {complaint}" if self._broker.is_connected else self._broker_line())
        return ""

    def _no_longer_well(self, boards: Sequence[RolloutBoard], rollout: Rollout) -> list[str]:
        """Return what is wrong with boards of the stages before, which get as long to be well as after their own stage."""
        lost: SimpleQueue[tuple[RolloutBoard, str]] = SimpleQueue()

        def look(board: RolloutBoard) -> bool:
            # In the night a camera is blind with every model.
            if complaint := self._await_well(rollout, board, before="blind"):
                lost.put((board, complaint))
            return True

        self._on_each(boards, look)
        found = [lost.get() for _ in range(lost.qsize())]
        for board, complaint in found:
            self._history.note(rollout.id, board.name, "failed", complaint)
        return [f"{board.name}: {complaint}" for board, complaint in found]

    def _without_offline(self, rollout: Rollout, stage: int) -> list[RolloutBoard]:
        """Return the boards of a stage that wait and can be reached; the others are noted as offline, and said."""
        waiting = [board for board in rollout.of("waiting", "offline") if board.stage == stage]
        there = []
        for board in waiting:
            if self._boards.find(board.name).state in ("offline", "unknown"):
                self._history.note(rollout.id, board.name, "offline", "offline when its turn came")
                self._say(f"{board.name}: offline, left for: edgecnn fleet deploy --resume")
            else:
                there.append(board)
        return there

    def _fail(self, number: int, stage: int) -> bool:
        """End a rollout at a bad stage: take back what --on-failure says."""
        rollout = self._read(number)
        first = {"all": 1, "stage": stage, "stop": stage + 1}[rollout.on_failure]
        concerned = [board for board in rollout.of("live", "failed") if first <= board.stage <= stage]
        if rollout.on_failure == "stop":
            self._history.set_state(number, "failed")
        else:
            self._take_back(number, concerned)
            self._end_taken_back(number)
        return False

    def _take_back(self, number: int, boards: Collection[RolloutBoard]) -> None:
        rollout, boards = self._read(number), [board for board in boards if board.reason != _BEFORE]
        if boards:
            self._say(f"taking back: {', '.join(board.name for board in boards)}")
        for board in boards:  # first of all, so that an interruption does not make it go forward again
            self._history.note(number, board.name, "rolling back", board.reason)
        self._on_each(list(boards), lambda board: self._take_back_one(rollout, board))

    def _take_back_one(self, rollout: Rollout, board: RolloutBoard) -> bool:
        """Take the new model back, if it is what runs: a board that has by now another one is left alone."""
        try:
            if self._actions.live(board.address) == rollout.sha256:
                outcome = self._actions.rollback(board.address, self._say)
                if not outcome.live:
                    self._history.note(rollout.id, board.name, "not rolled back", outcome.reason or "the board refused")
                    return True
        except EdgecnnError as error:
            self._history.note(rollout.id, board.name, "not rolled back", str(error))
            self._say(f"{board.name}: not rolled back: {error}")
            return True
        self._history.note(rollout.id, board.name, "rolled back", board.reason)
        return True

    def _end_taken_back(self, number: int) -> Rollout:
        rollout = self._read(number)
        left = [board for board in rollout.of("not rolled back", "live") if board.reason != _BEFORE]
        self._history.set_state(number, "failed" if left else "rolled back")
        return self._read(number)

    def _settle(self, number: int) -> None:
        """Ask boards that an interruption left in the middle what is live on them."""
        rollout = self._read(number)
        self._on_each(rollout.of("deploying"), lambda board: self._settle_one(rollout, board))
        # What could not be done is tried again, what was taken back is not.
        for board in rollout.of("failed", "rolled back", "not rolled back"):
            self._history.note(number, board.name, "waiting", board.reason)

    def _settle_one(self, rollout: Rollout, board: RolloutBoard) -> bool:
        try:
            is_live = self._actions.live(board.address) == rollout.sha256
        except EdgecnnError as error:
            self._say(f"{board.name}: {error}")
            is_live = False
        self._history.note(rollout.id, board.name, "live" if is_live else "waiting")
        return True

    def _on_each(self, boards: Sequence[RolloutBoard], work: Callable[[RolloutBoard], bool]) -> None:
        """Work at several boards at once; when one answers False no other is begun. An interruption ends the wait at once."""
        todo: SimpleQueue[RolloutBoard] = SimpleQueue()
        for board in boards:
            todo.put(board)
        failures: SimpleQueue[BaseException] = SimpleQueue()

        def run() -> None:
            try:
                while work(todo.get_nowait()):
                    pass
                _drain(todo)
            except Empty:
                pass
            except BaseException as error:
                _drain(todo)
                failures.put(error)

        threads = [threading.Thread(target=run, daemon=True) for _ in range(min(self._pace.jobs, len(boards)))]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.2)
        if not failures.empty():
            raise failures.get()

    def _await_broker(self) -> None:
        said_s = -_SAY_EVERY_S
        while not self._broker.is_connected:
            if time.monotonic() - said_s >= _SAY_EVERY_S:
                said_s = time.monotonic()
                self._say(self._broker_line())
            time.sleep(_LOOK_EVERY_S)

    def _broker_line(self) -> str:
        return f"waiting for the broker: {self._broker.trouble or 'not connected'}"

    def _read(self, number: int) -> Rollout:
        return self._history.read(number)


def _drain(todo: SimpleQueue[RolloutBoard]) -> None:
    while not todo.empty():
        todo.get()


def _complaint(board: Board, rollout: Rollout, before: str) -> str:
    """Say what a board lacks that should run the new model; a camera that was blind before may be so now."""
    if board.state == "offline":
        return "offline"
    if board.report is None:
        return "it says nothing of itself at the broker"
    model = board.report.model
    if (model.sha256, model.export_id) != (rollout.model_sha256, rollout.export_id):
        return f"it says at the broker that it runs {model.export_id[:8]}, not {rollout.export_id[:8]}"
    if board.state not in ("running", before):
        return f"{board.state}: {board.reason}" if board.reason else board.state
    return ""


def _size(part: str, count: int) -> int:
    """Return how many boards a stage has: of a percentage at least one."""
    return max(1, round(count * int(part[:-1]) / 100)) if part.endswith("%") else int(part)
