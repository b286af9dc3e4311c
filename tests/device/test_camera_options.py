"""Every option of `edgecnn camera` is used or refused, and stands in a group of its help."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edgecnn.cli.camera import camera
from edgecnn.cli.camera_options import NEEDS
from edgecnn.cli.command import group_of
from edgecnn.cli.main import main
from edgecnn.errors import InputError

OPTIONS = {parameter.name: parameter for parameter in camera.params if isinstance(parameter, click.Option)}
# What is used with every source, model and output; another tool's options and the camera's controls are refused elsewhere.
ALONE = {
    *("config", "print_config", "source", "source_file", "size", "fps", "rotate", "flip", "roi", "realtime", "frames"),
    *("find", "tiles", "smooth", "interval", "on_motion", "trigger", "where", "reject", "novelty"),
    *("runtime", "threads", "opencv_threads", "verify", "require_signature", "drift"),
    *("terminal", "window", "sink", "video", "jsonl", "csv", "web", "mqtt", "keep"),
}
CONTROLS = {"exposure", "gain", "focus", "white_balance", "mains"}
FOREIGN = {"labels", "pixel_range", "pixel_scale", "pixel_offset", "color", "fit", "output"}
VALUES = {
    "write": "every",
    "mqtt_password_file": "FILE",
    "mqtt_ca": "FILE",
    "mqtt_discovery_prefix": "home",
    "good": "ok",
    "web_token_file": "FILE",
    "state_dir": "FOLDER",
    "mains": "50",
    "labels": "a,b",
    "pixel_range": "0..1",
    "color": "rgb",
    "fit": "pad",
    "on": "drift:gpio:17",
    "on_debounce": "2",
    "on_secret_file": "FILE",
}
# Beside them the option has nothing to act upon.
BESIDE = {
    "seed": ["--source", "0"],
    "open_timeout": ["--source", "synthetic"],
    "read_timeout": ["--source", "synthetic"],
    "max_age_ms": ["--no-realtime"],
    "frozen_after": ["--no-realtime"],
    "verify_timeout": ["--no-verify"],
    "state_dir": ["--no-realtime"],
    "drift_every": ["--no-drift"],
    "drift_baseline": ["--no-drift"],
    "on": ["--no-drift"],
}


def long_name(name: str) -> str:
    return max(OPTIONS[name].opts, key=len)


def test_each_option_is_known_to_need_another_or_not() -> None:
    assert set(OPTIONS) - {"help"} == ALONE | CONTROLS | FOREIGN | set(NEEDS)


@pytest.mark.parametrize("name", sorted({*NEEDS, *CONTROLS, *FOREIGN}))
def test_an_option_that_would_be_ignored_is_refused_in_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    value = (
        [] if OPTIONS[name].is_flag else [VALUES.get(name, "0.5" if isinstance(OPTIONS[name].type, click.FloatRange) else "3")]
    )
    with pytest.raises(SystemExit) as ended:
        main(["camera", "neu", "--frames", "1", *BESIDE.get(name, []), long_name(name), *value])

    said = capsys.readouterr()
    assert (ended.value.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert long_name(name) in said.err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("overlap = 0.5", "--overlap needs --tiles CxR"),
        ("keep-mb = 100", "--keep-mb needs --keep FOLDER"),
        ("log-keep = 2", "--log-keep needs --jsonl FILE or --csv FILE"),
        ("mqtt-discovery = true", "--mqtt-discovery needs --mqtt URL"),
        ('source = "0"\nseed = 1', "--seed needs --source synthetic"),
    ],
)
def test_a_file_is_read_as_strictly(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "c.toml").write_text(line + "\n")

    with pytest.raises(InputError, match=said):
        CliRunner().invoke(camera, ["neu", "--config", str(tmp_path / "c.toml")], catch_exceptions=False)


def test_a_printed_file_is_accepted_whatever_it_lacks(tmp_path: Path) -> None:
    text = CliRunner().invoke(camera, ["neu", "--no-realtime", "--frames", "2", "--print-config"]).output
    (tmp_path / "c.toml").write_text(text)

    ended = CliRunner().invoke(camera, ["neu", "--config", str(tmp_path / "c.toml")], catch_exceptions=False)

    assert ended.exit_code == 0


@pytest.mark.parametrize(
    "options",
    [["--tiles", "2x1", "--overlap", "0.1"], ["--no-mqtt-discovery"], ["--no-loop"], ["--keep-every", "9", "--keep", "k"]],
)
def test_an_option_beside_what_it_needs_is_used(options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    ended = CliRunner().invoke(camera, ["neu", "--no-realtime", "--frames", "2", *options], catch_exceptions=False)

    assert ended.exit_code == 0


def test_the_help_has_groups_and_examples() -> None:
    shown = CliRunner().invoke(camera, ["--help"], prog_name="edgecnn camera").output

    titles = {group_of(option) for name, option in OPTIONS.items() if name != "help"}
    assert titles >= {"Source", "Where and when to look", "Model", "Outputs", "Page", "MQTT", "Samples", "Service"}
    assert "Options" not in titles
    assert all(f"\n{title}:\n" in shown for title in titles)
    assert "\nExamples:\n  edgecnn camera neu --source 0\n" in shown
    assert max(sum(group_of(option) == title for option in OPTIONS.values()) for title in titles) <= 15
