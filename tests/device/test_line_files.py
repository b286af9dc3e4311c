from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
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
