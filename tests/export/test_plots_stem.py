"""A prediction is drawn as the course shows it: the picture beside the stems of its probabilities."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecnn.classifier import Prediction
from edgecnn.errors import InputError, OutputError, ShapeError
from edgecnn_export.plots.figures import RIGHT, WRONG, save_figure
from edgecnn_export.plots.stem import MAX_PICTURES, Answer, plot_prediction, plot_predictions, save_predictions

STEEL = ("crazing", "inclusion", "patches", "pitted_surface", "rolled-in_scale", "scratches")


def _answer(classes: int = 6, channels: int = 1, **known: str | bool | None) -> Answer:
    labels = STEEL if classes == 6 else tuple(f"class {i}" for i in range(classes))
    probabilities = np.full(classes, 0.2 / (classes - 1), np.float32)
    probabilities[1] = 0.8
    return Answer(np.full((20, 30, channels), 90, np.uint8), probabilities, labels, "part.png", **known)  # type: ignore[arg-type]


def test_a_figure_holds_a_picture_and_stems_for_each_answer() -> None:
    figure = plot_predictions([_answer(), _answer(channels=3)])

    assert [len(axes.images) for axes in figure.axes] == [1, 0, 1, 0]


def test_the_stems_stand_as_high_as_the_probabilities() -> None:
    answer = _answer()

    stems = plot_predictions([answer]).axes[1]

    tops = [segment[1, 1] for segment in stems.collections[0].get_segments()]  # type: ignore[attr-defined]
    np.testing.assert_allclose(tops, answer.probabilities)
    assert [text.get_text() for text in stems.get_xticklabels()] == list(STEEL)


def test_the_title_names_the_prediction_and_the_truth() -> None:
    answer = _answer()

    stems = plot_prediction(answer.image, answer.probabilities, STEEL, true_label="patches", title="part.png").axes[1]

    assert stems.get_title("left") == "predicted: inclusion (80.0%)\ntrue: patches"


@pytest.mark.parametrize(("true_label", "color"), [("inclusion", RIGHT), ("patches", WRONG)])
def test_the_colour_tells_right_from_wrong(true_label: str, color: str) -> None:
    stems = plot_predictions([_answer(true_label=true_label)]).axes[1]

    assert stems.title.get_color() != color  # the centred title is not used
    assert stems._left_title.get_color() == color  # type: ignore[attr-defined]


def test_a_rejected_answer_is_called_unknown() -> None:
    stems = plot_predictions([_answer(rejected=True)]).axes[1]

    assert stems.get_title("left") == "predicted: unknown (inclusion, 80.0%)"


@pytest.mark.parametrize(("pictures", "classes"), [(1, 2), (1, 50), (4, 10)])
def test_nothing_overlaps_and_nothing_leaves_the_page(pictures: int, classes: int) -> None:
    figure = plot_predictions([_answer(classes) for _ in range(pictures)])

    figure.canvas.draw()
    boxes = [box for axes in figure.axes if (box := axes.get_tightbbox()) is not None]
    page = figure.bbox
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= page.x1 and box.y1 <= page.y1 for box in boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


@pytest.mark.parametrize("pictures", [13, 28, MAX_PICTURES])
def test_many_pictures_stand_in_a_grid_on_the_page(pictures: int) -> None:
    figure = plot_predictions([_answer() for _ in range(pictures)])

    boxes = [axes.get_position() for axes in figure.axes]
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= 1 and box.y1 <= 1 for box in boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


def test_labels_and_names_are_no_formulas(tmp_path: Path) -> None:
    answer = Answer(np.zeros((4, 4, 1), np.uint8), np.array([0.4, 0.6], np.float32), ("$a_{", "\\b$"), "$x^.png")

    save_figure(plot_predictions([answer]), tmp_path / "plot.png")

    assert cv2.imread(str(tmp_path / "plot.png")) is not None


def test_labels_in_other_scripts_do_no_harm(tmp_path: Path) -> None:
    answer = Answer(np.zeros((4, 4, 1), np.uint8), np.array([0.4, 0.6], np.float32), ("划痕", "Fläche"), "钢.png")

    save_figure(plot_predictions([answer]), tmp_path / "plot.png")

    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_predictions_are_saved_as_the_suffix_says(tmp_path: Path) -> None:
    answer = _answer()
    prediction = Prediction("inclusion", 1, 0.8, answer.probabilities)

    for suffix, start in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        save_predictions(tmp_path / f"plot{suffix}", [answer.image], [prediction], STEEL, ["part.png"])
        assert (tmp_path / f"plot{suffix}").read_bytes().startswith(start)


@pytest.mark.parametrize("count", [0, MAX_PICTURES + 1])
def test_too_few_or_too_many_pictures_are_refused(count: int) -> None:
    with pytest.raises(InputError, match=f"1 to {MAX_PICTURES} pictures, got {count}"):
        plot_predictions([_answer()] * count)


def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown picture format '\.xyz'; known: .*png"):
        save_figure(plot_predictions([_answer()]), tmp_path / "plot.xyz")


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        save_figure(plot_predictions([_answer()]), tmp_path / "no" / "plot.png")


def test_what_does_not_fit_together_is_refused() -> None:
    image, probabilities = np.zeros((4, 4, 1), np.uint8), np.array([0.4, 0.6], np.float32)

    with pytest.raises(ShapeError, match="expected 3 probabilities"):
        Answer(image, probabilities, ("a", "b", "c"), "")
    with pytest.raises(ShapeError, match="expected a picture"):
        Answer(image[:, :, 0], probabilities, ("a", "b"), "")
    with pytest.raises(InputError, match="true label 'c' is not one of the labels a, b"):
        Answer(image, probabilities, ("a", "b"), "", true_label="c")


def test_no_window_and_no_global_state_is_touched() -> None:
    code = (
        "import sys, numpy as np\n"
        "from edgecnn_export.plots.stem import plot_prediction\n"
        "assert 'matplotlib' not in sys.modules\n"
        "plot_prediction(np.zeros((4, 4, 1), np.uint8), np.array([0, 1], np.float32), ('a', 'b'))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_without_matplotlib_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    with pytest.raises(ImportError, match=r"Matplotlib is not installed\. Install it with: pip install 'edgecnn\[export\]'"):
        plot_predictions([_answer()])
