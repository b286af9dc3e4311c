"""Counts of the day, the last pictures, and the alarm: over midnight, restarts and a clock that is set."""

from __future__ import annotations

import base64
import json
import threading
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
from web_page import lost, seen, seen_in_tiles

from edgecnn.testing import LABELS, JumpingClock
from edgecnn_device.classes import Classes
from edgecnn_device.frames import OK, Observation
from edgecnn_device.web.today import Today

DARK, GRAY, LIGHT = LABELS
CLASSES = Classes(LABELS, frozenset({GRAY, LIGHT}))
NOTHING = Observation("cam", OK)


def at(text: str) -> float:
    """Return the seconds since 1970 of a local time."""
    return datetime.fromisoformat(text).timestamp()


class Floor:
    """A day on which things come into view; `go_on` lets time pass on both clocks."""

    def __init__(self, file: Path | None = None, when: str = "2026-11-28T09:00") -> None:
        self.clock, self.wall = JumpingClock(0.0), JumpingClock(at(when))
        self.today = Today(CLASSES, file=file, clock=self.clock, wall_clock=self.wall)

    def go_on(self, seconds: float) -> None:
        self.clock.now_s += seconds
        self.wall.now_s += seconds

    def see(self, *observations: Observation, every_s: float = 0.1) -> None:
        for observation in observations:
            self.today.add(observation)
            self.go_on(every_s)

    @property
    def counts(self) -> dict[str, int]:
        return {count["label"]: count["count"] for count in self.today.to_json()["counts"]}


def of(label: str | None, probability: float = 0.9) -> Observation:
    return seen_in_tiles((label, probability))


def test_what_stays_in_view_is_counted_once_however_many_frames_it_is_seen_in() -> None:
    floor = Floor()

    floor.see(*[of(GRAY)] * 600)

    assert floor.counts == {DARK: 0, GRAY: 1, LIGHT: 0}


def test_what_comes_back_after_a_second_is_counted_again_and_what_flickers_is_not() -> None:
    floor = Floor()
    floor.see(of(GRAY), of(None), of(GRAY), of(None))
    flickered = floor.counts[GRAY]

    floor.see(*[of(None)] * 15, of(GRAY))

    assert (flickered, floor.counts[GRAY]) == (1, 2)


def test_a_defect_that_wanders_from_tile_to_tile_is_one() -> None:
    floor = Floor()

    floor.see(
        seen_in_tiles((GRAY, 0.9), (None, 0.1)),
        seen_in_tiles((GRAY, 0.8), (GRAY, 0.9)),
        seen_in_tiles((None, 0.1), (GRAY, 0.9)),
    )

    assert floor.counts[GRAY] == 1


def test_a_camera_that_looks_once_a_minute_counts_what_is_still_there_once() -> None:
    floor = Floor()

    floor.see(of(GRAY), of(GRAY), of(None), of(GRAY), every_s=60.0)

    assert floor.counts[GRAY] == 2


def test_a_camera_that_is_lost_says_nothing_about_what_is_in_view() -> None:
    floor = Floor()

    floor.see(of(GRAY), *[lost()] * 30, of(GRAY))

    assert floor.counts[GRAY] == 1


def test_at_local_midnight_the_counts_begin_again() -> None:
    floor = Floor(when="2026-11-28T23:59:58")
    floor.see(of(GRAY))
    before = floor.today.to_json()

    floor.go_on(3.0)
    after = floor.today.to_json()

    assert (before["day"], after["day"]) == ("2026-11-28", "2026-11-29")
    assert [sum(count["count"] for count in body["counts"]) for body in (before, after)] == [1, 0]
    assert after["alarm"]["label"] == GRAY  # nobody has acknowledged it


def test_a_defect_raises_an_alarm_and_what_is_good_does_not() -> None:
    floor = Floor()
    floor.see(of(DARK), of(None))
    quiet = floor.today.to_json()["alarm"]

    floor.see(seen_in_tiles((DARK, 0.9), (LIGHT, 0.8)))

    alarm = floor.today.to_json()["alarm"]
    assert quiet is None
    assert (alarm["number"], alarm["label"], alarm["region"], alarm["count"], alarm["active"]) == (1, LIGHT, 2, 1, True)


def test_until_somebody_acknowledges_it_an_alarm_collects_what_comes() -> None:
    floor = Floor()
    floor.see(of(GRAY), *[of(None)] * 15, of(LIGHT), *[of(None)] * 15)

    alarm = floor.today.to_json()["alarm"]

    assert (alarm["number"], alarm["label"], alarm["count"], alarm["active"]) == (1, LIGHT, 2, False)
    assert alarm["raised_at"] < alarm["last_at"]


def test_after_an_acknowledgement_the_same_defect_is_quiet_as_long_as_it_stays() -> None:
    floor = Floor()
    floor.see(of(GRAY))
    assert floor.today.acknowledge(1)

    floor.see(*[of(GRAY)] * 50)
    stays = floor.today.to_json()["alarm"]
    floor.see(*[of(None)] * 15, of(GRAY))
    comes_again = floor.today.to_json()["alarm"]

    assert stays["acknowledged_at"] is not None
    assert (comes_again["number"], comes_again["acknowledged_at"], comes_again["count"]) == (2, None, 1)


def test_an_alarm_that_nobody_looked_at_is_not_acknowledged_by_mistake() -> None:
    floor = Floor()
    floor.see(of(GRAY))
    floor.today.acknowledge(1)
    floor.see(*[of(None)] * 15, of(GRAY))

    assert not floor.today.acknowledge(1)
    assert floor.today.to_json()["alarm"]["acknowledged_at"] is None


def test_the_last_picture_of_a_defect_is_the_surest_of_its_last_time_in_view() -> None:
    floor = Floor()
    floor.see(of(GRAY, 0.6), of(GRAY, 0.95), of(GRAY, 0.7))
    best = floor.today.appearances()[GRAY]

    floor.see(*[of(None)] * 15, of(GRAY, 0.65))

    assert best.probability == 0.95
    assert floor.today.appearances()[GRAY].probability == 0.65


def test_a_picture_is_small_and_keeps_no_frame_in_memory() -> None:
    floor = Floor()
    floor.see(replace(seen(1, size_hw=(1080, 1920))))

    picture = floor.today.appearances()[GRAY].picture

    assert isinstance(picture, np.ndarray)
    assert picture.shape == (180, 320, 3)
    assert picture.base is None or picture.base.nbytes <= picture.nbytes


def test_counts_pictures_and_alarm_survive_a_restart(tmp_path: Path) -> None:
    floor = Floor(tmp_path / "page.json")
    floor.see(of(GRAY), of(LIGHT))
    floor.today.acknowledge(1)
    floor.today.save()
    before = floor.today.to_json()

    again = Floor(tmp_path / "page.json", when="2026-11-28T10:00")
    after = again.today.to_json()

    picture = cv2.imdecode(
        np.frombuffer(base64.b64decode(again.today.appearances()[GRAY].to_base64()), np.uint8), cv2.IMREAD_COLOR
    )
    assert [(count["label"], count["count"], count["last_at"]) for count in after["counts"]] == [
        (count["label"], count["count"], count["last_at"]) for count in before["counts"]
    ]
    assert after["alarm"] == before["alarm"] | {"active": False}
    assert picture is not None and picture.shape == (48, 64, 3)


def test_a_start_on_the_next_day_begins_at_nothing(tmp_path: Path) -> None:
    floor = Floor(tmp_path / "page.json")
    floor.see(of(GRAY))
    floor.today.save()

    again = Floor(tmp_path / "page.json", when="2026-11-29T06:00")

    assert sum(again.counts.values()) == 0
    assert again.today.to_json()["alarm"]["number"] == 1


def test_a_board_that_begins_in_1970_loses_nothing_of_the_day(tmp_path: Path) -> None:
    floor = Floor(tmp_path / "page.json")
    floor.see(of(GRAY))
    floor.today.save()

    again = Floor(tmp_path / "page.json", when="1970-01-02T00:00")
    again.see(of(LIGHT))
    again.wall.now_s = at("2026-11-28T09:10")
    again.see(of(LIGHT))

    assert (again.counts[GRAY], again.counts[LIGHT]) == (1, 1)
    assert again.today.to_json()["day"] == "2026-11-28"


def test_a_day_that_a_wrong_clock_put_into_the_future_does_not_last(tmp_path: Path) -> None:
    floor = Floor(tmp_path / "page.json", when="2036-01-01T12:00")
    floor.see(of(GRAY))
    floor.today.save()

    again = Floor(tmp_path / "page.json")
    again.go_on(700.0)

    assert again.today.to_json()["day"] == "2026-11-28"
    assert sum(again.counts.values()) == 0


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"version": 2}', b'{"version": 1}', b"[" * 100_000, b"\xff\xfe",
     b'{"version": 1, "day": "2026-11-28", "since": NaN, "seen": {}, "alarm": null}',
     b'{"version": 1, "day": "2026-11-28", "since": 1, "seen": {"gray": [1, 2, 3, "?"]}, "alarm": null}',
     b'{"version": 1, "day": "2026-11-28", "since": 1, "seen": {"gray": [1]}, "alarm": null}',
     b'{"version": 1, "day": "2026-11-28", "since": 1, "seen": {}, "alarm": {"number": 1}}'],
)  # fmt: skip
def test_what_a_broken_card_left_is_no_reason_not_to_start(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "page.json").write_bytes(content)

    floor = Floor(tmp_path / "page.json")
    floor.see(of(GRAY))
    floor.today.save()

    assert floor.counts[GRAY] == 1
    assert json.loads((tmp_path / "page.json").read_text())["seen"][GRAY][0] == 1


def test_a_card_is_written_every_five_minutes_and_an_alarm_at_once(tmp_path: Path) -> None:
    floor = Floor(tmp_path / "page.json")
    saves: list[float] = []

    def go_on(seconds: int, *observations: Observation) -> None:
        for second in range(seconds):
            before = (tmp_path / "page.json").read_bytes() if (tmp_path / "page.json").exists() else b""
            floor.see(observations[second % len(observations)], every_s=1.0)
            floor.today.save_if_due()
            if (tmp_path / "page.json").exists() and (tmp_path / "page.json").read_bytes() != before:
                saves.append(floor.clock.now_s)

    go_on(1200, of(DARK), of(None), of(None))
    counted = len(saves)
    go_on(30, of(GRAY))
    floor.today.acknowledge(1)
    go_on(30, of(GRAY))

    assert counted == 4
    assert len(saves) == 6


def test_the_server_reads_while_the_loop_counts(tmp_path: Path) -> None:
    floor, failures = Floor(tmp_path / "page.json"), list[BaseException]()
    ending = threading.Event()

    def read() -> None:
        try:
            while not ending.is_set():
                floor.today.to_json()
                floor.today.save()
        except BaseException as error:
            failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(300):
        floor.see(of(LABELS[number % 3]), every_s=0.6)
    ending.set()
    reader.join()

    assert failures == []
