from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import cast

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.errors import CameraError, InputError, MissingDependencyError
from edgecnn.testing import START, gray_picture
from edgecnn_device.frames import Frame, Image, Missing
from edgecnn_device.sources import SourceOptions, open_source
from edgecnn_device.sources.csi import open_csi
from edgecnn_device.sources.paced import PacedCamera
from edgecnn_device.sources.process import ProcessCamera, Request
from edgecnn_device.sources.select import device_path
from edgecnn_device.sources.synthetic import play_sheet, play_strip
from edgecnn_device.sources.transform import Roi, Transform, parse_size
from edgecnn_device.sources.v4l2 import open_v4l2, settings
from edgecnn_device.sources.video import read_video


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, level in (("b10.png", 200), ("b9.png", 100), ("a.png", 50)):
        cv2.imwrite(str(tmp_path / name), gray_picture(level))
    return tmp_path


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "v.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 50, (64, 48))
    for number in range(20):
        writer.write(gray_picture(10 + 10 * number))
    writer.release()
    return path


def frames_of(options: SourceOptions) -> list[Frame | Missing]:
    with open_source(options) as source:
        return list(source)


def test_a_folder_gives_every_picture_in_natural_order_under_its_own_path(folder: Path) -> None:
    frames = frames_of(SourceOptions(str(folder)))

    assert [Path(frame.source).name for frame in frames] == ["a.png", "b9.png", "b10.png"]


def test_a_video_that_is_cut_short_says_so_at_its_end(video: Path) -> None:
    data = video.read_bytes()
    video.write_bytes(data[: len(data) // 2])

    *frames, last = frames_of(SourceOptions(str(video)))

    assert 0 < len(frames) < 12 and all(isinstance(frame, Frame) for frame in frames)
    assert isinstance(last, Missing) and f"{len(frames)} of 20 frames could be read" in last.reason


def test_a_damaged_picture_is_missing_with_its_reason(folder: Path) -> None:
    (folder / "a.png").write_bytes((folder / "a.png").read_bytes()[:200])

    first, second, _ = frames_of(SourceOptions(str(folder)))

    assert isinstance(first, Missing)
    assert "cut short" in first.reason
    assert isinstance(second, Frame)


def test_a_video_gives_every_frame_once(video: Path) -> None:
    frames = [frame for frame in frames_of(SourceOptions(str(video))) if isinstance(frame, Frame)]

    means = [float(frame.image_bgr.mean()) for frame in frames]
    assert [frame.number for frame in frames] == list(range(20))
    assert np.all(np.diff(means) > 5)


def test_a_looped_video_begins_anew(video: Path) -> None:
    with open_source(SourceOptions(str(video), loop=True)) as source:
        numbers = [frame.number for frame, _ in zip(source, range(50), strict=False) if isinstance(frame, Frame)]

    assert numbers == list(range(50))


def test_a_video_in_real_time_takes_its_time(video: Path) -> None:
    started_s = time.monotonic()

    frames = [frame for frame in frames_of(SourceOptions(str(video), realtime=True)) if isinstance(frame, Frame)]

    assert time.monotonic() - started_s > 19 / 50
    assert frames[-1].number == 19


class FakeVideo:
    """What `read_video` asks of an opened file of pictures with these time stamps, in milliseconds."""

    def __init__(self, stamps_ms: list[float], fps: float = 25.0, stated: int = 0) -> None:
        self._stamps_ms, self._fps, self._read, self._stated = stamps_ms, fps, 0, stated or len(stamps_ms)

    def read(self) -> tuple[bool, Image | None]:
        self._read += 1
        return (True, gray_picture(128)) if self._read <= len(self._stamps_ms) else (False, None)

    def get(self, key: int) -> float:
        if key == cv2.CAP_PROP_POS_MSEC:
            return self._stamps_ms[self._read - 1]
        return self._fps if key == cv2.CAP_PROP_FPS else self._stated

    def release(self) -> None: ...


def media_times(capture: FakeVideo) -> list[float | None]:
    frames = read_video(Path("fake.mkv"), cast(cv2.VideoCapture, capture))
    return [frame.media_time_s for frame in frames if isinstance(frame, Frame)]


def test_frames_of_a_video_know_where_they_stand_in_it(video: Path) -> None:
    frames = [frame for frame in frames_of(SourceOptions(str(video))) if isinstance(frame, Frame)]

    assert [frame.media_time_s for frame in frames] == pytest.approx([number / 50 for number in range(20)], abs=1e-3)


def test_frames_of_a_video_of_variable_rate_keep_their_own_times() -> None:
    assert media_times(FakeVideo([0, 200, 280, 400, 3920])) == [0, 0.2, 0.28, 0.4, 3.92]


@pytest.mark.parametrize("stamps_ms", [[0.0] * 4, [0, 40, 40, 20], [float("nan")] * 4, [-1.0] * 4])
def test_where_a_video_has_no_time_stamps_a_frame_is_one_period_after_the_last(stamps_ms: list[float]) -> None:
    assert media_times(FakeVideo(stamps_ms)) == pytest.approx([0, 0.04, 0.08, 0.12])


def test_a_video_of_variable_rate_that_ends_where_it_should_is_not_cut_short() -> None:
    uneven = FakeVideo([0, 200, 280, 400, 3920], stated=98)
    cut = FakeVideo([0, 200, 280, 400], stated=98)

    assert [isinstance(item, Missing) for item in read_video(Path("v"), cast(cv2.VideoCapture, uneven))] == [False] * 5
    assert isinstance(list(read_video(Path("v"), cast(cv2.VideoCapture, cut)))[-1], Missing)


def test_in_a_loop_the_media_time_begins_again_and_the_number_goes_on(video: Path) -> None:
    with open_source(SourceOptions(str(video), loop=True)) as source:
        frames = [frame for frame, _ in zip(source, range(25), strict=False) if isinstance(frame, Frame)]

    assert [(frame.number, round(frame.media_time_s or 0, 3)) for frame in frames[19:22]] == [(19, 0.38), (20, 0.0), (21, 0.02)]


def test_a_camera_has_no_media_time(folder: Path) -> None:
    frames = frames_of(SourceOptions(str(folder)))

    assert [frame.media_time_s for frame in frames if isinstance(frame, Frame)] == [None] * 3


def test_a_video_of_variable_rate_is_played_at_its_own_pace() -> None:
    def play() -> Iterator[Frame]:
        for number, media_time_s in enumerate((0.0, 0.05, 0.35, 0.4)):
            yield Frame(gray_picture(128), number, "v", START, 0.0, media_time_s)

    pictures = list(PacedCamera("v", play, fps=1000, by_media_time=True).pictures())

    gaps_s = np.diff([picture.monotonic_s for picture in pictures])
    assert [picture.media_time_s for picture in pictures] == [0.0, 0.05, 0.35, 0.4]
    assert gaps_s[1] >= 0.29 and gaps_s[1] > gaps_s[0]


def test_a_damaged_picture_has_a_number_of_its_own(folder: Path) -> None:
    (folder / "a.png").write_bytes(b"")

    frames = frames_of(SourceOptions(str(folder)))

    assert [frame.number for frame in frames if isinstance(frame, Frame)] == [1, 2]


def test_a_file_that_is_no_video_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "x.avi").write_text("no video")

    with pytest.raises(InputError, match="not a video"):
        open_source(SourceOptions(str(tmp_path / "x.avi")))


def test_a_source_that_is_nothing_says_what_there_is() -> None:
    with pytest.raises(InputError, match="synthetic"):
        open_source(SourceOptions("nonsense"))


def test_a_camera_cannot_be_looped() -> None:
    with pytest.raises(InputError, match="are for files"):
        open_source(SourceOptions("/dev/video0", loop=True))


def test_pictures_are_transformed(folder: Path) -> None:
    transform = Transform(rotation=90, roi=Roi.parse("0,0,0.5,1.0"))

    frames = frames_of(SourceOptions(str(folder), size_wh=(32, 24), transform=transform))

    assert {frame.image_bgr.shape for frame in frames if isinstance(frame, Frame)} == {(32, 12, 3)}


@pytest.mark.parametrize("play", [play_strip, play_sheet])
def test_synthetic_views_move_and_are_the_same_for_the_same_seed(play: type) -> None:
    one, other = play((320, 240), seed=3), play((320, 240), seed=3)
    first, second = next(one).image_bgr, next(one).image_bgr

    assert first.shape == (240, 320, 3)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, next(other).image_bgr)


def test_a_synthetic_camera_is_live_unless_told_otherwise() -> None:
    assert open_source(SourceOptions("synthetic")).live
    assert not open_source(SourceOptions("synthetic", realtime=False)).live


def test_turning_mirroring_and_cropping_happen_in_this_order() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)

    turned = Transform(rotation=90, flip="horizontal", roi=Roi.parse("1,0,1,4"))(image)

    expected = cv2.flip(cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE), 1)[0:4, 1:2]
    assert np.array_equal(turned, expected)


def test_nothing_to_do_returns_the_very_same_picture() -> None:
    image = gray_picture(128)

    assert Transform()(image) is image


@given(x=st.integers(0, 99), y=st.integers(0, 99), data=st.data())
def test_fractions_crop_that_part_of_any_picture(x: int, y: int, data: st.DataObject) -> None:
    w, h = data.draw(st.integers(1, 100 - x)), data.draw(st.integers(1, 100 - y))

    cropped = Roi.parse(f"{x / 100},{y / 100},{w / 100},{h / 100}").crop(np.zeros((300, 400, 3), np.uint8))

    assert cropped.shape == (3 * h, 4 * w, 3)


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", "-1,0,5,5", "0,0,0,5", "0.5,0.0,0.6,0.5", "nan,0,1,1", "inf,0,1,1"])
def test_a_region_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--roi"):
        Roi.parse(text)


def test_a_region_outside_of_the_picture_is_one_clear_error() -> None:
    with pytest.raises(InputError, match="is not inside the picture of 64x48"):
        Roi.parse("0,0,65,48").crop(gray_picture(128))


@pytest.mark.parametrize("text", ["640", "0x480", "640x", "axb", "640x480x3", "9" * 5000 + "x480", "٣x٣", "1_0x10", "16385x1"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="such as 640x480"):
        parse_size(text)


@pytest.mark.parametrize(("text", "path"), [("0", "/dev/video0"), ("/dev/video2", "/dev/video2"), ("a.avi", None)])
def test_devices_are_known_by_number_and_by_path(text: str, path: str | None) -> None:
    assert device_path(text) == path


@pytest.mark.parametrize(
    "source",
    [
        "rtspt://me:pa55@cam/s",
        "rtsp:/me:pa55@cam/s",
        "rtsp://me:pa55#x@cam/s",
        "rtsp://me:pa55@[::1/s",
        "me:pa55@cam/s",
        "cam/video.cgi?pwd=pa55",
        "rtsp://me:" + "pa55" * 500 + "@cam:0/s",
        "x" * 300 + "@pa55",
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_being_repeated(source: str) -> None:
    with pytest.raises(InputError) as caught:
        open_source(SourceOptions(source))

    assert "pa55" not in str(caught.value)


def test_options_for_files_do_not_repeat_the_address_of_a_camera() -> None:
    with pytest.raises(InputError, match=r"not the camera http://cam$"):
        open_source(SourceOptions("http://cam/x.cgi?user=me&pwd=pa55", loop=True))


def test_a_source_that_is_no_address_is_named() -> None:
    with pytest.raises(InputError, match=r"no such source: 'typo/film.mp4'"):
        open_source(SourceOptions("typo/film.mp4"))


def test_large_pictures_are_asked_for_as_jpeg_since_usb_has_no_room_for_raw_ones() -> None:
    small = settings(Request("v4l2", "/dev/video0", (640, 480), 30.0))
    large = settings(Request("v4l2", "/dev/video0", (1280, 720)))

    assert [key for key, _ in small] == [cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS]
    assert large[0] == (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))


def test_a_device_that_is_not_there_names_the_doctor() -> None:
    with pytest.raises(CameraError, match="edgecnn doctor"):
        open_v4l2(Request("v4l2", "/dev/video99"))


def test_an_unplugged_camera_is_tried_again_and_its_reason_is_said() -> None:
    with open_source(SourceOptions("99")) as source:
        reasons = []
        for item in source:
            assert isinstance(item, Missing)
            reasons.append(item.reason)
            if source.losses:
                break
        reasons += [next(item for item in source if isinstance(item, Missing)).reason]

    assert "no device /dev/video99" in reasons[-1]


def test_without_picamera2_one_line_says_how_to_install_it() -> None:
    with pytest.raises(MissingDependencyError, match="apt install python3-picamera2"):
        open_source(SourceOptions("csi"))


class FakePicamera2:
    """What `open_csi` uses of picamera2."""

    configured: dict[str, object] = {}  # noqa: RUF012

    def create_video_configuration(self, **options: object) -> dict[str, object]:
        return options

    def configure(self, options: dict[str, object]) -> None:
        FakePicamera2.configured = options

    def start(self) -> None: ...

    def capture_array(self, name: str) -> Image:
        assert name == "main"
        return np.zeros((48, 72, 3), np.uint8)[:, :64]


def test_the_csi_camera_gives_bgr_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("picamera2")
    module.Picamera2 = FakePicamera2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "picamera2", module)

    image = open_csi(Request("csi", "csi", (64, 48), 15.0))()

    assert FakePicamera2.configured == {"main": {"size": (64, 48), "format": "RGB888"}, "controls": {"FrameRate": 15.0}}
    assert image.flags.c_contiguous
    assert image.shape == (48, 64, 3)


def test_a_reader_that_the_system_cannot_start_is_a_lost_camera_and_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("subprocess.Popen", refuse)

    with pytest.raises(CameraError, match=r"cannot be started: .*Too many open files"):
        next(iter(ProcessCamera("camera", Request("v4l2", "/dev/video99")).pictures()))
