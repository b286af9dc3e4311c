"""`--on LABEL:ACTION`: what is to happen when, and whether that is now."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from edgecnn.addresses import hide, origin
from edgecnn.errors import InputError
from edgecnn_device.classes import Classes
from edgecnn_device.frames import Observation

NOT_SAFE = "not a safety device: nothing here may be all that keeps people from harm"
WORDS = ("defect", "unsure", "novel", "drift")
_FORM = "LABEL:webhook:URL, LABEL:command:PATH or LABEL:gpio:PIN[:active-low][:safe-on]"
_RULE = re.compile(r"(?P<label>.+?):(?P<kind>webhook|command|gpio):(?P<rest>.+)", re.DOTALL)
_LAST_PIN = 27  # of a Raspberry Pi's header, by Broadcom's numbers
_DEBOUNCE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)\s*(s?)")


@dataclass(frozen=True)
class Webhook:
    """An address that is told by POST; whatever stands behind its host may be a secret."""

    url: str

    def __str__(self) -> str:
        return f"webhook {origin(self.url)}"


@dataclass(frozen=True)
class Command:
    """A program that is run with the event on its standard input."""

    path: Path

    def __str__(self) -> str:
        return f"command {self.path.name}"


@dataclass(frozen=True)
class Pin:
    """A pin by Broadcom's number. On is high, low if `active_low`; its fail-safe level is off, on if `safe_on`."""

    number: int
    active_low: bool = False
    safe_on: bool = False

    def __str__(self) -> str:
        return f"gpio {self.number}"


@dataclass(frozen=True)
class Rule:
    """What is to happen when an answer has the label, or is what one of WORDS says."""

    label: str
    action: Webhook | Command | Pin


@dataclass(frozen=True)
class Debounce:
    """For how many answers in a row, or for how many seconds, a label must be there or gone before that counts."""

    frames: int = 3
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str) -> Debounce:
        """Read `3` or `0.5s`; InputError for anything else."""
        found = _DEBOUNCE.fullmatch(text.strip())
        if found is None or (not found[2] and ("." in found[1] or int(found[1]) < 1)):
            raise InputError(f"--on-debounce {text!r}: give a number of answers, such as 3, or seconds, such as 0.5s")
        return cls(seconds=float(found[1])) if found[2] else cls(int(found[1]))


def parse_rule(text: str) -> Rule:
    """Read one `LABEL:ACTION`; InputError for what is none."""
    found = _RULE.fullmatch(text)
    if found is None:
        raise InputError(f"--on {_shown(text)!r}: give {_FORM}")
    return Rule(found["label"], _READERS[found["kind"]](found["rest"]))


def parse_rules(texts: Sequence[str]) -> tuple[Rule, ...]:
    """Read the rules of a command line; InputError for one that is none, or is there twice."""
    rules = tuple(parse_rule(text) for text in texts)
    if len(set(rules)) < len(rules):
        raise InputError("--on: the same rule is given twice")
    return rules


def check_rules(rules: Sequence[Rule], classes: Classes) -> None:
    """Raise InputError for a label that no answer can have, and for two rules of one pin."""
    for rule in rules:
        if rule.label not in (*classes.labels, *WORDS):
            raise InputError(f"--on {rule.label!r}: the model has no such class; known: {', '.join((*classes.labels, *WORDS))}")
        if rule.label == "defect" and not classes.defects and "defect" not in classes.labels:
            raise InputError(f"--on defect: {_without_defects(classes)}")
    pins = [rule.action.number for rule in rules if isinstance(rule.action, Pin)]
    if len(set(pins)) < len(pins):
        raise InputError(f"--on: pin {next(pin for pin in pins if pins.count(pin) > 1)} cannot do two things")


def _without_defects(classes: Classes) -> str:
    """Say why a model has no defects, and what to do."""
    if len(classes.labels) == 1:
        return f"this model knows {classes.labels[0]} parts only, and calls any other novel; use --on novel:ACTION"
    return "no class of this model counts as a defect; name the good ones with --good"


@dataclass(frozen=True)
class Seen:
    """What an observation says to rules: its `labels` and words; `unknown` when part of it has no class, or all of it."""

    labels: frozenset[str] = frozenset()
    unknown: bool = True

    @classmethod
    def of(cls, observation: Observation, classes: Classes) -> Seen:
        """Say it of the smoothed answers.

        A defect is there when one region has it. A class that is none is there only when no region has a defect and none is
        unknown: one good tile says nothing of the others.
        """
        if observation.state.name != "ok":
            return cls()
        answers = [prediction.smoothed for prediction in observation.predictions]
        named = {answer.label for answer in answers if answer.label is not None}
        words = {answer.verdict for answer in answers if answer.label is None}
        unknown = not named or bool(words)
        bad = named & classes.defects
        labels = {*bad, *words, *(() if bad or unknown else named)}
        labels |= {"defect"} if bad else set()
        labels |= set() if observation.drift is None else {"drift"}
        return cls(frozenset(labels), unknown)


class Debounced:
    """Whether a label counts as there, by a rule of how long it must have been there, or gone."""

    def __init__(self, debounce: Debounce) -> None:
        """Begin without it."""
        self._debounce = debounce
        self.on = False
        self._contrary = 0
        self._since_s: float | None = None

    def see(self, there: bool, now_s: float) -> bool:
        """Hear of one answer; True when the label has just come to count as there."""
        if there == self.on:
            self._contrary, self._since_s = 0, None
            return False
        self._contrary += 1
        self._since_s = now_s if self._since_s is None else self._since_s
        wanted = self._debounce
        turned = self._contrary >= wanted.frames if wanted.seconds is None else now_s >= self._since_s + wanted.seconds
        if turned:
            self.on, self._contrary, self._since_s = there, 0, None
        return turned and there

    def interrupt(self, *, forget: bool) -> None:
        """Hear that there is no answer to be believed: what was about to turn begins again, with `forget` all does."""
        self._contrary, self._since_s = 0, None
        self.on = self.on and not forget


def _webhook(text: str) -> Webhook:
    try:
        parts = urlsplit(text)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        (parts.hostname or "").encode("idna")  # as it will be looked up: no part is empty or longer than 63 letters
    except ValueError:
        is_address = False
    if not is_address or not text.isascii() or not text.isprintable() or " " in text:
        raise InputError("--on LABEL:webhook:URL: give an http:// or https:// address")
    if parts.username is not None:
        raise InputError("--on LABEL:webhook:URL: no user or password in the address; sign what is sent with --on-secret-file")
    return Webhook(text)


def _command(text: str) -> Command:
    path = Path(text)
    if not path.is_absolute():
        raise InputError(f"--on LABEL:command:{text}: give the whole path of a program, such as /usr/local/bin/stop-belt")
    return Command(path)


def _pin(text: str) -> Pin:
    number, *flags = text.split(":")
    if not (number.isascii() and number.isdecimal() and int(number) <= _LAST_PIN) or set(flags) - {"active-low", "safe-on"}:
        raise InputError(f"--on LABEL:gpio:{text}: give a pin 0 to {_LAST_PIN} by its Broadcom number[:active-low][:safe-on]")
    return Pin(int(number), "active-low" in flags, "safe-on" in flags)


_READERS: dict[str, Callable[[str], Webhook | Command | Pin]] = {"webhook": _webhook, "command": _command, "gpio": _pin}


def _shown(text: str) -> str:
    """Return what may be shown of a rule that cannot be read: there may be an address in it."""
    at = text.find("http")
    return text[:60] if at < 0 else hide(text[:at], text[at:]) + origin(text[at:])
