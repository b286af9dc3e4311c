from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from device_fakes import FakeClock
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.errors import OutputError
from edgecnn_device.sinks.appending import LineFile


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

    file = LineFile(tmp_path / "a", max_bytes=4, keep=2)
    file.append(b"now\n")
    file.close()

    assert {path.name: lines(path) for path in tmp_path.iterdir()} == {"a": ["now"], "a.1": ["new"], "a.2": ["old"]}


@given(text=st.lists(st.text("ab", max_size=6), max_size=30), limit=st.integers(1, 40))
def test_rotation_loses_no_line_and_no_file_exceeds_the_limit(
    tmp_path_factory: pytest.TempPathFactory, text: list[str], limit: int
) -> None:
    folder = tmp_path_factory.mktemp("rotation")
    file = LineFile(folder / "a", max_bytes=limit, keep=100)
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
        "import os, sys; from pathlib import Path; from edgecnn_device.sinks.appending import LineFile\n"
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


def write_at(file: LineFile, clock: FakeClock, text: str, line: bytes) -> None:
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
    clock = FakeClock(at(f"{day}T12:00"))
    morrow = date.fromisoformat(day) + timedelta(days=1)
    file = LineFile(tmp_path / "a", max_bytes=1000, keep=5, wall_clock=clock)
    for when, line in ((f"{day}T12:00", b"noon\n"), (f"{day}T23:59:59", b"late\n"), (f"{morrow}T00:00", b"morrow\n")):
        write_at(file, clock, when, line)
    file.close()

    assert {path.name: lines(path) for path in tmp_path.iterdir()} == {"a": ["morrow"], "a.1": ["noon", "late"]}


def test_a_run_on_the_next_day_does_not_go_on_with_the_file_of_yesterday(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("yesterday\n")
    os.utime(tmp_path / "a", (at("2026-11-27T18:00"), at("2026-11-27T18:00")))

    file = LineFile(tmp_path / "a", max_bytes=1000, keep=5, wall_clock=FakeClock(at("2026-11-28T06:00")))
    file.append(b"today\n")
    file.close()

    assert (lines(tmp_path / "a"), lines(tmp_path / "a.1")) == (["today"], ["yesterday"])


def test_small_files_of_quiet_days_are_kept_until_they_are_as_large_as_full_ones(tmp_path: Path) -> None:
    clock = FakeClock()
    file = LineFile(tmp_path / "a", max_bytes=1000, keep=2, wall_clock=clock)
    for number in range(60):
        clock.now_s = at("2026-01-01T12:00") + 86400 * number
        file.append(b"x" * 99 + b"\n")
    file.close()

    old = list(tmp_path.glob("a.*"))
    assert len(old) == 20
    assert sum(path.stat().st_size for path in old) == 2000
    assert file.capacity_bytes == 3000


def test_a_clock_that_was_years_ahead_and_is_set_back_does_not_end_the_daily_files(tmp_path: Path) -> None:
    clock = FakeClock()
    file = LineFile(tmp_path / "a", max_bytes=1000, keep=9, wall_clock=clock)
    for when in ("2036-01-01T12:00", "2026-11-28T12:00", "2026-11-28T13:00", "2026-11-29T12:00"):
        write_at(file, clock, when, when.encode() + b"\n")
    file.close()

    assert lines(tmp_path / "a") == ["2026-11-29T12:00"]
    assert lines(tmp_path / "a.1") == ["2036-01-01T12:00", "2026-11-28T12:00", "2026-11-28T13:00"]
