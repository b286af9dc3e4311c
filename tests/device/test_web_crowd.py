"""One visitor who keeps connections without asking for anything keeps nobody else from the page."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from web_page import Page, seen, serve

from edgecnn_device.web.crowd import LOCAL, Limits, choose_leaver, name_visitor

HALF = b"GET / HTTP/1.1\r\nHost: loc"


@pytest.fixture
def page() -> Iterator[Page]:
    with serve() as opened:
        opened.show(seen())
        yield opened


@pytest.mark.parametrize("beginning", [b"", HALF], ids=["silent", "half a request"])
def test_450_connections_that_ask_for_nothing_keep_nobody_from_the_page(page: Page, beginning: bytes) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(450):
            visitor = stack.enter_context(socket.create_connection(("127.0.0.1", page.sink.port), 5))
            with contextlib.suppress(ConnectionError):
                visitor.sendall(beginning)

        assert [page.status(path) for path in ("/healthz", "/", "/api/stats", "/snapshot.jpg")] == [200] * 4


def test_who_watches_stays_while_others_come_and_ask_for_nothing(page: Page) -> None:
    with page.watch("/api/live") as stream, contextlib.ExitStack() as stack:
        page.wait_for_viewers("page", 1)
        for _ in range(450):
            stack.enter_context(socket.create_connection(("127.0.0.1", page.sink.port), 5))
        page.status("/healthz")
        page.show(seen(2))

        assert stream.read(1)
        page.wait_for_viewers("page", 1)


@dataclass(eq=False)
class Guest:
    visitor: str
    idle_since_s: float | None = None


LIMITS = Limits(with_idle=10, at_all=15, each=4)


def test_a_visitor_with_too_many_gives_up_its_own_oldest_idle_one() -> None:
    guests = [Guest("a", 3.0), Guest("a", 1.0), Guest("a"), Guest("b", 0.5), Guest("a", 2.0), Guest("a", 9.0)]

    assert choose_leaver(guests, guests[-1], LIMITS) is guests[1]


def test_a_visitor_who_is_busy_with_all_of_its_own_gets_no_more() -> None:
    guests = [Guest("b", 0.5), *(Guest("a") for _ in range(4)), Guest("a", 9.0)]

    assert choose_leaver(guests, guests[-1], LIMITS) is guests[-1]


def test_this_machine_may_hold_as_many_as_there_are() -> None:
    guests = [Guest(LOCAL, 1.0) for _ in range(10)]

    assert choose_leaver(guests, guests[-1], LIMITS) is None


def test_where_there_are_too_many_the_greediest_goes() -> None:
    guests = [Guest("c", 0.1), *(Guest("a", 2.0 + n) for n in range(3)), *(Guest("b", 1.0) for _ in range(2))]
    guests += [Guest("d") for _ in range(4)] + [Guest("e", 9.0)]

    assert choose_leaver(guests, guests[-1], LIMITS) is guests[1]


def test_where_nobody_is_idle_the_newcomer_goes_and_only_where_there_is_no_room_at_all() -> None:
    guests = [*(Guest(f"{n}") for n in range(14)), Guest("x", 9.0)]
    more = [*(Guest(f"{n}") for n in range(15)), Guest("x", 9.0)]

    assert choose_leaver(guests, guests[-1], LIMITS) is None
    assert choose_leaver(more, more[-1], LIMITS) is more[-1]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=200))
def test_no_crowd_grows_beyond_what_is_allowed(arrivals: list[tuple[str, bool]]) -> None:
    guests: list[Guest] = []
    for at_s, (visitor, asks) in enumerate(arrivals, 1):
        guests.append(Guest(visitor, float(at_s)))
        if (leaver := choose_leaver(guests, guests[-1], LIMITS)) is not None:
            guests.remove(leaver)
        if asks and guests and guests[-1].visitor == visitor:
            guests[-1].idle_since_s = None
        assert len(guests) <= LIMITS.at_all
        assert all(sum(g.visitor == name for g in guests) <= LIMITS.each for name in "abcd")


@pytest.mark.parametrize(
    ("address", "visitor"),
    [
        ("192.168.1.7", "192.168.1.7"),
        ("::ffff:192.168.1.7", "192.168.1.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:bbbb::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("127.0.0.1", LOCAL),
        ("::1", LOCAL),
        ("", ""),
    ],
)
def test_whole_networks_of_one_subscriber_are_one_visitor(address: str, visitor: str) -> None:
    assert name_visitor(address) == visitor
