from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from picture_files import write_classes

from edgecnn.cli import progress as display_module
from edgecnn.cli.progress import shown_progress
from edgecnn.datasets.check import check_folder
from edgecnn.progress import listening, note, on_all_cores, report

Heard = list[tuple[str, int, int | None]]


def test_without_a_listener_nothing_happens() -> None:
    report("reading", 1, 2)
    note("left out")


def test_work_on_all_cores_keeps_its_order_and_is_reported() -> None:
    heard: Heard = []

    with listening(lambda stage, done, total: heard.append((stage, done, total))):
        results = list(on_all_cores(lambda number: number * number, range(20), "squaring"))

    assert results == [number * number for number in range(20)]
    assert (heard[0], heard[-1]) == (("squaring", 0, 20), ("squaring", 20, 20))


def test_an_interrupted_work_leaves_the_rest_undone() -> None:
    done: list[int] = []

    def stop(stage: str, number: int, total: int | None) -> None:
        if number == 3:
            raise KeyboardInterrupt

    def work(number: int) -> None:
        time.sleep(0.002)
        done.append(number)

    with listening(stop), pytest.raises(KeyboardInterrupt):
        list(on_all_cores(work, range(2000), "working"))

    assert len(done) < 100


def test_a_check_reports_every_stage_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECNN_CACHE", "off")
    heard: Heard = []

    with listening(lambda stage, done, total: heard.append((stage, done, total))):
        check_folder(write_classes(tmp_path))

    for stage in ("looking for pictures", "reading pictures", "comparing pictures"):
        last = [(done, total) for name, done, total in heard if name == stage][-1]
        assert last == (16, 16)


def test_what_is_done_at_once_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_progress():
        for done in range(100):
            report("reading", done + 1, 100)

    assert capsys.readouterr().err == ""


def test_a_stage_that_never_reports_again_is_shown_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_progress():
        report("reading pictures", 0, 3)
        time.sleep(1.0)

    assert capsys.readouterr().err == "reading pictures: 0 of 3 (0 %)\n"


def test_a_long_stage_ends_with_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_progress(silence=0.1):
        report("reading pictures", 1, 3)
        time.sleep(0.5)
        report("reading pictures", 3, 3)

    assert capsys.readouterr().err == "reading pictures: 1 of 3 (33 %)\nreading pictures: 3 of 3 (100 %)\n"


def test_plain_lines_come_ever_more_rarely(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display_module, "_FIRST_PAUSE", 0.2)
    monkeypatch.setattr(display_module, "_TICK", 0.02)

    with shown_progress(silence=0.0):
        report("comparing", 1, None)
        time.sleep(1.6)

    assert 3 <= len(capsys.readouterr().err.splitlines()) <= 4


def test_a_terminal_gets_one_line_that_changes_and_goes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    with shown_progress(silence=0.0):
        report("reading pictures", 1, 4)
        time.sleep(0.5)
        note("left out \x1b[31m1")
        report("reading pictures", 2, 4)
        time.sleep(0.5)
        report("reading pictures", 4, 4)

    err = capsys.readouterr().err
    assert err.startswith("\r\x1b[Kreading pictures: 1 of 4 (25 %)")
    assert "\r\x1b[Kleft out ?[31m1\n" in err
    assert err.endswith("\r\x1b[K")
    assert err.count("\n") == 1


SLOW = """
import sys, time
from edgecnn.datasets import reading
from edgecnn.cli.main import main
read = reading._read
reading._read = lambda *arguments: (time.sleep(0.3), read(*arguments))[1]
main(sys.argv[1:])
"""


def test_a_command_on_a_folder_says_within_a_second_what_it_does(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "parts")

    done = subprocess.run(
        [sys.executable, "-c", SLOW, "data", "check", str(folder)], capture_output=True, text=True, check=True, timeout=120
    )

    assert done.stderr.startswith("reading pictures: ")
    assert "reading pictures: 16 of 16 (100 %)" in done.stderr


def test_an_interrupted_search_is_one_line(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "parts")
    running = subprocess.Popen([sys.executable, "-c", SLOW, "data", "check", str(folder)], stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    assert running.stderr.readline().startswith("reading pictures: ")

    running.send_signal(2)
    _, err = running.communicate(timeout=30)

    assert (running.returncode, err.splitlines()[-1], "Traceback" in err) == (130, "edgecnn: interrupted", False)
