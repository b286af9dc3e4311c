"""Telling what a file holds by its first bytes: suffixes are other people's claims."""

from __future__ import annotations

import functools
import re

import cv2

HEAD_BYTES = 1024  # enough for every signature, and for `<svg` behind an XML declaration and a comment

# What every OpenCV since 4.9 decodes, and what only some builds do: whether this one does is asked of it by suffix.
_ALWAYS = ("JPEG", "PNG", "BMP", "TIFF", "WebP", "PNM", "Sun raster")
_SOME = {"GIF": ".gif", "AVIF": ".avif", "JPEG 2000": ".jp2"}

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\x59\xa6\x6a\x95", "Sun raster"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"8BPS", "Photoshop"),
    (b"gimp xcf", "GIMP"),
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"#?RGBE", "Radiance HDR"),
    (b"PF\n", "PFM"),
    (b"Pf\n", "PFM"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
    (b"\0\0\1\0", "icon"),
    (b"SIMPLE  =", "FITS"),
    (b"FUJIFILMCCD-RAW", "camera raw"),
    (b"IIU\0", "camera raw"),
    (b"IIRO", "camera raw"),
    (b"IIRS", "camera raw"),
    (b"\x1aE\xdf\xa3", "video"),
)
_BRANDS = {"avif": "AVIF", "avis": "AVIF", "crx ": "camera raw"} | dict.fromkeys(
    ("heic", "heix", "hevc", "hevx", "heim", "heis", "mif1", "msf1"), "HEIC"
)
_PNM = re.compile(rb"P[1-6][ \t\r\n]+[0-9#]|P7\n")
_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_SVG = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*(?:<\?xml|<!--|<!DOCTYPE svg|<svg)", re.IGNORECASE)

# Camera raw files are TIFF inside, and OpenCV would take their thumbnail for the picture; these have no signature of their own.
RAW_SUFFIXES = frozenset(
    {
        ".3fr", ".arw", ".bay", ".cap", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".k25", ".kdc", ".mef",
        ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".ptx", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
    }
)  # fmt: skip
# Suffixes of pictures: what bears one and holds none is worth a word of its own.
PICTURE_SUFFIXES = RAW_SUFFIXES | frozenset(
    {
        ".apng", ".avif", ".bmp", ".dds", ".dib", ".eps", ".exr", ".fits", ".gif", ".hdr", ".heic", ".heif", ".hif", ".ico",
        ".j2k", ".jfif", ".jif", ".jp2", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".jxl", ".pam", ".pbm", ".pfm", ".pgm",
        ".png", ".pnm", ".ppm", ".ps", ".psb", ".psd", ".qoi", ".ras", ".sr", ".svg", ".svgz", ".tga", ".tif", ".tiff", ".webp",
        ".xcf",
    }
)  # fmt: skip


def sniff(head: bytes) -> str | None:
    """Name the format that the first HEAD_BYTES of a file tell, such as `JPEG`, `HEIC` or `video`; None for anything else."""
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF":
        return {b"WEBP": "WebP", b"AVI ": "video"}.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _sniff_box(head)
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if _PNM.match(head):
        return "PNM"
    if _SVG.match(head) and b"<svg" in head:
        return "SVG"
    return "DICOM" if head[128:132] == b"DICM" else None


def _sniff_box(head: bytes) -> str:
    """Tell apart the files of ISO 14496-12 by their brands, the first that is known."""
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[i : i + 4] for i in range(16, size - 3, 4))]
    known = [_BRANDS[brand] for raw in brands if (brand := raw.decode("latin-1")) in _BRANDS]
    # AVIF states the brand of its container (mif1) too, and some writers state it first.
    return "AVIF" if "AVIF" in known else known[0] if known else "video"


def looks_like_text(head: bytes) -> bool:
    """Tell whether these bytes are text: no control characters but white space."""
    return bool(head) and not re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", head)


@functools.cache
def readable_formats() -> frozenset[str]:
    """Return the formats that the installed OpenCV decodes, by the names of `sniff`."""
    return frozenset(_ALWAYS) | {name for name, suffix in _SOME.items() if cv2.haveImageWriter(f"picture{suffix}")}
