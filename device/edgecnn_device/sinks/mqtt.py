"""MQTT: predictions and the camera's state for whoever subscribes."""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import cv2

from edgecnn.errors import EdgecnnError, MissingDependencyError, OutputError
from edgecnn_device.classes import NO_CLASSES, Classes
from edgecnn_device.frames import Drift, Observation, State
from edgecnn_device.sinks.mqtt_broker import MqttOptions, find_broker
from edgecnn_device.sinks.mqtt_discovery import Announcement, Answers, describe_sensors

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

_QUEUE_MESSAGES = 1000
_UNCONFIRMED = 20  # as many as paho itself sends ahead of the broker's answers
_KEEPALIVE_S = 15
_TAKEN_OVER_S, _TAKEN_OVER_TIMES = 10.0, 3
_FLUSH_S, _FAREWELL_S, _MOMENT_S = 0.25, 0.25, 0.05
_STARTING = State("stale", "starting: no frame yet")
_PICTURE_EVERY_S, _REQUEST = 5.0, "picture/request"


@dataclass(frozen=True)
class Message:
    """A message for a topic; the broker keeps a `retained` one for later subscribers.

    A payload that takes a while is made when it is sent, with no lock held.
    """

    topic: str
    payload: str | Callable[[], bytes]
    retained: bool = False


class Card(Protocol):
    """What a board says of itself, and its last picture: see `edgecnn_device.fleet.card`."""

    every_s: float

    @property
    def answers_pictures(self) -> bool:
        """Whether a request for the last picture is answered."""

    def add(self, observation: Observation) -> None:
        """Hear of an observation."""

    def has_news(self) -> bool:
        """Tell whether something has changed that is not to wait."""

    def to_json(self, own_address: str | None) -> dict[str, Any]:
        """Return the report of now."""

    def picture(self, observation: Observation) -> bytes:
        """Return a small JPEG."""


class Outbox:
    """Messages waiting for the broker, in order; when the queue is full the oldest is lost.

    Predictions and states share one queue: a subscriber that hears them late still hears no class between `stale` and `ok`.
    All of it is called with the sink's lock held.
    """

    def __init__(self, size: int, first_state: Message) -> None:
        """Hold at most `size` messages; `first_state` is published before there is another."""
        self.dropped = 0
        self.size = size
        self._urgent: deque[Message] = deque()
        self._waiting: deque[Message] = deque()
        self._state = first_state

    def __len__(self) -> int:
        return len(self._urgent) + len(self._waiting)

    def put(self, message: Message) -> int:
        """Add a message; return how many were lost for it."""
        lost = 0
        if len(self._waiting) >= self.size:
            self._remember(self._waiting.popleft())
            lost = 1
        self._waiting.append(message)
        self.dropped += lost
        return lost

    @property
    def greeting(self) -> bool:
        """Whether the first message is still to be published."""
        return bool(self._urgent)

    def greet(self, greeting: list[Message]) -> None:
        """Say `greeting` next, then the state as it was before all that waits: a broker may have forgotten it."""
        self._urgent = deque([*greeting, self._state])

    def take(self) -> Message:
        """Take the next message."""
        if self._urgent:
            return self._urgent.popleft()
        message = self._waiting.popleft()
        self._remember(message)
        return message

    def _remember(self, message: Message) -> None:
        if message.topic == self._state.topic:
            self._state = message


class MqttSink:
    """Publishes under the broker's prefix, with QoS 1.

    - `prediction`: the observation's JSON, only while the state is `ok`;
    - `state`, retained: `{"state": "ok" | "stale" | "blind" | "error", "reason": ...}` whenever it changes, with
      `warning` where there is one, such as that the last good model runs, and `drift` while the pictures drift;
    - `clock`: by how many seconds the wall clock was set, and what it says now;
    - `status`, retained: `online`, and `offline` at the end, as the last will too;
    - `answer`, with discovery: what Home Assistant shows, at the pace of `Answers`;
    - `board`, retained, with a card: what the board says of itself, every minute and when its model changes;
    - `picture`, when its card allows that: a small JPEG of the last observation, in answer to an empty message on
      `picture/request`, at most one every five seconds. Nothing else is ever subscribed to.

    `write` only puts into a bounded queue. A thread of ours empties it into paho, whose own thread connects, and connects
    again after 1 s, 2 s, up to 30 s. At the end half a second is given to what still waits.
    """

    name = "mqtt"

    def __init__(
        self,
        options: MqttOptions,
        classes: Classes = NO_CLASSES,
        *,
        queue_messages: int = _QUEUE_MESSAGES,
        memory: Path | None = None,
        retry_s: tuple[float, float] = (1, 30),
        card: Card | None = None,
        picture_every_s: float = _PICTURE_EVERY_S,
    ) -> None:
        """Prepare; nothing is connected before the sink is entered. InputError for an unusable address, password or CA.

        With discovery, answers of these `classes` are announced to Home Assistant; a later start without it undoes that, if the
        folder `memory` remembers it. `retry_s` are the first and the longest pause before connecting again. `card` tells what
        the board says of itself; `picture_every_s` is the least time between two pictures.
        """
        self._broker = find_broker(options)
        self._retry_s = retry_s
        self._classes = classes
        self._discovery_prefix = options.discovery_prefix if options.discovery else None
        self._answers = Answers(classes) if options.discovery else None
        self._announcement = Announcement(self._broker.prefix, memory)
        self._outdated = self._announcement.outdated(self._discovery_prefix)
        self._took_back = False
        self._encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
        self._said: tuple[object, ...] = (_STARTING.kind, "", None)
        self._outbox = Outbox(queue_messages, self._state_message(_STARTING))
        self._changed = threading.Condition()
        self._connected = False
        self._unconfirmed = 0
        self._deadline_s: float | None = None
        self._trouble = _Trouble()
        self._rivalry = Rivalry()
        self._card, self._card_due_s = card, math.inf
        self._own_address: str | None = None
        self._pictures = _Requests(picture_every_s) if card is not None and card.answers_pictures else None
        self._last = Observation("", _STARTING)
        self._client = self._make_client()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    @property
    def dropped(self) -> int:
        """Messages that were lost because the queue was full."""
        return self._outbox.dropped

    @property
    def waiting(self) -> int:
        """Messages that the broker has not confirmed."""
        return len(self._outbox) + self._unconfirmed

    def __enter__(self) -> MqttSink:
        if self._discovery_prefix is not None:
            self._announcement.remember(self._discovery_prefix)
        self._client.connect_async(self._broker.host, self._broker.port, _KEEPALIVE_S)
        self._client.loop_start()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Send what waits, say `offline` and leave, within half a second. OutputError when messages did not get through."""
        with self._changed:
            self._deadline_s = time.monotonic() + _FLUSH_S
            self._changed.notify_all()
        # Both threads are daemons: paho's may be in the middle of a connection that takes seconds to fail.
        self._thread.join(_FLUSH_S + 2 * _FAREWELL_S if self._connected else _MOMENT_S)
        if self._discovery_prefix is None and self._took_back and not self.waiting:
            self._announcement.remember(None)
        if self.waiting:
            raise OutputError(f"{self.waiting} messages did not reach the broker {self._broker}")

    def write(self, observation: Observation) -> None:
        """Queue one observation. OutputError when a message was lost for it, and once for each new trouble with the broker."""
        messages = []
        says = observation.state.kind, observation.warning, observation.drift
        if says != self._said:
            self._said = says
            messages.append(self._state_message(observation.state, observation.warning, observation.drift))
        if observation.state.name == "ok":
            messages.append(Message(self._topic("prediction"), self._encode(observation.to_json())))
            messages += self._answer(observation)
        elif self._answers is not None:
            self._answers.forget()
        if observation.clock_jump_s is not None:
            messages.insert(0, self._clock_message(observation))
        self._fill_card(observation)
        with self._changed:
            lost = sum(self._outbox.put(message) for message in messages)
            self._changed.notify_all()
        if trouble := self._trouble.take():
            raise OutputError(f"{trouble}; up to {self._outbox.size} messages wait")
        if lost:
            raise OutputError(f"the queue for the broker {self._broker} is full: the oldest message was dropped")

    def _fill_card(self, observation: Observation) -> None:
        if self._card is None:
            return
        self._card.add(observation)
        if self._card.has_news():
            self._card_due_s = min(self._card_due_s, time.monotonic())
        if self._pictures is not None:
            self._last = observation

    def _run(self) -> None:
        while (message := self._next()) is not None:
            self._publish(message)
        self._leave()

    def _next(self) -> Message | None:
        """Wait for a message that can be sent; None when it is time to leave."""
        with self._changed:
            while True:
                sendable = self._connected and len(self._outbox) > 0
                left_s = None if self._deadline_s is None else self._deadline_s - time.monotonic()
                if left_s is not None and (left_s <= 0 or not sendable):
                    return None
                if self._connected and not self._outbox.greeting and (extra := self._extra()) is not None:
                    self._unconfirmed += 1
                    return extra
                # What paho sends again comes first, so that the greeting's state is not followed by an older one.
                if sendable and self._unconfirmed < (1 if self._outbox.greeting else _UNCONFIRMED):
                    self._unconfirmed += 1
                    return self._outbox.take()
                self._changed.wait(self._pause_s() if left_s is None else left_s)

    def _extra(self) -> Message | None:
        """Return the card or the picture that is due."""
        now_s = time.monotonic()
        if self._pictures is not None and self._pictures.is_asked:
            self._pictures.answered(now_s)
            return Message(self._topic("picture"), self._picture)
        if self._card is not None and now_s >= self._card_due_s:
            self._card_due_s = now_s + self._card.every_s
            return Message(self._topic("board"), self._card_bytes, retained=True)
        return None

    def _pause_s(self) -> float | None:
        """Return for how long nothing is due that nobody wakes us for; None without end."""
        if not self._connected or self._card is None:
            return None
        return max(0.0, self._card_due_s - time.monotonic())

    def _card_bytes(self) -> bytes:
        assert self._card is not None
        return self._encode(self._card.to_json(self._own_address)).encode("utf-8", "replace")

    def _picture(self) -> bytes:
        assert self._card is not None
        return self._card.picture(self._last)

    def _publish(self, message: Message) -> None:
        # Never with our lock held: paho calls us back with its own held.
        try:
            payload = message.payload.encode("utf-8", "replace") if isinstance(message.payload, str) else message.payload()
        except (EdgecnnError, cv2.error) as error:
            self._trouble.note(f"{message.topic} cannot be made: {error}")
            self._on_publish(self._client, None, 0, None, None)
            return
        self._client.publish(message.topic, payload, qos=1, retain=message.retained)

    def _leave(self) -> None:
        if self._connected:
            with self._changed:
                self._unconfirmed += 1
            self._publish(Message(self._topic("status"), "offline", retained=True))
            with self._changed:
                self._changed.wait_for(lambda: self._unconfirmed == 0 or not self._connected, _FAREWELL_S)
        self._client.disconnect()
        self._client.loop_stop()

    def _make_client(self) -> Client:
        try:
            from edgecnn_device.sinks.mqtt_client import BoundedClient
        except ImportError as error:
            raise MissingDependencyError("--mqtt needs paho-mqtt 2. Install it with: pip install 'edgecnn[mqtt]'") from error
        client = BoundedClient(self._broker.client_id, too_large=self._on_too_large)
        context = self._broker.tls_context()
        if context is not None:
            client.tls_set_context(context)
        if self._broker.user is not None:
            client.username_pw_set(self._broker.user, self._broker.password)
        client.will_set(self._topic("status"), "offline", qos=1, retain=True)
        client.reconnect_delay_set(*self._retry_s)  # type: ignore[arg-type]  # paho computes with floats as well
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        return client

    def _on_connect(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._trouble.note(f"the broker {self._broker} refuses the connection: {str(reason).lower()}")
            return
        self._rivalry.connected()
        if not self._rivalry.is_on:
            self._trouble.end()
        if self._pictures is not None:
            client.subscribe(self._topic(_REQUEST))
        with self._changed:
            self._own_address = _own_address(client)
            self._outbox.greet(self._greeting())
            self._connected = True
            if self._card is not None:
                self._card_due_s = time.monotonic()
            self._changed.notify_all()

    def _on_connect_fail(self, client: Client, userdata: Any) -> None:
        # paho tells no reason, but calls while it handles the exception.
        error = sys.exc_info()[1]
        self._trouble.note(f"cannot connect to the broker {self._broker}: {error}")

    def _on_disconnect(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        with self._changed:
            lost, self._connected = self._connected, False
            if self._pictures is not None:
                self._pictures.forget()
            self._changed.notify_all()
        if not lost or self._deadline_s is not None:
            return
        self._rivalry.lost()
        if self._rivalry.is_on:
            self._trouble.note(
                f"the broker {self._broker} keeps disconnecting us: another client uses our client ID "
                f"{self._broker.client_id}, such as a second camera of this board with the same topic prefix"
            )
        else:
            self._trouble.note(f"the connection to the broker {self._broker} is lost")

    def _on_too_large(self, count: int) -> None:
        self._trouble.note(f"the broker {self._broker} announces a packet of {count} bytes, far more than expected")

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        """Note a request for the picture: an empty message, and none that a broker has kept."""
        is_request = message.topic == self._topic(_REQUEST) and not message.retain and not message.payload
        if not is_request or self._pictures is None:
            return
        with self._changed:
            self._pictures.ask(time.monotonic())
            self._changed.notify_all()

    def _on_publish(self, client: Client, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
        with self._changed:
            self._unconfirmed -= 1
            self._changed.notify_all()

    def _answer(self, observation: Observation) -> list[Message]:
        body = None if self._answers is None else self._answers.take(observation)
        return [] if body is None else [Message(self._topic("answer"), self._encode(body))]

    def _greeting(self) -> list[Message]:
        messages = [Message(topic, "", retained=True) for topic in self._outdated]
        self._took_back = True
        if self._discovery_prefix is not None:
            sensors = describe_sensors(self._broker.prefix, self._discovery_prefix, self._classes)
            messages += [Message(topic, self._encode(sensor), retained=True) for topic, sensor in sensors.items()]
        return [*messages, Message(self._topic("status"), "online", retained=True)]

    def _state_message(self, state: State, warning: str = "", drift: Drift | None = None) -> Message:
        body: dict[str, Any] = {"state": state.name, "reason": state.reason} | ({"warning": warning} if warning else {})
        body |= {} if drift is None else {"drift": drift.to_json()}
        return Message(self._topic("state"), self._encode(body), retained=True)

    def _clock_message(self, observation: Observation) -> Message:
        body = observation.to_json()
        return Message(self._topic("clock"), self._encode({key: body[key] for key in ("clock_jump_s", "captured_at")}))

    def _topic(self, name: str) -> str:
        return f"{self._broker.prefix}/{name}"


class _Requests:
    """Requests for the last picture; those that come within `every_s` of an answer get none. Times are monotonic."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self.is_asked = False
        self._next_s = -math.inf

    def ask(self, now_s: float) -> None:
        self.is_asked = now_s >= self._next_s

    def forget(self) -> None:
        self.is_asked = False

    def answered(self, now_s: float) -> None:
        self.is_asked, self._next_s = False, now_s + self._every_s


def _own_address(client: Client) -> str | None:
    """Return this machine's IP address on the way to the broker."""
    connection: Any = client.socket()
    try:
        return None if connection is None else str(connection.getsockname()[0]).partition("%")[0]
    except OSError:
        return None


class Rivalry:
    """Notices that a client of the same name takes our connection over, and we its: a broker keeps one for each name.

    MQTT 3.1.1 tells no reason. So it is on when three connections in a row were lost within seconds of being made.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin alone."""
        self._clock = clock
        self._connected_s = 0.0
        self._times = 0

    @property
    def is_on(self) -> bool:
        """Whether connections are being taken over."""
        return self._times >= _TAKEN_OVER_TIMES

    def connected(self) -> None:
        """Hear that a connection was made."""
        self._connected_s = self._clock()

    def lost(self) -> None:
        """Hear that it was lost."""
        self._times = self._times + 1 if self._clock() < self._connected_s + _TAKEN_OVER_S else 0


class _Trouble:
    """The latest trouble, reported once however often it repeats. Written by one thread, taken by another."""

    def __init__(self) -> None:
        self._last = ""
        self._news: deque[str] = deque(maxlen=1)

    def note(self, text: str) -> None:
        if text != self._last:
            self._last = text
            self._news.append(text)

    def end(self) -> None:
        self._last = ""

    def take(self) -> str:
        return self._news.pop() if self._news else ""
