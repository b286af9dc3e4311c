from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from device_fakes import frame, watcher
from hypothesis import given
from hypothesis import strategies as st
from published_schemas import check

from edgecnn.classifier import Prediction
from edgecnn.errors import MissingDependencyError, OutputError
from edgecnn.testing import JumpingClock, ListSink, gray_picture
from edgecnn.text import printable
from edgecnn_device.annotate import annotate
from edgecnn_device.frames import OK, Frame, Observation, Region, RegionPrediction, State
from edgecnn_device.loop import run_loop
from edgecnn_device.sinks.csv_file import CsvSink, csv_rows
from edgecnn_device.sinks.jsonl import JsonLinesSink, json_line
from edgecnn_device.sinks.samples import SampleOptions, SampleSink
from edgecnn_device.sinks.terminal import TerminalSink, describe
from edgecnn_device.sinks.window import WindowSink


def observe(item: Frame | None = None) -> Observation:
    sink = ListSink()
    run_loop([item or frame(gray_picture(230))], watcher(JumpingClock()), [sink])
    return sink.observations[0]


LOST = Observation("cam", State("stale", "lost: no frame for 2.0 s (refused)"), age_ms=2000.0)


def test_json_lines_are_one_object_a_line(tmp_path: Path) -> None:
    with JsonLinesSink(tmp_path / "a.jsonl", max_bytes=10**6, keep=1) as sink:
        sink.write(observe())
        sink.write(LOST)

    first, second = (json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines())
    assert (first["regions"][0]["label"], "reason" in first) == ("light", False)
    assert (second["frame"], second["state"], second["regions"], second["reason"]) == (
        None, "stale", [], "lost: no frame for 2.0 s (refused)",
    )  # fmt: skip


def test_lines_of_a_video_file_carry_the_media_time_and_no_others(tmp_path: Path) -> None:
    of_a_video = observe(replace(frame(gray_picture(230)), media_time_s=61.25))

    assert json.loads(json_line(of_a_video))["media_time_s"] == 61.25
    assert "media_time_s" not in json.loads(json_line(observe()))


TEXT = st.text(st.characters(blacklist_categories=["Cs"]))


@given(TEXT, TEXT, st.none() | TEXT, st.floats(0, 1), st.floats(0, 1e9) | st.none(), st.floats(0, 1e6))
def test_a_line_says_what_the_observation_says(
    source: str, reason: str, label: str | None, probability: float, age_ms: float | None, took_ms: float
) -> None:
    answer = Prediction(label, 3, probability, np.array([probability], np.float32))
    region = Region((1, 2, 30, 40), gray_picture(9))
    seen = RegionPrediction(7, region, gray_picture(9), answer, replace(answer, label="other"))
    located = replace(seen, where=(3, 4, 5, 6), where_map="novelty")
    told = [
        Observation(source, OK, frame(source=source), (seen, located), age_ms, {"capture": took_ms, "invoke": 0.0}),
        Observation(source, State("blind", reason), replace(frame(), media_time_s=took_ms), (), age_ms),
        Observation(source, State("blind", reason), None, (), age_ms),
        Observation(source, OK, frame(source=source), (seen,), age_ms, {}, warning=reason),
    ]

    lines = [json_line(observation) for observation in told]

    assert [json.loads(line) for line in lines] == [observation.to_json() for observation in told]
    for line in lines:
        check("observation", json.loads(line))
    assert [line.find("\n") for line in lines] == [len(line) - 1 for line in lines]


def test_a_path_that_is_no_text_is_written_nevertheless(tmp_path: Path) -> None:
    with JsonLinesSink(tmp_path / "a.jsonl", max_bytes=10**6, keep=1) as sink:
        sink.write(replace(LOST, source="\udcff.png"))

    assert json.loads((tmp_path / "a.jsonl").read_bytes())["source"] == "?.png"


def test_csv_has_a_row_for_each_region_and_one_for_a_frame_without_any(tmp_path: Path) -> None:
    with CsvSink(tmp_path / "a.csv", max_bytes=10**6, keep=1) as sink:
        sink.write(observe())
        sink.write(LOST)

    first, second = csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text()))
    assert (first["label"], first["w"], first["state"]) == ("light", "64", "ok")
    assert (second["label"], second["frame"], second["state"]) == ("", "", "stale")


@pytest.mark.parametrize("text", ["=HYPERLINK(1)", "+1+1|cmd", "-rf.png", "@SUM(1)", "\t=1", "\r=1", "\n=1", "＝1"])
def test_no_cell_is_a_formula_to_a_spreadsheet(tmp_path: Path, text: str) -> None:
    evil = observe()
    named = replace(evil.predictions[0], raw=replace(evil.predictions[0].raw, label=text))
    rows = csv_rows(replace(evil, source=text, predictions=(named,))) + csv_rows(replace(LOST, state=State("stale", text)))

    cells = [cell for row in csv.reader(io.StringIO(rows.decode())) for cell in row]
    assert [cell for cell in cells if cell[:1] in set("=+@\t\r\n＝") or cell.startswith("-r")] == []
    assert cells.count("'" + printable(text)) == 3


def test_negative_numbers_stay_numbers() -> None:
    seen = observe()
    moved = replace(seen.predictions[0], region=Region((-3, 0, 5, 5), gray_picture(1)))

    assert b",-3,0,5,5," in csv_rows(replace(seen, predictions=(moved,)))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_one_line_that_is_rewritten() -> None:
    stream, clock = Terminal(), JumpingClock()
    with TerminalSink(stream, clock=clock) as sink:
        sink.write(observe())
        clock.now_s += 1
        sink.write(LOST)

    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith("cam: stale: lost: no frame for 2.0 s (refused)\n")


def test_a_journal_gets_a_line_for_news_and_one_a_minute() -> None:
    stream, clock = io.StringIO(), JumpingClock()
    with TerminalSink(stream, clock=clock) as sink:
        for second in range(150):
            sink.write(observe(frame(gray_picture(230), at_s=100.0 + second)))
        clock.now_s += 150
        sink.write(LOST)

    assert stream.getvalue().splitlines() == ["1 fake: light 0.90"] * 3 + ["- cam: stale: lost: no frame for 2.0 s (refused)"]


def test_an_answer_that_flickers_for_an_hour_leaves_the_journal_readable() -> None:
    stream = io.StringIO()
    with TerminalSink(stream, clock=JumpingClock()) as sink:
        light, dark = observe(frame(gray_picture(230))), observe(frame(gray_picture(40)))
        for number in range(30 * 3600):
            one = light if number % 2 else dark
            assert one.frame is not None
            sink.write(replace(one, frame=replace(one.frame, monotonic_s=number / 30)))

    assert stream.getvalue().count("\n") <= 30 + 360


def test_every_picture_of_a_folder_is_a_line_even_where_nobody_refreshes_one() -> None:
    stream = io.StringIO()
    with TerminalSink(stream, live=False, fps=1.0) as sink:
        for number in range(200):
            sink.write(observe(frame(gray_picture(230), number, source=f"{number}.png")))

    assert stream.getvalue().count("\n") == 200


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
@pytest.mark.parametrize("name", ["\x1b]0;owned\x07\x1b[2J.png", "\x9b31m.png", "new\nline.png", "\u202egnp.png", "\udcff.png"])
def test_no_name_of_a_file_takes_over_a_terminal(kind: type[io.StringIO], name: str) -> None:
    stream = kind()
    with TerminalSink(stream, clock=JumpingClock()) as sink:
        sink.write(replace(LOST, source=name, state=State("blind", f"{name} is cut short")))

    shown = stream.getvalue().removeprefix("\r\033[K").removesuffix("\n")
    assert shown.replace("\r\033[K", "").isprintable()
    assert stream.getvalue().count("\n") == 1


def test_words_for_nothing_found() -> None:
    assert describe(Observation("cam", State("ok"))) == "nothing found"


@pytest.mark.parametrize("labels", [("good",), ("light", "dark")])
def test_a_novel_answer_is_described_by_its_novelty(labels: tuple[str, ...]) -> None:
    probabilities = np.full(len(labels), 0.41, np.float32)
    answer = Prediction(None, 0, 0.41, probabilities, "novel", 1.286, labels[0])
    seen = RegionPrediction(1, Region((0, 0, 4, 4), gray_picture(9)), gray_picture(9), answer, answer)

    assert describe(Observation("cam", State("ok"), predictions=(seen,))) == "novel 1.29"


def test_an_annotated_frame_is_a_copy() -> None:
    observation = observe()
    assert observation.frame is not None
    before = observation.frame.image_bgr.copy()

    image = annotate(observation)

    assert np.array_equal(observation.frame.image_bgr, before)
    assert image is not None
    assert not np.array_equal(image, before)


def test_an_opencv_without_windows_says_so_in_one_line() -> None:
    with pytest.raises(MissingDependencyError, match="no windows"):
        WindowSink()


def test_an_unsure_answer_is_kept_with_its_prediction_at_most_once_a_second(tmp_path: Path) -> None:
    clock = JumpingClock()
    sink = SampleSink(SampleOptions(tmp_path / "keep", below=0.95, every_s=None), clock=clock)
    for number in range(4):
        clock.now_s += 0.6
        sink.write(observe(frame(gray_picture(230), number)))

    pictures = sorted((tmp_path / "keep").glob("*.png"))
    assert len(pictures) == 2
    assert json.loads(pictures[0].with_suffix(".json").read_text())["regions"][0]["label"] == "light"
    assert np.array_equal(np.asarray(cv2.imread(str(pictures[0]))), gray_picture(230))


def test_a_sure_answer_is_kept_at_random_times_only(tmp_path: Path) -> None:
    clock = JumpingClock()
    sink = SampleSink(SampleOptions(tmp_path, below=0.5, every_s=10), clock=clock, seed=0)
    for number in range(2000):
        clock.now_s += 1
        sink.write(observe(frame(gray_picture(230), number)))

    kept = sorted(int(path.name.split("-")[1]) for path in tmp_path.glob("*.png"))
    assert 150 < len(kept) < 230  # gaps are of 10 seconds on average, a second longer for the next frame to come
    assert len(set(np.diff(kept))) > 10  # and in no rhythm


def test_the_oldest_samples_go_when_there_are_too_many_bytes(tmp_path: Path) -> None:
    clock = JumpingClock()
    sink = SampleSink(SampleOptions(tmp_path, every_s=1e-9, max_bytes=50_000), clock=clock)
    for number in range(30):
        clock.now_s += 1
        sink.write(observe(frame(gray_picture(230, number), number, at_s=100.0 + number)))

    numbers = sorted(int(path.name.split("-")[1]) for path in tmp_path.glob("*.png"))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 50_000
    assert numbers and numbers == list(range(30 - len(numbers), 30))
    assert len(list(tmp_path.glob("*.json"))) == len(numbers)


def test_samples_that_are_too_old_go_at_the_next_start(tmp_path: Path) -> None:
    clock = JumpingClock()
    with SampleSink(SampleOptions(tmp_path, every_s=1e-9), clock=clock) as sink:
        clock.jump(1)
        sink.write(observe())
    later_s = next(tmp_path.glob("*.png")).stat().st_mtime + 101

    SampleSink(SampleOptions(tmp_path, every_s=1e-9, max_age_s=100), clock=clock, wall_clock=lambda: later_s).write(LOST)

    assert list(tmp_path.iterdir()) == []


def test_a_clock_that_is_set_while_the_camera_runs_costs_no_sample(tmp_path: Path) -> None:
    clock, wall = JumpingClock(), JumpingClock(1.8e9)
    sink = SampleSink(SampleOptions(tmp_path, every_s=1e-9, max_age_s=100), clock=clock, wall_clock=wall)
    for number, set_to_s in enumerate((1.8e9, 0.0, 4e9, 1.8e9)):
        clock.now_s += 1
        wall.now_s = set_to_s
        sink.write(observe(frame(gray_picture(230, number), number, at_s=100.0 + number)))

    assert len(list(tmp_path.glob("*.png"))) == 4


def test_a_board_that_starts_in_1970_keeps_its_samples(tmp_path: Path) -> None:
    clock = JumpingClock()
    with SampleSink(SampleOptions(tmp_path, every_s=1e-9), clock=clock) as sink:
        clock.jump(1)
        sink.write(observe())

    SampleSink(SampleOptions(tmp_path, every_s=1e-9, max_age_s=100), clock=clock, wall_clock=lambda: 60.0).write(LOST)

    assert len(list(tmp_path.glob("*.png"))) == 1


def test_what_a_kill_left_unfinished_goes_at_the_next_start(tmp_path: Path) -> None:
    names = (".20260102T030405.678901Z-7-1.png.part", ".20260102T030405.678901Z-7-1.json.part", "labelled.json", ".a.png.part")
    for name in names:
        (tmp_path / name).write_bytes(b"x")

    SampleSink(SampleOptions(tmp_path, every_s=1e-9), clock=JumpingClock())

    assert {path.name for path in tmp_path.iterdir()} == {"labelled.json", ".a.png.part"}


def test_what_is_left_of_a_sample_whose_picture_is_gone_is_counted_and_goes_with_the_oldest(tmp_path: Path) -> None:
    for second in range(40):  # as a kill leaves one, or who has moved the pictures to where they are labelled
        (tmp_path / f"20260102T0000{second:02}.000000Z-{second}-1.json").write_text("{}" * 1000)
    (tmp_path / "notes.json").write_text("{}")

    SampleSink(SampleOptions(tmp_path, every_s=1e-9, max_bytes=60_000), clock=JumpingClock()).write(LOST)

    left = sorted(path.name for path in tmp_path.iterdir())
    assert len(left) == 31
    assert left[0].startswith("20260102T000010.")
    assert "notes.json" in left


def test_what_others_keep_in_the_folder_is_neither_counted_nor_removed(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"holiday_{number}.png").write_bytes(b"x" * 30_000)
        (tmp_path / f"holiday_{number}.json").write_text('{"mine": 1}')
        os.utime(tmp_path / f"holiday_{number}.png", (0, 0))
    (tmp_path / "0.png").mkdir()
    (tmp_path / "20260102T030405.678901Z-7-1.png").mkdir()
    (tmp_path / "20260102T030405.678901Z-8-1.png").symlink_to(tmp_path / "holiday_1.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    before = {path.name for path in tmp_path.iterdir()}
    clock = JumpingClock()
    with SampleSink(SampleOptions(tmp_path, every_s=1e-9, max_bytes=60_000, max_age_s=10), clock=clock) as sink:
        for number in range(30):
            clock.now_s += 1
            sink.write(observe(frame(gray_picture(230, number), number, at_s=100.0 + number)))

    ours = {path for path in tmp_path.iterdir() if path.name not in before}
    assert before <= {path.name for path in tmp_path.iterdir()}
    assert 0 < sum(path.stat().st_size for path in ours) <= 60_000


def test_two_cameras_do_not_share_a_folder_of_samples(tmp_path: Path) -> None:
    options, refused = SampleOptions(tmp_path, every_s=1e-9), f"--keep {tmp_path}: another camera keeps its samples there"
    with SampleSink(options, clock=JumpingClock()), pytest.raises(OutputError, match=refused):
        SampleSink(options, clock=JumpingClock())

    SampleSink(SampleOptions(tmp_path, every_s=1e-9), clock=JumpingClock())


def test_the_samples_of_before_are_counted_at_the_next_start(tmp_path: Path) -> None:
    clock = JumpingClock()
    for start in range(3):
        with SampleSink(SampleOptions(tmp_path, every_s=1e-9, max_bytes=60_000), clock=clock) as sink:
            for number in range(10):
                clock.now_s += 1
                sink.write(observe(frame(gray_picture(230, number), number, at_s=1000.0 * start + number)))

    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 60_000


def test_labelled_samples_are_left_alone(tmp_path: Path) -> None:
    sink = SampleSink(SampleOptions(tmp_path, every_s=1e-9, max_bytes=1), clock=JumpingClock())
    (tmp_path / "light").mkdir()
    (tmp_path / "light" / "mine.png").write_bytes(b"x" * 100)

    sink.write(observe())

    assert [path.name for path in tmp_path.rglob("*.png")] == ["mine.png"]
