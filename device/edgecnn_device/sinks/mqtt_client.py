"""paho's client with a bound on what a broker may send: the packets that anybody has for us are small."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

MOST_BYTES = 2**16


class BoundedClient(Client):
    """Ends a connection on which a larger packet is announced than any broker has for us.

    paho would ask for as much memory as the packet says that it has, up to 268 MB. The bound stands in a method that is not
    public: the version of paho-mqtt is pinned for that.
    """

    def __init__(
        self,
        client_id: str,
        *,
        too_large: Callable[[int], None],
        protocol: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv311,
    ) -> None:
        """Be `client_id`; `too_large` hears how many bytes were announced."""
        super().__init__(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=protocol)
        self._too_large = too_large

    def _sock_recv(self, bufsize: int, *others: Any) -> bytes:
        if bufsize > MOST_BYTES:
            self._too_large(bufsize)
            raise ConnectionError(f"a packet of {bufsize} bytes was announced")
        return super()._sock_recv(bufsize, *others)
