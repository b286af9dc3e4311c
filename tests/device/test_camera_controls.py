"""What is set at a camera: V4L2 by the kernel's calls, libcamera by picamera2. The hardware is fake."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import fake_v4l2
import pytest
from click.testing import CliRunner
from fake_v4l2 import FakeDevice

from edgecnn.cli.camera import camera
from edgecnn.errors import CameraError, InputError
from edgecnn_device.frames import Image
from edgecnn_device.sources import SourceOptions, csi, open_source, v4l2_device
from edgecnn_device.sources.controls import CameraControls
from edgecnn_device.sources.process import Request
from edgecnn_device.sources.v4l2 import open_v4l2

IMX708: dict[str, tuple[Any, ...]] = {
    "ExposureTime": (26, 220417486, None),
    "AnalogueGain": (1.12, 16.0, None),
    "LensPosition": (0.0, 32.0, 1.0),
    "AfMode": (0, 2, 0),
    "AwbEnable": (False, True, None),
    "AeEnable": (False, True, None),
    "AeFlickerMode": (0, 1, 0),
    "AeFlickerPeriod": (100, 1000000, None),
}


@pytest.fixture
def node(tmp_path: Path) -> str:
    """Return a file that stands for a device: the fake answers for it."""
    (tmp_path / "video0").touch()
    return str(tmp_path / "video0")


@pytest.mark.parametrize(
    ("asked", "was_set"),
    [
        (CameraControls(exposure=8.0), [(fake_v4l2.EXPOSURE_AUTO, 1), (fake_v4l2.EXPOSURE, 80)]),
        (CameraControls(exposure="auto"), [(fake_v4l2.EXPOSURE_AUTO, 3)]),
        (CameraControls(gain=20.0), [(fake_v4l2.GAIN, 20)]),
        (CameraControls(focus=0.0), [(fake_v4l2.FOCUS_AUTO, 0), (fake_v4l2.FOCUS, 0)]),
        (CameraControls(focus="auto"), [(fake_v4l2.FOCUS_AUTO, 1)]),
        (CameraControls(white_balance=4500.0), [(fake_v4l2.WHITE_AUTO, 0), (fake_v4l2.WHITE, 4500)]),
        (CameraControls(mains=50.0), [(fake_v4l2.MAINS, 1)]),
        (CameraControls(mains=60.0), [(fake_v4l2.MAINS, 2)]),
        (CameraControls(), []),
    ],
)
def test_a_v4l2_device_gets_what_was_asked_with_its_automatic_off(
    node: str, asked: CameraControls, was_set: list[tuple[int, int]]
) -> None:
    device = FakeDevice()

    v4l2_device.set_controls(node, asked, device)

    assert device.was_set == was_set


def test_automatic_exposure_is_the_one_that_the_device_has(node: str) -> None:
    device = FakeDevice(exposure_items=(0, 1))

    v4l2_device.set_controls(node, CameraControls(exposure="auto"), device)

    assert device.was_set == [(fake_v4l2.EXPOSURE_AUTO, 0)]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (CameraControls(focus=10.0), "this camera has no control for --focus; it has --exposure 0.3..204.7 ms, --gain 0..255"),
        (CameraControls(focus="auto"), "no control for --focus auto"),
        (CameraControls(gain="auto"), "no control for --gain auto"),
        (CameraControls(exposure=500.0), "--exposure 500: this camera takes 0.3 to 204.7 ms"),
        (CameraControls(mains=50.0), "no control for --mains"),
    ],
)
def test_a_control_that_a_device_lacks_is_refused_in_one_line_before_anything_is_set(
    node: str, asked: CameraControls, reason: str
) -> None:
    numbers = (fake_v4l2.EXPOSURE, fake_v4l2.EXPOSURE_AUTO, fake_v4l2.GAIN)
    device = FakeDevice(controls={number: fake_v4l2.WEBCAM[number] for number in numbers})

    for act in (v4l2_device.check_controls, v4l2_device.set_controls):
        with pytest.raises(InputError, match=reason):
            act(node, asked, device)

    assert device.was_set == []


def test_a_device_that_is_not_there_yet_is_not_judged() -> None:
    v4l2_device.check_controls("/dev/video99", CameraControls(gain=1.0))


def test_the_controls_of_a_device_are_told_with_their_ranges(node: str) -> None:
    assert v4l2_device.describe_controls(node, FakeDevice()) == [
        "--exposure 0.3..204.7 ms",
        "--gain 0..255",
        "--focus 0..250",
        "--white-balance 2800..6500 K",
        "--mains 50|60",
    ]
    assert v4l2_device.describe_controls(node) == []  # a file, which is no device


@pytest.mark.parametrize(
    ("driver", "capabilities", "kind"),
    [
        ("uvcvideo", fake_v4l2.CAPTURE, "camera"),
        ("uvcvideo", fake_v4l2.META, "metadata"),
        ("bcm2835-codec", fake_v4l2.M2M, "codec"),
        ("somebody's codec", fake_v4l2.M2M | fake_v4l2.STREAMING, "codec"),
        ("old codec", fake_v4l2.CAPTURE_MPLANE | fake_v4l2.OUTPUT, "codec"),
        ("bcm2835-isp", fake_v4l2.CAPTURE, "image processor"),
        ("pispbe", fake_v4l2.CAPTURE_MPLANE, "image processor"),
        ("unicam", fake_v4l2.CAPTURE, "CSI receiver"),
        ("a pipeline", fake_v4l2.CAPTURE | fake_v4l2.MEDIA, "CSI receiver"),
        ("v4l2 loopback", fake_v4l2.CAPTURE, "camera"),
        ("vivid", fake_v4l2.OUTPUT, "output"),
    ],
)
def test_only_what_captures_by_itself_is_a_camera(node: str, driver: str, capabilities: int, kind: str) -> None:
    found = v4l2_device.identify(node, FakeDevice(driver=driver, capabilities=capabilities))

    assert found is not None
    assert found.kind == kind


def test_a_codec_as_a_source_is_refused_with_what_it_is(node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = v4l2_device.identify(node, FakeDevice("bcm2835-codec", "bcm2835-codec-decode", fake_v4l2.M2M))
    monkeypatch.setattr(v4l2_device, "identify", lambda path: found)

    with pytest.raises(CameraError, match=r"is not a camera: bcm2835-codec-decode \(codec\)"):
        open_v4l2(Request("v4l2", node))


@pytest.mark.parametrize("source", ["synthetic", "rtsp://camera/stream", "http://camera/snap.jpg"])
def test_a_source_without_controls_refuses_them_in_one_line(source: str) -> None:
    with pytest.raises(InputError, match="--exposure, --mains: only for V4L2 devices and CSI cameras"):
        open_source(SourceOptions(source, controls=CameraControls(exposure=5.0, mains=50.0)))


@pytest.mark.parametrize(
    ("asked", "controls"),
    [
        (CameraControls(exposure=8.0), {"ExposureTime": 8000}),
        (CameraControls(exposure="auto"), {"AeEnable": True}),
        (CameraControls(gain=2.5), {"AnalogueGain": 2.5}),
        (CameraControls(focus=4.0), {"AfMode": 0, "LensPosition": 4.0}),
        (CameraControls(focus="auto"), {"AfMode": 2}),
        (CameraControls(white_balance="auto"), {"AwbEnable": True}),
        (CameraControls(mains=50.0), {"AeFlickerMode": 1, "AeFlickerPeriod": 10000}),
        (CameraControls(mains=60.0), {"AeFlickerMode": 1, "AeFlickerPeriod": 8333}),
    ],
)
def test_a_csi_camera_gets_what_was_asked_in_libcameras_words(asked: CameraControls, controls: dict[str, object]) -> None:
    if asked.white_balance == "auto":
        assert csi.translate(asked, IMX708 | {"ColourTemperature": (100, 100000, None)}) == controls
    else:
        assert csi.translate(asked, IMX708) == controls


def test_a_newer_libcamera_is_told_which_automatic_ends() -> None:
    newer = IMX708 | {"ExposureTimeMode": (0, 1, 0), "AnalogueGainMode": (0, 1, 0)}

    assert csi.translate(CameraControls(exposure=8.0), newer) == {"ExposureTimeMode": 1, "ExposureTime": 8000}
    assert csi.translate(CameraControls(gain="auto"), newer) == {"AnalogueGainMode": 0, "AeEnable": True}


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (CameraControls(white_balance=4000.0), "this camera has no control for --white-balance; it has --exposure 0.026.."),
        (CameraControls(gain=40.0), "--gain 40: this camera takes 1.12 to 16"),
        (CameraControls(focus=40.0), "--focus 40: this camera takes 0 to 32 dioptres"),
    ],
)
def test_a_csi_camera_without_a_control_says_so(asked: CameraControls, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        csi.translate(asked, IMX708)


class FakePicamera2:
    """What `open_csi` uses of picamera2, with two cameras."""

    opened: int | None = None
    configured: dict[str, Any] = {}  # noqa: RUF012
    camera_controls = IMX708

    def __init__(self, camera_num: int = 0) -> None:
        FakePicamera2.opened = camera_num

    @staticmethod
    def global_camera_info() -> list[dict[str, Any]]:
        return [{"Model": "imx708_wide", "Num": 1}, {"Model": "ov5647", "Num": 0}]

    def create_video_configuration(self, **options: Any) -> dict[str, Any]:
        return options

    def configure(self, options: dict[str, Any]) -> None:
        FakePicamera2.configured = options

    def start(self) -> None: ...

    def capture_array(self, name: str) -> Image:
        raise NotImplementedError


@pytest.fixture
def picamera2(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("picamera2")
    module.Picamera2 = FakePicamera2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "picamera2", module)


@pytest.mark.parametrize(
    ("target", "number"), [("csi", 0), ("csi:0", 0), ("csi:1", 1), ("csi:imx708", 1), ("csi:OV5647", 0), ("csi:imx708_wide", 1)]
)
@pytest.mark.usefixtures("picamera2")
def test_each_of_several_csi_cameras_can_be_named(target: str, number: int) -> None:
    csi.open_csi(Request("csi", target, controls=CameraControls(exposure=4.0)))

    assert FakePicamera2.opened == number
    assert FakePicamera2.configured["controls"] == {"ExposureTime": 4000}


@pytest.mark.parametrize(("target", "reason"), [("csi:2", "no CSI camera 2"), ("csi:imx219", "no CSI camera 'imx219'")])
@pytest.mark.usefixtures("picamera2")
def test_a_csi_camera_that_is_not_there_is_refused_with_those_that_are(target: str, reason: str) -> None:
    with pytest.raises(CameraError, match=rf"{reason}; there are: csi:0 \(ov5647\), csi:1 \(imx708_wide\)"):
        csi.open_csi(Request("csi", target))


def test_a_name_that_means_two_cameras_is_refused() -> None:
    with pytest.raises(CameraError, match="more than one CSI camera 'imx'"):
        csi.choose("imx", ["imx219", "imx708"])


def test_a_request_comes_out_of_the_readers_stdin_as_it_went_in() -> None:
    request = Request("v4l2", "/dev/video0", (640, 480), 15.0, controls=CameraControls("auto", 2.0, None, 4000.0, 50.0))

    assert Request.from_json(request.to_json()) == request
    assert json.loads(request.to_json())["controls"]["exposure"] == "auto"


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "much", ""])
def test_a_number_that_is_none_is_refused_at_the_command_line(value: str) -> None:
    result = CliRunner().invoke(camera, ["neu", "--exposure", value])

    assert result.exit_code == 2
    assert "neither auto nor a number" in result.output
