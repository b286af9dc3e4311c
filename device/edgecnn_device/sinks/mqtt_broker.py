"""Where an MQTT broker is and who we are to it. No password ever stands in an address, an error or a `repr`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote

from edgecnn.addresses import origin, split_address
from edgecnn.errors import InputError
from edgecnn_device import board
from edgecnn_device.secret_files import read_secret

if TYPE_CHECKING:
    import ssl

FORM = "mqtt[s]://[user@]HOST[:PORT]/TOPIC-PREFIX"
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_MAX_PREFIX_BYTES = 1024


@dataclass(frozen=True)
class MqttOptions:
    """The address of the command line, the file with the password, a CA of one's own, and whether to announce sensors.

    Home Assistant looks for what is announced under `discovery_prefix`.
    """

    address: str
    password_file: Path | None = None
    ca: Path | None = None
    discovery: bool = False
    discovery_prefix: str = "homeassistant"

    def __post_init__(self) -> None:
        prefix = self.discovery_prefix
        if set(prefix) & set("+#") or prefix.startswith(("$", "/")) or prefix.endswith("/") or not prefix.isprintable():
            raise InputError(f"--mqtt-discovery-prefix {prefix!r}: give a topic without + and #, such as homeassistant")
        if not 0 < len(prefix.encode()) <= _MAX_PREFIX_BYTES:
            raise InputError(f"--mqtt-discovery-prefix has {len(prefix.encode())} bytes; give 1 to {_MAX_PREFIX_BYTES}")


@dataclass(frozen=True)
class Broker:
    """A broker, and `prefix`, the topic under which we publish. TLS is verified whenever it is used.

    `machine` is what tells this board from others.
    """

    host: str
    port: int
    prefix: str
    tls: bool = False
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: Path | None = None
    machine: str = ""

    @property
    def client_id(self) -> str:
        """Return the same identity at every start, so that a broker ends a dead connection of ours when we come back.

        Another board with the same topic, from a copy of this one's card, has another.
        """
        return _short_hash(f"{self.prefix}\n{self.machine}")

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def tls_context(self) -> ssl.SSLContext | None:
        """Return what TLS needs, None without TLS; InputError when the CA file is not usable."""
        if not self.tls:
            return None
        import ssl

        try:
            return ssl.create_default_context(cafile=self.ca)
        except OSError as error:  # among them ssl.SSLError
            raise InputError(f"--mqtt-ca {self.ca} is not a file of PEM certificates: {error}") from error


def _short_hash(text: str) -> str:
    return f"edgecnn-{hashlib.sha256(text.encode()).hexdigest()[:12]}"  # 3.1.1 promises room for 23 characters


def find_broker(options: MqttOptions) -> Broker:
    """Return the broker with the password of its file; InputError when the parts do not fit together."""
    plain = parse_address(options.address)
    if options.ca is not None and not plain.tls:
        raise InputError(f"--mqtt-ca is for mqtts://, but --mqtt says mqtt://{plain}")
    user, password = _read_login(options.password_file, plain.user)
    return replace(plain, user=user, password=password, ca=options.ca, machine=board.identity())


def parse_address(address: str) -> Broker:
    """Read `mqtt[s]://[user@]HOST[:PORT]/TOPIC-PREFIX`; InputError, never with what may be a password, when it is none."""
    try:
        parts = split_address(address, schemes=tuple(_PORTS), form=FORM)
        host = (parts.hostname or "").encode("idna").decode()
    except InputError as error:
        raise InputError(f"--mqtt: {error}, such as mqtt://broker.local/edgecnn/line-1") from None
    except UnicodeError:
        raise _refuse("it has no valid host", address) from None
    if parts.password is not None:
        raise InputError("--mqtt holds a password that others could read; put it into a file: --mqtt-password-file FILE")
    user = unquote(parts.username) if parts.username else None
    return Broker(host, parts.port or _PORTS[parts.scheme], _prefix(parts, address), parts.scheme == "mqtts", user)


def _prefix(parts: SplitResult, address: str) -> str:
    prefix = unquote(parts.path).strip("/")
    if set(address) & set("?#") or set(prefix) & set("+#"):
        raise _refuse("a topic prefix cannot contain ?, # or +", address)
    # What turns the direction of text or takes no room makes one topic look like another.
    if prefix.startswith("$") or not prefix.isprintable():
        raise _refuse(
            "a topic prefix cannot begin with $, which is reserved for the broker, or contain invisible characters", address
        )
    if not prefix or len(prefix.encode()) > _MAX_PREFIX_BYTES:
        raise _refuse("it has no topic prefix" if not prefix else "its topic prefix is too long", address)
    return prefix


def _refuse(why: str, address: str) -> InputError:
    return InputError(f"--mqtt {origin(address)}: {why}; expected {FORM}, such as mqtt://broker.local/edgecnn/line-1")


def _read_login(path: Path | None, user: str | None) -> tuple[str | None, str | None]:
    """Return user and password. The file holds the password of the address' user, or `user:password`, in one line."""
    if path is None:
        return user, None
    secret = read_secret(path, "--mqtt-password-file")
    if user is not None:
        return user, secret
    user, colon, password = secret.partition(":")
    if not (user and colon):
        raise InputError(f"--mqtt-password-file {path} names no user; write user:password, or give mqtt://user@HOST/...")
    return user, password
