"""Pictures for the page: the annotated frame, what the network saw, and the placard that stands for a lost camera."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from edgecnn.errors import OutputError
from edgecnn_device.annotate import annotate, draw_placard
from edgecnn_device.frames import Frame, Image, Observation, State

# A larger picture costs a board's processor and a phone's connection more than it shows.
MAX_SIDE = 1280
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 80)
_SMALL_PIXELS = 64 * 64


def encode_frame(observation: Observation) -> bytes | None:
    """Return the annotated frame as JPEG, at most MAX_SIDE pixels wide and high; None without a frame."""
    image = annotate(observation)
    return None if image is None else encode(_within(image), ".jpg")


def encode_plain(frame: Frame) -> str:
    """Return the frame as it was taken, at most MAX_SIDE pixels wide and high, as JPEG in Base64."""
    return base64.b64encode(encode(_within(frame.image_bgr), ".jpg")).decode()


def _within(image: Image) -> Image:
    scale = MAX_SIDE / max(image.shape[:2])
    if scale >= 1:
        return image
    size_wh = round(image.shape[1] * scale), round(image.shape[0] * scale)
    return np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA), np.uint8)


def encode_input(image: Image) -> str:
    """Return a network's input `(h, w, 1)` gray or `(h, w, 3)` RGB as a `data:` address."""
    image_bgr = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), np.uint8) if image.shape[2] == 3 else image
    # Small ones are shown magnified, where JPEG's blocks would show.
    kind = "png" if image.shape[0] * image.shape[1] <= _SMALL_PIXELS else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(encode(image_bgr, f'.{kind}')).decode()}"


def encode_placard(state: State, size_wh: tuple[int, int]) -> bytes:
    """Return a JPEG of about this size that shows no picture, only the state and its reason."""
    return encode(draw_placard(state, (max(160, size_wh[0]), max(120, size_wh[1]))), ".jpg")


def encode(image: Image, suffix: str) -> bytes:
    """Return the bytes of a picture file."""
    done, data = cv2.imencode(suffix, image, _JPEG if suffix != ".png" else ())
    if not done:
        raise OutputError(f"cannot encode a picture of {image.shape} as {suffix}")
    return data.tobytes()
