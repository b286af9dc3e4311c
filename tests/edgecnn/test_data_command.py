from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edgecnn.cli.main import main
from edgecnn.datasets.check import check_folder, compare_with_table, leaked_share
from edgecnn.datasets.dataset import Dataset
from edgecnn.datasets.flattery import Described
from edgecnn.datasets.folder import FolderContents, write_folder
from edgecnn.datasets.group_table import GroupTable
from edgecnn.datasets.neu import read_split_table
from edgecnn.errors import DatasetError, OutputError


def surface(seed: int, side: int = 300) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).normal(size=(side, side)).astype(np.float32)
    smooth = noise + 3 * np.asarray(cv2.GaussianBlur(noise, (0, 0), 3))
    return np.asarray(np.clip(128 + 40 * smooth, 0, 255), np.uint8)


def write(path: Path, image: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


@pytest.fixture
def spoilt(tmp_path: Path) -> Path:
    """Two classes with one of each fault: overlap, copy, conflict, damaged file, odd size."""
    folder = tmp_path / "spoilt"
    for number in range(8):
        write(folder / ("good" if number % 2 else "bad") / f"{number}.png", surface(number)[:128, :128])
    write(folder / "good" / "shifted.png", surface(1)[40:168, 25:153])
    write(folder / "good" / "copy.png", surface(3)[:128, :128])
    write(folder / "bad" / "conflict.png", surface(5)[:128, :128])
    write(folder / "bad" / "odd.png", surface(20)[:90, :128])
    (folder / "bad" / "damaged.png").write_text("no picture")
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int | str | None, str, str]:
    with pytest.raises(SystemExit) as exited:
        main(list(arguments))
    captured = capsys.readouterr()
    return exited.value.code, captured.out, captured.err


def test_every_fault_is_found_and_nothing_else(spoilt: Path) -> None:
    found = check_folder(spoilt)

    assert {(pair.first, pair.second, pair.kind) for pair in found.pairs} == {
        ("good/1.png", "good/shifted.png", "overlap"),
        ("good/3.png", "good/copy.png", "duplicate"),
        ("bad/conflict.png", "good/5.png", "duplicate"),
    }


def test_a_picture_under_two_labels_is_a_conflict(spoilt: Path) -> None:
    conflicts = check_folder(spoilt).conflicts

    assert [(pair.first, pair.second, pair.labels) for pair in conflicts] == [
        ("bad/conflict.png", "good/5.png", ("bad", "good"))
    ]


def test_damaged_and_odd_files_are_named(spoilt: Path) -> None:
    found = check_folder(spoilt)

    assert (list(found.unreadable), found.odd_sizes) == (["bad/damaged.png"], {"bad/odd.png": "90 x 128"})


def test_groups_are_counted(spoilt: Path) -> None:
    found = check_folder(spoilt)

    assert (found.groups, found.grouped, found.largest_group) == (3, 6, 2)


def test_findings_exit_with_zero(spoilt: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "data", "check", str(spoilt))

    assert (code, "conflicting labels: 1" in out) == (0, True)


def test_json_holds_all_that_was_found(spoilt: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "data", "check", str(spoilt), "--json", "--seed", "3")

    body = json.loads(out)
    assert (len(body["pairs"]), body["seed"], body["counts"]) == (3, 3, {"bad": 6, "good": 6})


def test_a_folder_that_is_none_exits_with_two_and_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "data", "check", str(tmp_path / "gone"))

    assert (code, out, err.count("\n")) == (2, "", 1)


def test_a_folder_without_any_readable_picture_exits_with_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "0.png").write_text("no picture")

    code, _, err = run(capsys, "data", "check", str(tmp_path))

    assert (code, "holds no picture that can be read: 2 named .png but text" in err) == (2, True)


def test_a_table_that_records_what_was_found_agrees(spoilt: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("file,group,split\n1.png,0,train\nshifted.png,0,train\n3.png,1,train\ncopy.png,2,val\n0.png,3,val\n")

    compared = compare_with_table(check_folder(spoilt), GroupTable.read(table))

    assert (compared.recorded, compared.joined, compared.groups, compared.whole, compared.exact) == (2, 2, 1, 1, 1)
    assert (compared.recall.right, compared.recall.count) == (1, 1)
    assert (compared.precision.right, compared.precision.count) == (1, 2)
    assert [(pair.first, pair.second) for pair in compared.across] == [("good/3.png", "good/copy.png")]
    assert compared.straddling == 1


def test_a_table_without_splits_is_compared_too(spoilt: Path, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("file,group\ngood/1.png,0\ngood/shifted.png,0\n")

    compared = compare_with_table(check_folder(spoilt), GroupTable.read(tmp_path / "table.csv"))

    assert (compared.exact, compared.pairs, compared.straddling) == (1, 1, 0)


def test_the_page_shows_pairs_and_escapes_their_names(
    spoilt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgecnn.cli.data._pretrained", lambda: None)
    (spoilt / "good" / "copy.png").rename(spoilt / "good" / "<b>copy&.png")

    for _ in range(2):  # a page that was written here may be written again
        code, out, _ = run(capsys, "data", "check", str(spoilt), "--html", str(tmp_path / "page.html"))

    page = (tmp_path / "page.html").read_text()
    assert (code, "page: " in out) == (0, True)
    assert "good/&lt;b&gt;copy&amp;.png" in page
    assert "<b>copy" not in page
    assert page.count("<img ") == 2 * 4  # two copies, an overlap, and the conflict once more


def test_better_features_take_the_place_of_ours(tmp_path: Path) -> None:
    for number in range(40):
        write(tmp_path / "parts" / "ab"[number % 2] / f"{number}.png", surface(number, 96))

    def describe(contents: FolderContents, class_ids: NDArray[np.int64]) -> Described:
        chosen = np.arange(0, len(class_ids), 2)  # of each class every other picture
        return Described("an oracle", chosen, np.eye(2, dtype=np.float32)[class_ids[chosen]])

    found = check_folder(tmp_path / "parts", flattery=True, describe=describe).flattery

    assert found is not None
    assert (found.classifier, found.random.value, found.grouped.value) == ("an oracle", 1.0, 1.0)


def test_pairs_that_the_recorded_split_of_neu_parts_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row for row in read_split_table().values() if row.label == "crazing"]
    train, validation = (next(row.number for row in rows if row.split == split) for split in ("train", "validation"))
    for label, number, seed in (("crazing", train, 1), ("crazing", validation, 1), ("patches", 1, 2)):
        write(tmp_path / label / f"{label}_{number}.png", surface(seed, 96))

    code, out, _ = run(capsys, "data", "check", str(tmp_path))

    assert code == 0
    assert "1 pair of NEU's pictures lie on two sides of its recorded split (neu_split.csv)" in " ".join(out.split())


def test_pictures_of_other_names_have_no_recorded_split(spoilt: Path) -> None:
    assert check_folder(spoilt).recorded is None


def test_a_random_split_flatters_where_parts_are_seen_again(tmp_path: Path) -> None:
    # Labels that nothing in the pictures tells: only who has seen the part before can know them.
    for part in range(60):
        for exposure in range(4):
            picture = np.clip(surface(part, 96) * (0.7 + 0.1 * exposure), 0, 255).astype(np.uint8)
            write(tmp_path / "parts" / ("a" if part % 2 else "b") / f"{part}_{exposure}.png", picture)

    found = check_folder(tmp_path / "parts", group_by=r"(\d+)_", flattery=True).flattery

    assert found is not None
    assert found.random.value > 0.9
    assert found.grouped.interval[0] < 0.5 < found.grouped.interval[1] + 0.05


@pytest.mark.parametrize("text", ["file;group\n", "name,group\n1.png,0\n", "file,group,split\nother.png,0,train\n"])
def test_a_table_of_something_else_is_refused(spoilt: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "table.csv").write_text(text)

    with pytest.raises(DatasetError, match=r"table\.csv"):
        compare_with_table(check_folder(spoilt), GroupTable.read(tmp_path / "table.csv"))


def test_no_pairs_leak_nothing() -> None:
    share = leaked_share([], np.arange(40) % 2, seed=0)

    assert share == 0.0


def test_a_set_of_pairs_leaks_as_often_as_the_partner_is_trained() -> None:
    # Each picture has one partner, which stands in train with about 70 % probability.
    pairs = [(k, k + 200) for k in range(200)]

    share = leaked_share(pairs, np.arange(400) % 2, seed=0)

    assert share == pytest.approx(0.7, abs=0.05)


@pytest.mark.parametrize("name", ["mnist", "neu"])
def test_generated_pictures_come_back_from_their_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    run(capsys, "data", "generate", name, str(tmp_path / "made"), "--count", "4", "--seed", "1")

    _, out, _ = run(capsys, "data", "info", str(tmp_path / "made"), "--json")

    splits = json.loads(out)["splits"]
    classes = {label for part in splits.values() for label in part["classes"]}
    counts = [sum(part["classes"][label] for part in splits.values()) for label in classes]
    assert counts == [4] * (10 if name == "mnist" else 6)


def test_a_folder_that_holds_something_is_not_written_into(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("mine")

    code, _, err = run(capsys, "data", "generate", "mnist", str(tmp_path), "--count", "1")

    assert (code, "not empty" in err, [path.name for path in tmp_path.iterdir()]) == (2, True, ["mine.txt"])


def test_an_interrupted_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    dataset = Dataset(np.zeros((1, 8, 8, 1), np.uint8), np.zeros(1, np.int64), ("a",))

    with pytest.raises(OutputError, match="no space left on device; nothing was written"):
        write_folder(dataset, ("a", "b"), tmp_path / "made")

    assert list(tmp_path.iterdir()) == []


def test_info_names_an_unknown_task(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "data", "info", "nothing")

    assert (code, "unknown task 'nothing'" in err) == (2, True)


def test_info_tells_generated_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGECNN_DATA", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr("edgecnn.datasets.load.SYNTHETIC_COUNTS", {"train": 2, "validation": 1, "test": 1})

    _, out, _ = run(capsys, "data", "info", "neu", "--data", "synthetic")

    assert out.startswith("neu: synthetic pictures of")
