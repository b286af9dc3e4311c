"""The versions beside a model file: whole, never lost, and put back when nobody watches a deployment any more."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edgecnn.errors import InputError, OutputError
from edgecnn_device.camera import settle_deployment
from edgecnn_device.deploy.plan import Measured
from edgecnn_device.deploy.store import Store, digest_of


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "model.tflite").write_bytes(b"first")
    return Store(tmp_path / "model.tflite")


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put_live(store: Store, data: bytes, keep: int = 5) -> None:
    with store.locked():
        store.adopt("adopted")
        store.begin(store.add(data, data.decode()))
        store.keep(keep, "", Measured())


def test_what_was_live_before_the_first_deployment_is_kept(store: Store) -> None:
    put_live(store, b"second")

    assert store.live.read_bytes() == b"second"
    assert store.path(digest(b"first")).read_bytes() == b"first"
    assert store.journal().previous == digest(b"first")


def test_old_versions_go_but_not_the_live_one_the_one_before_and_files_of_others(store: Store) -> None:
    put_live(store, b"second", keep=2)
    theirs = store.folder / f"{'0' * 64}.tflite"
    theirs.write_bytes(b"the user's own")
    for data in (b"third", b"fourth", b"second"):
        put_live(store, data, keep=2)

    assert {path.read_bytes() for path in store.folder.glob("*.tflite")} == {b"fourth", b"second", b"the user's own"}
    assert (store.live.read_bytes(), store.journal().previous) == (b"second", digest(b"fourth"))


def test_a_deployment_that_nobody_watches_any_more_is_taken_back_at_the_next_start(store: Store) -> None:
    said: list[str] = []
    with store.locked():
        store.adopt("adopted")
        store.begin(store.add(b"second", "second"))
    settle_deployment(store.live, said.append)

    assert store.live.read_bytes() == b"first"
    assert store.journal().pending is None and store.journal().events[-1].what == "rolled back"
    assert len(said) == 1 and "interrupted" in said[0]


def test_a_start_in_the_middle_of_a_watch_leaves_it_alone(store: Store) -> None:
    with store.locked():
        store.adopt("adopted")
        store.begin(store.add(b"second", "second"))
        settle_deployment(store.live, pytest.fail)

        assert store.live.read_bytes() == b"second"


def test_a_second_deployment_at_once_is_one_line(store: Store) -> None:
    with store.locked(), pytest.raises(OutputError, match=r"another deployment to .* is going on"), store.locked():
        pass


def test_a_version_that_was_damaged_is_not_put_back(store: Store) -> None:
    put_live(store, b"second")
    store.path(digest(b"first")).write_bytes(b"rotten")

    with pytest.raises(InputError, match="is damaged"), store.locked():
        store.begin(digest(b"first"))
    assert (store.live.read_bytes(), store.journal().pending) == (b"second", None)


def test_a_damaged_journal_is_one_line_with_the_way_out(store: Store) -> None:
    put_live(store, b"second")
    (store.folder / "journal.json").write_text('{"live": 3}')

    with pytest.raises(InputError, match=r"journal.json is damaged .*; move it away"):
        store.journal()


def test_events_are_in_order_whatever_the_clock_says(tmp_path: Path) -> None:
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    store = Store(tmp_path / "model.tflite", clock=lambda: now[0])
    store.live.write_bytes(b"first")
    for data in (b"second", b"third"):
        put_live(store, data)
        now[0] -= timedelta(days=20_000)

    assert [event.number for event in store.journal().events] == [1, 2, 3]
    assert [event.at[:4] for event in store.journal().events] == ["2026", "2026", "1971"]
    assert store.journal().live == digest(b"third")


def test_what_a_killed_writer_left_is_swept(store: Store) -> None:
    put_live(store, b"second")
    (store.folder / ".journal-x.part.json").write_text("{")
    with store.locked():
        left = [path.name for path in store.folder.iterdir() if path.name.startswith((".", "next"))]

    assert left == []


def test_the_lock_ends_with_its_holder(store: Store) -> None:
    put_live(store, b"second")
    descriptor = os.open(store.folder / "lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert store.settle() == ""
    os.close(descriptor)

    with store.locked():
        assert json.loads((store.folder / "journal.json").read_text())["live"] == digest_of(store.live)


def test_somebody_who_may_not_write_is_told_of_an_unfinished_deployment(store: Store) -> None:
    said: list[str] = []
    with store.locked():
        store.adopt("adopted")
        store.begin(store.add(b"second", "second"))

    (store.folder / "lock").unlink()
    (store.folder / "lock").mkdir()  # a file of another user cannot be opened either, but root may open any
    settle_deployment(store.live, said.append)

    assert store.live.read_bytes() == b"second"
    assert len(said) == 1 and "deploy as its owner" in said[0]
