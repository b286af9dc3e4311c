"""What a board says of itself, retained by the broker: what it runs, what that promises, and how today goes."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from edgecnn.errors import InputError
from edgecnn.records import read_record

MOST_BYTES = 8192
_MOST_LETTERS = 500
_PAGE = re.compile(r"https?://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?/[A-Za-z0-9._~/-]*")


@dataclass(frozen=True)
class RunningModel:
    """The model that runs: `sha256` is of the model's bytes, as in its contract.

    `refused` is true while another model runs than the file of the camera's options; `verified`: its golden vectors were
    replayed on this board.
    """

    task: str
    network: str
    precision: str
    file: str
    export_id: str
    sha256: str
    runtime: str
    verified: bool
    refused: bool


@dataclass(frozen=True)
class Promise:
    """The accuracy on the held-out pictures of the model's contract, with its 95 % interval (Wilson), as shares of 1."""

    accuracy: float
    low: float
    high: float
    pictures: int
    split: str
    source: str
    synthetic: bool

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.accuracy <= self.high <= 1 or self.pictures < 1:
            raise InputError(f"an accuracy of {self.accuracy} in {self.low} to {self.high} on {self.pictures} pictures")


@dataclass(frozen=True)
class Counted:
    """Answers to different pictures of a day by the board's clock, `since` when (ISO 8601), and those of them in doubt."""

    day: str
    since: str
    answers: int
    unsure: int
    novel: int

    def __post_init__(self) -> None:
        if min(self.unsure, self.novel) < 0 or self.unsure + self.novel > self.answers:
            raise InputError(f"{self.unsure} unsure and {self.novel} novel of {self.answers} answers")
        _check_time(self.since)

    def share(self, count: int) -> float | None:
        """Return a count as a share of the answers, None before the first."""
        return count / self.answers if self.answers else None


@dataclass(frozen=True)
class Latency:
    """Milliseconds from a frame to its answers: the median and the 95th percentile of the last frames."""

    p50: float
    p95: float


@dataclass(frozen=True)
class Report:
    """All that a board says of itself.

    `at` is the board's own clock (ISO 8601), `up_s` the seconds since its boot, `running_s` those since the camera began;
    `clock_synchronised` is None where the system does not tell. `every_s` is how often it reports. `address` is the board's
    IP address as the connection to the broker has it, `page` that of its page where others can reach it. `pictures`: it
    answers requests for its last picture. `fps` counts the frames of the last minute, None where fewer than one in twenty
    seconds is expected.
    """

    at: str
    every_s: float
    group: str | None
    host: str
    edgecnn: str
    address: str | None
    page: str | None
    pictures: bool
    clock_synchronised: bool | None
    boot_id: str | None
    up_s: float | None
    running_s: float
    model: RunningModel
    promise: Promise | None
    today: Counted
    fps: float | None
    latency_ms: Latency | None

    def __post_init__(self) -> None:
        if not 1 <= self.every_s <= 86400:
            raise InputError(f"reports every {self.every_s} s, expected 1 to 86400")
        if self.page is not None and not _PAGE.fullmatch(self.page):
            raise InputError("the page's address is not a plain http address")
        if self.address is not None:
            try:
                ipaddress.ip_address(self.address)
            except ValueError:
                raise InputError("the address is not an IP address") from None
        _check_time(self.at)

    @property
    def at_s(self) -> float:
        """The board's clock when it reported, in seconds since 1970."""
        return _check_time(self.at)

    def to_json(self) -> dict[str, Any]:
        """Return the report as it is published."""
        return dataclasses.asdict(self)


def read_report(payload: bytes) -> Report:
    """Read what a board published; InputError says what is wrong with it. Fields of a later version are left out.

    Texts are bounded and have no control characters or letters that turn the direction of text.
    """
    if len(payload) > MOST_BYTES:
        raise InputError(f"{len(payload)} bytes; at most {MOST_BYTES} are read")
    return read_record(Report, _known(Report, read_object(payload)), "report")


def read_object(payload: bytes) -> dict[str, Any]:
    """Read a JSON object whose texts are safe to show; InputError for anything else."""
    try:
        body = json.loads(payload.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON: {type(error).__name__}") from None
    if not isinstance(body, dict):
        raise InputError("not a JSON object")
    _check_texts(body)
    return body


def check_text(text: str) -> None:
    """Raise InputError for a text that is too long or would not show as what it is."""
    if len(text) > _MOST_LETTERS:
        raise InputError(f"a text of {len(text)} letters; at most {_MOST_LETTERS}")
    if not text.isprintable():
        raise InputError("a text with control characters")


def _known(kind: type, body: Any) -> Any:
    """Leave out what this version does not know, in the parts of a report too."""
    if not isinstance(body, dict):
        return body
    parts = {"model": RunningModel, "promise": Promise, "today": Counted, "latency_ms": Latency} if kind is Report else {}
    names = {each.name for each in dataclasses.fields(kind)}
    return {name: _known(parts[name], value) if name in parts else value for name, value in body.items() if name in names}


def _check_texts(value: Any) -> None:
    if isinstance(value, str):
        check_text(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_texts(key)
            _check_texts(item)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item)


def _check_time(text: str) -> float:
    """Return a time with its zone as seconds since 1970."""
    try:
        found = datetime.fromisoformat(text)
        seconds = found.timestamp()
    except (ValueError, OverflowError):
        raise InputError("a time that is not ISO 8601") from None
    if found.tzinfo is None:
        raise InputError("a time without its zone")
    return seconds


def _refuse(name: str) -> None:
    raise ValueError(name)
