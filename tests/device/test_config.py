from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.cli.camera import camera
from edgecnn.cli.main import main
from edgecnn.errors import InputError
from edgecnn_device.config import read_config, write_config


def printed(*arguments: str) -> dict[str, object]:
    result = CliRunner().invoke(camera, [*arguments, "--print-config"], catch_exceptions=False)
    assert result.exit_code == 0
    return tomllib.loads(result.output)


def test_a_file_sets_options(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('model = "neu"\nsmooth = 7\nflip = "both"\non-motion = true\n')

    values = printed("--config", str(tmp_path / "c.toml"))

    assert (values["model"], values["smooth"], values["flip"], values["on-motion"]) == ("neu", 7, "both", True)


def test_the_command_line_wins(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('model = "neu"\nsmooth = 7\nterminal = true\n')

    values = printed("mnist", "--config", str(tmp_path / "c.toml"), "--smooth", "3", "--no-terminal")

    assert (values["model"], values["smooth"], values["terminal"]) == ("mnist", 3, False)


def test_what_is_printed_can_be_read_again(tmp_path: Path) -> None:
    options = ("neu", "--roi", "0.1,0.2,0.5,0.5", "--max-age-ms", "700", "--jsonl", 'a "b"\\c.jsonl', "--keep-below", "0.6")
    text = CliRunner().invoke(camera, [*options, "--print-config"]).output
    (tmp_path / "c.toml").write_text(text)

    assert printed("--config", str(tmp_path / "c.toml")) == tomllib.loads(text)


def test_every_option_but_those_about_the_file_itself_stands_in_it() -> None:
    text = CliRunner().invoke(camera, ["--print-config"]).output

    names = {line.removeprefix("# ").partition(" =")[0] for line in text.splitlines()}

    options = {max(parameter.opts, key=len).lstrip("-") for parameter in camera.params}
    assert names == options - {"config", "print-config", "help"}


@pytest.mark.parametrize(
    ("key", "hint"), [("smoth", "'smooth'"), ("max_age_ms", "'max-age-ms'"), ("Source", "'source'"), ("zzz", "known options")]
)
def test_an_unknown_key_is_an_error_with_the_nearest_name(tmp_path: Path, key: str, hint: str) -> None:
    (tmp_path / "c.toml").write_text(f"{key} = 1\n")

    with pytest.raises(InputError, match=f"unknown option '{key}'.*{hint}"):
        CliRunner().invoke(camera, ["--config", str(tmp_path / "c.toml"), "--print-config"], catch_exceptions=False)


@pytest.mark.parametrize("text", ["smooth =", "[smooth]\nx = 1", "smooth = [1, 2]", "\x00"])
def test_a_file_that_cannot_be_meant_is_one_clear_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.toml").write_text(text)

    with pytest.raises(InputError, match=r"c\.toml"):
        read_config(tmp_path / "c.toml", {"smooth": int})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("fps = nan", "--fps"),
        ("fps = inf", "--fps"),
        ("fps = 1e-300", "--fps"),
        ("fps = true", "'fps' is true or false, expected a number"),
        ('fps = "fast"', "'fps' is a text, expected a number"),
        ("fps = 2026-01-02", "'fps' is something else, expected a number"),
        ("log-max-mb = nan", "--log-max-mb"),
        ("keep-days = inf", "--keep-days"),
        ("smooth = 2.7", "'smooth' is a number, expected a whole number"),
        ("loop = 1", "'loop' is a whole number, expected true or false"),
        ("jsonl = true", "'jsonl' is true or false, expected a text"),
        ("seed = -1", "--seed"),
        ("frames = 99999999999999999999", "--frames"),
    ],
)
def test_a_value_of_another_type_or_without_end_is_one_line(
    tmp_path: Path, line: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.toml").write_text(line + "\n")

    with pytest.raises(SystemExit) as ended:
        main(["camera", "neu", "--config", str(tmp_path / "c.toml")])

    said = capsys.readouterr()
    assert (ended.value.code, said.err.count("\n"), said.out) == (2, 1, "")
    assert reason in said.err


def test_a_number_that_is_meant_as_a_text_is_one(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("source = 0\nrotate = 90\nweb = 8080\n")

    values = printed("--config", str(tmp_path / "c.toml"))

    assert (values["source"], values["rotate"], values["web"]) == ("0", "90", "8080")


def test_a_value_out_of_range_names_the_option(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("smooth = 0\n")

    result = CliRunner().invoke(camera, ["--config", str(tmp_path / "c.toml"), "--print-config"])

    assert result.exit_code == 2
    assert "--smooth" in result.output


@given(st.dictionaries(st.from_regex("[a-z]{1,9}", fullmatch=True), st.text() | st.booleans() | st.integers(-(2**40), 2**40)))
def test_any_values_come_back(values: dict[str, object]) -> None:
    assert tomllib.loads(write_config(values)) == values


def test_a_list_of_rules_comes_back_from_a_file(tmp_path: Path) -> None:
    file, rules = tmp_path / "c.toml", ("good:gpio:17", 'a "b":command:/bin/true')
    file.write_text(write_config({"on": rules}))

    assert read_config(file, {"on": list}) == {"on": list(rules)}


@pytest.mark.parametrize("value", ['"good:gpio:17"', "[1]", "true"])
def test_a_list_of_rules_that_is_none_is_refused(tmp_path: Path, value: str) -> None:
    (tmp_path / "c.toml").write_text(f"on = {value}\n")

    with pytest.raises(InputError, match="expected a list of texts"):
        read_config(tmp_path / "c.toml", {"on": list})


def test_no_rules_stand_in_a_file_as_a_comment() -> None:
    assert write_config({"on": ()}) == "# on =\n"
