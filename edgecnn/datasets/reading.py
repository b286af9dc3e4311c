"""Reading labelled picture files once: as the model's input, as small gray pictures to compare, and what else they tell."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.layout import LabelledFile
from edgecnn.datasets.overlap import reduced
from edgecnn.errors import InputError
from edgecnn.files import read_bytes
from edgecnn.mapped import Shelf, let_go, new_pictures
from edgecnn.pictures import MAX_FILE_BYTES, camera_of, decode_picture, reason_without_name
from edgecnn.preprocessing import Color, Preprocessing
from edgecnn.progress import on_all_cores, report

MAX_COMMON_SIDE = 256  # pictures of one size up to this are used as they are
DEFAULT_SIDE = 128  # otherwise: small enough for a board, large enough for most parts
LITE_SIDE = 224  # the same for a pretrained network, which was made for it
MOST_CUT_OFF = 0.05  # of a picture's area may be lost to a crop that `auto` chooses
MOST_STRETCH = 3.0  # of one side against the other: tiles of aspects 0.4 to 2.7 were read about as well either way
FolderFit = Literal["auto", "squash", "pad", "crop"]
_GUESSED_FROM = 8  # pictures that are read before all others, to guess what the model's input will be
_STAGE = "reading pictures"
_LET_GO = 256  # pictures, behind which mapped memory is let go
_LACKING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


@dataclass(frozen=True)
class InputChoice:
    """What the user states about the input of a folder's model; what is None or auto, the pictures decide.

    `size_hw` is height and width; without it pictures of different or large sizes become `side` x `side`.
    """

    color: Color | None = None
    fit: FolderFit = "auto"
    size_hw: tuple[int, int] | None = None
    side: int = DEFAULT_SIDE

    @classmethod
    def stated(cls, color: Color | None, fit: FolderFit, size_hw: tuple[int, int] | None, network: str) -> InputChoice:
        """Return what the options of a command state for a network."""
        return cls(color, fit, size_hw, LITE_SIDE if network in ("lite", "auto") else DEFAULT_SIDE)


DECIDED = InputChoice()  # by the pictures


@dataclass(frozen=True, eq=False)
class Picture:
    """What is known of a picture that was read.

    `sha256` is of the file's bytes, `pixels` of the decoded picture; `size_hw` is the decoded size, `is_gray` tells equal
    channels, `camera` names make and model where the file states them. `gray` `(h, w)` uint8 has at most MAX_SIDE pixels a
    side; `image` is the model's input.
    """

    file: LabelledFile
    sha256: str
    pixels: str
    size_hw: tuple[int, int]
    is_gray: bool
    camera: str | None
    gray: NDArray[np.uint8]
    image: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Pictures:
    """The pictures that could be read, the input that they were made for, and why the others could not be."""

    read: tuple[Picture, ...]
    preprocessing: Preprocessing
    unreadable: dict[str, str]


def read_pictures(files: Sequence[LabelledFile], fitting: Preprocessing | InputChoice = DECIDED) -> Pictures:
    """Read `files`, on all cores, for the input `fitting`; where that leaves something open, for one that fits most of them.

    A file that is not a picture, damaged or unreadable costs that file. Each is decoded once: what fits is guessed from a few
    of them, and only a wrong guess reads them again.
    """
    wanted = fitting if isinstance(fitting, Preprocessing) else _guess(files, fitting)
    pictures = _read_all(files, wanted)
    if not isinstance(fitting, Preprocessing) and (decided := fitting_input(pictures.read, fitting)) != wanted:
        return _read_all(files, decided)
    return pictures


def fitting_input(pictures: Sequence[Picture], choice: InputChoice = DECIDED) -> Preprocessing:
    """Decide on a model's input by majority, so that an odd picture changes nothing, and by what `choice` states.

    More than half of one size up to MAX_COMMON_SIDE: that size, else `choice.side` each way. More than half in color: rgb, else
    gray. Pictures of other aspects are cropped to the middle where that costs nine of ten of them at most MOST_CUT_OFF
    of their area, else squashed where that stretches nine of ten at most MOST_STRETCH times, else padded.
    """
    return _decide([picture.size_hw for picture in pictures], [picture.is_gray for picture in pictures], choice)


def cut_off(size_hw: tuple[int, int], wanted_hw: tuple[int, int]) -> float:
    """Return the share of a picture's area that a crop to the aspect of `wanted_hw` cuts off."""
    return 1 - 1 / _stretch(size_hw, wanted_hw)


def _stretch(size_hw: tuple[int, int], wanted_hw: tuple[int, int]) -> float:
    """Return how many times longer one side becomes against the other, 1 for pictures of the same aspect."""
    ratio = size_hw[0] * wanted_hw[1] / (size_hw[1] * wanted_hw[0])
    return max(ratio, 1 / ratio)


def to_gray(image_bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return `(h, w)` of a BGR picture."""
    return np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2GRAY), np.uint8)


def _guess(files: Sequence[LabelledFile], choice: InputChoice) -> Preprocessing:
    """Decide on the input by a few of the pictures."""
    report(_STAGE, 0, len(files) or None)
    sizes, grays = [], []
    for file in files[:: max(1, -(-len(files) // _GUESSED_FROM))]:
        with contextlib.suppress(InputError):
            image = decode_picture(read_bytes(file.path, at_most=MAX_FILE_BYTES), name=str(file.path))
            sizes.append((image.shape[0], image.shape[1]))
            grays.append(_looks_gray(image))
    return _decide(sizes, grays, choice)


def _decide(sizes: Sequence[tuple[int, int]], grays: Sequence[bool], choice: InputChoice) -> Preprocessing:
    color = choice.color or ("rgb" if 2 * sum(grays) < len(grays) else "gray")
    size, count = Counter(sizes).most_common(1)[0] if sizes else ((choice.side, choice.side), 0)
    if choice.size_hw is not None:
        size = choice.size_hw
    elif 2 * count <= len(sizes) or max(size) > MAX_COMMON_SIDE:
        size = choice.side, choice.side
    return Preprocessing(*size, color, _decide_fit(sizes, size) if choice.fit == "auto" else choice.fit)


def _decide_fit(sizes: Sequence[tuple[int, int]], wanted_hw: tuple[int, int]) -> Literal["crop", "squash", "pad"]:
    stretches = sorted(_stretch(size, wanted_hw) for size in sizes) or [1.0]
    usual = stretches[math.ceil(0.9 * len(stretches)) - 1]  # an odd picture decides nothing
    if 1 - 1 / usual <= MOST_CUT_OFF:
        return "crop"
    return "squash" if usual <= MOST_STRETCH else "pad"


def _read_all(files: Sequence[LabelledFile], preprocessing: Preprocessing) -> Pictures:
    images, grays = new_pictures((len(files), *preprocessing.shape)), Shelf()
    read, unreadable = list[Picture](), dict[str, str]()
    results = on_all_cores(lambda file: _read(file, preprocessing), files, _STAGE)
    for file, result in zip(files, results, strict=True):
        if isinstance(result, str):
            unreadable[file.name] = result
            continue
        row = len(read)
        images[row] = result.image
        read.append(replace(result, image=images[row], gray=grays.keep(result.gray)))
        if row % _LET_GO == 0:
            let_go()
    return Pictures(tuple(read), preprocessing, unreadable)


def _read(file: LabelledFile, preprocessing: Preprocessing) -> Picture | str:
    """Read one picture, or return why that cannot be done."""
    try:
        data = read_bytes(file.path, at_most=MAX_FILE_BYTES)
        image = decode_picture(data, name="")
    except InputError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _LACKING:
            raise  # not the file's fault
        return reason_without_name(error, file.path)
    return Picture(
        file=file,
        sha256=hashlib.sha256(data).hexdigest(),
        pixels=_pixel_digest(image),
        size_hw=(image.shape[0], image.shape[1]),
        is_gray=_looks_gray(image),
        camera=camera_of(data),
        gray=reduced(to_gray(image)),
        image=preprocessing(image),
    )


def _pixel_digest(image: NDArray[np.uint8]) -> str:
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def _looks_gray(image_bgr: NDArray[np.uint8]) -> bool:
    return bool((image_bgr[..., 0] == image_bgr[..., 1]).all() and (image_bgr[..., 1] == image_bgr[..., 2]).all())
