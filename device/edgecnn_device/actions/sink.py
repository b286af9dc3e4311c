"""The sink of `--on`: decides by each observation what is to happen, and never waits for it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from edgecnn.errors import OutputError
from edgecnn_device.actions.command import Runner
from edgecnn_device.actions.pins import Pins
from edgecnn_device.actions.queue import Event, Queue, Tally, queue_file
from edgecnn_device.actions.rules import NOT_SAFE, Command, Debounce, Debounced, Pin, Rule, Seen, Webhook, check_rules
from edgecnn_device.actions.webhook import Poster, read_key
from edgecnn_device.classes import Classes
from edgecnn_device.frames import Observation
from edgecnn_device.secret_files import read_secret

SCHEMA = 1
_PULSE_S = 0.1  # at least, so that whoever keeps the pins hears of it


@dataclass(frozen=True)
class ActionOptions:
    """The rules; how long a label must last or be gone, how long a pin stays on, and how long a webhook or command may take.

    `debounce` None is the usual one, and none at all for the answers of a trigger. The file `secret` holds what webhooks are
    signed with.
    """

    rules: tuple[Rule, ...]
    debounce: Debounce | None = None
    hold_s: float = 1.0
    timeout_s: float = 10.0
    secret: Path | None = None


@dataclass(eq=False)
class _Acting:
    rule: Rule
    debounced: Debounced
    tally: Tally
    queue: Queue | None = None
    runner: Runner | None = None
    pin: int = -1
    on_until_s: float = 0.0  # of a pin, after a trigger's event


class ActionSink:
    """Acts on the smoothed answers, as the other outputs show them.

    A webhook and a command are told when a label comes; a pin is on while it is there, and at its fail-safe level while the
    camera starts, sees nothing, hangs or ends. With a trigger each event counts by itself: a webhook and a command are told
    of every part with the label, and a pin is on for a while after it, or at its fail-safe level until the next known part.
    """

    name = "actions"

    def __init__(
        self,
        options: ActionOptions,
        classes: Classes,
        *,
        memory: Path | None = None,
        notice: Callable[[str], None] = lambda line: None,
        interval_s: float = 0.0,
        triggered: bool = False,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare; webhooks that wait survive a restart in the folder `memory`. A frame is due every `interval_s`.

        `triggered` says that answers are those of a trigger.

        InputError for rules that no answer can meet, MissingDependencyError without gpiozero.
        """
        check_rules(options.rules, classes)
        self._options, self._classes, self._notice = options, classes, notice
        self._clock, self._wall_clock = clock, wall_clock
        self._memory, self._triggered = memory, triggered
        key = None if options.secret is None else read_key(read_secret(options.secret, "--on-secret-file"))
        self._acting = [self._prepare(rule, key) for rule in options.rules]
        pins = [rule.action for rule in options.rules if isinstance(rule.action, Pin)]
        for number, each in enumerate(each for each in self._acting if isinstance(each.rule.action, Pin)):
            each.pin = number
        self._pins = Pins(pins, options.hold_s, 3.0 + 3 * interval_s, clock) if pins else None
        self._pin_trouble = ""

    def __enter__(self) -> ActionSink:
        if self._pins is not None:
            self._pins.open()
        for each in self._acting:
            if each.queue is not None:
                each.queue.start()
        what = ", ".join(f"{each.rule.label}: {each.rule.action}" for each in self._acting)
        self._notice(f"acts on {what}; {NOT_SAFE}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Set the pins to their fail-safe levels first; then a second for what waits. OutputError for what is lost."""
        if self._pins is not None:
            self._pins.close()
        lost = []
        for each in self._acting:
            if each.queue is None:
                continue
            left = each.queue.stop()
            if each.runner is not None:
                each.runner.kill()
            if left:
                kept = "kept for the next start" if self._memory is not None and each.runner is None else "dropped"
                lost.append(f"{left} events for {each.rule.action} were not delivered and are {kept}")
        if lost:
            raise OutputError("; ".join(lost))

    def write(self, observation: Observation) -> None:
        """Decide by one observation. OutputError for events that were lost, and once for each new trouble."""
        seen, now_s = Seen.of(observation, self._classes), self._clock()
        troubles = []
        for each in self._acting:
            try:
                self._decide(each, seen, observation, now_s)
            except OutputError as error:
                troubles.append(f"{each.rule.action}: {error}")
        self.beat()
        if self._pins is not None and self._pins.trouble != self._pin_trouble:
            self._pin_trouble = self._pins.trouble
            troubles += [self._pin_trouble] if self._pin_trouble else []
        if troubles:
            raise OutputError("; ".join(troubles))

    def beat(self) -> None:
        """Say that the loop turns: pins are at their fail-safe levels soon after it does not.

        Between a trigger's parts nothing else says what became of a webhook or a command.
        """
        for each in self._acting:
            if self._triggered and each.queue is not None and (news := each.queue.news()):
                self._notice(f"{self.name} fails: {each.rule.action}: {news}; the camera continues")
        if self._pins is None:
            return
        for each in self._acting:
            if self._is_by_event(each) and self._pins.levels[each.pin] == "1" and self._clock() >= each.on_until_s:
                self._pins.set(each.pin, "0")
        self._pins.beat()

    def _is_by_event(self, each: _Acting) -> bool:
        return self._triggered and each.rule.label != "drift"

    def to_json(self) -> list[dict[str, Any]]:
        """Return each rule with its counts, for the page."""
        return [
            {
                "on": each.rule.label,
                "action": str(each.rule.action),
                "active": each.debounced.on,
                **vars(each.tally),
                "waiting": 0 if each.queue is None else each.queue.waiting,
                "trouble": self._trouble_of(each),
            }
            for each in self._acting
        ]

    def _trouble_of(self, each: _Acting) -> str:
        if each.queue is not None:
            return each.queue.trouble
        return "" if self._pins is None else self._pins.trouble

    def _prepare(self, rule: Rule, key: bytes | None) -> _Acting:
        debounced, action = Debounced(self._options.debounce or Debounce()), rule.action
        if isinstance(action, Webhook):
            file = queue_file(self._memory, rule.label, action.url)
            poster = Poster(action.url, key, self._options.timeout_s, self._wall_clock)
            queue = Queue(poster, file=file, notice=self._notice, wall_clock=self._wall_clock)
            return _Acting(rule, debounced, queue.tally, queue)
        if isinstance(action, Command):
            runner = Runner(action.path, self._options.timeout_s)
            queue = Queue(runner, notice=self._notice)
            return _Acting(rule, debounced, queue.tally, queue, runner)
        return _Acting(rule, debounced, Tally())

    def _decide(self, each: _Acting, seen: Seen, observation: Observation, now_s: float) -> None:
        if observation.state.name != "ok":
            each.debounced.interrupt(forget=each.queue is None)
            came = False
        elif self._is_by_event(each):
            if observation.event is None:
                return
            came = each.debounced.on = observation.event.outcome == "answered" and each.rule.label in seen.labels
            each.on_until_s = now_s + max(self._options.hold_s, _PULSE_S)
        else:
            came = each.debounced.see(each.rule.label in seen.labels, now_s)
        if each.queue is None:
            self._set_pin(each, seen)
            each.tally.asked += came
            each.tally.done += came
        elif came:
            each.queue.put(self._event(each.rule, observation))
        else:
            each.queue.complain()

    def _set_pin(self, each: _Acting, seen: Seen) -> None:
        """Set a pin on while its label counts as there; at its fail-safe level while nobody knows."""
        assert self._pins is not None
        label = each.rule.label
        unknown = seen.unknown and label not in seen.labels and (not seen.labels or label not in ("unsure", "novel", "drift"))
        level = "s" if unknown else ("1" if each.debounced.on else "0")
        self._pins.set(each.pin, level)

    def _event(self, rule: Rule, observation: Observation) -> Event:
        body = {"schema": SCHEMA, "on": rule.label, "observation": observation.to_json()}
        return Event(str(uuid.uuid4()), self._wall_clock(), body)
