"""Who a camera is to a broker: boards from one copied card are two, and two clients of one name are told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from device_fakes import frame, watcher
from tiny_broker import TinyBroker

from edgecnn.errors import OutputError
from edgecnn.testing import JumpingClock, ListSink, gray_picture
from edgecnn_device import board
from edgecnn_device.frames import Observation
from edgecnn_device.loop import run_loop
from edgecnn_device.sinks.mqtt import MqttSink, Rivalry
from edgecnn_device.sinks.mqtt_broker import Broker, MqttOptions


@pytest.fixture
def broker() -> Iterator[TinyBroker]:
    tiny = TinyBroker()
    yield tiny
    tiny.die()


def make_board(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def make_pi(root: Path, serial: str, machine_id: str = "0123456789abcdef") -> Path:
    return make_board(root, {"etc/machine-id": machine_id, "proc/device-tree/serial-number": f"{serial}\0"})


def make_interface(root: Path, name: str, address: str, kind: str = "0") -> None:
    make_board(root, {f"sys/class/net/{name}/address": address, f"sys/class/net/{name}/addr_assign_type": kind})
    (root / f"sys/class/net/{name}/device").mkdir()


def test_two_boards_from_one_copied_card_are_two_clients(tmp_path: Path) -> None:
    one, other = (board.identity(make_pi(tmp_path / serial, serial)) for serial in ("10000000a1b2c3d4", "10000000a1b2c3d5"))

    assert Broker("b", 1883, "line-1", machine=one).client_id != Broker("b", 1883, "line-1", machine=other).client_id


def test_two_cards_in_one_board_are_two_clients(tmp_path: Path) -> None:
    assert board.identity(make_pi(tmp_path / "a", "1", "first")) != board.identity(make_pi(tmp_path / "b", "1", "second"))


def test_an_older_pi_tells_its_serial_number_among_its_processors(tmp_path: Path) -> None:
    root = make_board(tmp_path, {"proc/cpuinfo": "processor\t: 0\nSerial\t\t: 00000000deadbeef\nModel\t: Raspberry Pi 3\n"})

    assert board.identity(root) == "\n00000000deadbeef"


def test_a_board_without_a_serial_number_is_told_by_its_burned_in_network_address(tmp_path: Path) -> None:
    make_board(tmp_path, {"etc/machine-id": "m", "proc/cpuinfo": "Serial\t\t: 0000000000000000\n"})
    make_interface(tmp_path, "docker0", "02:42:00:00:00:01", kind="3")
    make_interface(tmp_path, "lo", "00:00:00:00:00:00")
    make_interface(tmp_path, "wlan0", "dc:a6:32:00:00:02")

    assert board.identity(tmp_path) == "m\ndc:a6:32:00:00:02"


def test_a_machine_that_tells_nothing_is_one_as_well(tmp_path: Path) -> None:
    assert board.identity(tmp_path) == "\n"


def test_this_machine_is_the_same_each_time() -> None:
    assert board.identity() == board.identity()


def test_a_client_id_has_at_most_the_23_characters_that_every_broker_takes() -> None:
    assert len(Broker("b", 1883, "x" * 100, machine="m" * 100).client_id) <= 23


def test_connections_that_are_lost_at_once_three_times_are_a_rivalry_and_one_that_lasts_ends_it() -> None:
    clock = JumpingClock()
    rivalry, told = Rivalry(clock), []
    for lasted_s in (1.0, 1.0, 1.0, 60.0):
        rivalry.connected()
        clock.now_s += lasted_s
        rivalry.lost()
        told.append(rivalry.is_on)

    assert told == [False, False, True, False]


def observation() -> Observation:
    remembered = ListSink()
    run_loop([frame(gray_picture(230))], watcher(JumpingClock()), [remembered])
    return remembered.observations[0]


def test_two_clients_of_one_name_hear_that_they_take_each_other_over(broker: TinyBroker) -> None:
    options, told = MqttOptions(f"mqtt://127.0.0.1:{broker.port}/edge"), set()

    with pytest.raises(OutputError), MqttSink(options) as one, MqttSink(options) as other:
        deadline_s = time.monotonic() + 60
        while len(told) < 2:
            assert time.monotonic() < deadline_s
            for sink in (one, other):
                try:
                    sink.write(observation())
                except OutputError as error:
                    if "another client uses our client ID edgecnn-" in str(error):
                        told.add(sink)
            time.sleep(0.05)
        raise OutputError("enough")

    assert len(told) == 2  # what closing the sinks raises may hide the deadline
