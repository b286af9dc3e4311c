"""What is printed stays one line, and JSON stays JSON, whatever files are called."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.cli.main import main
from edgecnn.files import write_json
from edgecnn.text import json_string, json_text, points, printable

NOT_UTF8 = os.fsdecode(b"a\xffb.png")


@given(st.text(st.characters()))
def test_json_survives_any_text_as_utf8(text: str) -> None:
    written = json_text([text]).encode()

    assert json.loads(written) == [text]


@given(st.text(st.characters()))
def test_json_has_nothing_in_it_that_a_terminal_acts_upon(text: str) -> None:
    assert json_text({text: [text]}).replace("\n", "").isprintable()
    assert json_string(text).isprintable()
    assert json.loads(json_string(text)) == text


def test_readable_text_is_not_escaped() -> None:
    assert json_text("Größe ×") == '"Größe ×"'


def test_one_percentage_point_is_not_several() -> None:
    assert [points(1.0), points(0.5), points(2)] == ["1 point", "0.5 points", "2 points"]


def test_what_moves_a_terminal_is_replaced() -> None:
    assert printable("a\nb\x1b[31m ä") == "a?b?[31m ä"


def test_a_name_that_is_no_utf8_is_written_to_a_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"file": NOT_UTF8})

    assert json.loads((tmp_path / "a.json").read_bytes()) == {"file": NOT_UTF8}


def test_an_error_about_a_name_with_new_lines_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["classify", "neu", "no\nsuch\npicture.png"])

    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", [NOT_UTF8, "two\nlines.png"])
def test_classify_names_any_file_in_json(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "plain.png"), np.full((50, 50), 128, np.uint8))
    shutil.move(tmp_path / "plain.png", tmp_path / name)

    with pytest.raises(SystemExit):
        main(["classify", "neu", str(tmp_path / name), "--json"])

    assert [row["file"] for row in json.loads(capfd.readouterr().out)["pictures"]] == [str(tmp_path / name)]
