"""Groups that the user states: a part stays on one side of every split, whoever divides."""

from __future__ import annotations

import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecnn.cli.main import main
from edgecnn.datasets.check import check_folder
from edgecnn.datasets.folder import task_from_folder
from edgecnn.datasets.group_by import parse_group_by
from edgecnn.datasets.group_table import GroupTable
from edgecnn.datasets.layout import LabelledFile
from edgecnn.datasets.load import load_splits
from edgecnn.errors import DatasetError, InputError
from edgecnn.progress import listening

NOTHING = np.arange(4, dtype=np.int64)
NAMES = ("a/1.png", "a/2.png", "b/3.png", "b/4.png")


def table(folder: Path, text: str) -> Path:
    path = folder / "groups.csv"
    path.write_text(text, encoding="utf-8")
    return path


def groups(path: Path, names: tuple[str, ...] = NAMES, found: object = NOTHING) -> list[int]:
    files = [LabelledFile(path.parent / name, name, name[0]) for name in names]
    return parse_group_by(path).join(files, np.asarray(found, np.int64))[0].tolist()


def test_rows_of_a_table_that_name_no_picture_are_told(tmp_path: Path) -> None:
    path = table(tmp_path, "file,group\na/1.png,1\na/2.png,1\nb/3.png,2\nb/4.png,2\nb/gone.png,2\na/typo.png,1\n")
    files = [LabelledFile(tmp_path / name, name, name[0]) for name in NAMES]

    remark = parse_group_by(path).join(files, NOTHING)[1]

    assert remark == "groups: 2 groups of 4 pictures by groups.csv; of its rows 2 name no picture of the folder"


def test_an_expression_is_shown_as_it_was_typed() -> None:
    with pytest.raises(InputError, match=re.escape(r"--group-by 'part\d+' must be")):
        parse_group_by(r"part\d+")


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Two classes of eight parts, three pictures of each, all of their own grain: no overlap tells which belong together."""
    folder, random = tmp_path / "parts", np.random.default_rng(0)
    for label, level in (("bright", 180), ("dark", 60)):
        (folder / label).mkdir(parents=True)
        for part in range(8):
            for exposure in range(3):
                grain = np.clip(random.normal(level, 25, (40, 40)), 0, 255).astype(np.uint8)
                cv2.imwrite(str(folder / label / f"{label}_{part}_{exposure}.png"), grain)
    return folder


@pytest.fixture
def by_part(parts: Path) -> Path:
    rows = [f"{path.relative_to(parts).as_posix()},{path.stem.rsplit('_', 1)[0]}" for path in sorted(parts.rglob("*.png"))]
    return table(parts.parent, "\n".join(["file,group", *rows]))


def test_a_table_of_a_folder_serves_for_one_of_its_class_folders(tmp_path: Path) -> None:
    (tmp_path / "groups.csv").write_text("file,group\ngood/a.png,1\ngood/b.png,2\ndent/a.png,3\n")

    table = GroupTable.read(tmp_path / "groups.csv")

    assert table.groups_of(["a.png", "b.png"]) == ["1", "2"]


def test_pictures_of_one_stated_group_are_one_group(tmp_path: Path) -> None:
    path = table(tmp_path, "file,group\na/1.png,x\nb/3.png,x\na/2.png,y\nb/4.png,z\n")

    assert groups(path) == [0, 1, 0, 2]


def test_what_overlaps_stays_together_beside_the_table(tmp_path: Path) -> None:
    path = table(tmp_path, "file,group\na/1.png,x\na/2.png,x\n")

    assert groups(path, found=[0, 1, 1, 2]) == [0, 0, 0, 1]


@pytest.mark.parametrize(
    "text",
    [
        "file,class,group,exposure\na/1.png,a,7,1\na/2.png,a,7,2\nb/3.png,b,8,1\nb/4.png,b,9,1\n",
        "\ufefffile;group\na/1.png;x\na/2.png;x\nb/3.png;\nb/4.png;y\n",
        "group,file\nx,1.png\nx,2.png\n",
        "file,group\r\n.\\a\\1.png,x\r\na\\2.png,x\r\n",
    ],
)
def test_tables_as_people_write_them_are_read(tmp_path: Path, text: str) -> None:
    assert groups(table(tmp_path, text)) == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,part\na/1.png,x\n", "is not a table with the columns file and group; its first line is 'name,part'"),
        ("file,group\na/1.png,x\na/1.png,y\n", "puts a/1.png into two groups, 'x' and 'y'"),
        ("file,group\nother.png,x\n", "names none of the 4 pictures, such as a/1.png"),
    ],
)
def test_a_table_that_does_not_fit_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        groups(table(tmp_path, text))


def test_a_bare_name_of_two_pictures_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path, "file,group\n1.png,x\n")

    with pytest.raises(DatasetError, match=r"names 1\.png, and 2 pictures have that name; give their paths"):
        groups(path, ("a/1.png", "b/1.png"), [0, 1])


def test_a_missing_table_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.csv"):
        GroupTable.read(tmp_path / "nowhere.csv")


def test_no_part_stands_on_two_sides_of_a_split(parts: Path, by_part: Path) -> None:
    task = task_from_folder(parts, group_by=by_part)

    splits = load_splits(task, parts, seed=3)

    sides = [{name.rsplit("_", 1)[0] for name in splits[split].names} for split in ("train", "validation", "test")]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert splits.info.rule.endswith("; groups by groups.csv")


def test_what_the_table_leaves_out_is_counted(parts: Path, by_part: Path) -> None:
    by_part.write_text("\n".join(by_part.read_text().splitlines()[:-3]))
    said = list[str]()

    with listening(note=said.append):
        load_splits(task_from_folder(parts, group_by=by_part), parts, seed=0)

    remark = "  groups: 15 groups of 45 pictures by groups.csv; the other 3 pictures stay together only where they overlap"
    assert remark in said


def test_data_check_counts_stated_groups_as_leaks(parts: Path, by_part: Path) -> None:
    unstated, stated = check_folder(parts), check_folder(parts, group_by=by_part)

    assert (unstated.groups, stated.groups, stated.largest_group) == (0, 16, 3)
    assert unstated.leaked == 0
    assert stated.leaked > 0.8


def test_data_check_takes_the_table_on_the_command_line(parts: Path, by_part: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["data", "check", str(parts), "--group-by", str(by_part)])

    assert end.value.code == 0
    assert "groups: 16 with 48 pictures, the largest with 3" in capsys.readouterr().out


def test_a_shipped_task_has_its_own_groups(by_part: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train", "neu", "--group-by", str(by_part)])

    assert end.value.code == 2
    assert "--group-by belongs to a folder of your own" in capsys.readouterr().err


def test_a_class_of_one_group_is_trained_on_and_said_to_be_unmeasurable_by_the_check_too(parts: Path, by_part: Path) -> None:
    one_belt = [line.rsplit(",", 1)[0] + ",belt" if ",dark_" in line else line for line in by_part.read_text().splitlines()]
    by_part.write_text("\n".join(one_belt))
    said = list[str]()

    with listening(note=said.append):
        splits = load_splits(task_from_folder(parts, group_by=by_part), parts, seed=0)

    assert (np.bincount(splits.train.class_ids)[1], (splits.validation.class_ids == 1).sum()) == (24, 0)
    assert any("the 24 pictures of 'dark' are one group" in line and "cannot be measured" in line for line in said)
    found = check_folder(parts, group_by=by_part)
    assert any("the 24 pictures of 'dark' are one group" in line for line in found.summary.warnings())


def test_few_pictures_are_warned_of(tmp_path: Path) -> None:
    random, said = np.random.default_rng(0), list[str]()
    for label, count in (("many", 24), ("two", 2)):
        (tmp_path / "few" / label).mkdir(parents=True)
        for i in range(count):
            cv2.imwrite(str(tmp_path / "few" / label / f"{i}.png"), random.integers(0, 255, (40, 40), dtype=np.uint8))

    with listening(note=said.append):
        splits = load_splits(task_from_folder(tmp_path / "few"), tmp_path / "few", seed=0)

    assert [(splits[split].class_ids == 1).sum() for split in ("train", "validation")] == [1, 1]
    assert any("too few pictures to rely on what is measured: two 2" in line for line in said)


def grouped(parts: Path, stated: str) -> tuple[int, int, int]:
    found = check_folder(parts, group_by=stated)
    return found.groups, found.grouped, found.largest_group


def test_a_regular_expression_names_the_part(parts: Path) -> None:
    assert grouped(parts, r"(\w+_\d)_\d\.png$") == (16, 48, 3)


def test_a_folder_within_the_class_folder_is_a_part(parts: Path) -> None:
    for path in sorted(parts.rglob("*_0_?.png")):
        (path.parent / "part").mkdir(exist_ok=True)
        path.rename(path.parent / "part" / path.name)

    assert grouped(parts, "folder") == (2, 6, 3)


def test_pictures_of_a_class_taken_shortly_after_each_other_are_a_part(parts: Path) -> None:
    for path in parts.rglob("*.png"):
        part, exposure = map(int, path.stem.split("_")[1:])
        os.utime(path, (1e9 + 3600 * part + 90 * exposure,) * 2)

    for spelling in ("minutes:2", "2min", "minutes:2min"):
        assert grouped(parts, spelling) == (16, 48, 3)
    assert grouped(parts, "minutes:1") == (0, 0, 1)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ("part(", "is no regular expression: missing"),
        (r"part\d", "must be FILE.csv, folder, minutes:N, or a regular expression with one group"),
        ("(a)(b)", "must be FILE.csv, folder, minutes:N, or a regular expression with one group"),
        (r"(dark_\d)", "does not match bright/bright_0_0.png"),
        ("folder", "bright/bright_0_0.png and all others lie in their class folder"),
        ("minutes:ten", "after minutes: stands a number of minutes"),
    ],
)
def test_a_statement_that_does_not_fit_is_one_line(
    parts: Path, stated: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["data", "check", str(parts), "--group-by", stated])

    last = capsys.readouterr().err.splitlines()[-1]
    assert (end.value.code, message in last) == (2, True)
