from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from edgecnn.errors import OutputError
from edgecnn_export.installing import install, staging


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


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    stage(tmp_path, "file")

    with pytest.raises(OutputError, match="choose another"), staging(tmp_path / "file" / "out"):
        pass


def test_a_full_disk_while_staging_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no space left on device; an earlier export there is untouched"), staging(tmp_path):
        raise OSError(28, "No space left on device")
