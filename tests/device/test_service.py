"""The systemd unit comes with the wheel; installing it overwrites nothing of anybody's and says what to do next."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgecnn.cli.main import main
from edgecnn.errors import InputError, OutputError
from edgecnn_device.service import NAME, Service, find_program, install, next_steps

PROGRAM = "/opt/edgecnn/bin/edgecnn"
BOTH = pytest.mark.parametrize("user", [False, True], ids=["system", "user"])


@BOTH
def test_the_unit_runs_this_edgecnn_with_its_configuration(user: bool) -> None:
    unit = Service(user, PROGRAM).unit()

    config = "%E/edgecnn/camera.toml" if user else "/etc/edgecnn/camera.toml"
    assert f"\nExecStart={PROGRAM} camera --config {config}\n" in unit
    assert "@" not in unit.replace("@system-service", "")
    assert {"Type=notify", "WatchdogSec=30", "Restart=always", "StateDirectory=edgecnn"} <= set(unit.splitlines())


@BOTH
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path, user: bool) -> None:
    verify = shutil.which("systemd-analyze")
    path, _ = install(Service(user, "/bin/true"), tmp_path)
    if verify is None:  # a machine without systemd: the options are looked at by name alone
        assert all("=" in line for line in path.read_text().splitlines() if line and line[0] not in "#[")
        return
    scope = ["--user"] if user else []

    done = subprocess.run([verify, *scope, "verify", str(path)], capture_output=True, text=True, timeout=60, check=False)

    ours = [line for line in (done.stdout + done.stderr).splitlines() if NAME in line and "Failed to" not in line]
    assert ours == []


def test_the_confined_unit_lets_a_camera_reach_cameras_and_pins() -> None:
    allowed = {line for line in Service(False, PROGRAM).unit().splitlines() if line.startswith("DeviceAllow=char-")}

    assert allowed == {f"DeviceAllow=char-{kind} rw" for kind in ("video4linux", "media", "dma_heap", "gpiochip")}


def test_a_program_is_quoted_as_systemd_reads_it(tmp_path: Path) -> None:
    folder = tmp_path / 'with "quotes" 100% $HOME'
    folder.mkdir()
    for name in ("python", "edgecnn"):
        (folder / name).touch()

    program = find_program(folder / "python")

    assert program == f'"{tmp_path}/with \\"quotes\\" 100%% $$HOME/edgecnn"'
    assert find_program(Path("/usr/bin/no-edgecnn-here")) == "/usr/bin/no-edgecnn-here -m edgecnn"


def test_installing_twice_writes_once(tmp_path: Path) -> None:
    service = Service(False, PROGRAM)

    assert install(service, tmp_path / "new") == (tmp_path / "new" / NAME, True)
    assert install(service, tmp_path / "new") == (tmp_path / "new" / NAME, False)


def test_a_unit_of_an_older_edgecnn_is_replaced(tmp_path: Path) -> None:
    install(Service(False, "/opt/old/bin/edgecnn"), tmp_path)

    path, is_new = install(Service(False, PROGRAM), tmp_path)

    assert is_new
    assert f"ExecStart={PROGRAM} " in path.read_text()


@pytest.mark.parametrize("kind", ["foreign", "changed", "empty", "folder", "link"])
def test_a_file_of_somebody_elses_is_not_overwritten(tmp_path: Path, kind: str) -> None:
    path = tmp_path / NAME
    match kind:
        case "foreign":
            path.write_text("[Service]\nExecStart=/bin/mine\n")
        case "changed":
            install(Service(False, PROGRAM), tmp_path)
            path.write_text(path.read_text().replace("Nice=5", "Nice=0"))
        case "empty":
            path.touch()
        case "folder":
            path.mkdir()
        case _:
            (tmp_path / "mine").write_text("mine")
            path.symlink_to(tmp_path / "mine")
    before = path.read_bytes() if path.is_file() else None

    with pytest.raises((OutputError, InputError), match=r"edgecnn-camera\.service"):
        install(Service(False, PROGRAM), tmp_path)

    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_program_that_the_service_would_not_see_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"/home/me/venv/bin/edgecnn is in a home folder.*--user"):
        install(Service(False, "/home/me/venv/bin/edgecnn"), tmp_path)

    with pytest.raises(InputError, match=r"/root/\.pyenv/bin/python is in a home folder"):
        install(Service(False, PROGRAM, Path("/root/.pyenv/bin/python")), tmp_path)
    assert install(Service(True, "/home/me/venv/bin/edgecnn"), tmp_path)[1]


def test_without_the_right_to_write_the_way_out_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(OutputError, match=r"cannot install .*run it with sudo, or give --user"):
        install(Service(False, PROGRAM), tmp_path / "file")


def test_what_was_done_before_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    service = Service(True, PROGRAM)
    before = list(next_steps(service))
    service.config.parent.mkdir()
    service.config.touch()

    after = list(next_steps(service))

    assert before[0] == f"install -d -m 700 {tmp_path}/edgecnn"
    assert before[1].endswith(f"install -m 600 /dev/stdin {tmp_path}/edgecnn/camera.toml")
    assert after == before[2:]
    assert after[:2] == ["systemctl --user daemon-reload", "systemctl --user enable --now edgecnn-camera"]


def test_the_commands_print_and_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    said = []
    for words in (["print", "--user"], ["install", "--user"], ["install", "--user"]):
        with pytest.raises(SystemExit, match="0"):
            main(["service", *words])
        said.append(capsys.readouterr().out)

    path = tmp_path / "systemd/user" / NAME
    assert path.read_text() == said[0]
    assert Path(sys.executable).name in said[0] or "/edgecnn camera" in said[0]
    assert said[1].startswith(f"{path}: installed; next steps:\n  ")
    assert said[2].startswith(f"{path}: is installed already; next steps:\n  ")
