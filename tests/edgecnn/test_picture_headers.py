"""A picture is decoded only when its header is understood and its pixels fit into the memory that there is."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecnn.errors import PictureError
from edgecnn.memory import limit_bytes
from edgecnn.opencv_limits import set_limits
from edgecnn.picture_headers import DamagedError, read_header
from edgecnn.pictures import decode_picture, read_picture

PI = 400_000_000  # what the service on a board may have


def picture(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def encoded(suffix: str, image: NDArray[np.generic], *settings: int) -> bytes:
    return cv2.imencode(suffix, np.asarray(image), list(settings))[1].tobytes()


FORMS: dict[str, Callable[[NDArray[np.uint8]], bytes]] = {
    "baseline JPEG": lambda image: encoded(".jpg", image),
    "progressive JPEG": lambda image: encoded(".jpg", image, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "gray JPEG": lambda image: encoded(".jpg", image[:, :, 0]),
    "PNG": lambda image: encoded(".png", image),
    "16-bit PNG": lambda image: encoded(".png", image.astype(np.uint16)),
    "BMP": lambda image: encoded(".bmp", image),
    "lossy WebP": lambda image: encoded(".webp", image, cv2.IMWRITE_WEBP_QUALITY, 50),
    "lossless WebP": lambda image: encoded(".webp", image, cv2.IMWRITE_WEBP_QUALITY, 101),
    "WebP with alpha": lambda image: encoded(".webp", np.dstack([image, image[:, :, 0]]), cv2.IMWRITE_WEBP_QUALITY, 50),
    "TIFF": lambda image: encoded(".tiff", image),
    "16-bit TIFF": lambda image: encoded(".tiff", image.astype(np.uint16)),
    "PPM": lambda image: encoded(".ppm", image),
    "PGM": lambda image: encoded(".pgm", image[:, :, 0]),
    "PBM": lambda image: encoded(".pbm", image[:, :, 0]),
    "PAM": lambda image: encoded(".pam", image),
    "GIF": lambda image: encoded(".gif", image),
    "Sun raster": lambda image: encoded(".ras", image),
    "AVIF": lambda image: encoded(".avif", image),
    "lossless AVIF": lambda image: encoded(".avif", image, cv2.IMWRITE_AVIF_QUALITY, 100),
    "JPEG 2000": lambda image: encoded(".jp2", image),
    "PGM with remarks": lambda image: b"P5 # a\n#b\n%d\t#c\n%d 255\n" % image.shape[1::-1] + image[:, :, 0].tobytes(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size_hw", [(40, 60), (61, 43), (33, 300)])
def test_a_header_says_what_the_decoder_then_finds(form: str, size_hw: tuple[int, int]) -> None:
    data = FORMS[form](picture(*size_hw))

    header = read_header(data)

    assert header is not None
    assert (header.height, header.width) == size_hw == decode_picture(data, name=form).shape[:2]


def claiming(form: str, side: int) -> bytes:
    """Return a small file that claims `side` x `side` pixels."""
    data = bytearray(FORMS[form](picture(16, 16)))
    match form:
        case "baseline JPEG" | "progressive JPEG":
            at = data.index(b"\xff\xc0" if form.startswith("base") else b"\xff\xc2")
            data[at + 5 : at + 9] = struct.pack(">HH", side, side)
        case "lossy WebP":
            data[26:30] = struct.pack("<HH", side, side)
        case "lossless WebP":
            (bits,) = struct.unpack_from("<I", data, 21)
            data[21:25] = struct.pack("<I", bits & ~0xFFFFFFF | side - 1 | (side - 1) << 14)
        case "WebP with alpha":
            data[24:30] = 2 * (side - 1).to_bytes(3, "little")
        case "PNG":
            data[16:24] = struct.pack(">II", side, side)
            data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        case "BMP":
            data[18:26] = struct.pack("<ii", side, -side)
        case "PGM":
            data = bytearray(b"P5\n%d %d\n255\n" % (side, side) + bytes(300))
    return bytes(data)


def tiff(width: int, height: int, *, order: str = "<", **tags: int) -> bytes:
    """Return a TIFF of one directory: the usual tags and others by their number (`t322=100`)."""
    usual = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 200, 277: 1, 278: height, 279: 100}
    usual |= {int(name[1:]): value for name, value in tags.items()}
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in sorted(usual.items()))
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    return start + struct.pack(f"{order}H", len(usual)) + entries + bytes(400)


def big_tiff(width: int, height: int) -> bytes:
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 400, 277: 1, 278: height, 279: 100}
    entries = b"".join(struct.pack("<HHQQ", tag, 16, 1, value) for tag, value in tags.items())
    return b"II\x2b\0\x08\0\0\0" + struct.pack("<QQ", 16, len(tags)) + entries + bytes(600)


def patched(form: str, find: bytes, at: int, by: bytes) -> bytes:
    """Return a small file of a form in which other bytes stand `at` bytes behind the first `find`."""
    data = bytearray(FORMS[form](picture(64, 64)))
    place = data.index(find) + at
    data[place : place + len(by)] = by
    return bytes(data)


def av1_of(side: int) -> bytes:
    """Return a sequence header of AV1 for still pictures of `side` x `side`, as a unit with its size."""
    bits = f"000{1}{1}{0:05b}{15:04b}{15:04b}{side - 1:016b}{side - 1:016b}" + "0" * 24
    body = int(bits[: len(bits) // 8 * 8], 2).to_bytes(len(bits) // 8, "big")
    return bytes([0x0A, len(body)]) + body


BOMBS: dict[str, bytes] = {
    "PAM": b"P7\nWIDTH 20000\nHEIGHT 20000\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n" + bytes(99),
    "deep PAM": b"P7\nWIDTH 2000\nHEIGHT 2\nDEPTH 2000000000\nMAXVAL 255\nENDHDR\n" + bytes(99),
    "GIF": b"GIF89a\xff\xff\xff\xff\x80\0\0\0\0\0\xff\xff\xff\x2c\0\0\0\0\xff\xff\xff\xff\0\2\2\x44\1\0\x3b",
    "Sun raster": b"\x59\xa6\x6a\x95" + struct.pack(">7I", 20000, 20000, 24, 100, 1, 0, 0) + bytes(99),
    "AVIF by its boxes": patched("AVIF", b"ispe", 8, struct.pack(">II", 16_384, 16_384)),
    "AVIF by what is coded": patched("AVIF", b"mdat", 4, av1_of(16_384)),
    "AVIF by a second header": patched("AVIF", b"mdat", 4, av1_of(16) + av1_of(16_384)),
    "JPEG 2000": patched("JPEG 2000", b"\xff\x4f\xff\x51", 8, struct.pack(">II", 30_000, 30_000)),
    "JPEG 2000 of many planes": patched("JPEG 2000", b"\xff\x4f\xff\x51", 40, struct.pack(">H", 16_384))
    + b"\xff\x4f\xff\x51\0\x29\0\0"
    + struct.pack(">8IH", 30_000, 30_000, 0, 0, 30_000, 30_000, 0, 0, 3),
    "baseline JPEG": claiming("baseline JPEG", 65_000),
    "progressive JPEG": claiming("progressive JPEG", 65_000),
    "JPEG that is small at first": claiming("baseline JPEG", 16)[:2]
    + b"\xff\xc0\0\x0b\x08\0\x10\0\x10\1\1\x11\0"
    + claiming("baseline JPEG", 65_000)[2:],
    "JPEG of endless scans": b"\xff\xd8\xff\xc2\0\x11\x08\x0f\xff\x0f\xff\3\1\x11\0\2\x11\0\3\x11\0"
    + b"\xff\xda\0\x08\1\1\0\0\0\0" * 60_000
    + b"\xff\xd9",
    "PNG": claiming("PNG", 60_000),
    "BMP": claiming("BMP", 30_000),
    "lossy WebP": claiming("lossy WebP", 16_383),
    "lossless WebP": claiming("lossless WebP", 16_384),
    "WebP with alpha": claiming("WebP with alpha", 16_384),
    "PGM": claiming("PGM", 32_000),
    "wide PGM": b"P5\n1000000000 1\n255\n" + bytes(100),
    "long PGM": b"P5\n1 67000000\n255\n" + bytes(100),
    "PGM of letters": b"P2\n30000 30000\n255\n" + b"0 " * 100,
    "PGM behind remarks": b"P5" + b"\n#" + b"x" * 3000 + b"\n30000 30000\n255\n" + bytes(100),
    "TIFF": tiff(30_000, 30_000),
    "Motorola TIFF": tiff(30_000, 30_000, order=">"),
    "packed TIFF": tiff(30_000, 30_000, t259=8),
    "TIFF of huge tiles": tiff(100, 100, t322=30_000, t323=30_000),
    "TIFF of deep pixels": tiff(3000, 3000, t258=64, t277=60_000),
    "BigTIFF": big_tiff(2**31 - 1, 2**31 - 1),
    "TIFF with two widths": tiff(100, 30_000, t256=30_000),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_of_any_form_is_refused_in_one_line_before_it_is_decoded(bomb: str) -> None:
    with pytest.raises(PictureError, match=r"claims \d+ x \d+ pixels|cut short or damaged|is not a picture") as caught:
        decode_picture(BOMBS[bomb], name=bomb, memory_bytes=2**40)

    assert str(caught.value).isprintable()


def test_what_fits_a_workstation_may_be_too_much_for_a_board() -> None:
    data = encoded(".webp", np.zeros((5000, 6000, 3), np.uint8))

    assert decode_picture(data, name="large", memory_bytes=2**32).shape == (5000, 6000, 3)
    with pytest.raises(PictureError, match=r"claims 6000 x 5000 pixels, which takes 240 MB .* of the 400 MB"):
        decode_picture(data, name="large", memory_bytes=PI)


def test_twelve_megapixels_fit_a_board() -> None:
    assert decode_picture(encoded(".jpg", np.zeros((3040, 4056, 3), np.uint8)), name="hq", memory_bytes=PI).shape[0] == 3040


def test_a_file_that_is_itself_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "x.bmp").open("wb") as file:
        file.truncate(200_000_000)

    with pytest.raises(ValueError, match="at most 100000000 are read"):
        read_picture(tmp_path / "x.bmp", memory_bytes=PI)


DECODE_ALL = """
import sys
from pathlib import Path
from edgecnn.errors import PictureError
from edgecnn.pictures import read_picture
def most():  # not ru_maxrss, which begins with what the parent held
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
before = most()
for name in sys.argv[1:]:
    try:
        read_picture(Path(name), memory_bytes=400_000_000)
    except PictureError:
        pass
print(most() - before)
"""


def test_whatever_a_board_is_shown_costs_at_most_half_of_its_memory(tmp_path: Path) -> None:
    side = 4400  # just below what is refused
    shown = BOMBS | {
        name: FORMS[name](np.zeros((side, side, 3), np.uint8)) for name in ("progressive JPEG", "lossy WebP", "TIFF", "PPM")
    }
    for number, data in enumerate(shown.values()):
        (tmp_path / f"{number}.x").write_bytes(data)

    command = [sys.executable, "-c", DECODE_ALL, *(str(path) for path in sorted(tmp_path.iterdir()))]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)

    assert int(done.stdout) < PI // 2


@pytest.mark.parametrize(
    ("start", "form"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC"),
        (b"\xff\x0a" + bytes(40), "JPEG XL"),
        (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 30000 +X 30000\n" + bytes(99), "Radiance HDR"),
        (b"\x76\x2f\x31\x01" + bytes(99), "OpenEXR"),
        (b"PF\n20000 20000\n-1.0\n" + bytes(99), "PFM"),
        (b'<?xml version="1.0"?>\n<svg xmlns="x"/>', "SVG"),
    ],
)
def test_a_form_whose_header_is_not_understood_is_never_given_to_a_decoder(start: bytes, form: str) -> None:
    with pytest.raises(PictureError, match=f"x.png is {form}, which OpenCV cannot read; convert it to PNG"):
        decode_picture(start, name="x.png")


@given(
    st.sampled_from(
        [
            b"\x89PNG\r\n\x1a\n",
            b"\xff\xd8\xff\xc2",
            b"BM",
            b"II*\0",
            b"MM\0\x2b",
            b"RIFFxxxxWEBPVP8X",
            b"RIFFxxxxWEBPVP8L",
            b"P5 ",
            b"",
        ]
    ),
    st.binary(max_size=200),
)
def test_no_bytes_make_a_header_another_error(start: bytes, data: bytes) -> None:
    try:
        header = read_header(start + data)
    except DamagedError:
        return

    assert header is None or header.pixels >= header.width * header.height >= 0


@pytest.mark.parametrize(
    "module",
    [
        "edgecnn.pictures",
        "edgecnn_device.sources.reader",
        "edgecnn_device.sources.video",
        "edgecnn_export.training.augmentation",
    ],
)
def test_opencv_has_its_own_limit_whatever_is_imported_first(module: str) -> None:
    code = (
        f"import {module}, cv2, numpy as np\n"
        "try: cv2.imdecode(np.frombuffer(b'P5 8200 8200 255 ' + bytes(9), np.uint8), 1); print('decoded')\n"
        "except cv2.error as error: print('OPENCV_IO_MAX_IMAGE_PIXELS' in str(error) or 'CV_IO_MAX_IMAGE_PIXELS' in str(error))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)

    assert done.stdout.strip() == "True"


def test_a_limit_of_the_users_own_stays() -> None:
    environment = {"OPENCV_IO_MAX_IMAGE_PIXELS": "100"}

    set_limits(environment)

    assert environment == {"OPENCV_IO_MAX_IMAGE_PIXELS": "100"}


def machine(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_memory_is_the_least_of_the_machines_and_of_all_groups_around_us(tmp_path: Path) -> None:
    root = machine(
        tmp_path, proc__meminfo="MemFree: 1 kB\nMemTotal:     4000000 kB\n", proc__self__cgroup="0::/system/camera\n"
    )
    for folder, limit in (("", "max\n"), ("system", "3000000000\n"), ("system/camera", "max\n")):
        (root / "sys/fs/cgroup" / folder).mkdir(parents=True, exist_ok=True)
        (root / "sys/fs/cgroup" / folder / "memory.max").write_text(limit)

    assert limit_bytes(root) == 3_000_000_000


def test_control_groups_of_version_1_count_too(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        proc__meminfo="MemTotal:     4000000 kB\n",
        proc__self__cgroup="4:memory:/camera\n1:cpu:/x\n0::/\n",
        sys__fs__cgroup__memory__camera__memory="",
    )
    (root / "sys/fs/cgroup/memory/camera/memory.limit_in_bytes").write_text("400000000\n")

    assert limit_bytes(root) == PI


def test_a_machine_that_does_not_tell_is_taken_for_a_small_one(tmp_path: Path) -> None:
    assert limit_bytes(tmp_path) == 2**30
