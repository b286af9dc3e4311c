"""A real mosquitto that can die, hang and come back, and somebody who listens to it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from running import find_port, wait_until


@dataclass(frozen=True)
class Heard:
    """One message, and when it was heard."""

    at: float
    topic: str
    text: str
    retained: bool

    @property
    def body(self) -> dict[str, Any]:
        """The payload as JSON."""
        body: dict[str, Any] = json.loads(self.text)
        return body


class Mosquitto:
    """Debian's broker on a port that it keeps; it forgets everything when it dies."""

    def __init__(self, program: str, folder: Path, *settings: str) -> None:
        self.port = find_port()
        self._config = folder / "mosquitto.conf"
        # As root it would become the user `mosquitto`, who may not read a test's folder.
        lines = [f"listener {self.port} 127.0.0.1", "user root", "persistence false", "log_type none", *settings]
        self._config.write_text("\n".join(lines) + "\n")
        self._program = program
        self.start()

    def start(self) -> None:
        """Come (back) to life."""
        self._process = subprocess.Popen([self._program, "-c", str(self._config)], stderr=subprocess.DEVNULL)
        wait_until(self._answers, 10, "broker")

    def kill(self) -> None:
        """Die at once."""
        self._process.kill()
        self._process.wait()

    def hang(self) -> None:
        """Answer nothing any more."""
        self._process.send_signal(signal.SIGSTOP)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Listener:
    """Hears all that is said, retained messages first, and connects again whenever the broker was away."""

    def __init__(self, port: int, setup: Callable[[Client], None] = lambda client: None) -> None:
        self.heard: list[Heard] = []
        self._ready = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._hear
        setup(self._client)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._ready.wait(10)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *failure: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def on(self, ending: str) -> list[Heard]:
        """Return what was heard on topics with this ending."""
        return [heard for heard in list(self.heard) if heard.topic.endswith(ending)]

    def newest(self, ending: str) -> str:
        """Return the newest payload on a topic, empty before the first."""
        heard = self.on(ending)
        return heard[-1].text if heard else ""

    def _hear(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        self.heard.append(Heard(time.time(), message.topic, message.payload.decode(), message.retain))


def retained(port: int) -> dict[str, str]:
    """Return what a broker keeps for those who come later, by topic."""
    with Listener(port) as listener:
        time.sleep(0.3)
        return {heard.topic: heard.text for heard in listener.heard if heard.retained}
