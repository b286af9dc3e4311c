"""One answer per part: whatever the speed, the gap and the direction, by drawn belts with known parts on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecnn.datasets.synthetic.belt import Belt, play_belt
from edgecnn.testing import START
from edgecnn_device.blobs import told_apart
from edgecnn_device.empty_scene import empty_scene
from edgecnn_device.frames import Frame, Image
from edgecnn_device.passages import Line, Passages, Passed

FPS = 30.0
DIRECTIONS = ("right", "left", "down", "up")


def parts(count: int, side: int = 48, seed: int = 0, flat: bool = False) -> NDArray[np.uint8]:
    """Return parts `(n, side, side, 3)`, with a coarse pattern or of one gray each."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(110, 230, (count, 1, 1, 3) if flat else (count, 6, 6, 3)).astype(np.uint8)
    return np.stack([cv2.resize(each, (side, side), interpolation=cv2.INTER_CUBIC) for each in coarse])


def frames(images: Iterable[Image], times_s: Callable[[int], float] = lambda number: number / FPS) -> Iterator[Frame]:
    for number, image in enumerate(images):
        at_s = times_s(number)
        yield Frame(image, number, "belt", START + timedelta(seconds=at_s), at_s, at_s)


def shown(stills: NDArray[np.uint8], belt: Belt, seed: int = 0) -> list[Image]:
    return [each.image_bgr for each in play_belt(stills, belt, seed)]


def watch(images: Iterable[Frame], line: Line | None = None, *, live: bool = False, **options: Any) -> list[Passed]:
    passages = Passages(line, live=live, **options)
    found = [passed for frame in images for passed in passages.update(frame)]
    return found + passages.finish()


def outcomes(found: list[Passed]) -> list[str]:
    return [each.outcome for each in found]


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    speed=st.floats(0.05, 0.75),
    gap=st.floats(0.5, 2.0),
    direction=st.sampled_from(DIRECTIONS),
    off_centre=st.sampled_from([0.0, 0.12]),
    flat=st.booleans(),
    line=st.sampled_from([None, Line()]),
    seed=st.integers(0, 99),
)
def test_each_part_is_answered_once_whatever_the_speed_the_gap_and_the_direction(
    speed: float, gap: float, direction: Any, off_centre: float, flat: bool, line: Line | None, seed: int
) -> None:
    belt = Belt(speed=min(speed, 0.45 * (1 + gap / 2)), gap=gap, direction=direction, off_centre=off_centre)

    found = watch(frames(shown(parts(3, seed=seed, flat=flat), belt, seed)), line)

    assert outcomes(found) == ["answered"] * 3
    assert {each.direction for each in found} == {direction}


def test_the_best_view_is_whole_and_near_the_middle() -> None:
    belt = list(play_belt(parts(3), Belt(off_centre=0.12), 0))

    found = watch(frames(each.image_bgr for each in belt))

    for number, passed in enumerate(found):
        sight = passed.sights[0]
        x, y, w, h = belt[sight.frame.number].boxes[number]
        assert np.allclose(sight.box, (x, y, w, h), atol=4)
        assert abs(x + w / 2 - belt[0].image_bgr.shape[1] / 2) < 0.35 * w


def test_a_part_has_no_more_views_than_are_asked_for() -> None:
    found = watch(frames(shown(parts(2), Belt(speed=0.1))), views=3)

    assert [len(each.sights) for each in found] == [3, 3]


def test_an_empty_belt_is_nothing() -> None:
    empty = shown(parts(1), Belt(lead=4.0))[:115]

    assert watch(frames(empty)) == []


def test_a_part_faster_than_half_the_frame_rate_is_answered_where_it_is_whole_in_two_frames() -> None:
    belt = Belt(view=5, speed=1.5, gap=3.0)

    assert outcomes(watch(frames(shown(parts(6), belt)))) == ["answered"] * 6


def in_view(count: int, belt: Belt, flat: bool = False) -> tuple[Iterator[Frame], int]:
    """Return the frames of a belt from the first in which two parts are whole in view, and how many are beyond its middle."""
    scene = list(play_belt(parts(count, flat=flat), belt, 0))
    width = scene[0].image_bgr.shape[1]
    first = next(i for i, each in enumerate(scene) if sum(x >= 0 and x + w <= width for x, _, w, _ in each.boxes.values()) > 1)
    beyond = sum(x + w / 2 >= width / 2 for x, _, w, _ in scene[first].boxes.values())
    return frames(each.image_bgr for each in scene[first:]), beyond


@pytest.mark.parametrize("line", [None, Line()])
@pytest.mark.parametrize(("flat", "speed"), [(False, 0.15), (True, 0.06)])
def test_a_film_that_starts_with_parts_in_view_has_each_of_them_answered_once(
    line: Line | None, flat: bool, speed: float
) -> None:
    film, beyond = in_view(5, Belt(view=4, speed=speed, gap=0.4, off_centre=0.2), flat)

    found = watch(film, line)

    assert outcomes(found) == ["answered"] * (5 - (0 if line is None else beyond))


def test_a_camera_that_starts_with_parts_in_view_answers_none_of_them_too_late() -> None:
    found = watch(in_view(6, Belt(view=4, gap=0.4, off_centre=0.2))[0], live=True)

    said = outcomes(found)
    assert said == sorted(said, reverse=True)  # interrupted at first
    assert len(said) == 6
    assert said[-3:] == ["answered"] * 3


def test_a_belt_that_starts_with_parts_in_view_after_a_while_has_each_of_them_answered_once() -> None:
    moving = [each.image_bgr for each in in_view(5, Belt(view=4, gap=0.4, off_centre=0.2))[0]]

    assert outcomes(watch(frames(stopping(moving, 0, 60)))) == ["answered"] * 5


def test_a_part_that_is_put_down_in_the_picture_is_answered_where_it_rests() -> None:
    empty = shown(parts(1), Belt(lead=1.0))[:20]
    rng = np.random.default_rng(2)
    down = [image.copy() for image in empty[:1] * 120]
    for image in down:
        image[6:54, 40:88] = parts(1)[0]
        image[:] = np.clip(image + rng.normal(0, 2, image.shape), 0, 255)

    found = watch(frames([*empty, *down]))

    assert outcomes(found) == ["answered"]
    assert np.allclose(found[0].sights[0].box, (40, 6, 48, 48), atol=4)


def test_the_empty_scene_is_what_continues_where_nothing_ever_passed() -> None:
    level = np.full((20, 30, 40, 3), 50, np.float32)
    for number, each in enumerate(level):  # a part that hides its way in four of five frames
        if number % 5:
            each[10:20] = 180

    mean, spread = empty_scene(level)

    assert np.allclose(mean, 50, atol=1)
    assert spread.max() < 1


@pytest.mark.parametrize("direction", ["right", "up"])
def test_parts_that_touch_are_told_apart_once_their_size_is_known(direction: Any) -> None:
    pairs = np.concatenate([parts(2), parts(2, seed=1)], axis=2 if direction == "right" else 1)
    alone = shown(parts(4), Belt(direction=direction, off_centre=0))
    together = shown(pairs, Belt(view=1.5, speed=0.075, direction=direction, off_centre=0))
    assert alone[0].shape == together[0].shape

    found = watch(frames([*alone, *together]))

    assert outcomes(found) == ["answered"] * (4 + 4)


def test_a_part_of_more_than_the_usual_length_that_is_no_row_of_parts_stays_one() -> None:
    assert told_apart((20, 5, 70, 30), (50.0, 30.0), 0, 160) == [(20, 5, 70, 30)]
    assert told_apart((20, 5, 100, 60), (50.0, 30.0), 0, 160) == [(20, 5, 100, 60)]
    assert told_apart((20, 5, 100, 30), (50.0, 30.0), 0, 160) == [(20, 5, 50, 30), (70, 5, 50, 30)]
    assert told_apart((0, 5, 70, 30), (50.0, 30.0), 0, 160) == [(0, 5, 20, 30), (20, 5, 50, 30)]
    assert told_apart((90, 5, 70, 30), (50.0, 30.0), 0, 160) == [(90, 5, 50, 30), (140, 5, 20, 30)]


def test_a_line_tells_the_direction() -> None:
    images = shown(parts(3), Belt())

    assert len(watch(frames(images), Line(0, 0.5, "right"))) == 3
    assert watch(frames(images), Line(0, 0.5, "left")) == []


def test_a_part_is_answered_when_its_middle_has_crossed_the_line() -> None:
    belt = list(play_belt(parts(1), Belt(view=4, speed=0.1), 0))
    passages, width = Passages(Line(0, 0.4), live=False), belt[0].image_bgr.shape[1]

    crossed = next(frame for frame in frames(each.image_bgr for each in belt) if passages.update(frame))

    x, _, w, _ = belt[crossed.number].boxes[0]
    assert 0.4 * width <= x + w / 2 < 0.4 * width + 0.15 * w


def test_a_part_that_turns_back_before_the_line_does_not_cross_it() -> None:
    forward = shown(parts(1), Belt(view=4, speed=0.1))
    turned = forward[:42]

    assert watch(frames([*turned, *turned[::-1], *forward[:30]]), Line(0, 0.8)) == []


def stopping(images: list[Image], at: int, for_frames: int) -> list[Image]:
    """Return images among which one stands for a while, with a sensor's noise."""
    rng = np.random.default_rng(1)
    held = [np.clip(images[at] + rng.normal(0, 2, images[at].shape), 0, 255).astype(np.uint8) for _ in range(for_frames)]
    return [*images[: at + 1], *held, *images[at + 1 :]]


@pytest.mark.parametrize("line", [None, Line()])
@pytest.mark.parametrize("at", [38, 42, 50])
def test_a_belt_that_stops_with_parts_in_view_changes_no_count(line: Line | None, at: int) -> None:
    images = stopping(shown(parts(4), Belt(speed=0.15)), at, 90)

    assert outcomes(watch(frames(images), line)) == ["answered"] * 4


def test_a_part_that_comes_to_rest_is_answered_there_and_not_again() -> None:
    images = stopping(shown(parts(1), Belt()), 46, 60)
    passages = Passages(live=False)

    numbers = [frame.number for frame in frames(images) for _ in passages.update(frame)]

    assert len(numbers) == 1
    assert 46 < numbers[0] < 46 + 30


def lit(images: list[Image], light: Callable[[int], NDArray[np.float64] | float]) -> list[Image]:
    return [np.clip(image * np.asarray(light(number)), 0, 255).astype(np.uint8) for number, image in enumerate(images)]


def test_light_that_drifts_and_swings_changes_no_count() -> None:
    images = shown(parts(5), Belt())
    rows = np.arange(len(images[0]))[:, None, None] / len(images[0])

    drifting = lit(images, lambda number: 1 + 0.4 * np.sin(number / 40))
    swinging = lit(images, lambda number: 1 + 0.2 * np.sin(2 * np.pi * 100 * (number / 29.97 + 0.02 * rows)))

    assert outcomes(watch(frames(drifting))) == ["answered"] * 5
    assert outcomes(watch(frames(swinging))) == ["answered"] * 5


def test_a_part_that_was_never_whole_in_view_gets_no_answer() -> None:
    images = shown(parts(1, side=96), Belt(view=3, speed=0.05))
    narrow = [np.ascontiguousarray(image[:, :80]) for image in images]

    found = watch(frames(narrow))

    assert outcomes(found) == ["partial"]
    assert found[0].sights == ()


def test_a_camera_lost_in_a_passage_leaves_no_answer_of_it_and_the_next_part_is_answered() -> None:
    belt = list(play_belt(parts(2), Belt(gap=8, speed=0.1), 0))
    lost = next(number for number, each in enumerate(belt) if 0 in each.boxes and each.boxes[0][0] > 10)
    again = next(number for number, each in enumerate(belt) if number > lost and not each.boxes)

    found = watch(frame for frame in frames(each.image_bgr for each in belt) if not lost <= frame.number < again)

    assert outcomes(found) == ["interrupted", "answered"]


def test_a_single_torn_frame_does_not_interrupt() -> None:
    images = shown(parts(3), Belt())

    assert outcomes(watch(frame for frame in frames(images) if frame.number != 45)) == ["answered"] * 3


def test_another_view_is_learned_and_parts_are_counted_on() -> None:
    images = shown(parts(3), Belt(lead=2.5))
    moved = lit(images, lambda _: np.array([3.0, 1.0, 0.5]))

    assert outcomes(watch(frames([*images, *moved]))) == ["answered"] * 6


def test_pictures_of_another_size_begin_anew() -> None:
    small, large = shown(parts(2), Belt()), shown(parts(2, side=60), Belt())

    assert outcomes(watch(frames([*small, *small[:9], *large]))).count("answered") == 4


def test_a_file_that_begins_again_goes_on() -> None:
    images = shown(parts(2), Belt())
    again = frames([*images, *images], lambda number: (number % len(images)) / FPS)

    assert outcomes(watch(again)) == ["answered"] * 4


def test_memory_stays_bounded_with_whatever_moves() -> None:
    rng = np.random.default_rng(0)
    passages = Passages(live=False, views=2)
    crowd = [np.full((120, 160, 3), 60, np.uint8) for _ in range(10)]
    crowd += [np.kron(rng.integers(0, 255, (8, 10, 3)), np.ones((15, 16, 1))).astype(np.uint8) for _ in range(150)]

    for frame in frames(crowd):
        passages.update(frame)

    assert len(passages._parts) <= 16
    assert all(len(part.sights) <= 2 for part in passages._parts)
