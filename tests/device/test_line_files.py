from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.errors import OutputError
from edgecnn.testing import JumpingClock
from edgecnn_device.frames import Observation, State
from edgecnn_device.sinks.csv_file import CsvSink
from edgecnn_device.sinks.jsonl import JsonLinesSink
from edgecnn_device.sinks.line_file import LineFile

ANY = re.compile(b"")


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_lines_are_on_the_disk_as_soon_as_they_are_written(tmp_path: Path) -> None:
    file = LineFile(tmp_path / "a", max_bytes=1000, keep=2)
    file.append(b"one\n")

    assert lines(tmp_path / "a") == ["one"]
    file.close()


def test_a_second_run_goes_on_where_the_first_ended(tmp_path: Path) -> None:
    for line in (b"one\n", b"two\n"):
        file = LineFile(tmp_path / "a", max_bytes=1000, keep=2, header=b"head\n")
        file.append(line)
        file.close()

    assert lines(tmp_path / "a") == ["head", "one", "two"]


def test_a_full_file_is_set_aside_and_only_so_many_are_kept(tmp_path: Path) -> None:
    file = LineFile(tmp_path / "a", max_bytes=8, keep=2, header=b"h\n")
    for number in range(10):
        file.append(b"%d\n" % number)
    file.close()

    assert {path.name: lines(path) for path in tmp_path.iterdir()} == {
        "a": ["h", "9"],
        "a.1": ["h", "6", "7", "8"],
        "a.2": ["h", "3", "4", "5"],
    }


def test_a_gap_that_a_kill_left_among_the_old_files_costs_none_of_them(tmp_path: Path) -> None:
    for name, content in (("a", "new\n"), ("a.2", "old\n")):  # killed after a.1 became a.2
        (tmp_path / name).write_text(content)

    file = LineFile(tmp_path / "a", max_bytes=4, keep=2, ours=ANY)
    file.append(b"now\n")
    file.close()

    assert {path.name: lines(path) for path in tmp_path.iterdir()} == {"a": ["now"], "a.1": ["new"], "a.2": ["old"]}


@given(text=st.lists(st.text("ab", max_size=6), max_size=30), limit=st.integers(1, 40))
def test_rotation_loses_no_line_and_no_file_exceeds_the_limit(
    tmp_path_factory: pytest.TempPathFactory, text: list[str], limit: int
) -> None:
    folder = tmp_path_factory.mktemp("rotation")
    file = LineFile(folder / "a", max_bytes=limit, keep=100, ours=ANY)
    for line in text:
        file.append(line.encode() + b"\n")
    file.close()

    old = sorted(folder.glob("a.*"), key=lambda path: -int(path.suffix[1:]))
    assert [line for path in [*old, folder / "a"] for line in lines(path)] == text
    assert all(path.stat().st_size <= max(limit, 7) for path in folder.iterdir())


def test_a_last_line_that_a_crash_cut_short_is_taken_away(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b'{"frame":1}\n{"fra')

    file = LineFile(tmp_path / "a", max_bytes=1000, keep=1)
    file.append(b'{"frame":2}\n')
    file.close()

    assert lines(tmp_path / "a") == ['{"frame":1}', '{"frame":2}']


def test_a_killed_process_loses_no_whole_line(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from edgecnn_device.sinks.line_file import LineFile\n"
        "file = LineFile(Path(sys.argv[1]), max_bytes=10**6, keep=1)\n"
        "for n in range(1000): file.append(b'%d\\n' % n)\n"
        "os.kill(os.getpid(), 9)"
    )

    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], check=False, timeout=60)

    assert lines(tmp_path / "a") == [str(n) for n in range(1000)]


@contextlib.contextmanager
def tiny_disk(folder: Path) -> Iterator[bool]:
    """Mount 64 KiB at `folder`; False where that is not allowed."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=False, capture_output=True
    ).returncode
    try:
        yield mounted == 0
    finally:
        if mounted == 0:
            subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    with contextlib.suppress(OSError):
        ballast.write_bytes(b"x" * 2**20)
    return ballast


def test_a_full_disk_is_an_error_each_time_and_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = b"x" * 3000 + b"\n"
    with tiny_disk(tmp_path) as is_real:
        file = LineFile(tmp_path / "a", max_bytes=10**6, keep=1)
        file.append(line)
        ballast = fill(tmp_path) if is_real else None
        if not is_real:  # without the right to mount: a system that takes half of a line
            real = os.write
            monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[: len(data) // 2]))
        for _ in range(2):
            with pytest.raises(OSError, match=r"[Nn]o space left"):
                file.append(line)
        assert (tmp_path / "a").read_bytes() == line
        monkeypatch.undo()
        if ballast:
            ballast.unlink()

        file.append(line)
        file.close()

        assert (tmp_path / "a").read_bytes() == 2 * line


def test_a_file_that_cannot_be_opened_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*no such file or directory"):
        LineFile(tmp_path / "missing" / "a", max_bytes=10, keep=1)


def at(text: str) -> float:
    """Return the seconds since 1970 of a local time."""
    return datetime.fromisoformat(text).timestamp()


def write_at(file: LineFile, clock: JumpingClock, text: str, line: bytes) -> None:
    clock.now_s = at(text)
    file.append(line)


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A zone with a clock change, in which nights have 23 and 25 hours."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize("day", ["2026-03-28", "2026-03-29", "2026-10-24", "2026-10-25", "2026-11-28"])
def test_a_file_ends_at_local_midnight(tmp_path: Path, day: str) -> None:
    clock = JumpingClock(at(f"{day}T12:00"))
    morrow = date.fromisoformat(day) + timedelta(days=1)
    file = LineFile(tmp_path / "a", max_bytes=1000, keep=5, wall_clock=clock)
    for when, line in ((f"{day}T12:00", b"noon\n"), (f"{day}T23:59:59", b"late\n"), (f"{morrow}T00:00", b"morrow\n")):
        write_at(file, clock, when, line)
    file.close()

    assert {path.name: lines(path) for path in tmp_path.iterdir()} == {"a": ["morrow"], "a.1": ["noon", "late"]}


def test_a_run_on_the_next_day_does_not_go_on_with_the_file_of_yesterday(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("yesterday\n")
    os.utime(tmp_path / "a", (at("2026-11-27T18:00"), at("2026-11-27T18:00")))

    file = LineFile(tmp_path / "a", max_bytes=1000, keep=5, ours=ANY, wall_clock=JumpingClock(at("2026-11-28T06:00")))
    file.append(b"today\n")
    file.close()

    assert (lines(tmp_path / "a"), lines(tmp_path / "a.1")) == (["today"], ["yesterday"])


def test_small_files_of_quiet_days_are_kept_until_they_are_as_large_as_full_ones(tmp_path: Path) -> None:
    clock = JumpingClock()
    file = LineFile(tmp_path / "a", max_bytes=1000, keep=2, ours=ANY, wall_clock=clock)
    for number in range(60):
        clock.now_s = at("2026-01-01T12:00") + 86400 * number
        file.append(b"x" * 99 + b"\n")
    file.close()

    old = list(tmp_path.glob("a.*"))
    assert len(old) == 20
    assert sum(path.stat().st_size for path in old) == 2000
    assert file.capacity_bytes == 3000


def test_a_clock_that_was_years_ahead_and_is_set_back_does_not_end_the_daily_files(tmp_path: Path) -> None:
    clock = JumpingClock()
    file = LineFile(tmp_path / "a", max_bytes=1000, keep=9, wall_clock=clock)
    for when in ("2036-01-01T12:00", "2026-11-28T12:00", "2026-11-28T13:00", "2026-11-29T12:00"):
        write_at(file, clock, when, when.encode() + b"\n")
    file.close()

    assert lines(tmp_path / "a") == ["2026-11-29T12:00"]
    assert lines(tmp_path / "a.1") == ["2036-01-01T12:00", "2026-11-28T12:00", "2026-11-28T13:00"]


def line_of(writer: str, number: int, size: int = 300) -> bytes:
    return b'{"w":"%s","i":%d,"p":"%s"}\n' % (writer.encode(), number, b"x" * size)


def whole(path: Path) -> list[tuple[str, int]]:
    """Return who wrote which line; ValueError when one is no JSON."""
    return [(line["w"], line["i"]) for line in map(json.loads, path.read_bytes().splitlines())]


def two(path: Path, **limits: int) -> tuple[LineFile, LineFile]:
    first, second = (LineFile(path, max_bytes=limits.get("max_bytes", 10**9), keep=limits.get("keep", 3)) for _ in range(2))
    return first, second


@pytest.mark.parametrize("size", range(300, 312))
def test_two_cameras_on_one_file_lose_no_line_when_the_disk_is_full(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tiny_disk(tmp_path) as is_real:
        said = []
        writers = dict(zip("AB", two(tmp_path / "a"), strict=True))
        if not is_real:
            take_at_most(60_000, monkeypatch)
        for number in range(400):
            for name, file in writers.items():
                if name == "A" and number % 7:  # not in step: what one remembers of the size is old for the other
                    continue
                with contextlib.suppress(OSError):
                    file.append(line_of(name, number, size))
                    said.append((name, number))
        for file in writers.values():
            file.close()

        assert whole(tmp_path / "a") == said
        assert len(said) > 100


def take_at_most(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the system take parts of lines when files are larger than `room`, where no small disk can be had."""
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        left = room - os.fstat(descriptor).st_size
        if left <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[:left])

    monkeypatch.setattr(os, "write", write)


def test_two_cameras_in_two_processes_share_files_that_are_set_aside(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edgecnn_device.sinks.line_file import LineFile\n"
        "file = LineFile(Path(sys.argv[1]), max_bytes=5000, keep=100)\n"
        """for n in range(400): file.append(b'{"w":"%s","i":%d}\\n' % (sys.argv[2].encode(), n))"""
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "a"), name]) for name in "ABC"]

    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    found = [line for path in tmp_path.iterdir() for line in whole(path)]
    assert sorted(found) == [(name, n) for name in "ABC" for n in range(400)]
    assert all(path.stat().st_size <= 5000 for path in tmp_path.iterdir())


def test_two_cameras_keep_together_as_much_as_one(tmp_path: Path) -> None:
    files = two(tmp_path / "a", max_bytes=5000, keep=2)
    for number in range(200):
        for name, file in zip("AB", files, strict=True):
            file.append(line_of(name, number))

    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.1", "a.2"]
    newest = [line for name in ("a.2", "a.1", "a") for line in whole(tmp_path / name)]
    assert newest == [(name, n) for n in range(200) for name in "AB"][-len(newest) :]
    assert len(newest) > 30


@pytest.mark.parametrize("left", [0, 450, 3500])
def test_a_file_that_was_cut_from_outside_has_no_zeros_and_whole_lines(
    tmp_path: Path, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tiny_disk(tmp_path) as is_real:
        file = LineFile(tmp_path / "a", max_bytes=10**9, keep=3)
        for number in range(100):
            file.append(line_of("A", number))
        os.truncate(tmp_path / "a", left)  # as logrotate's copytruncate does
        if is_real:
            (tmp_path / "ballast").write_bytes(bytes(50_000))
        else:
            take_at_most(10_000, monkeypatch)
        with pytest.raises(OSError, match=r"[Nn]o space left"):
            for number in range(100, 200):
                file.append(line_of("A", number))
        file.close()

        assert b"\0" not in (tmp_path / "a").read_bytes()
        numbers = [number for _, number in whole(tmp_path / "a")]
        before = numbers.index(100)
        assert numbers == [*range(before), *range(100, 100 + len(numbers) - before)]


def test_a_part_that_is_taken_back_is_taken_from_the_end_that_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = LineFile(tmp_path / "a", max_bytes=10**9, keep=3)
    file.append(line_of("A", 0))
    real = os.write

    def cut_then_write_a_part(descriptor: int, data: bytes) -> int:
        os.truncate(tmp_path / "a", 0)
        return real(descriptor, data[:10])

    monkeypatch.setattr(os, "write", cut_then_write_a_part)
    with pytest.raises(OSError, match="no space left"):
        file.append(line_of("A", 1))

    assert (tmp_path / "a").read_bytes() == b""


@pytest.mark.parametrize("how", ["moved", "removed", "replaced"])
def test_a_file_that_is_no_longer_there_is_begun_anew(tmp_path: Path, how: str) -> None:
    path = tmp_path / "a"
    file = LineFile(path, max_bytes=10**9, keep=3)
    file.append(line_of("A", 0))
    if how == "moved":
        path.rename(tmp_path / "old")
    elif how == "removed":
        path.unlink()
    else:
        (tmp_path / "new").write_bytes(line_of("B", 7))
        (tmp_path / "new").replace(path)

    file.append(line_of("A", 1))

    assert whole(path) == [*([("B", 7)] if how == "replaced" else []), ("A", 1)]
    assert how != "moved" or whole(tmp_path / "old") == [("A", 0)]


def test_a_folder_that_comes_back_is_written_into_again(tmp_path: Path) -> None:
    (tmp_path / "stick").mkdir()
    file = LineFile(tmp_path / "stick" / "a", max_bytes=10**9, keep=3)
    (tmp_path / "stick").rename(tmp_path / "gone")
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            file.append(line_of("A", 0))
    (tmp_path / "gone").rename(tmp_path / "stick")

    file.append(line_of("A", 1))

    assert whole(tmp_path / "stick" / "a") == [("A", 1)]


def test_a_file_that_somebody_keeps_locked_is_an_error_and_not_a_camera_that_stands_still(tmp_path: Path) -> None:
    file = LineFile(tmp_path / "a", max_bytes=10**9, keep=3)
    with (tmp_path / "a").open("rb") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        begun_s = time.monotonic()
        with pytest.raises(OSError, match="keeps it locked"):
            file.append(line_of("A", 0))
        assert time.monotonic() - begun_s < 2

    file.append(line_of("A", 1))

    assert whole(tmp_path / "a") == [("A", 1)]


def test_a_file_system_without_locks_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)

    LineFile(tmp_path / "a", max_bytes=10**9, keep=3).append(line_of("A", 1))

    assert whole(tmp_path / "a") == [("A", 1)]


FOREIGN = {
    "notes.txt": b"my thesis, one long line without a newline at its end",
    "settings.json": b'{"mqtt":"settings of another program"}',
    "pretty.json": b'{\n "a": 1\n}\n',
    "one.json": b'{"a":' + b"1" * 2_000_000,
    "photo.jpg": b"\xff\xd8\xff\xe0" + b"\n\x00\xfe" * 100_000,
    "table.csv": b"name,price\nscrew,1\n",
    "other.jsonl": b'{"frame":1,"objects":[]}\n',
    "captures.csv": b"captured_at,by,where,what,and a good deal more than that\n1,2\n",
    "zeros.img": bytes(1_000_000),
}


@pytest.mark.parametrize(
    ("kind", "name"),
    # A plain file of lines is known by a line of JSON.
    [(kind, name) for kind in ("plain", "jsonl", "csv") for name in FOREIGN if (kind, name) != ("plain", "other.jsonl")],
)
def test_a_file_that_somebody_else_has_begun_is_refused_and_left_as_it_is(tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FOREIGN[name])

    with pytest.raises(OutputError, match=f"cannot write .*{name}: it exists and edgecnn has not begun it; choose another"):
        open_lines(kind, path)

    assert path.read_bytes() == FOREIGN[name]
    assert list(tmp_path.iterdir()) == [path]


def open_lines(kind: str, path: Path) -> JsonLinesSink | CsvSink | LineFile:
    if kind == "jsonl":
        return JsonLinesSink(path, max_bytes=1000, keep=2)
    return CsvSink(path, max_bytes=1000, keep=2) if kind == "csv" else LineFile(path, max_bytes=1000, keep=2)


@pytest.mark.parametrize("kind", ["plain", "jsonl", "csv"])
def test_a_link_to_somebody_elses_file_a_pipe_and_a_device_are_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "target").write_text("precious\n")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "pipe")

    for path in (tmp_path / "link", tmp_path / "pipe", Path("/dev/null"), tmp_path):
        with pytest.raises(OutputError, match=r"edgecnn has not begun it|not a regular file"):
            open_lines(kind, path)

    assert (tmp_path / "target").read_text() == "precious\n"


def test_a_file_of_somebody_else_that_takes_the_place_of_ours_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a"
    file = LineFile(path, max_bytes=1000, keep=2)
    file.append(line_of("A", 0))
    for put in (path.unlink, lambda: None):  # another file, and the same one with another content
        put()
        path.write_text("precious")
        with pytest.raises(OSError, match="edgecnn has not begun it"):
            file.append(line_of("A", 1))
        assert path.read_text() == "precious"
        path.write_bytes(line_of("A", 5))
        file.append(line_of("A", 6))


def test_files_of_others_among_those_that_were_set_aside_are_neither_moved_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "a.1").write_text("precious")
    (tmp_path / "a.3").mkdir()
    file = LineFile(tmp_path / "a", max_bytes=700, keep=2)
    for number in range(20):
        file.append(line_of("A", number))

    assert (tmp_path / "a.1").read_text() == "precious" and (tmp_path / "a.3").is_dir()
    assert {path.name: [n for _, n in whole(path)] for path in tmp_path.glob("a*") if path.name not in ("a.1", "a.3")} == {
        "a": [18, 19],
        "a.2": [16, 17],
        "a.4": [14, 15],
    }


@pytest.mark.parametrize("begun", [b"", b'{"frame":12,"sou', b'{"frame":', bytes(500)])
def test_a_camera_goes_on_with_what_a_power_cut_left_of_its_first_line(tmp_path: Path, begun: bytes) -> None:
    (tmp_path / "a").write_bytes(begun)

    with JsonLinesSink(tmp_path / "a", max_bytes=1000, keep=2) as sink:
        sink.write(Observation("cam", State("stale", "lost")))
    with JsonLinesSink(tmp_path / "a", max_bytes=1000, keep=2) as sink:
        sink.write(Observation("cam", State("stale", "lost")))

    assert [json.loads(line)["state"] for line in lines(tmp_path / "a")] == ["stale", "stale"]


def test_a_table_with_the_columns_of_another_version_is_set_aside(tmp_path: Path) -> None:
    old = "captured_at,frame,source,state,reason\n2026-11-28,1,cam,ok,\n"
    (tmp_path / "a").write_text(old)

    with CsvSink(tmp_path / "a", max_bytes=1000, keep=2) as sink:
        for _ in range(2):
            sink.write(Observation("cam", State("stale", "lost")))

    assert (tmp_path / "a.1").read_text() == old
    assert [line.split(",")[:4] for line in lines(tmp_path / "a")] == [
        ["captured_at", "frame", "source", "state"],
        ["", "", "cam", "stale"],
        ["", "", "cam", "stale"],
    ]
