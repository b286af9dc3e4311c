"""What ssh is told, and what its failures mean in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecnn.cli.main import main
from edgecnn.errors import InputError
from edgecnn_device.deploy.ssh import BoardError, LostError, SshOptions, edgecnn_on_board, explain, ssh_command

CHANGED = "@@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed."


def test_host_keys_are_checked_and_nothing_is_asked_unless_the_user_says_otherwise() -> None:
    words = ssh_command("pi@line-1", "true", SshOptions(("StrictHostKeyChecking=accept-new",), Path("config")))

    assert "BatchMode=yes" in words and words[2:4] == ["-F", "config"]
    assert words.index("StrictHostKeyChecking=accept-new") < words.index("StrictHostKeyChecking=yes")  # the first one counts
    assert words[-3:] == ["--", "pi@line-1", "exec sh -c true"]


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        ("deploy neu board --watch 0 --max-doubt 0.3", "--shadow N or a --watch that is not 0"),
        ("deploy board --rollback --max-doubt 0.3", "a FILE to deploy"),
        ("deploy board --history --restart reboot", "or --rollback"),
        ("deploy board --bootstrap --json", "give one, or omit --json"),
        ("fleet deploy neu --watch 0 --max-doubt 0.3", "--shadow N or a --watch that is not 0"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(words: str, needed: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words.split())

    said = capsys.readouterr().err
    assert (ended.value.code, said.count("\n")) == (2, 1)
    assert needed in said


@pytest.mark.parametrize("board", ["", "-oProxyCommand=evil", "pi@-oProxyCommand=evil", "a b", "a@b@c"])
def test_what_is_no_host_never_reaches_ssh(board: str) -> None:
    with pytest.raises(InputError, match="is no board: give a host name as for ssh"):
        ssh_command(board, "true", SshOptions())


@pytest.mark.parametrize(
    ("code", "said", "reason"),
    [
        (255, CHANGED, "another host key"),
        (255, "pi@line-1: Permission denied (publickey).", "ssh-copy-id pi@line-1"),
        (255, "ssh: Could not resolve hostname line-1: Name or service not known", "no host is called line-1"),
        (255, "ssh: connect to host line-1 port 22: Connection timed out", "does not answer"),
        (255, "ssh: connect to host line-1 port 22: Connection refused", "is sshd running there"),
        (127, "", "edgecnn deploy --bootstrap pi@line-1"),
        (1, "sh: 1: Syntax error", "pi@line-1: sh: 1: Syntax error"),
        (9, "", "pi@line-1: exit code 9"),
    ],
)
def test_a_failure_is_one_line_with_the_way_out(code: int, said: str, reason: str) -> None:
    error = explain("pi@line-1", code, said, begun=False)

    assert reason in str(error) and "\n" not in str(error)
    assert type(error) is BoardError


def test_a_connection_that_ends_in_the_middle_is_lost_and_not_refused() -> None:
    assert isinstance(explain("pi@line-1", 255, "", begun=True), LostError)


def test_a_named_program_is_quoted() -> None:
    assert edgecnn_on_board("deploy", "/opt/my edgecnn") == "exec '/opt/my edgecnn' deploy"
