from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgecnn.cli.doctor import doctor
from edgecnn_device.benchmarking import board
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
)

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

    assert {"name", "status", "detail"} == set(json.loads(result.stdout)[0])
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
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    config, token = tmp_path / "camera.toml", tmp_path / "token"
    token.write_text("pa55")
    config.write_text(f'source = "rtsp://me:pa55@cam/s"\ntoken-file = "{token}"\n')
    found = {}
    for mode in (0o644, 0o640):
        config.chmod(mode)
        token.chmod(mode)
        found[mode] = list(check_secrets(config))

    assert [(check.name, check.status) for check in found[0o644]] == [("secrets", "warn")] * 2
    assert [check.status for check in found[0o640]] == ["ok"]
    assert "pa55" not in str(found)


def test_a_configuration_that_cannot_be_read_fails(tmp_path: Path) -> None:
    (tmp_path / "camera.toml").write_text("source =")

    assert [check.status for check in check_secrets(tmp_path / "camera.toml")] == ["fail"]


def test_the_name_of_a_camera_takes_over_no_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = Check("cameras", "ok", "\x1b]0;owned\x07 camera\nline")
    monkeypatch.setattr("edgecnn_device.doctor.examine", lambda *_, **__: iter([evil]))

    shown = CliRunner().invoke(doctor, []).output

    assert shown == "[ ok ] cameras: ?]0;owned? camera?line\n"
