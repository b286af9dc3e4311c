"""The digits of a video over time: what is counted, and a drawn sheet that moves."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edgecnn.classifier import Classifier
from edgecnn.cli.main import cli
from edgecnn.datasets.synthetic.handwritten_sheets import simulate_sheet
from edgecnn.errors import DatasetError, InputError
from edgecnn_device.digit_video import Reading, TrueDigit, VideoFigures, judge, read_labels, study_digits

FPS, FRAMES, SHIFT = 10.0, 20, (60, 24)
BOX = (10, 10, 20, 30)
STILL = TrueDigit("a", "7", (0, 9), (BOX, BOX))


def judged(labels: list[str | None], ids: list[int] | None = None) -> VideoFigures:
    shown = [[Reading(number, BOX, label)] for label, number in zip(labels, ids or [1] * len(labels), strict=True)]
    return judge([STILL], shown, FPS)


def test_a_digit_stands_between_two_of_its_rows() -> None:
    digit = TrueDigit("a", "7", (0, 10), ((0, 0, 20, 30), (100, 50, 30, 30)))

    box = digit.at(5)

    assert box is not None
    assert (box.x, box.y, box.w, box.h) == (50, 25, 25, 30)


@pytest.mark.parametrize("frame", [1, 11])
def test_a_digit_is_nowhere_before_its_first_row_and_after_its_last(frame: int) -> None:
    assert TrueDigit("a", "7", (2, 10), (BOX, BOX)).at(frame) is None


def test_accuracy_counts_every_frame_that_a_digit_stands_in() -> None:
    assert judged(["7"] * 6 + ["1"] * 3 + [None]).accuracy == pytest.approx(0.6)


def test_flicker_counts_changes_of_the_answer_and_of_there_being_one() -> None:
    figures = judged(["7", "7", "1", "7", None, "7", "7", "7", "7", "7"])

    assert figures.digits[0].changes == 4
    assert figures.changes_per_minute == pytest.approx(4 / (10 / FPS / 60))


def test_a_digit_with_two_ids_has_not_kept_its_own() -> None:
    assert judged(["7"] * 10, [1] * 5 + [2] * 5).kept == 0


def test_a_digit_that_nobody_found_has_kept_no_id() -> None:
    assert judge([STILL], [[]] * 10, FPS).kept == 0


def test_a_label_where_no_digit_stands_is_a_false_report() -> None:
    elsewhere = Reading(2, (200, 200, 20, 30), "3")

    assert judge([STILL], [[elsewhere]] * 10, FPS).false_reports == 10


def test_every_second_has_its_own_row() -> None:
    figures = judge([TrueDigit("a", "7", (0, 19), (BOX, BOX))], [[Reading(1, BOX, "7")]] * 10 + [[]] * 10, FPS)

    assert [(each.second, each.shown, each.right) for each in figures.seconds] == [(0, 10, 10), (1, 10, 0)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("frame,digit\n", "expected the columns"),
        ("frame,digit,x,y,w,h,label\n0,a,1,1,x,9,7\n", "line 2"),
        ("frame,digit,x,y,w,h,label\n0,a,1,1,9,9,7\n0,a,1,1,9,9,7\n", "line 3"),
        ("frame,digit,x,y,w,h,label\n0,a,1,1,9,9,7\n1,a,1,1,9,9,8\n", "several labels: 7, 8"),
        ("frame,digit,x,y,w,h,label\n", "names no digit"),
    ],
)
def test_a_table_that_is_none_is_refused(rows: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(rows)

    with pytest.raises(DatasetError, match=message):
        read_labels(path)


@pytest.fixture(scope="module")
def moving_sheet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A video of a sheet that is moved evenly, and its labels: the first and the last frame of each digit."""
    folder = tmp_path_factory.mktemp("moving")
    sheet = simulate_sheet("digits", np.random.default_rng(3), count=6, height=60.0, turn_deg=0.0)
    rows = ["frame,digit,x,y,w,h,label"]
    writer = cv2.VideoWriter(str(folder / "sheet.avi"), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (640 + SHIFT[0], 480 + SHIFT[1]))
    for frame in range(FRAMES):
        dx, dy = (side * frame / (FRAMES - 1) for side in SHIFT)
        matrix = np.array([[1, 0, dx], [0, 1, dy]], np.float64)
        size_wh = 640 + SHIFT[0], 480 + SHIFT[1]
        writer.write(cv2.warpAffine(sheet.image_bgr, matrix, size_wh, borderMode=cv2.BORDER_REPLICATE))
        if frame in (0, FRAMES - 1):
            rows += [
                f"{frame},{name},{round(box.x + dx)},{round(box.y + dy)},{box.w},{box.h},{box.label}"
                for name, box in enumerate(sheet.boxes)
            ]
    writer.release()
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder / "sheet.avi", folder / "labels.csv"


def test_digits_keep_their_ids_and_answers_while_the_sheet_moves(moving_sheet: tuple[Path, Path]) -> None:
    video, labels = moving_sheet

    figures = study_digits(str(video), read_labels(labels), Classifier.open("mnist"))

    assert figures.frames == FRAMES
    assert figures.kept >= len(figures.digits) - 1
    assert figures.accuracy >= 0.7


def test_the_command_says_all_of_it(moving_sheet: tuple[Path, Path]) -> None:
    done = CliRunner().invoke(cli, ["study", "digits", *map(str, moving_sheet)], catch_exceptions=False)

    assert done.exit_code == 0
    for word in ("second", "ids", "read right:", "times per digit and minute", "false reports"):
        assert word in done.stdout


def test_a_model_of_something_else_is_refused(moving_sheet: tuple[Path, Path]) -> None:
    video, labels = moving_sheet

    with pytest.raises(InputError, match="a model of handwritten digits"):
        study_digits(str(video), read_labels(labels), Classifier.open("neu"))
