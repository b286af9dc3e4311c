"""What /metrics says about the board, its disks and its broker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from web_page import MadeUpSource, model

from edgecnn.testing import JumpingClock
from edgecnn_device import board
from edgecnn_device.board import Throttling
from edgecnn_device.loop import Statistics
from edgecnn_device.surroundings import SeldomAsked, Surroundings
from edgecnn_device.web.broadcast import Broadcast
from edgecnn_device.web.counters import Counters
from edgecnn_device.web.prometheus import Metrics
from edgecnn_device.web.status import Watched


@dataclass
class MadeUpQueue:
    waiting: int = 17
    dropped: int = 2


def metrics(surroundings: Surroundings) -> dict[tuple[str, tuple[str, ...]], float]:
    running = model()
    statistics = Statistics()
    statistics.clock_jumps, statistics.reasons["torn picture"] = 1, 4
    watched = Watched(statistics, MadeUpSource(), lambda: running, surroundings=surroundings)
    families = text_string_to_metric_families(Metrics(watched, Broadcast(Counters(JumpingClock()), lambda: 0)).text().decode())
    return {(s.name.removeprefix("edgecnn_"), tuple(s.labels.values())): s.value for family in families for s in family.samples}


def test_metrics_tell_temperature_throttling_disks_and_the_brokers_queue(tmp_path: Path) -> None:
    flags = Throttling(("under-voltage",), ("under-voltage", "throttled"))
    around = Surroundings(MadeUpQueue(), (tmp_path,), lambda: 61.5, lambda: flags)

    found = metrics(around)

    assert found["temperature_celsius", ()] == 61.5
    assert found["throttled", ("under-voltage",)] == 1
    assert found["throttled", ("throttled",)] == 0
    assert found["throttled_since_boot", ("throttled",)] == 1
    assert found["disk_free_bytes", (str(tmp_path),)] > 0
    assert found["mqtt_unsent_messages", ()] == 17
    assert found["mqtt_lost_messages_total", ()] == 2
    assert found["clock_jumps_total", ()] == 1
    assert found["unusable_frames_total", ("torn picture",)] == 4


def test_what_a_machine_does_not_tell_is_not_there(tmp_path: Path) -> None:
    found = metrics(Surroundings(None, (tmp_path / "gone",), lambda: None, lambda: None))

    names = {name for name, _ in found}
    assert names.isdisjoint({"temperature_celsius", "throttled", "disk_free_bytes", "mqtt_unsent_messages"})


def test_the_throttle_flags_are_asked_at_most_twice_a_minute() -> None:
    clock, asked = JumpingClock(), []
    watch = SeldomAsked(lambda: asked.append(clock.now_s), clock)  # type: ignore[func-returns-value]

    for _ in range(10):
        watch()
        clock.now_s += 10

    assert asked == [100, 130, 160, 190]


@pytest.mark.parametrize(("text", "now"), [("0\n", ()), ("50005\n", ("under-voltage", "throttled"))])
def test_the_flags_are_read_from_sys_where_the_firmware_shows_them(tmp_path: Path, text: str, now: tuple[str, ...]) -> None:
    flags = tmp_path / "sys/devices/platform/soc/soc:firmware/get_throttled"
    flags.parent.mkdir(parents=True)
    flags.write_text(text)

    found = board.throttling(root=tmp_path)

    assert found is not None
    assert found.now == now
