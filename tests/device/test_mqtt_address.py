from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.cli.camera import camera
from edgecnn.errors import InputError
from edgecnn_device.sinks.mqtt_broker import Broker, MqttOptions, find_broker, parse_address


@pytest.mark.parametrize(
    ("address", "broker"),
    [
        ("mqtt://broker.local/edge", Broker("broker.local", 1883, "edge")),
        ("mqtts://me@10.0.0.7:9000/plant/line-1/", Broker("10.0.0.7", 9000, "plant/line-1", True, "me")),
        ("mqtts://[::1]/a%20b", Broker("::1", 8883, "a b", True)),
    ],
)
def test_an_address_names_host_port_user_and_prefix(address: str, broker: Broker) -> None:
    assert parse_address(address) == broker


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://broker/edge", "does not begin with mqtt://"),
        ("broker/edge", "does not begin with mqtt://"),
        ("mqtt:///edge", "has no host"),
        ("mqtt://broker", "has no topic prefix"),
        ("mqtt://broker:99999/edge", "no host and port"),
        ("mqtt://broker:0/edge", "port 0"),
        ("mqtt://broker/edge/#", "cannot contain ?, # or +"),
        ("mqtt://broker/edge/+/a", "cannot contain ?, # or +"),
        ("mqtt://[::1/edge", "no host and port"),
        ("mqtt://broker/" + "x" * 2000, "too long"),
        ("mqtt://broker/$SYS/broker", "cannot begin with $"),
        ("mqtt://broker/%24share/a", "cannot begin with $"),
        ("mqtt://broker/%E2%80%AEegde", "or contain invisible characters"),
        ("mqtt://broker/a%00b", "or contain invisible characters"),
        ("mqtt://broker/a%1B[2J", "or contain invisible characters"),
        ("mqtt://broker/\u202eegde", "cannot be printed"),
    ],
)
def test_a_bad_address_is_one_line_with_the_reason_and_the_form(address: str, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_address(address)

    assert reason in str(caught.value)
    assert "mqtt[s]://[user@]HOST" in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text())
def test_any_text_is_an_address_or_an_input_error(text: str) -> None:
    try:
        broker = parse_address("mqtt://" + text)
    except InputError:
        return

    assert broker.host
    assert not set(broker.prefix) & set("+#\0")


@pytest.mark.parametrize(
    "address",
    [
        "mqtt://me:hunter2@broker/edge", "mqtt://me:hunter2@broker", "mqtt://me:hun/ter2@broker/e", "x://me:hunter2@b/e",
        "mqtt://me:hun#ter2@broker/e", "mqtt://broker/e?password=hunter2", "mqtt:/me:hunter2@broker/e", "mqtt://me:hunter2@[::1/e",
    ],
)  # fmt: skip
def test_a_password_in_the_address_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(InputError) as caught:
        CliRunner().invoke(camera, ["neu", "--mqtt", address, "--print-config"], catch_exceptions=False)

    assert "hun" not in str(caught.value)
    assert "ter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("user", "line", "expected"),
    [("", "me:hunter2\n", ("me", "hunter2")), ("me@", "a:b:c\n", ("me", "a:b:c")), ("", "me:a:b", ("me", "a:b"))],
)
def test_the_file_holds_a_password_or_user_and_password(
    tmp_path: Path, user: str, line: str, expected: tuple[str, str]
) -> None:
    (tmp_path / "secret").write_text(line)

    broker = find_broker(MqttOptions(f"mqtt://{user}broker/edge", tmp_path / "secret"))

    assert (broker.user, broker.password) == expected
    assert "hunter2" not in repr(broker)


@pytest.mark.parametrize("content", [b"", b"\n", b"hunter2\n", b":hunter2\n", b"me:hunter2\nmore\n", b"me:\xff\n"])
def test_a_file_that_is_no_login_is_refused_without_its_content(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret").write_bytes(content)

    with pytest.raises(InputError, match="--mqtt-password-file") as caught:
        find_broker(MqttOptions("mqtt://broker/edge", tmp_path / "secret"))

    assert "hunter2" not in str(caught.value)


def test_a_ca_without_tls_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--mqtt-ca is for mqtts://"):
        find_broker(MqttOptions("mqtt://broker/edge", ca=tmp_path / "ca.pem"))


def test_a_ca_file_that_holds_no_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")

    with pytest.raises(InputError, match="not a file of PEM certificates"):
        find_broker(MqttOptions("mqtts://broker/edge", ca=tmp_path / "ca.pem")).tls_context()


def test_tls_checks_the_certificate_and_the_name_unless_nothing_is_encrypted() -> None:
    context = parse_address("mqtts://broker/edge").tls_context()

    assert context is not None
    assert context.check_hostname
    assert parse_address("mqtt://broker/edge").tls_context() is None


@pytest.mark.parametrize("option", [("--mqtt-discovery",), ("--mqtt-ca", "ca.pem"), ("--mqtt-password-file", "secret")])
def test_options_of_mqtt_need_an_address(option: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="needs --mqtt URL"):
        CliRunner().invoke(camera, ["neu", *option], catch_exceptions=False)


def test_a_configuration_names_the_password_file_and_not_the_password(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("me:hunter2\n")
    options = ["--mqtt", "mqtt://broker/edge", "--mqtt-password-file", str(tmp_path / "secret"), "--print-config"]

    text = CliRunner().invoke(camera, ["neu", *options], catch_exceptions=False).output

    assert 'mqtt = "mqtt://broker/edge"' in text
    assert "hunter2" not in text
