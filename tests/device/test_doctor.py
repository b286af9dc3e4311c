from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest
from click.testing import CliRunner

from edgecnn.cli.doctor import doctor
from edgecnn_device import board
from edgecnn_device.doctor import (
    Check,
    check_cameras,
    check_clock,
    check_model,
    check_package,
    check_runtime,
    check_secrets,
    check_temperature,
    check_throttling,
    check_wear,
    formats,
    verdict,
    warn_of_opencv,
)
from edgecnn_device.sources import decoder_log, v4l2_device

V4L2 = """ioctl: VIDIOC_ENUM_FMT
\t[0]: 'MJPG' (Motion-JPEG, compressed)
\t\tSize: Discrete 1280x720
\t\t\tInterval: Discrete 0.033s (30.000 fps)
\t\tSize: Discrete 640x480
\t[1]: 'YUYV' (YUYV 4:2:2)
\t\tSize: Discrete 640x480
"""


def test_formats_of_a_camera_are_told_in_one_line() -> None:
    assert formats("/dev/video0", ask=lambda device: V4L2) == "MJPG 1280x720 640x480; YUYV 640x480"


def test_formats_nobody_can_tell_say_what_to_install() -> None:
    assert "v4l-utils" in formats("/dev/video0", ask=lambda device: "")


def test_a_camera_is_found_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/video0").touch()
    (tmp_path / "sys/class/video4linux/video0").mkdir(parents=True)
    (tmp_path / "sys/class/video4linux/video0/name").write_text("USB Camera\n")

    (check,) = check_cameras(tmp_path)

    assert (check.status, check.detail.partition(":")[0]) == ("ok", "USB Camera")


def test_a_pi_without_picamera2_is_told_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_text("Raspberry Pi 4 Model B\0")

    assert [check.name for check in check_cameras(tmp_path)] == ["cameras", "csi"]


@pytest.mark.parametrize(("millidegrees", "status"), [("45000", "ok"), ("82000", "warn"), ("", "ok")])
def test_a_hot_processor_is_warned_of(tmp_path: Path, millidegrees: str, status: str) -> None:
    (tmp_path / "sys/class/thermal/thermal_zone0").mkdir(parents=True)
    (tmp_path / "sys/class/thermal/thermal_zone0/temp").write_text(millidegrees)

    assert check_temperature(tmp_path).status == status


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("throttled=0x0\n", "never since boot"),
        ("throttled=0x50005\n", "under-voltage, throttled right now; check power supply, cable and cooling"),
        ("throttled=0x10000\n", "under-voltage since boot; check power supply, cable and cooling"),
        ("", "not a Raspberry Pi, or no vcgencmd"),
    ],
)
def test_throttle_flags_are_told_in_words(text: str, detail: str) -> None:
    assert check_throttling(ask=lambda: text).detail == detail


def test_a_clock_in_the_past_is_warned_of() -> None:
    assert check_clock(now=lambda: 0.0).status == "warn"


def make_devices(root: Path, **names: str) -> None:
    """Make files that stand for /dev/video*, with the names that /sys gives them."""
    (root / "dev").mkdir()
    for node, name in names.items():
        (root / "dev" / node).touch()
        (root / "sys/class/video4linux" / node).mkdir(parents=True)
        (root / "sys/class/video4linux" / node / "name").write_text(f"{name}\n")


def test_codecs_and_image_processors_are_listed_as_no_cameras(tmp_path: Path) -> None:
    make_devices(
        tmp_path,
        video0="USB Camera",
        video2="unicam-image",
        video10="bcm2835-codec-decode",
        video14="bcm2835-isp-capture0",
        video20="pispbe-output0",
    )

    camera, others = check_cameras(tmp_path)

    assert (camera.name, camera.status) == (str(tmp_path / "dev/video0"), "ok")
    assert others.status == "ok"
    assert others.detail.startswith("no cameras: ")
    for part in ("video10 bcm2835-codec-decode (codec)", "(image processor)", "unicam-image (CSI receiver)", "pispbe-output0"):
        assert part in others.detail


def test_a_pi_with_codecs_alone_has_no_camera(tmp_path: Path) -> None:
    make_devices(tmp_path, video10="bcm2835-codec-decode")

    assert [(check.name, check.status) for check in check_cameras(tmp_path)] == [("cameras", "warn"), ("video devices", "ok")]


def test_what_a_device_says_of_itself_is_believed_before_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_devices(tmp_path, video0="USB Camera", video1="USB Camera")
    kinds = {"video0": "camera", "video1": "metadata"}
    monkeypatch.setattr(
        v4l2_device, "identify", lambda path: v4l2_device.Node("USB Camera", "uvcvideo", kinds[Path(path).name])
    )
    monkeypatch.setattr(v4l2_device, "describe_controls", lambda path: ["--exposure 0.3..204.7 ms", "--mains 50|60"])

    camera, others = check_cameras(tmp_path)

    assert camera.detail.endswith("; --exposure 0.3..204.7 ms, --mains 50|60")
    assert others.detail == f"no cameras: {tmp_path}/dev/video1 USB Camera (metadata)"


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        ("NTPSynchronized=yes\n", "ok", "synchronised as timedatectl says"),
        ("NTPSynchronized=no\n", "warn", "not synchronised as timedatectl says"),
        ("", "ok", "no service here reports"),
    ],
)
def test_the_systems_word_on_the_clock_is_told(text: str, status: str, said: str) -> None:
    check = check_clock(ask=lambda command: text if command[0] == "timedatectl" else "", kernel=lambda: None)

    assert check.status == status
    assert said in check.detail


def test_an_opencv_that_cannot_decode_interlaced_video_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    assert warn_of_opencv() == ""

    monkeypatch.setattr(decoder_log, "converts_interlaced", lambda: False)

    assert "pip install 'opencv-python-headless<4.13'" in warn_of_opencv()
    assert check_package("opencv-python-headless").status == "warn"


@pytest.mark.parametrize(
    ("statuses", "line"),
    [
        (["ok", "ok"], "ready"),
        (["ok", "warn"], "ready, with warnings: check 1"),
        (["fail", "ok"], "not ready: check 0"),
        (["fail", "warn", "fail"], "not ready: check 0, check 2; warnings: check 1"),
    ],
)
def test_the_verdict_is_one_line(statuses: list[Literal["ok", "warn", "fail"]], line: str) -> None:
    assert verdict([Check(f"check {number}", status, "") for number, status in enumerate(statuses)]) == line


def test_the_command_ends_with_the_verdict(artifacts: Path, tmp_path: Path) -> None:
    good = CliRunner().invoke(doctor, [str(artifacts / "neu.tflite")])
    bad = CliRunner().invoke(doctor, [str(tmp_path / "missing.tflite")])

    assert good.output.splitlines()[-1].startswith("ready")
    assert bad.output.splitlines()[-1].startswith("not ready: model ")


def test_a_package_that_is_not_there_fails_with_a_way_out() -> None:
    check = check_package("no-such-package")

    assert (check.status, check.detail) == ("fail", "not installed; pip install no-such-package")


def test_the_runtime_of_a_board_is_found() -> None:
    assert check_runtime().detail.startswith("ai-edge-litert")


def test_a_model_is_verified_and_its_delegate_told(artifacts: Path) -> None:
    check = check_model(str(artifacts / "neu.tflite"))

    assert check.status == "ok"
    assert "XNNPACK" in check.detail


def test_a_damaged_model_fails(artifacts: Path, tmp_path: Path) -> None:
    data = bytearray((artifacts / "neu.tflite").read_bytes())
    data[1000] ^= 1
    (tmp_path / "bad.tflite").write_bytes(data)

    assert check_model(str(tmp_path / "bad.tflite")).status == "fail"


def test_the_command_prints_json_for_machines(artifacts: Path) -> None:
    result = CliRunner().invoke(doctor, ["--json", str(artifacts / "neu.tflite")])

    assert {"name", "status", "detail"} == set(json.loads(result.stdout)["checks"][0])
    assert result.exit_code == 0


def test_the_command_fails_when_a_model_cannot_run(tmp_path: Path) -> None:
    assert CliRunner().invoke(doctor, [str(tmp_path / "missing.tflite")]).exit_code == 1


def machine_that_writes(root: Path, sectors: int, up_s: float) -> Path:
    """Return the root of a machine with a card, memory that behaves like a disk, and so many seconds since boot."""
    (root / "proc").mkdir()
    (root / "proc/uptime").write_text(f"{up_s} 1.0\n")
    for disk in ("mmcblk0/device", "zram0"):
        (root / "sys/block" / disk).mkdir(parents=True)
    for disk in ("mmcblk0", "zram0"):
        (root / "sys/block" / disk / "stat").write_text(f"  10 0 2048 5 77 0 {sectors} 9 0 4 5\n")
    return root


@pytest.mark.parametrize(("gigabytes", "status"), [(0.5, "ok"), (25, "warn")])
def test_what_wears_the_card_is_a_number(tmp_path: Path, gigabytes: float, status: str) -> None:
    check = check_wear(machine_that_writes(tmp_path, round(2 * gigabytes * 1e9 / 512), 2 * 86400))

    assert check.status == status
    assert check.detail.startswith(f"written since boot, 2 days ago: mmcblk0 {gigabytes:g} GB a day")


def test_a_machine_without_disks_of_its_own_is_no_trouble(tmp_path: Path) -> None:
    assert check_wear(tmp_path).status == "ok"


def test_what_this_process_writes_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/io").write_text("rchar: 7\nread_bytes: 1\nwrite_bytes: 4096\ncancelled_write_bytes: 0\n")

    assert (board.own_written_bytes(tmp_path), board.own_written_bytes(tmp_path / "none")) == (4096, None)


def test_secrets_that_everybody_can_read_are_a_warning_without_being_shown(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    config, token = tmp_path / "camera.toml", tmp_path / "token"
    token.write_text("pa55")
    config.write_text(f'source = "rtsp://me:pa55@cam/s"\nweb-token-file = "{token}"\n')
    found = {}
    for mode in (0o644, 0o640):
        config.chmod(mode)
        token.chmod(mode)
        found[mode] = list(check_secrets(config))

    assert [(check.name, check.status) for check in found[0o644]] == [("secrets", "warn")] * 2
    assert [check.status for check in found[0o640]] == ["ok"]
    assert "pa55" not in str(found)


def test_a_file_with_a_secret_that_is_not_where_we_look_is_not_called_safe(tmp_path: Path) -> None:
    config = tmp_path / "camera.toml"
    config.write_text('source-file = "address"\nweb-token-file = "token"\n')  # beside the service's working directory

    found = list(check_secrets(config))

    assert [check.status for check in found] == ["warn", "warn"]
    assert found[0].detail.startswith(f"address, which {config} names, cannot be looked at from ")


def test_a_configuration_that_cannot_be_read_fails(tmp_path: Path) -> None:
    (tmp_path / "camera.toml").write_text("source =")

    assert [check.status for check in check_secrets(tmp_path / "camera.toml")] == ["fail"]


def test_the_name_of_a_camera_takes_over_no_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = Check("cameras", "ok", "\x1b]0;owned\x07 camera\nline")
    monkeypatch.setattr("edgecnn_device.doctor.examine", lambda *_, **__: iter([evil]))

    shown = CliRunner().invoke(doctor, []).output

    assert shown == "[ ok ] cameras: ?]0;owned? camera?line\nready\n"
