"""Setting a board up, where only the network, pip and systemd are stood in for; tests/system does it with the real ones."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from local_board import make_ssh

from edgecnn import __version__
from edgecnn.errors import InputError
from edgecnn.shipped import int8_path
from edgecnn_device.deploy.bootstrap import Setup, bootstrap
from edgecnn_device.deploy.ssh import HOME, BoardError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of a board whose environment is made, with a systemd that does not answer."""
    programs = make_ssh(tmp_path / "bin")
    for name in ("systemctl", "loginctl"):
        (programs / name).write_text(f"#!/bin/sh\necho {name}: no bus >&2\nexit 1\n")
        (programs / name).chmod(0o755)
    home = tmp_path / "home"
    (home / HOME / "bin").mkdir(parents=True)
    for name in ("python", "edgecnn"):
        (home / HOME / "bin" / name).symlink_to(programs / "edgecnn")
    (home / HOME / "installed").write_text(__version__)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return home


def test_a_board_gets_a_model_a_configuration_and_a_unit_and_says_what_is_left(home: Path) -> None:
    said: list[str] = []
    outcome, remaining = bootstrap("board", Setup(source="/dev/video7"), int8_path("neu"), say=said.append)

    config = tomllib.loads((home / ".config/edgecnn/camera.toml").read_text())
    assert outcome is not None and outcome.live, said
    assert config["source"] == "/dev/video7"
    assert Path(config["model"]).read_bytes() == int8_path("neu").read_bytes()
    assert (home / ".config/systemd/user/edgecnn-camera.service").is_file()
    assert [line.split()[0] for line in remaining] == ["systemctl", "loginctl"]
    assert f"board: edgecnn {__version__} is installed" in said and "board: systemctl: no bus" in said


def test_a_configuration_of_the_user_is_kept(home: Path) -> None:
    config = home / ".config/edgecnn/camera.toml"
    config.parent.mkdir(parents=True)
    config.write_text("# my own\n")
    said: list[str] = []
    bootstrap("board", Setup(), None, say=said.append)

    assert config.read_text() == "# my own\n"
    assert "board: camera.toml is there, and kept as it is" in said


def test_an_old_python_is_one_line(home: Path, tmp_path: Path) -> None:
    body = {"python": [3, 9, 2], "machine": "armv7l", "home": "/", "venv": True, "picamera2": False, "made": False}
    answer = json.dumps(body | {"installed": "", "config": False})
    (tmp_path / "bin/python3").write_text(f"#!/bin/sh\necho '{answer}'\n")
    (tmp_path / "bin/python3").chmod(0o755)

    with pytest.raises(BoardError, match=r"board has Python 3\.9; edgecnn needs 3\.11 or newer"):
        bootstrap("board", Setup())


def test_an_index_without_edgecnn_is_one_line_with_the_way_out(home: Path) -> None:
    (home / HOME / "installed").unlink()
    pip = home / HOME / "bin" / "python"
    pip.unlink()
    pip.write_text("#!/bin/sh\necho 'ERROR: No matching distribution found for edgecnn==1.2' >&2\nexit 1\n")
    pip.chmod(0o755)

    with pytest.raises(BoardError, match=r"the index of board has no edgecnn .*--wheel"):
        bootstrap("board", Setup())


def test_wheels_that_are_not_there_are_noticed_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.whl is not there"):
        bootstrap("board", Setup(wheel=tmp_path / "nowhere.whl"))
    with pytest.raises(InputError, match=r"holds no edgecnn-\*\.whl"):
        bootstrap("board", Setup(wheels=tmp_path))
