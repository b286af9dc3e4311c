"""Listens to all boards of a fleet at their broker, asks one for its last picture, and takes one that is gone off the list.

Nothing else is ever published.
"""

from __future__ import annotations

import secrets
import sys
import threading
import time
from collections.abc import Collection, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from edgecnn.errors import InputError, MissingDependencyError, OutputError
from edgecnn_device.fleet.boards import MOST_BOARDS, MOST_LEVELS, TOPICS, Boards
from edgecnn_device.sinks.mqtt_broker import Broker

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

# Above a picture's, and far below what would hurt.
_MOST_PACKET = 2**16
_KEEPALIVE_S = 30
_QUIET_S, _LOOK_EVERY_S = 0.4, 0.05
_MOST_PICTURES = 256
_AT_ONCE, _MOST_TOPICS = 200, 4 * MOST_BOARDS


class Listener:
    """Hears what the boards below a broker's prefix say, and connects again whenever it was away.

    It speaks MQTT 5, since a client of that tells a broker how large a packet may be: a board that publishes megabytes would
    otherwise end our connection again and again.

    A broker drops what exceeds a client's queue (mosquitto: beyond 1000 messages), and the retained messages of a thousand
    boards come all at once. So the small ones are asked for first, and the reports of those who then are known a few at a time.
    """

    def __init__(self, broker: Broker, boards: Boards, *, retry_s: tuple[int, int] = (1, 10)) -> None:
        """Prepare; nothing is connected before the listener is entered. InputError for a CA file that is not usable."""
        self._broker, self._boards = broker, boards
        self._subscribed, self._changed = False, threading.Condition()
        self._connection = self._answered = 0
        self._complete = threading.Event()
        self._ended = threading.Event()
        self._came: set[str] = set()
        self.trouble = ""
        self._pictures: dict[str, tuple[float, bytes]] = {}
        self._published: dict[int, Any] = {}
        self._client = self._make_client(retry_s)

    @property
    def is_connected(self) -> bool:
        """Whether the broker is there and has told what it keeps."""
        return self._subscribed and self._complete.is_set()

    def __enter__(self) -> Listener:
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        wanted = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        wanted.MaximumPacketSize = _MOST_PACKET
        self._client.connect_async(self._broker.host, self._broker.port, _KEEPALIVE_S, properties=wanted)
        self._client.loop_start()
        threading.Thread(target=self._fetch, name="fleet", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._client.disconnect()
        self._client.loop_stop()

    def gather(self, limit_s: float) -> None:
        """Wait until the broker has told all that it keeps; OutputError when it is not there, refuses us, or is not done."""
        deadline_s = time.monotonic() + limit_s
        if not self.await_connection(limit_s):
            raise OutputError(self.trouble or f"the broker {self._broker} does not answer")
        if not self._complete.wait(max(0.0, deadline_s - time.monotonic())):
            raise OutputError(f"the broker {self._broker} has not told all after {limit_s:g} s: give it more with --wait")

    def await_connection(self, limit_s: float) -> bool:
        """Wait until the broker has let us listen; False when it is not there, refuses us, or takes longer."""
        with self._changed:
            self._changed.wait_for(lambda: self._subscribed or bool(self.trouble), limit_s)
            return self._subscribed

    def picture(self, name: str, *, limit_s: float, fresh_s: float = 5.0) -> bytes | None:
        """Return a board's last picture as JPEG: one that came in the last `fresh_s`, or one asked for; None without answer.

        InputError where the name cannot be that of a topic.
        """
        if not name or set(name) & set("+#\0") or not name.isprintable():
            raise InputError(f"{name[:80]!r} is no board's name")
        asked_s = time.monotonic()
        with self._changed:
            if (found := self._pictures.get(name)) is not None and asked_s - found[0] < fresh_s:
                return found[1]
        self._client.publish(f"{self._broker.prefix}/{name}/picture/request", b"", qos=0)
        with self._changed:
            self._changed.wait_for(lambda: self._pictures.get(name, (0.0, b""))[0] >= asked_s, limit_s)
            found = self._pictures.get(name)
        return found[1] if found is not None and found[0] >= asked_s else None

    def forget(self, name: str, limit_s: float) -> None:
        """Remove what the broker keeps of a board; OutputError when it does not let us, or does not answer."""
        deadline_s = time.monotonic() + limit_s
        for topic in (f"{self._broker.prefix}/{name}/{kind}" for kind in TOPICS):
            number = self._client.publish(topic, b"", qos=1, retain=True).mid
            with self._changed:
                self._changed.wait_for(lambda: number in self._published, max(0.0, deadline_s - time.monotonic()))  # noqa: B023
                reason = self._published.get(number)
            if reason is None or reason.is_failure:
                why = "does not answer" if reason is None else f"does not let us: {str(reason).lower()}"
                raise OutputError(f"{name} cannot be taken off the list, the broker {self._broker} {why}")

    def _make_client(self, retry_s: tuple[int, int]) -> Client:
        try:
            from paho.mqtt.enums import MQTTProtocolVersion

            from edgecnn_device.sinks.mqtt_client import BoundedClient
        except ImportError as error:
            raise MissingDependencyError(
                "edgecnn fleet needs paho-mqtt 2. Install it with: pip install 'edgecnn[mqtt]'"
            ) from error
        client = BoundedClient(
            f"edgecnn-fleet-{secrets.token_hex(4)}", too_large=self._on_too_large, protocol=MQTTProtocolVersion.MQTTv5
        )
        if (context := self._broker.tls_context()) is not None:
            client.tls_set_context(context)
        if self._broker.user is not None:
            client.username_pw_set(self._broker.user, self._broker.password)
        client.reconnect_delay_set(*retry_s)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        return client

    def _fetch(self) -> None:
        """Ask for what the broker keeps, whenever it is there again."""
        done = 0
        while not self._ended.is_set():
            with self._changed:
                self._changed.wait(_LOOK_EVERY_S)
                number = self._connection if self._subscribed else done
            if number == done:
                continue
            self._await_quiet()
            missing = [f"{self._broker.prefix}/{topic}" for topic in self._boards.topics()]
            missing = [topic for topic in missing if topic not in self._came]
            for start in range(0, len(missing), _AT_ONCE):
                self._fetch_some(missing[start : start + _AT_ONCE])
            done = number
            if number == self._connection:
                self._complete.set()

    def _fetch_some(self, topics: list[str]) -> None:
        """Ask for the retained messages of a few topics by name; the subscription with a + brings what changes there later."""
        self._client.subscribe([(topic, _options(retained=True)) for topic in topics])
        self._await_quiet(topics)
        self._ask_and_wait(topics)

    def _await_quiet(self, topics: Collection[str] = ()) -> None:
        """Wait until all of `topics` have come, or nothing new has for _QUIET_S after the broker has answered a question.

        A broker does not say when it has told all that it keeps. One that answers in order has by then; others may send later.
        """
        self._ask_and_wait()
        quiet_since_s, count = time.monotonic(), len(self._came)
        while self._subscribed and time.monotonic() < quiet_since_s + _QUIET_S:
            if topics and self._came.issuperset(topics):
                return
            time.sleep(_LOOK_EVERY_S)
            if len(self._came) != count:
                quiet_since_s, count = time.monotonic(), len(self._came)

    def _ask_and_wait(self, topics: Sequence[str] = ()) -> None:
        """Give `topics` up, or one that nobody has, and wait for the answer: what the broker sent before has come then."""
        answered = self._answered
        self._client.unsubscribe(list(topics) or [f"{self._broker.prefix}/nothing"])
        with self._changed:
            while self._subscribed and self._answered == answered:
                self._changed.wait(_LOOK_EVERY_S)

    def _topics(self, kinds: Iterable[str], *, retained: bool) -> list[tuple[str, Any]]:
        """Return what to subscribe to, one for each level: `#` would bring the predictions of all boards too."""
        below = [self._broker.prefix + "/+" * levels for levels in range(1, MOST_LEVELS + 1)]
        return [(f"{topic}/{kind}", _options(retained=retained)) for kind in kinds for topic in below]

    def _on_connect(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._note(f"the broker {self._broker} refuses the connection: {str(reason).lower()}")
            return
        self.trouble = ""
        self._came.clear()
        client.subscribe(self._topics(("board", "picture"), retained=False))
        client.subscribe(self._topics(("status", "state"), retained=True))

    def _on_subscribe(self, client: Client, userdata: Any, mid: int, reasons: list[Any], properties: Any) -> None:
        if all(reason.is_failure for reason in reasons):
            self._note(f"the broker {self._broker} lets nobody of our name read below {self._broker.prefix}")
            return
        with self._changed:
            if not self._subscribed:
                self._subscribed, self._connection = True, self._connection + 1
            self._changed.notify_all()

    def _on_unsubscribe(self, client: Client, userdata: Any, mid: int, reasons: list[Any], properties: Any) -> None:
        with self._changed:
            self._answered += 1
            self._changed.notify_all()

    def _on_connect_fail(self, client: Client, userdata: Any) -> None:
        self._note(f"cannot connect to the broker {self._broker}: {sys.exc_info()[1]}")

    def _on_disconnect(self, client: Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        with self._changed:
            self._subscribed = False
            self._complete.clear()
            self.trouble = self.trouble or f"the connection to the broker {self._broker} is lost"
        self._boards.disconnected()

    def _on_publish(self, client: Client, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
        with self._changed:
            self._published[mid] = reason
            self._changed.notify_all()

    def _on_too_large(self, count: int) -> None:
        self.trouble = f"the broker {self._broker} announces a packet of {count} bytes, more than it was asked for"

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return
        if topic.endswith("/picture"):
            self._keep_picture(topic, message)
        else:
            if len(self._came) < _MOST_TOPICS:
                self._came.add(topic)
            self._boards.hear(topic, bytes(message.payload), retained=bool(message.retain))

    def _keep_picture(self, topic: str, message: MQTTMessage) -> None:
        """Keep the newest picture of a board; whatever is no JPEG, and whatever a broker has kept, is none."""
        payload = bytes(message.payload)
        if message.retain or not payload.startswith(b"\xff\xd8\xff"):
            return
        name = topic.removeprefix(f"{self._broker.prefix}/").removesuffix("/picture")
        with self._changed:
            if len(self._pictures) >= _MOST_PICTURES and name not in self._pictures:
                del self._pictures[min(self._pictures, key=lambda each: self._pictures[each][0])]
            self._pictures[name] = time.monotonic(), payload
            self._changed.notify_all()

    def _note(self, why: str) -> None:
        with self._changed:
            self.trouble = why
            self._changed.notify_all()


def _options(*, retained: bool) -> Any:
    """Return how to subscribe: with what the broker keeps, or only with what comes from now on.

    With QoS 0: a broker holds of QoS 1 only a few messages that a client has not confirmed.
    """
    from paho.mqtt.subscribeoptions import SubscribeOptions

    keep = SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE if retained else SubscribeOptions.RETAIN_DO_NOT_SEND
    return SubscribeOptions(qos=0, retainHandling=keep)
