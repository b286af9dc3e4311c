"""Every command has help and stands in the README, and a user's mistake is one line."""

from __future__ import annotations

import dataclasses
import importlib
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edgecnn import __version__
from edgecnn.artifacts import Artifact
from edgecnn.cli.main import COMMANDS, cli, main
from edgecnn.errors import InputError
from edgecnn.shipped import int8_path

README = Path(__file__).resolve().parents[2] / "README.md"


def _command(name: str) -> click.Command:
    command = getattr(importlib.import_module(COMMANDS[name][0]), name)
    assert isinstance(command, click.Command)
    return command


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_the_same_in_the_list_and_in_its_module(name: str) -> None:
    assert _command(name).get_short_help_str(limit=200) == COMMANDS[name][1]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_help_with_every_option_explained(name: str) -> None:
    shown = CliRunner().invoke(cli, [name, "--help"])

    options = [parameter for parameter in _command(name).params if isinstance(parameter, click.Option)]
    assert shown.exit_code == 0
    assert [option.name for option in options if not option.help] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_stands_in_the_readme(name: str) -> None:
    assert f"edgecnn {name}" in README.read_text("utf-8")


def test_the_list_shows_every_command() -> None:
    shown = CliRunner().invoke(cli, ["--help"]).output

    assert all(f"  {name} " in shown and line in " ".join(shown.split()) for name, (_, line) in COMMANDS.items())


def test_the_version_is_printed() -> None:
    assert CliRunner().invoke(cli, ["--version"]).output == f"edgecnn, version {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["classify"], ["classify", "--nonsense"], ["verify", "gone.tflite"], ["--threads", "2"]]
)
def test_a_mistake_is_one_line_and_exit_code_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    said = capsys.readouterr()
    assert (ended.value.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert said.err.startswith("edgecnn: ")


def _fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli, "main", fail)


def test_an_error_of_ours_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _fail_with(InputError("no such thing"), monkeypatch)

    with pytest.raises(SystemExit, match="2"):
        main([])
    assert capsys.readouterr().err == "edgecnn: no such thing\n"


def test_a_file_that_the_system_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _fail_with(PermissionError(13, "Permission denied", "run/model.keras"), monkeypatch)

    with pytest.raises(SystemExit, match="2"):
        main([])
    assert capsys.readouterr().err == "edgecnn: run/model.keras: permission denied\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "out of memory: give the process more, or smaller pictures"),
        (MemoryError("Unable to allocate 3 GiB"), "out of memory (Unable to allocate 3 GiB): give the process"),
        (OSError(24, "Too many open files"), "this system: too many open files"),
        (BlockingIOError(11, "Resource temporarily unavailable"), "this system: resource temporarily unavailable"),
    ],
)
def test_what_the_system_lacks_is_one_line(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _fail_with(error, monkeypatch)

    with pytest.raises(SystemExit, match="2"):
        main([])
    assert capsys.readouterr().err.startswith(f"edgecnn: {said}")


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    _fail_with(ZeroDivisionError(), monkeypatch)

    with pytest.raises(ZeroDivisionError):
        main([])


def test_an_interruption_exits_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _fail_with(KeyboardInterrupt(), monkeypatch)

    with pytest.raises(SystemExit, match="130"):
        main([])
    assert capsys.readouterr().err == "edgecnn: interrupted\n"


def test_an_interruption_says_what_was_kept(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt("2 of 5 trainings are done")

    monkeypatch.setattr("edgecnn.cli.doctor.doctor.callback", interrupt)

    with pytest.raises(SystemExit, match="130"):
        main(["doctor"])
    assert capsys.readouterr().err == "\nedgecnn: interrupted: 2 of 5 trainings are done\n"


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"{sys.executable} -m edgecnn --help | true"

    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)

    assert done.stderr == ""


def test_without_a_command_the_five_of_a_first_day_are_shown() -> None:
    shown = CliRunner().invoke(cli, [])

    assert shown.exit_code == 0
    assert [line.split()[1] for line in shown.output.splitlines() if line.startswith("  edgecnn")] == [
        *("train", "export", "classify", "camera", "doctor")
    ]
    assert "edgecnn --help" in shown.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "no such command 'trian'; did you mean 'train'? (see: edgecnn --help)"),
        (["data", "chek"], "no such command 'chek'; did you mean 'check'? (see: edgecnn data --help)"),
        (["study", "all"], "no such command 'all'; commands: ablation, belt, crossval, digits, drift"),
        (["camera", "--sorce", "0"], "--source"),
        (["verify"], "(see: edgecnn verify --help)"),
    ],
)
def test_a_mistake_says_where_to_look(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)

    assert said in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete(shell: str) -> None:
    code = "from edgecnn.cli.main import main; main()"
    environment = os.environ | {"_EDGECNN_COMPLETE": f"{shell}_source"}

    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)

    assert "_edgecnn_completion" in done.stdout or "_EDGECNN_COMPLETE" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["export", "neu", "--repair"], "--repair needs --int8"),
        (["robustness", "--list", "--plot", "a.png"], "--plot needs FILE or TASK"),
        (["robustness", "--list", "neu"], "omit the models"),
        (["data", "info", ".", "--data", "x"], "--data belongs to a named task"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)

    assert said in capsys.readouterr().err


def test_an_option_that_is_turned_off_needs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["export", "nowhere.keras", "--no-repair"])

    assert "no such model" in capsys.readouterr().err


def test_a_pass_of_few_pictures_says_that_the_answers_are_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artifact = Artifact.open(int8_path("neu"))
    parity = dataclasses.replace(artifact.contract.parity, verdict="pass", drop=0.0, drop_bound=15.3, margin_bound=None)
    few = dataclasses.replace(artifact.contract, parity=parity)
    dataclasses.replace(artifact, contract=few).save(tmp_path / "few.tflite")

    with pytest.raises(SystemExit, match="0"):
        main(["inspect", str(tmp_path / "few.tflite")])

    said = capsys.readouterr().out
    assert "every answer is that of the reference" in said and "15.3" not in said
