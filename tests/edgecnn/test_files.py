"""Files appear whole or not at all, and reading never waits for what has no end."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgecnn import files
from edgecnn.errors import EdgecnnError, InputError, OutputError


def test_a_file_is_written_with_the_rights_of_the_umask(tmp_path: Path) -> None:
    previous = os.umask(0o027)
    try:
        files.write_bytes(tmp_path / "a.bin", b"new")
    finally:
        os.umask(previous)

    assert (tmp_path / "a.bin").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == 0o640


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, MemoryError, ValueError, InputError])
def test_an_interruption_leaves_the_old_file_and_nothing_else(tmp_path: Path, interruption: type[BaseException]) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(b"old")

    with pytest.raises(interruption), files.replacing(path) as beside:
        beside.write_bytes(b"half")
        raise interruption

    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("model.keras", b"old")]


def test_the_path_beside_keeps_the_suffix_and_is_hidden(tmp_path: Path) -> None:
    with files.replacing(tmp_path / "curves.png") as beside:
        assert (beside.parent, beside.suffix, beside.name[0]) == (tmp_path, ".png", ".")


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    with files.replacing(path) as beside:
        beside.write_bytes(b"new")
        seen = path.read_bytes()

    assert (seen, path.read_bytes()) == (b"old", b"new")


def test_two_writers_of_one_file_leave_one_of_both_whole(tmp_path: Path) -> None:
    contents = [bytes([letter]) * 200_000 for letter in b"ab"]
    threads = [threading.Thread(target=files.write_bytes, args=(tmp_path / "a", content)) for content in contents * 5]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (tmp_path / "a").read_bytes() in contents
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_disk_that_refuses_is_one_line_and_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def refuse(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)

    with pytest.raises(OutputError, match=f"cannot write .*{os.strerror(code).lower()}; nothing was replaced"):
        files.write_bytes(path, b"new")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"old")]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path | None]:
    """A real file system of 64 kB, None where this user may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "edgecnn-test", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    yield folder if mounted else None
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_keeps_the_old_file(small_disk: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = small_disk or tmp_path
    if small_disk is None:  # what the kernel would say

        def no_space(path: Path, data: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        (folder / "a").write_bytes(b"old")
        monkeypatch.setattr(Path, "write_bytes", no_space)
    else:
        (folder / "a").write_bytes(b"old")

    with pytest.raises(OutputError, match="no space left on device; nothing was replaced"):
        files.write_bytes(folder / "a", b"x" * 2**20)

    assert [(p.name, p.read_bytes()) for p in folder.iterdir() if p.is_file()] == [("a", b"old")]


def test_a_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")

    with pytest.raises(OutputError, match="not a directory; choose another folder"):
        files.write_bytes(tmp_path / "a" / "b", b"")
    with pytest.raises(OutputError, match="cannot create the folder"):
        files.make_folder(tmp_path / "a" / "b")


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no such file or directory"):
        files.write_bytes(tmp_path / "no" / "a", b"")


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="not a regular file"):
        files.write_bytes(tmp_path, b"")


def test_a_device_is_never_replaced_by_a_file() -> None:
    with pytest.raises(OutputError, match="/dev/null: it exists and is not a regular file"):
        files.write_bytes(Path("/dev/null"), b"data")

    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_json_keeps_umlauts_and_refuses_what_is_no_number(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"Fläche": 1})

    assert "Fläche" in (tmp_path / "a.json").read_text("utf-8")
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"Fläche": 1}
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "a.json", float("nan"))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/dev/urandom"])
def test_a_device_is_refused_at_once(path: str) -> None:
    with pytest.raises(InputError, match="a device or a pipe"):
        files.read_bytes(Path(path))


@pytest.mark.timeout(20)
def test_a_pipe_that_nobody_writes_to_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(InputError, match="a device or a pipe"):
        files.read_bytes(tmp_path / "pipe")


def test_a_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"cannot read {tmp_path}: is a directory"):
        files.read_bytes(tmp_path)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*gone: no such file"):
        files.read_bytes(tmp_path / "gone")


def test_a_file_above_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(2**36)  # sparse

    with pytest.raises(InputError, match=f"has {2**36} bytes; at most 100 are read"):
        files.read_bytes(tmp_path / "huge", at_most=100)


def test_a_file_of_the_limit_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100)

    assert files.read_bytes(tmp_path / "a", at_most=100) == b"x" * 100


def test_all_refusals_are_ours() -> None:
    assert issubclass(InputError, EdgecnnError)
    assert issubclass(OutputError, EdgecnnError)
