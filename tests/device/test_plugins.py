"""A package of somebody else's brings a source and a sink by nothing but its entry points."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgecnn.errors import InputError
from edgecnn_device.plugins import SOURCES, open_plugin

PACKAGE = """
import time
from edgecnn.testing import gray_picture
from edgecnn_device.sources.live import Picture

class Camera:
    def __init__(self, target, options):
        self.name, self.stopped = f"line camera {target} at {options.fps:g}", False
    def pictures(self):
        for number in range(10**6):
            if self.stopped:
                return
            time.sleep(0.02)
            yield Picture(gray_picture(128, number, (120, 160)), time.monotonic())
    def interrupt(self):
        self.stopped = True

class Sink:
    name = "plc"
    def __init__(self, target):
        self.path = target
    def __enter__(self):
        self.file = open(self.path, "w")
        return self
    def write(self, observation):
        self.file.write(f"{observation.source}: {observation.state.name}\\n")
    def __exit__(self, *failure):
        self.file.close()
"""
ENTRY_POINTS = """
[edgecnn.sources]
line = line_camera:Camera
broken = gone_package:Camera

[edgecnn.sinks]
plc = line_camera:Sink
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Return a folder with an installed package, as pip leaves it."""
    site = tmp_path / "site"
    metadata = site / "line_camera-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "line_camera.py").write_text(PACKAGE)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: line-camera\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    return site


def run(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "edgecnn", "camera", "neu", "--frames", "5", "--no-terminal", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_a_source_and_a_sink_are_found_by_their_entry_points(installed: Path, tmp_path: Path) -> None:
    lines, plc = tmp_path / "out.jsonl", tmp_path / "plc.txt"
    options = ("--fps", "25", "--roi", "0,0,80,80", "--jsonl", str(lines), "--write", "every")

    done = run(installed, "--source", "line:7", "--sink", f"plc:{plc}", *options)

    assert done.returncode == 0, done.stderr
    assert set(plc.read_text().splitlines()) == {"line camera 7 at 25: ok"}
    assert {json.loads(line)["source"] for line in lines.read_text().splitlines()} == {"line camera 7 at 25"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--source", "lime:7"), "no such source: what was given; give a device"),
        (("--source", "broken:1"), "entry point broken = gone_package:Camera cannot be loaded"),
        (("--sink", "printer"), "--sink printer: no installed package has such a sink; installed: plc"),
    ],
)
def test_what_is_not_installed_is_one_line(installed: Path, options: tuple[str, ...], said: str) -> None:
    done = run(installed, *options)

    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert said in done.stderr


def test_a_name_of_no_package_is_none() -> None:
    assert open_plugin(SOURCES, "nobody:1") is None


def test_an_entry_point_that_cannot_be_loaded_says_which(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(installed))

    with pytest.raises(InputError, match="broken = gone_package:Camera cannot be loaded"):
        open_plugin(SOURCES, "broken", None)
