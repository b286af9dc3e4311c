from __future__ import annotations

import os
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_files import HEIC, LITTER, NOT_PICTURES, encoded, surface, write_picture

from edgecnn.cli.main import main
from edgecnn.errors import InputError
from edgecnn.folders import count_reasons, is_litter, is_other, list_all, list_pictures
from edgecnn.formats import readable_formats, sniff
from edgecnn.pictures import read_picture

WRITTEN = {
    "a.jpg": ".jpg",
    "b.JPEG": ".jpg",
    "c.jfif": ".jpg",
    "d.jpe": ".jpg",
    "e.png": ".png",
    "f.bmp": ".bmp",
    "g.dib": ".bmp",
    "h.tif": ".tif",
    "i.webp": ".webp",
    "j.pgm": ".pgm",
    "k.pnm": ".pgm",
    "l.gif": ".gif",
    "m.jp2": ".jp2",
    "n.avif": ".avif",
    "o.ras": ".ras",
    "p.pam": ".pam",
    "really_a_png.jpg": ".png",
    "no_suffix": ".jpg",
    "odd.suffix": ".png",
}


def names(folder: Path) -> list[str]:
    return [str(path) for path in list_pictures(folder).pictures]


@pytest.mark.parametrize(("name", "suffix"), WRITTEN.items())
def test_whatever_opencv_reads_is_a_picture_under_any_name(tmp_path: Path, name: str, suffix: str) -> None:
    write_picture(tmp_path / name, surface(0), suffix)

    assert names(tmp_path) == [name]
    assert read_picture(tmp_path / name).shape == (40, 40, 3)


@pytest.mark.parametrize("header", [b"P1\n2 2\n1 0 0 1\n", b"P2\n# c\n2 2\n255\n1 2 3 4\n", b"P4 8 1\n\xf0"])
def test_a_portable_bitmap_is_a_picture(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "a.pbm").write_bytes(header)

    assert names(tmp_path) == ["a.pbm"]


@pytest.mark.parametrize("name", NOT_PICTURES)
def test_what_is_no_picture_is_left_out_by_reason(tmp_path: Path, name: str) -> None:
    content, reason = NOT_PICTURES[name]
    (tmp_path / name).write_bytes(content)

    listing = list_pictures(tmp_path)

    assert (listing.pictures, listing.left_out) == ([], {name: reason})


def test_a_format_that_this_opencv_lacks_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_picture(tmp_path / "a.gif", surface(0))
    monkeypatch.setattr("edgecnn.folders.readable_formats", lambda: readable_formats() - {"GIF"})

    assert list_pictures(tmp_path).left_out == {"a.gif": "GIF, which OpenCV cannot read"}


@pytest.mark.parametrize(
    "text", [b"BMW 320i, blue\n", b"P1 is the first part\n", b"IIRC that was it", b"GIFT list", b"RIFF raff WEB", b"%P"]
)
def test_a_text_that_begins_like_a_picture_is_none(text: bytes) -> None:
    assert sniff(text) not in readable_formats()


@pytest.mark.parametrize("name", LITTER)
def test_litter_is_neither_a_picture_nor_trouble(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(encoded(".png", surface(0)))

    listing = list_pictures(tmp_path)

    assert (listing.pictures, listing.left_out) == ([], {})


@pytest.mark.parametrize("name", ["__MACOSX", ".ipynb_checkpoints", "@eaDir", "$RECYCLE.BIN", "System Volume Information"])
def test_folders_of_litter_are_not_looked_into(tmp_path: Path, name: str) -> None:
    write_picture(tmp_path / name / "0.png", surface(0))

    listing = list_pictures(tmp_path)

    assert (listing.pictures, listing.folders, listing.left_out) == ([], [], {})


def test_pictures_come_in_natural_order_folder_by_folder(tmp_path: Path) -> None:
    for name in ("b/10.png", "b/9.png", "a/deep/er/1.png", "a/2.png", "c.png"):
        write_picture(tmp_path / name, surface(0))

    assert names(tmp_path) == ["a/2.png", "a/deep/er/1.png", "b/9.png", "b/10.png", "c.png"]


def test_a_very_deep_folder_is_looked_into(tmp_path: Path) -> None:
    write_picture(tmp_path.joinpath(*["d"] * 300) / "0.png", surface(0))

    assert len(names(tmp_path)) == 1


def test_links_are_followed_but_never_twice(tmp_path: Path) -> None:
    write_picture(tmp_path / "elsewhere" / "0.png", surface(0))
    data = tmp_path / "data"
    write_picture(data / "a" / "1.png", surface(1))
    (data / "b").symlink_to(tmp_path / "elsewhere")
    (data / "c").symlink_to(data / "a")
    (data / "a" / "up").symlink_to(data)
    (data / "a" / "further_up").symlink_to(tmp_path)
    (data / "a" / "gone.png").symlink_to("nowhere.png")
    (data / "a" / "itself.png").symlink_to("itself.png")
    (data / "a" / "same.png").symlink_to("1.png")

    listing = list_pictures(data)

    assert [str(path) for path in listing.pictures] == ["a/1.png", "a/same.png", "b/0.png"]
    assert listing.left_out == {
        "a/further_up": "a link to a folder above it",
        "a/gone.png": "a link to nothing",
        "a/itself.png": "a link to nothing",
        "a/up": "a link to a folder above it",
        "c": "a link to a folder that is looked through already",
    }


def test_pipes_and_devices_are_left_out_unopened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")

    assert set(list_pictures(tmp_path).left_out.values()) == {"a device or pipe"}


def test_a_folder_that_cannot_be_looked_into_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_picture(tmp_path / "a" / "0.png", surface(0))
    (tmp_path / "locked").mkdir()
    iterdir = Path.iterdir

    def refuse(folder: Path) -> object:
        if folder.name == "locked":
            raise PermissionError(13, "Permission denied")
        return iterdir(folder)

    monkeypatch.setattr(Path, "iterdir", refuse)

    assert list_pictures(tmp_path).left_out == {"locked": "a folder that cannot be looked into: permission denied"}
    with pytest.raises(InputError, match=r"cannot look into the folder .*locked: permission denied"):
        list_pictures(tmp_path / "locked")


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_picture(tmp_path / "0.png", surface(0))

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("edgecnn.folders._head", refuse)

    assert list_pictures(tmp_path).left_out == {"0.png": "permission denied"}


@pytest.mark.parametrize(
    "raw", [b"line\nbreak.png", b"\xff\xfe.png", b"\x1b[31mred.png", "🐈\u202egnp.png".encode(), b"a" * 251 + b".png"]
)
def test_names_of_any_bytes_are_listed_and_can_be_opened(tmp_path: Path, raw: bytes) -> None:
    write_picture(tmp_path / "plain.png", surface(0)).rename(tmp_path / os.fsdecode(raw))

    listing = list_pictures(tmp_path)

    assert [os.fsencode(path) for path in listing.pictures] == [raw]
    assert read_picture(listing.paths()[0]).shape == (40, 40, 3)


def test_reasons_are_counted_in_one_printable_line(tmp_path: Path) -> None:
    for name in ("a.heic", "b.heic"):
        (tmp_path / name).write_bytes(HEIC)
    (tmp_path / os.fsdecode(b"odd\n\xff.png")).write_bytes(b"")
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text("text")

    line = count_reasons(list_pictures(tmp_path).left_out)

    assert (
        line
        == "2 HEIC, which OpenCV cannot read (a.heic and others); 1 empty (odd??.png); 3 no picture: .txt (0.txt and others)"
    )


def test_a_folder_without_pictures_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(HEIC)

    with pytest.raises(InputError, match=r"holds no pictures: 1 HEIC, which OpenCV cannot read \(a\.heic\)"):
        list_all([tmp_path])


def test_classify_looks_into_deeper_folders_and_tells_what_it_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_picture(tmp_path / "a.png", surface(0))
    write_picture(tmp_path / "monday" / "line 2" / "b.jfif", surface(1), ".jpg")
    (tmp_path / "monday" / "c.heic").write_bytes(HEIC)

    with pytest.raises(SystemExit) as ended:
        main(["classify", "mnist", str(tmp_path)])

    printed = capsys.readouterr()
    files = [line.split(": ")[0] for line in printed.out.splitlines()]
    assert (ended.value.code, files) == (0, [f"{tmp_path}/a.png", f"{tmp_path}/monday/line 2/b.jfif"])
    assert printed.err == f"left out 1 file: 1 HEIC, which OpenCV cannot read ({tmp_path}/monday/c.heic)\n"


def test_classify_goes_on_behind_a_damaged_picture_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = write_picture(tmp_path / "a.jpg", surface(0)).read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[:300])
    write_picture(tmp_path / "b.png", surface(1))

    with pytest.raises(SystemExit) as ended:
        main(["classify", "mnist", str(tmp_path)])
    with pytest.raises(SystemExit) as refused:
        main(["classify", "mnist", str(tmp_path / "a.jpg")])

    printed = capsys.readouterr()
    assert (ended.value.code, refused.value.code, len(printed.out.splitlines())) == (0, 2, 1)
    assert printed.err.splitlines() == [
        f"left out 1 file: 1 cut short or damaged ({tmp_path}/a.jpg)",
        f"edgecnn: {tmp_path}/a.jpg is cut short or damaged",
    ]


def test_a_damaged_picture_costs_those_named_beside_it_no_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = write_picture(tmp_path / "a.jpg", surface(0)).read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[:300])
    write_picture(tmp_path / "b.png", surface(1))

    with pytest.raises(SystemExit, match="2"):
        main(["classify", "mnist", str(tmp_path / "a.jpg"), str(tmp_path / "b.png")])

    printed = capsys.readouterr()
    assert printed.out.startswith(f"{tmp_path}/b.png: ")
    assert printed.err == f"edgecnn: {tmp_path}/a.jpg is cut short or damaged\n"


def test_a_map_is_not_written_under_a_name_of_another_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["classify", "mnist", str(tmp_path), "--where", str(tmp_path / "map.jpg")])

    assert "map.jpg would hold what its name denies: give it the ending .png" in capsys.readouterr().err


NAME = st.text(st.sampled_from(string.ascii_letters + "._ ~0é\udcff"), min_size=1, max_size=8).filter(
    lambda name: name.strip(".") != "" and (name.startswith(".") or not is_litter(name))
)
CONTENT = st.sampled_from([encoded(".png", surface(0)), encoded(".jpg", surface(0)), HEIC, b"", b"text", bytes(range(200))])
SUFFIX = st.sampled_from(["", ".png", ".jpg", ".heic", ".txt", ".dng", ".bak"])


@given(files=st.lists(st.tuples(st.lists(NAME, max_size=2), NAME, SUFFIX, CONTENT), max_size=12))
@settings(max_examples=60, deadline=None)
def test_each_file_is_a_picture_or_named_with_a_reason(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[list[str], str, str, bytes]]
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    for between, name, suffix, content in files:
        path = folder.joinpath(*between) / (name + suffix)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError:
            continue  # a file of that name is where a folder was drawn, or the other way round

    listing = list_pictures(folder)

    visible = {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }
    listed = [str(path) for path in listing.pictures]
    assert sorted([*listed, *listing.left_out]) == sorted(visible)
    assert all(sniff((folder / name).read_bytes()[:1024]) in readable_formats() for name in listed)
    assert all(not is_other(why) or not name.endswith((".png", ".jpg")) for name, why in listing.left_out.items())
