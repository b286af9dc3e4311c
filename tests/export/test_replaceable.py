"""No command overwrites a file that edgecnn has not made: it is refused in one line before anything starts."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecnn.cli.main import main
from edgecnn.errors import OutputError
from edgecnn.files import check_replaceable
from edgecnn_export.plots.figures import new_figure, save_figure


@pytest.mark.parametrize("form", ["png", "svg", "pdf", "ps", "eps", "jpg", "jpeg", "tif", "tiff", "webp", "gif"])
def test_a_figure_may_take_the_place_of_one_that_was_drawn_here(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"a.{form}"
    if form not in new_figure(1, 1).canvas.get_supported_filetypes():
        return
    for _ in range(2):
        check_replaceable(path)
        save_figure(new_figure(2, 2), path)


def test_a_figure_of_a_form_without_a_place_for_a_word_is_new_only(tmp_path: Path) -> None:
    save_figure(new_figure(1, 1), tmp_path / "a.raw")

    with pytest.raises(OutputError, match="was not made by edgecnn"):
        check_replaceable(tmp_path / "a.raw")


def test_an_empty_file_and_none_at_all_may_be_written(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()

    check_replaceable(tmp_path / "empty")
    check_replaceable(tmp_path / "none")


@pytest.mark.parametrize("kind", ["folder", "device"])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(OutputError, match="is not a regular file"):
        check_replaceable(tmp_path if kind == "folder" else Path("/dev/null"))


COMMANDS = {
    "classify --plot": ["classify", "neu", "{picture}", "--plot", "{mine}"],
    "filters --out": ["filters", "{picture}", "--out", "{mine}"],
    "robustness --plot": ["robustness", "neu", "--plot", "{mine}"],
    "robustness --html": ["robustness", "neu", "--html", "{mine}"],
    "rejection --plot": ["rejection", "neu", "--plot", "{mine}"],
    "data check --html": ["data", "check", ".", "--html", "{mine}"],
    "parity --html": ["parity", "neu", "neu-int8.tflite", "--html", "{mine}"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_refuses_a_file_of_somebody_elses(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine, picture = tmp_path / "thesis.png", tmp_path / "picture.png"
    mine.write_text("my thesis")
    cv2.imwrite(str(picture), np.full((50, 50), 128, np.uint8))
    words = [word.format(mine=mine, picture=picture) for word in COMMANDS[name]]

    with pytest.raises(SystemExit) as ended:
        main(words)

    said = capsys.readouterr()
    assert (ended.value.code, said.out, said.err.count("\n"), mine.read_text()) == (2, "", 1, "my thesis")
    assert "was not made by edgecnn; it is not overwritten" in said.err


def test_a_plot_may_be_drawn_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "picture.png"), np.full((50, 50), 128, np.uint8))

    for _ in range(2):
        with pytest.raises(SystemExit, match="0"):
            main(["classify", "neu", str(tmp_path / "picture.png"), "--plot", str(tmp_path / "plot.png")])

    assert capsys.readouterr().err == ""
