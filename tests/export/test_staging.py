from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgecnn.errors import OutputError
from edgecnn.signals import handling
from edgecnn_export.staging import install, staging


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir()) if path.is_file()}


def stage(folder: Path, *names: str, text: str = "new") -> None:
    for name in names:
        (folder / name).write_text(text)


def test_a_finished_set_replaces_the_old_one(tmp_path: Path) -> None:
    stage(tmp_path, "a.tflite", "parity.json", text="old")

    with staging(tmp_path) as staged:
        stage(staged, "a.tflite", "b.onnx", "parity.json")
        install(staged, tmp_path, ["a.tflite", "b.onnx", "parity.json"])

    assert content(tmp_path) == {"a.tflite": "new", "b.onnx": "new", "parity.json": "new"}


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    stage(tmp_path, "notes.txt", text="mine")

    with staging(tmp_path) as staged:
        stage(staged, "a.tflite")
        install(staged, tmp_path, ["a.tflite"])

    assert content(tmp_path)["notes.txt"] == "mine"


def test_an_interruption_before_the_end_leaves_the_old_set(tmp_path: Path) -> None:
    stage(tmp_path, "a.tflite", text="old")

    with pytest.raises(KeyboardInterrupt), staging(tmp_path) as staged:
        stage(staged, "a.tflite")
        raise KeyboardInterrupt

    assert content(tmp_path) == {"a.tflite": "old"}
    assert list(tmp_path.iterdir()) == [tmp_path / "a.tflite"]


LONG_COMMAND = """
import sys, time
from pathlib import Path
from edgecnn.cli import main
from edgecnn_export.staging import staging

def work(*_, **__):
    with staging(Path(sys.argv[1])):
        print("at work", flush=True)
        time.sleep(60)

main.cli.main = work
main.main([])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_ended_politely_leaves_nothing_half_done(tmp_path: Path, number: signal.Signals) -> None:
    running = subprocess.Popen([sys.executable, "-c", LONG_COMMAND, str(tmp_path)], stdout=-1, stderr=-1, text=True)
    assert running.stdout is not None and running.stdout.readline() == "at work\n"

    running.send_signal(number)
    _, err = running.communicate(timeout=30)

    assert (running.returncode, err) == (-number, f"edgecnn: ended by {number.name}\n")
    assert list(tmp_path.iterdir()) == []


def test_a_rejected_file_moves_an_older_good_one_aside(tmp_path: Path) -> None:
    stage(tmp_path, "a-int8.tflite", text="old")

    with staging(tmp_path) as staged:
        stage(staged, "a-int8.tflite.rejected")
        install(staged, tmp_path, ["a-int8.tflite.rejected"])

    assert content(tmp_path) == {"a-int8.tflite.previous": "old", "a-int8.tflite.rejected": "new"}


def test_a_second_rejection_keeps_the_good_file_of_before(tmp_path: Path) -> None:
    stage(tmp_path, "a-int8.tflite.previous", text="good")
    stage(tmp_path, "a-int8.tflite.rejected", text="bad")

    with staging(tmp_path) as staged:
        stage(staged, "a-int8.tflite.rejected")
        install(staged, tmp_path, ["a-int8.tflite.rejected"])

    assert content(tmp_path) == {"a-int8.tflite.previous": "good", "a-int8.tflite.rejected": "new"}


def test_a_good_file_clears_what_earlier_failures_left(tmp_path: Path) -> None:
    stage(tmp_path, "a-int8.tflite.previous", "a-int8.tflite.rejected", text="old")

    with staging(tmp_path) as staged:
        stage(staged, "a-int8.tflite")
        install(staged, tmp_path, ["a-int8.tflite"])

    assert content(tmp_path) == {"a-int8.tflite": "new"}


def test_obsolete_files_are_taken_away(tmp_path: Path) -> None:
    stage(tmp_path, "parity.json", text="old")

    with staging(tmp_path) as staged:
        stage(staged, "a.tflite")
        install(staged, tmp_path, ["a.tflite"], obsolete=["parity.json"])

    assert content(tmp_path) == {"a.tflite": "new"}


def test_a_move_that_fails_brings_all_old_files_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage(tmp_path, "a.tflite", "b.onnx", text="old")
    replace = Path.replace

    def refuse_new_b(self: Path, target: Path) -> Path:
        if target == tmp_path / "b.onnx" and self.read_text() == "new":
            raise OSError(28, "No space left on device")
        return replace(self, target)

    with staging(tmp_path) as staged:
        stage(staged, "a.tflite", "b.onnx")
        monkeypatch.setattr(Path, "replace", refuse_new_b)
        with pytest.raises(OutputError, match="no space left on device; the earlier files were put back"):
            install(staged, tmp_path, ["a.tflite", "b.onnx"])

    assert content(tmp_path) == {"a.tflite": "old", "b.onnx": "old"}


def test_a_hangup_between_two_moves_waits_until_all_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, heard = Path.replace, list[int]()

    def hung_up(self: Path, target: Path) -> Path:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not heard
        return replace(self, target)

    with staging(tmp_path) as staged, handling({signal.SIGHUP: lambda number, frame: heard.append(number)}):
        stage(staged, "a.tflite", "b.onnx")
        monkeypatch.setattr(Path, "replace", hung_up)
        install(staged, tmp_path, ["a.tflite", "b.onnx"])

    assert heard and set(heard) == {signal.SIGHUP}
    assert content(tmp_path) == {"a.tflite": "new", "b.onnx": "new"}


def test_ctrl_c_between_two_moves_waits_until_all_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        os.kill(os.getpid(), signal.SIGINT)
        return replace(self, target)

    with staging(tmp_path) as staged:
        stage(staged, "a.tflite", "b.onnx")
        monkeypatch.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            install(staged, tmp_path, ["a.tflite", "b.onnx"])

    assert content(tmp_path) == {"a.tflite": "new", "b.onnx": "new"}


def test_no_file_is_ever_missing_and_no_report_stands_beside_files_of_another_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(tmp_path, "a.tflite", "b.onnx", "parity.json", text="old")
    seen: list[dict[str, str]] = []
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        moved = replace(self, target)
        seen.append(content(tmp_path))
        return moved

    with staging(tmp_path) as staged:
        stage(staged, "a.tflite", "b.onnx", "parity.json")
        monkeypatch.setattr(Path, "replace", watched)
        install(staged, tmp_path, ["a.tflite", "b.onnx"], reports=["parity.json"])

    assert all({"a.tflite", "b.onnx"} <= found.keys() for found in seen)
    assert [len(set(found.values())) for found in seen if "parity.json" in found] == [1]


def test_where_there_are_no_links_a_failure_brings_the_old_files_back_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(tmp_path, "a.tflite", "parity.json", text="old")
    replace = Path.replace

    def no_links(self: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    def refuse_report(self: Path, target: Path) -> Path:
        if target == tmp_path / "parity.json" and self.read_text() == "new":
            raise OSError(28, "No space left on device")
        return replace(self, target)

    with staging(tmp_path) as staged:
        stage(staged, "a.tflite", "parity.json")
        monkeypatch.setattr(Path, "hardlink_to", no_links)
        monkeypatch.setattr(Path, "replace", refuse_report)
        with pytest.raises(OutputError, match="put back"):
            install(staged, tmp_path, ["a.tflite"], reports=["parity.json"])

    assert content(tmp_path) == {"a.tflite": "old", "parity.json": "old"}


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    stage(tmp_path, "file")

    with pytest.raises(OutputError, match="choose another"), staging(tmp_path / "file" / "out"):
        pass


def test_a_full_disk_while_staging_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no space left on device; an earlier export there is untouched"), staging(tmp_path):
        raise OSError(28, "No space left on device")
