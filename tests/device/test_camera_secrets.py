"""A camera's address comes with a password: it stands in nothing that the camera writes, prints, serves or is started with."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from mjpeg_server import MjpegServer
from tiny_broker import TinyBroker

from edgecnn.cli.camera import camera
from edgecnn.errors import InputError
from edgecnn_device.secret_files import exposure

SECRET = "pa55w0rd"


@pytest.fixture
def server() -> Iterator[MjpegServer]:
    stream = MjpegServer()
    yield stream
    stream.die()


@pytest.fixture
def broker() -> Iterator[TinyBroker]:
    tiny = TinyBroker()
    yield tiny
    tiny.die()


def fetch(address: str) -> bytes:
    try:
        return bytes(urllib.request.urlopen(address, timeout=5).read())
    except urllib.error.HTTPError as error:
        return error.read()


def wait_for(text: str, file: Path) -> None:
    wait_until(lambda: file.exists() and text in file.read_text(), f"{text!r} in {file}")


def wait_until(holds: Callable[[], bool], what: str, limit_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline_s, f"{what} did not come"
        time.sleep(0.05)


@pytest.mark.parametrize("way", ["config", "source-file", "environment"])
def test_a_secret_in_an_address_stands_nowhere(
    way: str, artifacts: Path, tmp_path: Path, server: MjpegServer, broker: TinyBroker
) -> None:
    """By user and password, and by parameters, while frames come and while they do not."""
    address = server.address.replace("http://", f"http://me:{SECRET}@") + f"?user=me&pwd={SECRET}"
    options = {"source": address} if way == "config" else {}
    (tmp_path / "address").write_text(address + "\n")
    (tmp_path / "camera.toml").write_text("".join(f'{key} = "{value}"\n' for key, value in options.items()))
    for name in ("address", "camera.toml"):
        (tmp_path / name).chmod(0o600)
    sinks = ["--jsonl", "o.jsonl", "--csv", "o.csv", "--keep", "kept", "--keep-every", "0.2", "--web", "0"]
    extra = ["--source-file", "address"] if way == "source-file" else []
    command = [
        sys.executable,
        "-m",
        "edgecnn",
        "camera",
        str(artifacts / "neu.tflite"),
        "--config",
        "camera.toml",
        *sinks,
        *extra,
    ]
    environment = os.environ | ({"EDGECNN_SOURCE": address} if way == "environment" else {})
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        process = subprocess.Popen(
            [*command, "--mqtt", f"mqtt://127.0.0.1:{broker.port}/cam"], cwd=tmp_path, env=environment, stdout=out, stderr=err
        )
    try:
        wait_for('"state":"ok"', tmp_path / "o.jsonl")
        wait_until(lambda: any((tmp_path / "kept").glob("*.json")), "a sample")  # at random, five a second on average
        found = re.search(r"the page is at (\S+)/", (tmp_path / "err").read_text())
        assert found is not None
        paths = ("/api/stats", "/metrics", "/api/history.csv", "/healthz", "/api/model", "/api/history")
        pages = [fetch(found[1] + path) for path in paths]
        server.die()
        wait_for('"state":"stale"', tmp_path / "o.jsonl")
        pages += [fetch(found[1] + path) for path in paths]
        commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in (process.pid, *children(process.pid))]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)

    written = [
        path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name not in ("address", "camera.toml")
    ]
    messages = [message.payload.encode() for message in broker.received]
    assert list((tmp_path / "kept").glob("*.json")) and messages
    assert [found for found in (*pages, *written, *messages, *commands) if SECRET.encode() in found] == []
    assert f"127.0.0.1:{server.port}" in (tmp_path / "o.csv").read_text()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def printed(*arguments: str, **environment: str) -> dict[str, object]:
    result = CliRunner().invoke(camera, [*arguments, "--print-config"], catch_exceptions=False, env=environment)
    return tomllib.loads(result.output)


def test_a_configuration_has_no_address_that_was_given_where_nobody_sees_it(tmp_path: Path) -> None:
    (tmp_path / "address").write_text(f"rtsp://me:{SECRET}@cam/s\n")

    assert "source" not in printed("neu", EDGECNN_SOURCE=f"rtsp://me:{SECRET}@cam/s")
    by_file = printed("neu", "--source-file", str(tmp_path / "address"))
    assert ("source" in by_file, by_file["source-file"]) == (False, str(tmp_path / "address"))


def test_the_command_line_wins_over_a_file_with_the_source(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('source-file = "address"\n')

    values = printed("neu", "--config", str(tmp_path / "c.toml"), "--source", "0")

    assert (values["source"], "source-file" in values) == ("0", False)


def test_two_sources_at_the_same_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give one of them"):
        CliRunner().invoke(camera, ["neu", "--source", "0", "--source-file", "address"], catch_exceptions=False)


@pytest.mark.parametrize(
    "content", [b"", b"\n", f"rtsp://me:{SECRET}@cam/s\nmore\n".encode(), f"{SECRET}\xff".encode("latin-1")]
)
def test_a_source_file_of_no_use_is_refused_without_its_content(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "address").write_bytes(content)

    with pytest.raises(InputError, match="--source-file") as caught:
        CliRunner().invoke(camera, ["neu", "--source-file", str(tmp_path / "address")], catch_exceptions=False)

    assert SECRET not in str(caught.value)


def test_a_list_of_sources_in_a_configuration_is_refused_without_being_repeated(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(f'source = ["rtsp://me:{SECRET}@cam/s"]\n')

    with pytest.raises(InputError, match="'source' is a list") as caught:
        CliRunner().invoke(camera, ["neu", "--config", str(tmp_path / "c.toml")], catch_exceptions=False)

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "words", [["neu", "rtsp://me:{}@cam/s"], ["neu", "--source", "http://cam/?pwd={}", "http://cam/?pwd={}"]]
)
def test_an_address_at_the_wrong_place_is_not_repeated(words: list[str]) -> None:
    command = [sys.executable, "-m", "edgecnn", "camera", *(word.format(SECRET) for word in words)]

    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, SECRET in done.stderr, done.stderr.count("\n")) == (2, False, 1)


def test_a_secret_that_everybody_can_read_is_told_at_the_start(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents[:3]:
        folder.chmod(0o755)
    (tmp_path / "secret").write_text("x")
    told = {}
    for mode in (0o600, 0o640, 0o644, 0o602):
        (tmp_path / "secret").chmod(mode)
        told[mode] = exposure(tmp_path / "secret")
    tmp_path.chmod(0o750)

    assert [mode for mode, line in told.items() if line] == [0o644, 0o602]
    assert exposure(tmp_path / "secret") is None  # nobody else can enter the folder


def test_the_command_warns_of_what_others_can_read(artifacts: Path, tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    (tmp_path / "c.toml").write_text(f'source = "rtsp://me:{SECRET}@127.0.0.1:9/s"\n')
    (tmp_path / "c.toml").chmod(0o644)
    lines = []
    for arguments in (["--config", str(tmp_path / "c.toml")], ["--source", f"rtsp://me:{SECRET}@127.0.0.1:9/s"]):
        command = [sys.executable, "-m", "edgecnn", "camera", str(artifacts / "neu.tflite"), *arguments, "--no-terminal"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        lines.append(process.stderr.readline())
        process.terminate()
        process.communicate(timeout=20)

    assert "c.toml holds a secret, and everybody on this machine can read it: chmod o= " in lines[0]
    assert "anybody on this machine can read a command line: pass this address with --source-file FILE" in lines[1]
    assert SECRET not in "".join(lines)
