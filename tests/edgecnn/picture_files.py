"""Bytes of files of many kinds, as they are found in people's folders."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 40
SVG = b"<?xml version='1.0'?>\n<!-- drawn -->\n<svg xmlns='http://www.w3.org/2000/svg'/>"
HTML = b"<html><body>404 Not Found</body></html>"
NOT_PICTURES = {
    "photo.heic": (HEIC, "HEIC, which OpenCV cannot read"),
    "renamed.jpg": (HEIC, "HEIC, which OpenCV cannot read"),
    "drawing.svg": (SVG, "SVG, which OpenCV cannot read"),
    "raw.dng": (b"II*\0" + b"\0" * 60, "camera raw, which OpenCV cannot read"),
    "raw.CR2": (b"II*\0\x10\0\0\0CR\2\0" + b"\0" * 60, "camera raw, which OpenCV cannot read"),
    "wide.jxl": (b"\xff\x0a" + b"\0" * 60, "JPEG XL, which OpenCV cannot read"),
    "layers.psd": (b"8BPS\0\1" + b"\0" * 60, "Photoshop, which OpenCV cannot read"),
    "scan.pdf": (b"%PDF-1.7\n", "PDF, which OpenCV cannot read"),
    "float.exr": (b"v/1\x01" + b"\0" * 60, "OpenEXR, which OpenCV cannot read"),
    "clip.mp4": (b"\0\0\0\x18ftypisom\0\0\0\0mp42isom" + b"\0" * 40, "video"),
    "clip.avi": (b"RIFF\0\0\0\0AVI LIST" + b"\0" * 40, "video"),
    "page.png": (HTML, "named .png but text"),
    "noise.jpg": (bytes(range(256)), "named .jpg but no picture"),
    "nothing.png": (b"", "empty"),
    "copy.jpg.bak": (b"\xff\xd8\xff\xe0", "backup or unfinished copy"),
    "copy.jpg~": (b"\xff\xd8\xff\xe0", "backup or unfinished copy"),
    "download.crdownload": (b"\xff\xd8\xff\xe0", "backup or unfinished copy"),
    "boxes.csv": (b"file,x,y\n", "no picture: .csv"),
    "README": (b"about\n", "no picture: no suffix"),
}
LITTER = ("._0.png", ".DS_Store", "Thumbs.db", "desktop.ini", "Desktop.ini", "Icon\r", ".hidden.png", "Picasa.ini")


def surface(seed: int, shape: tuple[int, ...] = (40, 40)) -> NDArray[np.uint8]:
    """Noise `(h, w)` or `(h, w, 3)` uint8 that nothing else shares."""
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def encoded(suffix: str, image: NDArray[np.uint8]) -> bytes:
    """Encode a BGR or gray picture in the format of a suffix that OpenCV writes."""
    if suffix in (".gif", ".avif") and image.ndim == 2:  # OpenCV 4.12 writes these in color only
        image = np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8)
    return bytes(cv2.imencode(suffix, image)[1].tobytes())


def write_picture(path: Path, image: NDArray[np.uint8], suffix: str | None = None) -> Path:
    """Write a picture, in the format of another suffix where given; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(suffix or path.suffix, image))
    return path


def write_classes(folder: Path, labels: tuple[str, ...] = ("bolt", "nut"), count: int = 8, suffix: str = ".png") -> Path:
    """Write `count` gray pictures of noise, 40 x 40, into each class folder."""
    for class_id, label in enumerate(labels):
        for number in range(count):
            write_picture(folder / label / f"{number}{suffix}", surface(1000 * class_id + number))
    return folder
