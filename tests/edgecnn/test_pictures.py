"""Whatever lies under the name of a picture is read upright as BGR, or refused by one line."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecnn.errors import InputError, PictureError
from edgecnn.folders import find_pictures, natural_key
from edgecnn.pictures import MAX_PIXELS, decode_picture, read_picture

SUFFIXES = [".jpg", ".png", ".bmp", ".webp", ".tif", ".ppm"]


def _scene() -> NDArray[np.uint8]:
    """A smooth colour picture `(40, 60, 3)`, bright at the top left, with a red corner at the bottom right."""
    rows, columns = np.mgrid[0:40, 0:60]
    image = np.repeat((220 - 2 * rows - columns)[:, :, None], 3, axis=2)
    image[30:, 45:] = (20, 20, 230)
    return np.asarray(np.clip(image, 0, 255), np.uint8)


def _encoded(suffix: str, image: NDArray[np.generic] | None = None) -> bytes:
    ok, data = cv2.imencode(suffix, np.asarray(_scene() if image is None else image))
    assert ok
    return data.tobytes()


def _with_exif(jpeg: bytes, orientation: int, thumbnail: bytes = b"") -> bytes:
    """Insert an EXIF segment with an orientation (tag 0x0112) and, behind it, a thumbnail."""
    tiff = b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b"Exif\0\0" + tiff + thumbnail
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_picture_is_read_as_bgr(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"scene{suffix}"
    path.write_bytes(_encoded(suffix))

    image = read_picture(path)

    assert (image.shape, image.dtype.name) == ((40, 60, 3), "uint8")
    assert np.abs(image.astype(int) - _scene()).mean() < 4


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_picture_cut_short_is_refused(suffix: str) -> None:
    data = _encoded(suffix)

    for length in (1, 4, 30, len(data) // 3, len(data) // 2, len(data) - 8):
        with pytest.raises(PictureError):
            decode_picture(data[:length], name="cut")


def test_a_jpeg_whose_thumbnail_is_whole_is_still_cut_short() -> None:
    photo = _with_exif(_encoded(".jpg"), 1, thumbnail=_encoded(".jpg", _scene()[::4, ::4].copy()))
    assert decode_picture(photo, name="whole").shape == (40, 60, 3)

    with pytest.raises(PictureError, match="cut short"):
        decode_picture(photo[:-200], name="cut")


def test_a_png_with_one_flipped_bit_is_refused_without_a_word_from_libpng(capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(_encoded(".png"))
    data[len(data) // 2] ^= 1

    with pytest.raises(PictureError, match="damaged"):
        decode_picture(bytes(data), name="flipped")
    assert capfd.readouterr().err == ""


@settings(max_examples=150, deadline=None)
@given(
    data=st.binary(max_size=200),
    start=st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF", b"II*\0"]),
)
def test_no_bytes_at_all_escape_as_another_error(start: bytes, data: bytes) -> None:
    try:
        image = decode_picture(start + data, name="noise")
    except PictureError:
        return

    assert image.ndim == 3


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")

    with pytest.raises(PictureError, match="is empty"):
        read_picture(tmp_path / "a.jpg")


def test_a_text_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("this is no picture\n" * 20)

    with pytest.raises(PictureError, match="not a picture"):
        read_picture(tmp_path / "a.jpg")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="is a folder"):
        read_picture(tmp_path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_picture(tmp_path / "gone.jpg")


def _claiming_png(side: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(b"\0" * 100), b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


def _claiming_jpeg(side: int, fill: bytes = b"") -> bytes:
    data = bytearray(_encoded(".jpg"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", side, side)
    return bytes(data[:at] + fill + data[at:])


def _claiming_bmp(side: int) -> bytes:
    data = bytearray(_encoded(".bmp"))
    data[18:26] = struct.pack("<ii", side, -side)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [_claiming_png(30_000), _claiming_jpeg(60_000), _claiming_jpeg(60_000, b"\xff\xff"), _claiming_bmp(30_000)],
    ids=["png", "jpeg", "jpeg with fill bytes", "bmp"],
)
def test_a_picture_that_claims_to_be_huge_is_refused_before_it_is_decoded(data: bytes) -> None:
    with pytest.raises(PictureError, match=f"claims .* pixels; at most {MAX_PIXELS}"):
        decode_picture(data, name="bomb")


def test_sixteen_bits_become_eight() -> None:
    deep = _scene().astype(np.uint16) * 257

    image = decode_picture(_encoded(".png", deep), name="deep")

    assert np.abs(image.astype(int) - _scene()).max() <= 1


def test_alpha_is_left_out() -> None:
    transparent = np.dstack([_scene(), np.zeros((40, 60), np.uint8)])

    assert (decode_picture(_encoded(".png", transparent), name="alpha") == _scene()).all()


def test_gray_becomes_three_equal_channels() -> None:
    gray = _scene()[:, :, 0].copy()

    image = decode_picture(_encoded(".png", gray), name="gray")

    assert (image == gray[:, :, None]).all()


# EXIF 2.3, 4.6.4, tag Orientation: where row 0 and column 0 of the stored picture belong.
UPRIGHT = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).transpose(1, 0, 2),
    8: lambda image: np.rot90(image, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_picture_is_turned_upright(orientation: int) -> None:
    stored = _encoded(".jpg")

    image = decode_picture(_with_exif(stored, orientation), name="turned")

    assert (image == UPRIGHT[orientation](decode_picture(stored, name="stored"))).all()


def test_pictures_of_a_folder_come_in_natural_order(tmp_path: Path) -> None:
    for name in ("a_10.png", "a_2.png", "a_1.PNG", "B_1.jpg", "notes.txt", ".hidden"):
        (tmp_path / name).write_bytes(b"x" if name in ("notes.txt", ".hidden") else b"\xff\xd8\xff")
    (tmp_path / "folder.png").mkdir()

    assert [path.name for path in find_pictures([tmp_path])] == ["a_1.PNG", "a_2.png", "a_10.png", "B_1.jpg"]


def test_files_keep_the_order_in_which_they_were_given(tmp_path: Path) -> None:
    paths = [tmp_path / "b.png", tmp_path / "a.dat"]
    for path in paths:
        path.write_bytes(b"x")

    assert find_pictures(paths) == paths


def test_names_that_sort_alike_have_one_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["a_01.png", "a_1.png", "A_1.png"]
    for name in names:
        (tmp_path / name).write_bytes(b"GIF89a")
    orders = []

    for listing in (names, names[::-1]):
        monkeypatch.setattr(Path, "iterdir", lambda folder, listing=listing: iter([folder / name for name in listing]))
        orders.append(find_pictures([tmp_path]))

    assert orders[0] == orders[1]


@given(names=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20)))
def test_any_names_can_be_sorted(names: list[str]) -> None:
    assert len(sorted((Path("folder") / name for name in names), key=natural_key)) == len(names)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no pictures"):
        find_pictures([tmp_path])


def test_a_missing_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such picture"):
        find_pictures([tmp_path / "gone.png"])


def test_a_folder_that_may_not_be_listed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(folder: Path) -> None:
        raise PermissionError(13, os.strerror(13), str(folder))

    monkeypatch.setattr(Path, "iterdir", deny)

    with pytest.raises(InputError, match="cannot look into the folder"):
        find_pictures([tmp_path])
