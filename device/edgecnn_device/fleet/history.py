"""What was rolled out to which boards, in SQLite: an interrupted rollout goes on from here."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from edgecnn.errors import InputError, OutputError
from edgecnn.files import make_folder

OnFailure = Literal["all", "stage", "stop"]
# `not rolled back` is a board that should have been and could not.
BoardProgress = Literal["waiting", "deploying", "live", "failed", "offline", "rolling back", "rolled back", "not rolled back"]
RolloutState = Literal["running", "interrupted", "done", "incomplete", "failed", "rolled back"]
_VERSION = 1
_TABLES = """
create table rollouts (
  id integer primary key, file text not null, sha256 text not null, model_sha256 text not null, export_id text not null,
  broker text not null, "group" text, on_failure text not null, options text not null, state text not null,
  started_at text not null, ended_at text);
create table boards (
  rollout integer not null references rollouts(id), name text not null, stage integer not null, address text not null,
  state text not null, reason text not null, at text not null, primary key (rollout, name));
"""


@dataclass(frozen=True)
class RolloutBoard:
    """A board of a rollout: its stage (1 for the first), its SSH address, and how far it is."""

    name: str
    stage: int
    address: str
    state: BoardProgress = "waiting"
    reason: str = ""


@dataclass(frozen=True)
class Rollout:
    """A file on its way to boards: `sha256` is of the file, `model_sha256` of the model in it, as boards report it.

    `options` are those of the deployments, as the command had them.
    """

    id: int
    file: str
    sha256: str
    model_sha256: str
    export_id: str
    broker: str
    group: str | None
    on_failure: OnFailure
    options: Mapping[str, Any]
    state: RolloutState
    started_at: str
    ended_at: str | None
    boards: tuple[RolloutBoard, ...]

    @property
    def stages(self) -> list[list[RolloutBoard]]:
        """The boards of each stage, the first stage first."""
        count = max((board.stage for board in self.boards), default=0)
        return [[board for board in self.boards if board.stage == number] for number in range(1, count + 1)]

    def of(self, *states: BoardProgress) -> list[RolloutBoard]:
        """Return the boards that are in one of these states."""
        return [board for board in self.boards if board.state in states]

    def to_json(self) -> dict[str, Any]:
        """Return the rollout as the command prints it."""
        body = {name: value for name, value in asdict(self).items() if name not in ("options", "boards")}
        return body | {"boards": [asdict(board) for board in self.boards]}


class History:
    """The rollouts in one file. Every change is on the disk when its method returns; any thread may call."""

    def __init__(self, path: Path, *, new: bool = True) -> None:
        """Open the file, which is made where there is none if it may be `new`, and is an InputError otherwise.

        OutputError when it cannot be made or used, or is another's.
        """
        if not new and not path.exists():
            raise InputError(f"there is no history {path}: nothing was rolled out by it")
        self._path = path
        self._lock = threading.RLock()
        make_folder(path.absolute().parent)
        try:
            self._database = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
            self._database.row_factory = sqlite3.Row
            self._make_tables()
        except sqlite3.Error as error:
            raise OutputError(f"the history {path} cannot be used: {error}; choose another with --history") from error

    def __enter__(self) -> History:
        return self

    def __exit__(self, *failure: object) -> None:
        self._database.close()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other rollouts of this file away while the block runs; InputError where one runs."""
        with self._locked() as held:
            if not held:
                raise InputError(f"another rollout of {self._path} is running; wait for it, or give another --history")
            yield

    def begin(self, rollout: Rollout) -> Rollout:
        """Write a rollout down and return it with its number."""
        columns = {
            "file": rollout.file,
            "sha256": rollout.sha256,
            "model_sha256": rollout.model_sha256,
            "export_id": rollout.export_id,
            "broker": rollout.broker,
            "group": rollout.group,
            "on_failure": rollout.on_failure,
            "options": json.dumps(dict(rollout.options)),
            "state": "running",
            "started_at": _now(),
        }
        names = ", ".join(f'"{name}"' for name in columns)
        with self._transaction() as database:
            row = database.execute(
                f"insert into rollouts ({names}) values ({', '.join('?' * len(columns))})", list(columns.values())
            )
            number = int(row.lastrowid or 0)
            for board in rollout.boards:
                database.execute(
                    "insert into boards values (?, ?, ?, ?, ?, ?, ?)",
                    (number, board.name, board.stage, board.address, board.state, board.reason, _now()),
                )
        return self.read(number)

    def note(self, rollout: int, board: str, state: BoardProgress, reason: str = "", *, stage: int | None = None) -> None:
        """Write down how far a board is; with `stage`, that it was moved there."""
        with self._transaction() as database:
            database.execute(
                "update boards set state = ?, reason = ?, at = ?, stage = coalesce(?, stage) where rollout = ? and name = ?",
                (state, reason, _now(), stage, rollout, board),
            )

    def set_state(self, rollout: int, state: RolloutState) -> None:
        """Write down how a rollout ended, or that it runs again."""
        ended_at = None if state == "running" else _now()
        with self._transaction() as database:
            database.execute("update rollouts set state = ?, ended_at = ? where id = ?", (state, ended_at, rollout))

    def read(self, rollout: int) -> Rollout:
        """Return one; InputError where there is none of this number."""
        found = self._select("where id = ?", (rollout,))
        if not found:
            raise InputError(f"no rollout {rollout} in {self._path}; list them with: edgecnn fleet history")
        return found[0]

    def all(self, at_most: int = 100) -> list[Rollout]:
        """Return the newest, the newest first. One that nobody is working at any more is `interrupted`."""
        with self._locked() as held:
            return self._select("order by id desc limit ?", (at_most,), is_idle=held)

    def unfinished(self) -> Rollout:
        """Return the newest that did not end well; InputError where there is none."""
        found = self._select("where state in ('running', 'incomplete', 'failed') order by id desc limit 1", ())
        if not found:
            raise InputError(f"no unfinished rollout in {self._path}; see: edgecnn fleet history")
        return found[0]

    def _select(self, where: str, values: Sequence[Any], *, is_idle: bool = False) -> list[Rollout]:
        with self._lock:
            rows = self._database.execute(f"select * from rollouts {where}", values).fetchall()
            return [self._rollout(row, is_idle=is_idle) for row in rows]

    def _rollout(self, row: sqlite3.Row, *, is_idle: bool) -> Rollout:
        boards = self._database.execute("select * from boards where rollout = ? order by stage, name", (row["id"],)).fetchall()
        return Rollout(
            row["id"],
            row["file"],
            row["sha256"],
            row["model_sha256"],
            row["export_id"],
            row["broker"],
            row["group"],
            row["on_failure"],
            json.loads(row["options"]),
            "interrupted" if row["state"] == "running" and is_idle else row["state"],
            row["started_at"],
            row["ended_at"],
            tuple(RolloutBoard(*(each[name] for name in ("name", "stage", "address", "state", "reason"))) for each in boards),
        )

    def _make_tables(self) -> None:
        (version,) = self._database.execute("pragma user_version").fetchone()
        if version not in (0, _VERSION):
            raise sqlite3.DatabaseError(f"it has the form {version} and not {_VERSION}")
        if version == 0:
            if self._database.execute("select count(*) from sqlite_master").fetchone()[0]:
                raise sqlite3.DatabaseError("it is another program's database")
            self._database.executescript(f"begin; {_TABLES} pragma user_version = {_VERSION}; commit;")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._database.execute("begin immediate")
                yield self._database
                self._database.execute("commit")
            except sqlite3.Error as error:
                with contextlib.suppress(sqlite3.Error):
                    self._database.execute("rollback")
                raise OutputError(f"the history {self._path} cannot be written: {error}") from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[bool]:
        """Hold the file's lock, and tell whether that was possible: the kernel frees it when a process dies."""
        handle = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(handle)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
