"""The reader process: opens one camera and writes its pictures to stdout, until it fails or is ended.

Run as `python -m edgecnn_device.sources.reader` with a request as JSON on stdin; `sources.process` is its other half.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import cv2

from edgecnn.addresses import hide
from edgecnn.errors import CameraError, EdgecnnError
from edgecnn.preprocessing import resize
from edgecnn_device.frames import Image
from edgecnn_device.sources import decoder_log, room
from edgecnn_device.sources.backlog import Backlog
from edgecnn_device.sources.decoder_log import Damage
from edgecnn_device.sources.process import DAMAGE, FAILED, HEADER, IDLE, OPENED, PICTURE, READY, Request
from edgecnn_device.torn import tear


def main() -> None:
    """Serve the request on stdin."""
    pipe = os.dup(sys.stdout.fileno())
    words = decoder_log.listen()  # libraries that print must not print into the pictures
    request = Request.from_json(sys.stdin.read())
    try:
        deliver(pipe, request, words=words)
    except (EdgecnnError, OSError, MemoryError, cv2.error) as error:
        if not isinstance(error, BrokenPipeError):
            reason = hide(str(error), request.target) if request.kind == "stream" else str(error)
            send(pipe, FAILED, " ".join(reason.split()).encode("utf-8", "replace") or b"out of memory")


def deliver(
    pipe: int, request: Request, clock: Callable[[], float] = time.monotonic, words: Callable[[], str] = lambda: ""
) -> None:
    """Read pictures and write the fresh ones to `pipe` until the camera fails, which is a CameraError.

    The one picture of an address that ends with it is fresh, too. `words()` gives what native code has printed.
    """
    open_camera = find_opener(request.kind)
    send(pipe, READY)
    read = open_camera(request)
    send(pipe, OPENED)
    # What some openers' functions know beyond the picture.
    polled, kind_of_last = getattr(read, "polled", False), getattr(read, "kind_of_last", lambda: "I")
    backlog, damage, any_fresh = Backlog(), Damage(), False
    newest: tuple[Image, float, str] | None = None
    checked_wh: tuple[int, ...] = ()
    asked_s = clock()
    try:
        while True:
            image_bgr, read_s = read(), clock()
            messages = words()
            if decoder_log.not_written(messages):
                raise CameraError(decoder_log.explain(messages))
            if image_bgr is None:
                send(pipe, IDLE, getattr(read, "idle_reason", "").encode("utf-8", "replace"))
                continue
            if image_bgr.shape[1::-1] != checked_wh:
                checked_wh = image_bgr.shape[1::-1]
                room.check_camera((image_bgr.shape[1], image_bgr.shape[0]), request.size_wh)
            newest = (image_bgr, read_s, damage.after(messages, kind_of_last()))
            if polled or not backlog.is_old(read_s - asked_s):
                any_fresh = True
                send_picture(pipe, request, *newest)
                newest = None  # its memory is wanted for the next one
            del image_bgr
            asked_s = clock()
    except CameraError:
        if newest is not None and not any_fresh:
            send_picture(pipe, request, *newest)
        raise


def find_opener(kind: str) -> Callable[[Request], Callable[[], Image | None]]:
    """Import the module of a kind of camera; its opener returns a function that reads the next picture.

    It may give None for its `idle_reason`, say that it is `polled` (what it gives is fresh, however long it took), and tell
    the `kind_of_last()` picture, which is I, P or B.
    """
    match kind:
        case "v4l2":
            from edgecnn_device.sources.v4l2 import open_v4l2

            return open_v4l2
        case "csi":
            from edgecnn_device.sources.csi import open_csi

            return open_csi
        case "stream":
            from edgecnn_device.sources.stream import open_stream

            return open_stream
    raise CameraError(f"unknown kind of camera {kind!r}")


def send_picture(pipe: int, request: Request, image: Image, at_s: float, damage: str = "") -> None:
    """Write a picture `(h, w, 3)` uint8 to the parent, in the size that was asked for, after what is wrong with it."""
    if request.size_wh is not None and image.shape[1::-1] != request.size_wh:
        damage = damage or tear(image)  # no block lies where the decoder left it afterwards
        image = resize(image, request.size_wh[::-1])
    if damage:
        send(pipe, DAMAGE, damage.encode("utf-8", "replace"))
    send(pipe, PICTURE, image.data.cast("B"), image.shape[0], image.shape[1], at_s)


def send(pipe: int, kind: bytes, data: Any = b"", height: int = 0, width: int = 0, at_s: float = 0.0) -> None:
    """Write one message to the parent."""
    header = HEADER.pack(kind, len(data), height, width, at_s)
    view = memoryview(data)
    at = os.writev(pipe, [header, view]) - len(header)
    while at < len(view):
        at += os.write(pipe, view[at:])


if __name__ == "__main__":
    main()
