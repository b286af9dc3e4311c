"""The page that a training leaves, and the features that it rests on: whole, bounded, harmless whatever files are called."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import cv2
import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from edgecnn.cli.main import main
from edgecnn.datasets.dataset import Dataset, Splits
from edgecnn.datasets.folder import task_from_folder
from edgecnn.datasets.load import load_splits
from edgecnn.errors import InputError, MissingDependencyError
from edgecnn.preprocessing import Preprocessing
from edgecnn.tasks import Task
from edgecnn_export.studies import frozen
from edgecnn_export.studies import report as page
from edgecnn_export.studies.learning_curve import ClassCurve, LearningCurve
from edgecnn_export.training import train as run_training
from edgecnn_export.training.session import TrainingRun

HOSTILE = "<img src=x onerror=alert(1)>"
PARTS = Task("parts", "drawn parts", ("bright", "dark"), Preprocessing(32, 32, "gray"))


def write_parts(folder: Path, labels: tuple[str, ...], count: int = 16) -> Path:
    """Write noise of another level for each label, 32 x 32."""
    random = np.random.default_rng(0)
    for at, label in enumerate(labels):
        (folder / label).mkdir(parents=True)
        for i in range(count):
            grain = random.normal(60 + 70 * at, 25, (32, 32))
            cv2.imwrite(str(folder / label / f"{i}.png"), np.clip(grain, 0, 255).astype(np.uint8))
    return folder


def mean_and_noise(
    task: Task, images: NDArray[np.uint8], order: NDArray[np.int64], *_: Any
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Stand in for the pretrained network, which takes seconds to build."""
    random = np.random.default_rng(0)
    features = random.normal(size=(len(images), 6)) + images.mean(axis=(1, 2, 3))[:, None] / 40
    return features.astype(np.float32), np.sort(order)


Trained = tuple[TrainingRun, Splits]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A training of a folder whose classes and files are called to do harm."""
    folder = write_parts(tmp_path_factory.mktemp("data") / "parts", (HOSTILE, "'\"&{{7*7}}", "good"))
    for number, name in enumerate((b"<script>alert(2).png", b"\xff\xfe.png", "\u202egnp.exe.png".encode())):
        (folder / HOSTILE / f"{number}.png").rename(folder / HOSTILE / os.fsdecode(name))
    task = task_from_folder(folder)
    splits = load_splits(task, folder, 0)
    return run_training(task, splits, out=tmp_path_factory.mktemp("run"), epochs=1, batch_size=16), splits


@pytest.fixture
def shown(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(frozen, "_computed", mean_and_noise)
    return page.write_report(*trained).read_text("utf-8")


def test_the_page_has_all_that_a_training_leaves_behind(shown: str) -> None:
    for title in (
        "What would help most", "Class by class", "Mistakes", "Suspects", "What more pictures would bring", "Training",
        "What the network sees", "Groups and split", "The network",
    ):  # fmt: skip
        assert f"<h2>{title}</h2>" in shown


def test_the_page_loads_nothing_and_is_small(shown: str) -> None:
    sources = re.findall(r"<[a-z]+ [^>]*?\b(?:src|href)=\"([^\"]{0,30})", shown)

    assert sources and all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert "default-src 'none'" in shown
    assert len(shown) < 2_000_000


def test_names_of_classes_and_files_stay_text(shown: str) -> None:
    assert HOSTILE not in shown and "<script" not in shown and "\u202e" not in shown
    assert "&lt;img src=x onerror=alert(1)&gt;" in shown
    assert "{{7*7}}" in shown


def test_without_the_pretrained_network_the_page_says_so(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise MissingDependencyError("the package of the weights is not installed")

    monkeypatch.setattr(frozen, "_computed", missing)
    (trained[0].folder / frozen.FILE_NAME).unlink(missing_ok=True)

    shown = page.write_report(*trained).read_text("utf-8")

    assert "Not studied: the package of the weights is not installed" in shown
    assert "<h2>Suspects</h2>" not in shown


def test_the_class_without_validation_pictures_is_to_be_photographed(trained: Trained) -> None:
    run, splits = trained
    confusion = np.array(run.record["validation"]["confusion"])
    confusion[1] = 0
    record = run.record | {"validation": run.record["validation"] | {"confusion": confusion.tolist()}}

    lines = page.what_next(dataclasses.replace(run, record=record), splits, None)

    assert f"Photograph {run.reference.task.labels[1]} on other parts or days" in lines[0]


def test_a_class_that_more_pictures_would_not_help_is_not_to_be_photographed(trained: Trained) -> None:
    run, splits = trained
    label = run.reference.task.labels[0]
    curves = [ClassCurve(label, 20, 20, 0.9, (0.8, 1.0), more=20, gain=gain, interval=(0.0, 0.05)) for gain in (0.004, 0.006)]

    hopeless, worth = (
        page.what_next(
            run, splits, cast(page.Studies, SimpleNamespace(suspects=SimpleNamespace(found=()), pairs=(), curve=curve))
        )
        for curve in (LearningCurve((one,), 20) for one in curves)
    )

    assert not any("more pictures of" in line for line in hopeless)
    assert any("about +1 points" in line for line in worth)


def train(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["train", *arguments, "--network", "compact", "--epochs", "1", "--batch-size", "16"])
    return int(str(end.value.code))


def test_training_writes_the_page_or_leaves_it_out(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_parts(tmp_path / "parts", ("bad", "good"))
    monkeypatch.setattr("edgecnn_export.training.train", lambda *_, **__: dataclasses.replace(trained[0], folder=tmp_path))
    monkeypatch.setattr(frozen, "_computed", mean_and_noise)

    assert train(str(folder), "--out", str(tmp_path)) == 0
    assert (tmp_path / "report.html").exists()
    assert f"report: {tmp_path / 'report.html'}" in capsys.readouterr().out

    assert train(str(folder), "--out", str(tmp_path), "--no-report") == 0
    assert not (tmp_path / "report.html").exists()


def test_a_page_of_somebody_else_is_refused_before_the_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_parts(tmp_path / "parts", ("bad", "good"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "report.html").write_text("my thesis", "utf-8")

    code = train(str(folder), "--out", str(tmp_path / "run"))

    assert code == 2
    assert "was not made by edgecnn" in capsys.readouterr().err
    assert not (tmp_path / "run" / "model.keras").exists()


def test_one_mistake_of_each_group_is_shown_before_its_siblings(trained: Trained) -> None:
    run, splits = trained
    images = np.repeat(splits.validation.images[:2], 10, axis=0)
    wrong = (run.reference.runtime().run(images).argmax(axis=1) + 1) % len(run.reference.task.labels)
    names = tuple(f"part{i // 10}" for i in range(20))
    siblings = Dataset(images, wrong.astype(np.int64), names, np.arange(20, dtype=np.int64) // 10)

    shown = page._mistakes(run, splits.train, siblings)

    assert (shown["count"], shown["of"]) == (20, 20)
    assert {each["name"] for each in shown["pictures"][:2]} == {"part0", "part1"}


def test_a_map_shows_where_a_picture_speaks_for_its_class() -> None:
    image = keras.Input((32, 32, 1))
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.AveragePooling2D(4)(image))
    model = keras.Model(image, keras.layers.Dense(2)(pooled))
    model.layers[-1].set_weights([np.array([[1.0, -1.0]]), np.zeros(2)])
    picture = np.zeros((1, 32, 32, 1), np.uint8)
    picture[0, 4:10, 20:26] = 200
    train = Dataset(picture, np.array([0]), ("part",))

    maps = page.place_maps(model, train, picture, np.array([0]))

    assert maps is not None
    row, column = np.unravel_index(int(maps[0].argmax()), maps[0].shape)
    assert 2 <= row <= 12 and 18 <= column <= 28


def test_a_network_without_places_has_no_map() -> None:
    image = keras.Input((32, 32, 1))
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(image)))

    picture = np.zeros((1, 32, 32, 1), np.uint8)
    assert page.place_maps(model, Dataset(picture, np.array([0]), ("part",)), picture, np.array([0])) is None


def test_a_small_picture_is_a_small_jpeg() -> None:
    random = np.random.default_rng(0)
    shown = page.thumbnail(random.integers(0, 256, (700, 900, 3), dtype=np.uint8))

    assert shown.startswith("data:image/jpeg;base64,")
    assert len(shown) < 30_000


def parts(count: int = 20, *, side: int = 32, seed: int = 0) -> Dataset:
    random = np.random.default_rng(seed)
    class_ids = np.arange(count, dtype=np.int64) % 2
    images = random.integers(0, 100, (count, side, side, 1), dtype=np.uint8) + (100 * class_ids[:, None, None, None]).astype(
        np.uint8
    )
    return Dataset(images, class_ids, tuple(map(str, range(count))))


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures the network was asked for, one number for each time."""
    asked: list[int] = []

    def count(task: Task, images: NDArray[np.uint8], *rest: Any) -> Any:
        asked.append(len(images))
        return mean_and_noise(task, images, *rest)

    monkeypatch.setattr(frozen, "_computed", count)
    return asked


def test_features_are_computed_once_for_the_same_pictures(tmp_path: Path, computed: list[int]) -> None:
    cache = tmp_path / "features.npz"
    first, again, others = (frozen.freeze_features(PARTS, [parts(seed=seed)], cache=cache) for seed in (0, 0, 1))

    assert computed == [20, 20]
    assert np.allclose(first.features, again.features, atol=0.02)
    assert not np.allclose(first.features, others.features, atol=0.02)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut_short, empty])
def test_features_that_are_damaged_are_computed_again(
    tmp_path: Path, computed: list[int], damage: Callable[[Path], None]
) -> None:
    cache = tmp_path / "features.npz"
    frozen.freeze_features(PARTS, [parts()], cache=cache)
    damage(cache)

    frozen.freeze_features(PARTS, [parts()], cache=cache)

    assert computed == [20, 20]


def test_a_file_of_somebody_else_is_not_overwritten(tmp_path: Path, computed: list[int]) -> None:
    cache = tmp_path / "features.npz"
    np.savez(cache, mine=np.arange(3))
    before = cache.read_bytes()

    frozen.freeze_features(PARTS, [parts()], cache=cache)

    assert computed == [20]
    assert cache.read_bytes() == before


def test_of_a_huge_folder_only_so_many_pictures_are_looked_at(computed: list[int]) -> None:
    found = frozen.freeze_features(PARTS, [parts(60)], most=30)

    assert computed == [30]
    assert (len(found.pool), found.left_out) == (30, 30)
    assert np.bincount(found.class_ids).tolist() == [15, 15]


def test_pictures_too_small_for_the_network_are_refused() -> None:
    small = Task("small", "small", ("bright", "dark"), Preprocessing(28, 28, "gray"))

    with pytest.raises(InputError, match="at least 32 pixels a side, got 28 x 28"):
        frozen.freeze_features(small, [parts(side=28)])
