"""Which answers of a camera count as evidence: those to pictures that differ."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.testing import START, JumpingClock, fake_classifier
from edgecnn_device.deploy.judge import Counts
from edgecnn_device.deploy.listener import Seen
from edgecnn_device.distinct import DistinctAnswers
from edgecnn_device.finders import Tiles, find_whole, look_at
from edgecnn_device.frames import OK, Event, Frame, Image, Observation
from edgecnn_device.sinks.timeline import Timeline
from edgecnn_device.tracking import Tracker


def part(number: int, shift: int = 0) -> Image:
    """Return a belt `(96, 192, 3)` uint8 with another part each, so many pixels further."""
    belt = np.full((96, 192), 90, np.uint8)
    belt[24:72, 20 + shift : 68 + shift] = np.random.default_rng(number).integers(120, 250, (6, 6)).repeat(8, 0).repeat(8, 1)
    return belt[:, :, None].repeat(3, axis=2)


def noisy(image: Image, seed: int, light: float = 0.0) -> Image:
    """Return what a sensor makes of a picture under a lamp that flickers."""
    return np.clip(image + np.random.default_rng(seed).normal(light, 5, image.shape), 0, 255).astype(np.uint8)


class Camera:
    """Shows pictures by a clock of ours, and says which of its answers count."""

    def __init__(self, tiles: Tiles | None = None) -> None:
        self.clock, self.number = JumpingClock(), 0
        self.distinct = DistinctAnswers(Timeline(live=True, fps=10, clock=self.clock))
        self._look, self._classifier, self._tracker = look_at(tiles or find_whole), fake_classifier(), Tracker(1)

    def show(
        self, image: Image, *, after_s: float = 0.1, source: str = "camera", event: Event | None = None
    ) -> tuple[bool, ...]:
        self.clock.jump(after_s)
        self.number += 1
        frame = Frame(image, self.number, source, START + timedelta(seconds=self.clock()), self.clock())
        seen = self._look(image, self._classifier, self.clock)
        predictions = self._tracker.update(source, seen, self._classifier)
        return self.distinct.counts(Observation(source, OK, frame, predictions, event=event))


def test_a_part_that_stands_still_counts_once_under_noise_and_flicker() -> None:
    camera = Camera()

    counted = [camera.show(noisy(part(1), number, 8 * (number % 2))) for number in range(50)]

    assert counted == [(True,)] + [(False,)] * 49


@settings(max_examples=20)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), st.data())
def test_how_often_a_picture_is_seen_changes_nothing_of_what_is_counted(repeats: list[int], data: st.DataObject) -> None:
    verdicts = [data.draw(st.sampled_from(("label", "unsure", "novel"))) for _ in repeats]

    def counted(times: list[int]) -> tuple[int, int]:
        camera, counts = Camera(), Counts()
        for number, (count, verdict) in enumerate(zip(times, verdicts, strict=True)):
            for again in range(count):
                flags = camera.show(part(number), after_s=0.05 if again else 1.0)
                counts.add(Seen("", "ok", "", 1.0, 1.0, ((verdict, "a"),), flags))
        return counts.answers, counts.doubtful

    once = counted([1] * len(repeats))
    assert once == (len(repeats), sum(verdict != "label" for verdict in verdicts))
    assert counted(repeats) == once


def test_a_part_that_crosses_the_picture_counts_once_a_second() -> None:
    camera = Camera()

    counted = [camera.show(part(1, shift)) for shift in range(60)]

    assert sum(flag for (flag,) in counted) == 6


def test_two_views_that_take_turns_are_two() -> None:
    camera = Camera()

    assert sum(camera.show(part(number % 2), after_s=1.0)[0] for number in range(60)) == 2


def test_what_stands_in_one_tile_does_not_count_again_with_what_passes_in_another() -> None:
    camera = Camera(Tiles(2, 1))
    pictures = [np.concatenate((part(0), part(number)), axis=1) for number in range(20)]

    counted = [camera.show(image, after_s=1.0) for image in pictures]

    assert counted == [(True, True)] + [(False, True)] * 19


def test_the_next_picture_of_a_folder_need_not_wait() -> None:
    camera = Camera()

    assert [camera.show(part(number), after_s=0.0, source=f"{number}.png") for number in range(20)] == [(True,)] * 20


@pytest.mark.parametrize(("trigger", "count"), [("line", 5), ("gpio:17", 5), ("interval:2", 1)])
def test_parts_that_a_trigger_tells_count_however_alike_they_look(trigger: str, count: int) -> None:
    camera = Camera()

    counted = [camera.show(part(1), event=Event(number, trigger, "answered")) for number in range(5)]

    assert sum(flag for (flag,) in counted) == count


def test_another_model_begins_with_the_picture_that_stands_there() -> None:
    camera = Camera()
    camera.show(part(1))

    camera.distinct.forget()

    assert camera.show(part(1)) == (True,)
