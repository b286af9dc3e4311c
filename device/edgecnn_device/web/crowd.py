"""Who has to leave when there are too many connections: whoever keeps one without asking for anything, the greediest first."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol, TypeVar


class Connection(Protocol):
    """What is asked of a connection."""

    @property
    def visitor(self) -> str:
        """Who opened it, see `name_visitor`."""

    @property
    def idle_since_s(self) -> float | None:
        """Since when no request has come in full, on a monotonic clock; None while one is being answered."""


C = TypeVar("C", bound=Connection)
# All visitors of a server in front of ours, and this machine's own, have one address.
LOCAL = "this machine"


def name_visitor(address: str) -> str:
    """Return what is counted as one visitor: an IPv4 address, or the 64 bits of an IPv6 address that a network is given."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    if found.is_loopback:
        return LOCAL
    return str(found if found.version == 4 else ipaddress.ip_network((found, 64), strict=False))


@dataclass(frozen=True)
class Limits:
    """How many connections there may be: with idle ones among them, at all, and of one visitor."""

    with_idle: int
    at_all: int
    each: int


def choose_leaver(connections: Collection[C], newcomer: C, limits: Limits) -> C | None:
    """Return the connection that has to make room for `newcomer`, which is one of them; None where there is room.

    A visitor with too many gives up its oldest idle one. Where there are too many at all it is the oldest idle one of the
    visitor who has the most of these, and where none is idle the newcomer.
    """
    idle = [c for c in connections if c is not newcomer and c.idle_since_s is not None]
    own = [c for c in connections if c.visitor == newcomer.visitor]
    if newcomer.visitor != LOCAL and len(own) > limits.each:
        return min((c for c in idle if c in own), key=_age, default=newcomer)
    if idle and len(connections) > limits.with_idle:
        counts = Counter(c.visitor for c in idle)
        return min(idle, key=lambda c: (-counts[c.visitor], _age(c)))
    return newcomer if len(connections) > limits.at_all else None


def _age(connection: Connection) -> float:
    return connection.idle_since_s or 0.0
