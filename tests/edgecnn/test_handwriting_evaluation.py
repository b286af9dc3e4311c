import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_sheet import draw_sheet
from numpy.typing import NDArray

from edgecnn.errors import DatasetError
from edgecnn.handwriting import DigitReading, DigitRegion
from edgecnn.handwriting.evaluation import STEP_NAMES, Score, TrueBox, evaluate, format_table, read_labels, score

HEADER = "file,x,y,w,h,label,kind\n"


def reading(class_id: int | None, box: tuple[int, int, int, int]) -> DigitReading:
    return DigitReading(DigitRegion(box, np.zeros((28, 28), np.uint8), 3.0, 0.7), np.full(10, 0.1, np.float32), class_id)


DIGIT = TrueBox(100, 100, 30, 50, "4", "digit")


def test_a_digit_read_where_it_stands_is_correct() -> None:
    assert score([reading(4, (101, 99, 28, 51))], [DIGIT])["digit"] == Score(1, 1, 1, 0)


def test_a_digit_read_as_another_is_found_and_not_correct() -> None:
    assert score([reading(9, (101, 99, 28, 51))], [DIGIT])["digit"] == Score(1, 1, 0, 0)


def test_a_rejected_reading_counts_for_nothing() -> None:
    assert score([reading(None, (101, 99, 28, 51))], [DIGIT])["digit"] == Score(1, 0, 0, 0)


def test_a_part_of_a_digit_is_a_false_report() -> None:
    assert score([reading(1, (110, 120, 5, 15))], [DIGIT])["digit"] == Score(1, 0, 0, 1)


def test_a_second_reading_of_a_digit_is_a_false_report() -> None:
    twice = [reading(4, (101, 99, 28, 51)), reading(1, (110, 105, 6, 40))]

    assert score(twice, [DIGIT])["digit"] == Score(1, 1, 1, 1)


def test_a_reading_on_empty_paper_is_a_false_report() -> None:
    assert score([reading(4, (300, 300, 28, 51))], [DIGIT])["digit"] == Score(1, 0, 0, 1)


def test_print_is_neither_found_nor_false() -> None:
    printed = TrueBox(200, 100, 60, 60, "7", "printed_cell")

    assert score([reading(7, (210, 110, 30, 40))], [DIGIT, printed]) == {"digit": Score(1, 0, 0, 0)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1234", (4, 4, 4, 0)), ("1294", (4, 4, 3, 0)), ("134", (4, 3, 3, 0)), ("12354", (4, 4, 4, 1)), ("", (4, 0, 0, 0))],
)
def test_a_row_is_aligned_with_its_label(text: str, expected: tuple[int, int, int, int]) -> None:
    row = TrueBox(0, 0, 400, 60, "1234", "row")
    readings = [reading(int(digit), (10 + 40 * i, 10, 20, 40)) for i, digit in enumerate(text)]

    assert score(readings, [row])["row"].counts == expected


def test_labels_without_the_right_columns_are_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,left,top\na.png,1,2\n")

    with pytest.raises(DatasetError, match="expected the columns file, x, y"):
        read_labels(tmp_path)


def test_a_label_that_is_no_number_is_named_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(HEADER + "a.png,1,2,three,4,5,digit\n")

    with pytest.raises(DatasetError, match=r"labels\.csv, line 2: .*three"):
        read_labels(tmp_path)


class Always:
    """A runtime that reads every picture as a 3."""

    name = "always"

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.tile(np.eye(10, dtype=np.float32)[3], (len(images), 1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    sheet = draw_sheet(5, size_hw=(240, 320), count=6)
    cv2.imwrite(str(root / "sheet.png"), sheet.image_bgr)
    rows = [f"sheet.png,{x},{y},{w},{h},3,digit\n" for x, y, w, h in sheet.boxes]
    (root / "labels.csv").write_text(HEADER + "".join(rows))
    return root


def test_the_table_has_a_row_for_every_step_left_out(folder: Path) -> None:
    rows = evaluate(folder, Always(), reject_threshold=0.5)

    assert [row.name for row in rows] == ["all steps", *(f"without {name}" for name in STEP_NAMES)]


def test_a_perfect_reader_has_a_perfect_score(folder: Path) -> None:
    row = evaluate(folder, Always(), reject_threshold=0.5, steps=())[0]

    assert row.scores["digit"].correct_share == 1
    assert row.scores["digit"].false_share == 0


def test_photographs_and_their_boxes_can_be_shrunk(folder: Path) -> None:
    row = evaluate(folder, Always(), reject_threshold=0.5, steps=(), scale=0.6)[0]

    assert row.scores["digit"].correct_share == 1


def test_the_table_shows_shares(folder: Path) -> None:
    table = format_table(evaluate(folder, Always(), reject_threshold=0.5, steps=("lines",)))

    assert "| all steps | 6/6 | 6/6 = 100.0 % | 0.0 % |" in table
    assert "| without lines |" in table


def test_the_command_says_in_one_line_that_the_model_is_missing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edgecnn", "data", "photos", str(tmp_path), "--model", str(tmp_path / "none.tflite")]

    run = subprocess.run(command, capture_output=True, text=True, check=False)

    assert run.returncode != 0
    assert len(run.stderr.strip().splitlines()) == 1
    assert "none.tflite" in run.stderr
