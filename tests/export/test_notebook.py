"""The verbs of a notebook, on a folder of pictures: from load_folder to a model that answers, each result showing itself."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

import edgecnn as ec
import edgecnn_export.training
from edgecnn.datasets.dataset import Splits
from edgecnn.datasets.load import load_splits
from edgecnn.errors import DatasetError, InputError
from edgecnn.tasks import Task
from edgecnn_export.training import TrainingRun

LABELS = ("dark", "lying & long", "upright")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty gray pictures of each kind, 16 x 16; HTML would take the name of one class for an entity."""
    folder, random = tmp_path_factory.mktemp("parts") / "my-parts", np.random.default_rng(3)
    for label in LABELS:
        (folder / label).mkdir(parents=True)
        for number in range(30):
            image = random.integers(0, 60, (16, 16)).astype(np.uint8)
            at = random.integers(1, 11)
            if label == "upright":
                image[:, at : at + 3] += np.uint8(150)
            elif label != "dark":
                image[at : at + 3] += np.uint8(150)
            cv2.imwrite(str(folder / label / f"{number}.png"), image)
    return folder


@pytest.fixture(scope="module")
def run(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> ec.Run:
    return ec.train(
        ec.load_folder(parts),
        network="compact",
        teacher=False,
        epochs=2,
        out=tmp_path_factory.mktemp("run") / "r",
        progress=lambda line: None,
    )


@pytest.fixture(scope="module")
def exported(run: ec.Run, tmp_path_factory: pytest.TempPathFactory) -> ec.Export:
    return ec.export(run, int8=True, out=tmp_path_factory.mktemp("export") / "e", progress=lambda line: None)


def test_a_training_keeps_the_split_that_is_named(run: ec.Run, parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = list[Splits]()

    def stand_in(task: Task, splits: Splits, **_: object) -> TrainingRun:
        given.append(splits)
        return run.result

    monkeypatch.setattr(edgecnn_export.training, "train", stand_in)
    other = ec.load_folder(parts, seed=7)

    ec.train(other, network="compact", splits=run.folder)
    ec.train(other, network="compact", splits="new", out=run.folder)

    assert set(given[0].test.names) == set(run.data.splits.test.names) != set(other.splits.test.names)
    assert given[1].test.names == other.splits.test.names


def test_a_split_that_is_none_is_refused_before_anything_is_trained(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is neither splits\.csv nor the folder of a run that has one"):
        ec.train(ec.load_folder(parts), splits=tmp_path)


def texts(shown: str) -> str:
    """Parse HTML, in which every tag that is opened must be closed, and return its text."""
    held, open_tags, empty = list[str](), list[str](), {"img", "line", "circle", "br"}

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag not in empty:
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert tag in empty or open_tags.pop() == tag

        def handle_data(self, data: str) -> None:
            held.append(data)

    Reader().feed(shown)
    assert open_tags == []
    return " ".join(held)


def test_a_folder_is_read_divided_and_checked(parts: Path) -> None:
    data = ec.load_folder(parts)

    assert data.labels == LABELS
    assert {label: sum(counts.values()) for label, counts in data.counts().items()} == dict.fromkeys(LABELS, 30)
    assert data.check().counts == dict.fromkeys(LABELS, 30)
    assert "3 classes" in repr(data)
    assert "lying & long" in texts(data._repr_html_())


def test_the_data_set_of_a_shipped_task_is_divided_as_its_model_was_trained() -> None:
    data = ec.load_folder("synthetic", task="mnist", seed=3)

    assert data.task is ec.find_task("mnist")
    assert data.splits.train.digest() == load_splits(ec.find_task("mnist"), Path("synthetic"), 3).train.digest()


def test_how_to_read_a_folder_of_ones_own_is_refused_for_a_shipped_task() -> None:
    with pytest.raises(InputError, match="mnist is a task whose pictures are known"):
        ec.load_folder("synthetic", task="mnist", color="gray")


def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        ec.load_folder(tmp_path)

    assert "\n" not in str(caught.value)


def test_a_run_shows_its_curves_and_its_mistakes(run: ec.Run) -> None:
    mistakes = run.mistakes()

    assert len(mistakes) == run.result.count - run.result.correct
    assert [each.probability for each in mistakes] == sorted((each.probability for each in mistakes), reverse=True)
    assert all(each.truth != each.answer and each.image.shape == (16, 16, 1) for each in mistakes)
    assert run.confusion().counts.trace() == run.result.correct
    assert "data:image/png" in run.curves()._repr_html_()
    assert f"{run.result.correct} of {run.result.count}" in texts(run._repr_html_())
    assert f"{len(mistakes)} mistakes" in texts(mistakes._repr_html_())


def test_an_export_is_proven_on_the_pictures_of_its_run(run: ec.Run, exported: ec.Export) -> None:
    assert exported.parity is not None
    assert exported.parity.count == len(run.data.splits.validation)
    assert len(exported.files) == 4
    assert all(each.path.name in texts(exported._repr_html_()) for each in exported.files)
    assert exported.parity.verdict in repr(exported)


def test_the_parity_report_shows_itself(exported: ec.Export) -> None:
    assert exported.parity is not None

    shown = texts(exported.parity._repr_html_())

    assert all(each.name in shown and each.verdict in shown for each in exported.parity.candidates)


def test_a_file_that_was_not_made_is_named(run: ec.Run, tmp_path: Path) -> None:
    only = ec.export(run.folder, file_format="tflite", out=tmp_path / "only", progress=lambda line: None)

    with pytest.raises(InputError, match=r"no int8 \.tflite: my-parts-float32\.tflite"):
        only.file("int8")


def test_the_exported_model_answers_as_the_run_does(run: ec.Run, exported: ec.Export, parts: Path) -> None:
    model = ec.open(exported.file("float32"))
    picture = parts / "upright" / "0.png"

    answer = model(picture)

    expected = run.result.reference.runtime().run(run.data.task.preprocessing(cv2.imread(str(picture)))[None])[0]
    assert answer.best == LABELS[int(expected.argmax())]
    assert model.classifier.evidence is not None
    expected = model.classifier.evidence.temper(expected)
    assert answer.probabilities == pytest.approx(dict(zip(LABELS, expected, strict=True)), abs=1e-4)


def test_files_are_compared_with_the_run_they_came_from(run: ec.Run, exported: ec.Export) -> None:
    report = ec.compare(run, exported.file("float32"))

    assert report.candidates[0].unchanged
    with pytest.raises(InputError, match="at least one exported file"):
        ec.compare(run)
