"""Large pictures in little memory; tests/faults asks the same of a control group of 256 MB."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from device_fakes import frame
from reader_messages import deliver

from edgecnn.errors import CameraError, InputError
from edgecnn.memory import limit_bytes
from edgecnn.preprocessing import resize
from edgecnn.testing import JumpingClock, gray_picture
from edgecnn_device.frames import Image
from edgecnn_device.health import Health, Limits
from edgecnn_device.sources import reader, room, video
from edgecnn_device.sources.process import Request

UHD, HD = (3840, 2160), (1280, 720)
SERVICE = 256 * 2**20


def test_4k_motion_jpeg_fits_into_the_service() -> None:
    room.check_camera(UHD, None, limit=SERVICE)


def test_4k_video_whose_pictures_refer_to_each_other_is_refused_with_what_to_do() -> None:
    with pytest.raises(CameraError, match=r"3840x2160 take about 311 MB, more than the 268 MB .*: --size 1280x720"):
        room.check_camera(UHD, None, refers=True, limit=SERVICE)


def test_made_smaller_at_once_it_fits() -> None:
    room.check_camera(UHD, HD, refers=True, limit=SERVICE)


def test_what_does_not_fit_smaller_either_is_sent_to_the_camera() -> None:
    with pytest.raises(CameraError, match="set the camera to a smaller stream"):
        room.check_camera((7680, 4320), None, refers=True, limit=SERVICE)


def test_a_large_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "large.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"XVID"), 10, UHD)
    writer.write(np.zeros((UHD[1], UHD[0], 3), np.uint8))
    writer.release()

    with pytest.raises(InputError, match=r"large\.avi: pictures of 3840x2160 .*ffmpeg -i large\.avi -vf scale=1280:-2"):
        room.check_file(path, cv2.VideoCapture(str(path)), limit=SERVICE)
    assert video.open_video(path).isOpened() or limit_bytes() < 2**29


def delivered(monkeypatch: pytest.MonkeyPatch, image: Image, request: Request) -> list[tuple[bytes, bytes]]:
    """Return what the reader says of a camera that gives this picture three times."""
    pictures = iter([image] * 3)

    def read() -> Image:
        try:
            return next(pictures)
        except StopIteration:
            raise CameraError("the stream ended") from None

    monkeypatch.setattr(reader, "find_opener", lambda kind: lambda request: read)
    return deliver(request, JumpingClock())


def test_the_reader_hands_on_the_size_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    image = gray_picture(128, size_hw=(480, 640))

    messages = delivered(monkeypatch, image, Request("stream", "rtsp://camera", (320, 240)))

    (picture,) = [data for kind, data in messages if kind == b"P"]
    np.testing.assert_array_equal(np.frombuffer(picture, np.uint8).reshape(240, 320, 3), resize(image, (240, 320)))


def test_a_tear_is_seen_before_the_picture_is_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.ascontiguousarray(cv2.resize(gray_picture(128, size_hw=(60, 80)), (640, 480), interpolation=cv2.INTER_CUBIC))
    image = np.clip(3 * (image.astype(int) - 128) + 128 + gray_picture(0, 1, (480, 640)), 0, 255).astype(np.uint8)
    image[200:] = image[200]

    messages = delivered(monkeypatch, image, Request("stream", "rtsp://camera", (320, 240)))

    assert any(kind == b"D" and b"repeat" in data for kind, data in messages)


def test_the_reader_refuses_pictures_that_there_is_no_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "limit_bytes", lambda: 80_000_000)

    messages = delivered(monkeypatch, gray_picture(128, size_hw=(1080, 1920)), Request("stream", "rtsp://camera"))

    assert [kind for kind, _ in messages] == [b"R", b"O"]


def test_a_large_frozen_picture_is_told_without_being_kept() -> None:
    health, image = Health(Limits(frozen_after_s=1.0)), gray_picture(128, size_hw=(2160, 3840))
    states = [health.judge(frame(image, at_s=at_s), at_s).name for at_s in (100.0, 100.9, 101.1)]
    changed = image.copy()
    changed[1000:1040, 2000:2040] = 0

    assert states == ["ok", "ok", "stale"]
    assert health.judge(frame(changed, at_s=101.2), 101.2).name == "ok"
    assert health._last is not None and health._last.nbytes < image.nbytes / 4


def test_the_limit_of_a_service_is_that_beyond_which_it_is_slowed_down(tmp_path: Path) -> None:
    group = tmp_path / "sys/fs/cgroup/system.slice/edgecnn.service"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal:        8000000 kB\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/system.slice/edgecnn.service\n")
    (group / "memory.max").write_text("400000000\n")
    (group / "memory.high").write_text("300000000\n")

    assert limit_bytes(tmp_path) == 300_000_000
