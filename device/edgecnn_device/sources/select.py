"""Choosing the source that an address, a device, a path or a word stands for."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Protocol

from edgecnn.addresses import looks_like_address, may_hold_secret, origin, split_address
from edgecnn.errors import InputError, MissingDependencyError
from edgecnn.files import exists
from edgecnn.numbers import whole_number
from edgecnn.quick_dataclass import dataclass
from edgecnn_device.frames import Frame, Image, Missing
from edgecnn_device.plugins import SOURCES, open_plugin, plugin_names
from edgecnn_device.sources.controls import NO_CONTROLS, CameraControls
from edgecnn_device.sources.live import RETRY_S, Camera, LiveCapture, transformed
from edgecnn_device.sources.transform import Transform

USUAL_FPS = 30.0
_MOST_DEVICES = 9999
# What FFmpeg speaks that a camera may speak.
SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "udp", "tcp", "rtp")
Frames = Iterable[Frame | Missing]


@dataclass(frozen=True)
class SourceOptions:
    """What to read and how.

    `source` is a device (`0`, `/dev/video0`), `csi`, `csi:1` or `csi:imx708`, an address, a video file, a picture, a folder of
    pictures, `synthetic`, or `NAME[:TARGET]` of a plug-in. `fps` and `size_wh` are requested from a camera; pictures of another
    size are resized. `realtime` makes files behave like a camera; None means that only `synthetic` does. `digits` chooses what
    `synthetic` shows. `retry_s` are the first and the longest pause before a lost camera is tried again. `controls` are set on
    V4L2 devices and CSI cameras; InputError where there is nothing to set.
    """

    source: str
    size_wh: tuple[int, int] | None = None
    fps: float | None = None
    transform: Transform = field(default_factory=Transform)
    loop: bool = False
    realtime: bool | None = None
    open_timeout_s: float = 5.0
    read_timeout_s: float = 3.0
    retry_s: tuple[float, float] = RETRY_S
    digits: bool = False
    seed: int = 0
    controls: CameraControls = NO_CONTROLS


class Source(Protocol):
    """Frames, as a context manager; `live` ones are skipped and late when the consumer is slow, the others never.

    An `endless` source goes on until it is left.
    """

    live: bool
    endless: bool
    fps: float
    losses: int

    @property
    def skipped(self) -> int:
        """Frames that nobody took in time."""

    @property
    def retry_s(self) -> float | None:
        """When a lost camera is tried again, on the monotonic clock; None at other times."""

    def __enter__(self) -> Source: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def __iter__(self) -> Iterator[Frame | Missing]: ...


class Recording(AbstractContextManager["Recording"]):
    """A file, a folder or generated frames, read one by one without loss."""

    live = False
    losses = 0
    skipped = 0
    retry_s = None

    def __init__(
        self, frames: Frames, fps: float, transform: Callable[[Image], Image] | None, *, endless: bool = False
    ) -> None:
        """Read `frames`, which are taken at `fps` when they are shown.

        InputError of `transform` for the first picture ends the iteration; a later picture is then `unusable`.
        """
        self.fps = fps
        self.endless = endless
        self._frames = frames
        self._transform = transform
        self._checked = False

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the file."""
        close = getattr(self._frames, "close", None)
        if close is not None:
            close()

    def __iter__(self) -> Iterator[Frame | Missing]:
        """Iterate over the frames, transformed."""
        frames = iter(self._frames)
        return frames if self._transform is None else map(self._transformed, frames)

    def _transformed(self, frame: Frame | Missing) -> Frame | Missing:
        if self._transform is None or isinstance(frame, Missing):
            return frame
        result = transformed(frame, self._transform)
        if not self._checked and result.unusable:
            self._transform(frame.image_bgr)  # raises where the options do not fit the first picture
        self._checked = True
        return result


def open_source(options: SourceOptions) -> Source:
    """Return the source, not yet started; InputError when there can be none of this name."""
    is_csi = options.source.partition(":")[0] == "csi"
    if options.controls.asked() and not is_csi and device_path(options.source) is None:
        raise InputError(
            f"{', '.join(options.controls.asked())}: only for V4L2 devices and CSI cameras; a network camera is set on its own "
            "page, and other sources have no such controls"
        )
    if options.source == "synthetic":
        return _open_synthetic(options)
    if is_csi or device_path(options.source) is not None:
        return _open_camera(options)
    path = Path(options.source)
    if exists(path) or not looks_like_address(options.source):
        plugin = None if exists(path) else open_plugin(SOURCES, options.source, options)
        return _open_path(options, path) if plugin is None else _live(plugin, options.fps or USUAL_FPS, options)
    return _open_camera(options)


def device_path(text: str) -> str | None:
    """Return the device of `0` or `/dev/video0`, None when the text names no device."""
    if (number := whole_number(text, at_most=_MOST_DEVICES)) is not None:
        return f"/dev/video{number}"
    return text if text.startswith("/dev/") else None


def is_live(options: SourceOptions) -> bool:
    """Tell whether a source behaves like a camera: it goes on whether anybody looks or not."""
    if options.source == "synthetic":
        return options.realtime is not False
    return bool(options.realtime) or not exists(Path(options.source)) or options.source.startswith("/dev/")


def _open_synthetic(options: SourceOptions) -> Source:
    from edgecnn_device.sources import synthetic

    fps = options.fps or USUAL_FPS
    size_wh = options.size_wh or synthetic.USUAL_SIZE_WH
    _check_roi(options, size_wh)

    def play() -> Iterator[Frame]:
        if options.digits:
            return synthetic.play_sheet(size_wh, seed=options.seed, fps=fps)
        return synthetic.play_strip(size_wh, seed=options.seed)

    name = synthetic.NAMES["sheet" if options.digits else "strip"]
    return _paced(name, play, fps, options) if is_live(options) else Recording(play(), fps, _transform(options), endless=True)


def _open_path(options: SourceOptions, path: Path) -> Source:
    from edgecnn.pictures import SUFFIXES

    if not exists(path):
        named = "what was given" if may_hold_secret(options.source) else repr(options.source)
        raise InputError(
            f"no such source: {named}; give a device (0, /dev/video0), csi, an address (rtsp://, http://), a video file, a "
            f"picture, a folder of pictures, {', '.join(['synthetic', *plugin_names(SOURCES)])}"
        )
    if path.is_dir() or path.suffix.lower() in SUFFIXES:
        from edgecnn_device.sources.folder import read_folder

        one = path.is_file() and not options.loop
        return _recorded(str(path), lambda: read_folder(path, loop=options.loop), options.fps or 1.0, options, ahead=not one)
    from edgecnn_device.sources.video import open_video, read_video, video_fps

    capture = open_video(path)
    fps = options.fps or video_fps(capture)
    play = partial(read_video, path, capture, loop=options.loop)
    return _recorded(str(path), play, fps, options, by_media_time=options.fps is None)


def _recorded(
    name: str,
    play: Callable[[], Frames],
    fps: float,
    options: SourceOptions,
    *,
    by_media_time: bool = False,
    ahead: bool = True,
) -> Source:
    if options.realtime:
        return _paced(name, play, fps, options, by_media_time=by_media_time)
    frames = iter(play())
    if ahead and len(os.sched_getaffinity(0)) > 1:  # on one processor two threads only get into each other's way
        from edgecnn_device.sources.prefetch import read_ahead

        frames = read_ahead(frames)
    return Recording(frames, fps, _transform(options), endless=options.loop)


def _paced(name: str, play: Callable[[], Frames], fps: float, options: SourceOptions, *, by_media_time: bool = False) -> Source:
    from edgecnn_device.sources.paced import PacedCamera

    return _live(PacedCamera(name, play, fps, by_media_time=by_media_time), fps, options)


def _open_camera(options: SourceOptions) -> Source:
    from edgecnn_device.sources.process import ProcessCamera, Request
    from edgecnn_device.sources.v4l2_device import check_controls

    is_stream = looks_like_address(options.source)
    if is_stream:
        split_address(options.source, schemes=SCHEMES)
    name = origin(options.source) if is_stream else device_path(options.source) or options.source
    if options.loop or options.realtime is not None:
        raise InputError(f"--loop and --realtime are for files, not the camera {name}")
    _check_roi(options, options.size_wh)
    limits = (options.size_wh, options.fps, options.open_timeout_s, options.read_timeout_s, options.controls)
    if options.source.partition(":")[0] == "csi":
        if importlib.util.find_spec("picamera2") is None:
            from edgecnn_device.sources.csi import INSTALL

            raise MissingDependencyError(INSTALL)
        request = Request("csi", options.source, *limits)
    elif is_stream:
        request = Request("stream", options.source, *limits)
    else:
        request = Request("v4l2", name, *limits)
        check_controls(request.target, options.controls)
    return _live(ProcessCamera(name, request), options.fps or _usual_fps(options.source), options)


def _usual_fps(source: str) -> float:
    """Return the rate that a camera has when none is asked for; an address may also turn out to give single pictures."""
    from edgecnn.pictures import SUFFIXES

    path = source.partition("?")[0].lower()
    if not (path.startswith(("http://", "https://")) and path.endswith(tuple(SUFFIXES))):
        return USUAL_FPS
    from edgecnn_device.sources.snapshot import SNAPSHOT_FPS

    return SNAPSHOT_FPS


def _live(camera: Camera, fps: float, options: SourceOptions) -> LiveCapture:
    return LiveCapture(camera, fps=fps, transform=_transform(options), retry_s=options.retry_s)


def _check_roi(options: SourceOptions, size_wh: tuple[int, int] | None) -> None:
    """Raise InputError when the region of interest is not inside pictures of this size, where that is known."""
    roi = options.transform.roi
    if roi is not None and size_wh is not None:
        height, width = size_wh[:: -1 if options.transform.rotation in (0, 180) else 1]
        roi.check(width, height)


def _transform(options: SourceOptions) -> Callable[[Image], Image] | None:
    transform = replace(options.transform, size_wh=options.size_wh)
    return None if transform == Transform() else transform
