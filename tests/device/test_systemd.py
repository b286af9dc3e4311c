from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgecnn.testing import JumpingClock
from edgecnn_device.systemd import Notifier


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.setblocking(False)
        yield channel


def received(channel: socket.socket) -> list[str]:
    messages = []
    while True:
        try:
            messages.append(channel.recv(1000).decode())
        except BlockingIOError:
            return messages


def test_readiness_is_told_with_a_status(systemd: socket.socket) -> None:
    Notifier({"NOTIFY_SOCKET": systemd.getsockname()}).ready("neu.tflite")

    assert received(systemd) == ["READY=1\nSTATUS=neu.tflite"]


def test_the_watchdog_is_fed_at_half_of_its_interval_however_fast_the_loop_is(systemd: socket.socket) -> None:
    clock = JumpingClock()
    notifier = Notifier({"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "10000000"}, clock=clock)
    for _ in range(100):
        notifier.alive()
        clock.now_s += 0.2

    assert received(systemd) == ["WATCHDOG=1"] * 4


def test_a_loop_that_stands_still_does_not_feed_the_watchdog(systemd: socket.socket) -> None:
    Notifier({"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "10000000"})

    assert received(systemd) == []


def test_a_watchdog_that_is_meant_for_another_process_is_not_fed(systemd: socket.socket) -> None:
    environment = {
        "NOTIFY_SOCKET": systemd.getsockname(),
        "WATCHDOG_USEC": "10000000",
        "WATCHDOG_PID": str(os.getpid() + 1),
    }

    Notifier(environment).alive()

    assert received(systemd) == []


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/nowhere/notify"}])
def test_without_systemd_nothing_happens(environment: dict[str, str]) -> None:
    notifier = Notifier(environment)

    notifier.ready("x")
    notifier.alive()
    notifier.stopping()
