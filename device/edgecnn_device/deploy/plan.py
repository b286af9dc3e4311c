"""What is asked of a board, and what came of it: the dataclasses that both halves of a deployment know."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

What = Literal["live", "refused", "rolled back", "adopted"]


@dataclass(frozen=True)
class Limits:
    """What a new model may differ by from the one that runs.

    `agreement`: share of the answers to different pictures in which it must say the same class, and half of that of every class
    with 10 answers.
    `doubt`: by how much the share of unsure and novel answers may rise. `latency`: how many times as long it may take.
    """

    agreement: float = 0.8
    doubt: float = 0.1
    latency: float = 2.0


@dataclass(frozen=True)
class Plan:
    """How a board is to put a model live; times in seconds, `shadow` in frames.

    A camera that runs the model file has `find_s` to say so. `live` is that file on the board, `config` its camera.toml, which
    says it; both None: the usual places. `restart` is the command that restarts a camera which our unit does not run.
    """

    shadow: int = 0
    watch_s: float = 60.0
    find_s: float = 15.0
    before_s: float = 10.0
    verify_s: float = 20.0
    confirm_s: float = 60.0
    limits: Limits = field(default_factory=Limits)
    keep: int = 5
    new_labels: bool = False
    live: str | None = None
    config: str | None = None
    restart: str | None = None


@dataclass(frozen=True)
class Measured:
    """What was measured on the board; None or 0 where it was not.

    `latency_ms` of one picture, and `latency_before_ms` of the model before, are medians of alternating runs. `agreement` is
    that of the shadow over `shadow_answers` answers, `by_class` its (answers, share) by the class of the model before. `doubt`
    is the share of unsure and novel answers of the new model, in the watch or else as a shadow, over `answers`;
    `doubt_before` that of the one before over `answers_before`. All these are answers to different pictures.
    """

    latency_ms: float | None = None
    latency_before_ms: float | None = None
    shadow_frames: int = 0
    shadow_answers: int = 0
    agreement: float | None = None
    by_class: dict[str, tuple[int, float]] = field(default_factory=dict)
    answers: int = 0
    doubt: float | None = None
    answers_before: int = 0
    doubt_before: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of a deployment to a `board`: `version` is the file's SHA-256.

    `live` tells that this version runs there now; `rolled_back` that it was live, and the one before is again. `reason` is
    empty when all went well.
    """

    board: str
    version: str
    live: bool
    rolled_back: bool
    reason: str = ""
    measured: Measured = field(default_factory=Measured)


@dataclass(frozen=True)
class Event:
    """One line of a board's history; `at` is its own clock, which may be wrong: `number` gives the order."""

    number: int
    at: str
    what: What
    version: str
    before: str | None
    export_id: str
    reason: str = ""
    measured: Measured = field(default_factory=Measured)


@dataclass(frozen=True)
class History:
    """What a board says of the model file `model`: what is live, what can be put back, what is being watched, what happened."""

    board: str
    model: str
    live: str | None
    previous: str | None
    pending: str | None
    versions: tuple[str, ...]
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Request:
    """What the workstation sends first, on one line; the file's `size` bytes follow when the board asks for them."""

    verb: Literal["deploy", "rollback", "history"]
    plan: Plan
    protocol: int
    name: str = ""
    sha256: str = ""
    size: int = 0


PROTOCOL = 1
