from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecnn.datasets.folder import task_from_folder
from edgecnn.datasets.layout import find_layout
from edgecnn.datasets.load import SYNTHETIC, SYNTHETIC_COUNTS, data_info, find_data, load_splits
from edgecnn.errors import DatasetError, NoDataError
from edgecnn.shipped import find_task
from edgecnn.tasks import Task


def picture(seed: int, shape: tuple[int, ...] = (40, 40)) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def write(path: Path, image: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


def write_parts(folder: Path, count: int = 6, shape: tuple[int, ...] = (40, 40)) -> Path:
    for class_id, label in enumerate(("nut", "bolt", "washer")):
        for number in range(count):
            write(folder / label / f"{number}.png", picture(100 * class_id + number, shape))
    return folder


def only_strays(folder: Path) -> None:
    write(folder / "picture.png", picture(0))


def only_one_class(folder: Path) -> None:
    write(folder / "nut" / "0.png", picture(0))


def an_empty_class(folder: Path) -> None:
    write_parts(folder)
    (folder / "spring").mkdir()


def one_picture_of_a_class(folder: Path) -> None:
    write_parts(folder)
    write(folder / "spring" / "0.png", picture(999))


@pytest.mark.parametrize(
    ("arrange", "reason"),
    [
        (lambda folder: None, "holds no class folders"),
        (only_strays, "holds pictures but no class folders.*; good parts alone are learned by .*--only-good"),
        (only_one_class, r"has one class only \(nut\).*; good parts alone are learned by .*--only-good"),
        (an_empty_class, "class folder 'spring' of .* holds no pictures"),
        (one_picture_of_a_class, r"class 'spring' has 1 picture\(s\)"),
    ],
)
def test_a_folder_that_is_no_data_set_is_refused_in_one_line(
    tmp_path: Path, arrange: Callable[[Path], None], reason: str
) -> None:
    arrange(tmp_path)

    with pytest.raises(DatasetError, match=reason) as caught:
        load_splits(task_from_folder(tmp_path), tmp_path, 0)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing", "file.txt"])
def test_a_path_that_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file.txt").write_text("")

    with pytest.raises(DatasetError, match="expected FOLDER/<class>/<pictures>"):
        task_from_folder(tmp_path / name)


def test_labels_stand_in_natural_order(tmp_path: Path) -> None:
    for label in ("size 10", "size 9", "Size 1"):
        write(tmp_path / label / "0.png", picture(0))

    labels = task_from_folder(tmp_path).labels

    assert labels == ("Size 1", "size 9", "size 10")


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([(60, 80)], (60, 80, 1)),
        ([(60, 80, 3)], (60, 80, 3)),
        ([(60, 80), (61, 80)], (128, 128, 1)),
        ([(300, 300)], (128, 128, 1)),
    ],
)
def test_the_input_fits_the_pictures(tmp_path: Path, shapes: list[tuple[int, ...]], expected: tuple[int, int, int]) -> None:
    for number, shape in enumerate(shapes * 2):
        for label in ("nut", "bolt"):
            write(tmp_path / label / f"{number}.png", picture(number, shape))

    task = task_from_folder(tmp_path)

    assert task.preprocessing.shape == expected


def test_a_folder_named_like_a_shipped_task_is_not_mistaken_for_it(tmp_path: Path) -> None:
    task = task_from_folder(write_parts(tmp_path / "NEU"))

    assert task.name == "neu-folder"


@pytest.mark.parametrize(("name", "expected"), [("Meine Teile (Größe 2)", "meine-teile-grosse-2"), ("部品", "folder")])
def test_a_folder_of_another_language_gives_a_name_that_can_be_read(tmp_path: Path, name: str, expected: str) -> None:
    assert task_from_folder(write_parts(tmp_path / name)).name == expected


@pytest.mark.parametrize("name", ["My Parts (2)", "ä", "--"])
def test_the_name_of_a_task_fits_into_a_file_name(tmp_path: Path, name: str) -> None:
    task = task_from_folder(write_parts(tmp_path / name))

    assert task.name.replace("-", "").isalnum()


def test_hidden_and_other_files_are_left_out(tmp_path: Path) -> None:
    write_parts(tmp_path)
    (tmp_path / "readme.txt").write_text("about")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "nut" / "Thumbs.db").write_bytes(b"")

    layout = find_layout(tmp_path)

    assert Counter(file.label for file in layout.files) == {"bolt": 6, "nut": 6, "washer": 6}
    assert layout.left_out == {"readme.txt": "no picture: .txt"}


def test_a_folder_task_remembers_its_folder(tmp_path: Path) -> None:
    task = task_from_folder(write_parts(tmp_path))

    splits = load_splits(task, None, 0)

    assert sum(len(splits[name]) for name in ("train", "validation", "test")) == 18


def test_a_restored_folder_task_loads_from_the_folder_given(tmp_path: Path) -> None:
    write_parts(tmp_path)
    restored = Task.from_json(task_from_folder(tmp_path).to_json())

    splits = load_splits(restored, tmp_path, 0)

    assert splits.info.source == tmp_path.name


def test_a_restored_folder_task_without_its_folder_says_what_is_missing(tmp_path: Path) -> None:
    restored = Task.from_json(task_from_folder(write_parts(tmp_path / "parts")).to_json())

    with pytest.raises(DatasetError, match="no pictures of 'parts'"):
        load_splits(restored, None, 0)


def test_class_folders_that_are_not_the_labels_are_named(tmp_path: Path) -> None:
    task = Task.from_json(task_from_folder(write_parts(tmp_path)).to_json())
    write(tmp_path / "spring" / "0.png", picture(0))

    with pytest.raises(DatasetError, match="spring in one of the two"):
        load_splits(task, tmp_path, 0)


@given(seed=st.integers(0, 2**31))
@settings(max_examples=10, deadline=None)
def test_copies_never_stand_on_two_sides(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    folder = tmp_path_factory.getbasetemp() / "copies"
    if not folder.exists():
        write_parts(folder, count=8)
        for path in sorted(folder.rglob("[0-3].png")):
            write(path.with_stem(f"{path.stem}_copy"), np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), np.uint8))

    splits = load_splits(task_from_folder(folder), folder, seed)

    originals = [{n.replace("_copy", "") for n in splits[name].names} for name in ("train", "validation", "test")]
    assert sum(map(len, originals)) == len(set().union(*originals))


def test_where_data_is_stated_only_there_is_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECNN_DATA", str(tmp_path))
    (tmp_path / "neu").mkdir()

    found = [find_data(name) for name in ("neu", "mnist")]

    assert found == [tmp_path / "neu", None]


def test_a_stated_place_that_does_not_exist_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECNN_DATA", str(tmp_path / "gone"))

    with pytest.raises(DatasetError, match="which is not a folder"):
        find_data("neu")


@pytest.fixture
def nothing_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data anywhere, and few generated pictures."""
    monkeypatch.setenv("EDGECNN_DATA", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    for split, count in {"train": 3, "validation": 2, "test": 1}.items():
        monkeypatch.setitem(SYNTHETIC_COUNTS, split, count)


@pytest.mark.parametrize("name", ["mnist", "neu"])
@pytest.mark.usefixtures("nothing_beside")
def test_generated_pictures_are_called_synthetic(name: str) -> None:
    task = find_task(name)

    splits = load_splits(task, SYNTHETIC, 0)

    counts = [len(splits[split]) // len(task.labels) for split in ("train", "validation", "test")]
    assert (splits.info.synthetic, counts) == (True, [3, 2, 1])


@pytest.mark.parametrize("name", ["mnist", "neu"])
@pytest.mark.usefixtures("nothing_beside")
def test_nothing_is_generated_that_was_not_asked_for(name: str) -> None:
    with pytest.raises(NoDataError, match=f"no pictures of '{name}'.* EDGECNN_DATA .*--data synthetic"):
        load_splits(find_task(name), None, 0)


@pytest.mark.usefixtures("nothing_beside")
def test_without_a_stated_place_no_data_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGECNN_DATA")

    assert find_data("neu") is None


@pytest.mark.usefixtures("nothing_beside")
def test_a_folder_that_is_called_synthetic_is_not_mistaken_for_generated_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "synthetic").mkdir()
    monkeypatch.chdir(tmp_path)

    with pytest.raises(DatasetError, match="give its absolute path"):
        load_splits(find_task("neu"), SYNTHETIC, 0)


@pytest.mark.usefixtures("nothing_beside")
def test_generated_splits_share_no_picture() -> None:
    splits = load_splits(find_task("mnist"), SYNTHETIC, 0)

    images = [image.tobytes() for name in ("train", "validation", "test") for image in splits[name].images]
    assert len(images) == len(set(images))


@pytest.mark.usefixtures("nothing_beside")
def test_one_seed_generates_the_same_pictures() -> None:
    first, second = (load_splits(find_task("neu"), SYNTHETIC, 5).train.digest() for _ in range(2))

    assert first == second


@pytest.mark.usefixtures("nothing_beside")
def test_a_description_tells_synthetic_data() -> None:
    info = data_info(load_splits(find_task("mnist"), SYNTHETIC, 0), "validation")

    assert (info.synthetic, info.split, info.count) == (True, "validation", 20)
