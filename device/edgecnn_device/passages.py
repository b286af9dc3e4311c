"""Parts that move through the picture: each is followed from where it comes into view to where it leaves.

A part is what differs from the learned background. All coordinates are those of the shrunk picture in which it is looked for,
unless a name says otherwise.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import product
from statistics import median
from typing import get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn_device.background import Background
from edgecnn_device.blobs import MOST_PARTS, Axis, Blob, Point, Span, area, box_of, find_blobs, only, shared
from edgecnn_device.empty_scene import Gathering, Held
from edgecnn_device.frames import Box, Direction, Frame, Image, Outcome

# Shrunk by a whole number, so that the longer side has at most so many pixels; by an even one above this.
_LONGEST, _MOST_ODD = 200, 3
_MIN_SIZES, _MOST_VELOCITIES = 3, 15
# How far a part may be from where it is expected: of its size, and of the way that it was expected to go.
_REACH_SIZE, _REACH_WAY, _REACH_PIXELS = 0.6, 0.6, 3.0
_MOST_GROWTH = 2.5
_UNSEEN_FRAMES, _UNSEEN_S = 3, 0.3
_INTERRUPTED_S, _INTERRUPTED_FRAMES = 0.5, 4
_REST_S, _REST_FRAMES, _REST_PIXELS = 0.5, 4, 1.0
_FORGOTTEN_S = 3600.0
_MOVED_PART, _WHOLE_SCENE, _STRANGE_S = 0.25, 0.8, 1.0
# A view in the middle is worth as much as one at the border that is so many times as sharp (e ** 4).
_MIDDLE = 4.0
_SHARP_SIDE, _INNER = 256, 0.8
_EARLY_FRAMES = 30
_LOOK_S = 0.25  # while nothing changes the background is learned at this pace
_HAS_OUTLINE = 0.5  # what has come into view has an outline that the background has not
# Boxes are of the same part if this much of the smaller is shared; how much of its outermost pixels does not belong to a part.
_SAME, _EDGE = 0.5, 1.0


@dataclass(frozen=True, eq=False)
class Sight:
    """A part in one frame, in the box `box` in frame pixels and `blob` in shrunk ones: the higher its `score`, the better."""

    frame: Frame
    box: Box
    score: float
    blob: Blob


@dataclass(eq=False)
class Part:
    """One part, as far as it was followed; `origin` is where it came from, out of the picture where it came into view."""

    number: int
    blob: Blob
    origin: Point
    began_s: float
    seen_s: float
    entered: bool
    length: list[float]
    frames: int = 1
    unseen: int = 0
    way: list[float] = field(default_factory=lambda: [0.0, 0.0])
    velocity: Point | None = None
    rest_since_s: float = 0.0
    rest_frames: int = 0
    answered: bool = False
    overlooked: bool = False
    sights: list[Sight] = field(default_factory=list)

    @property
    def middle(self) -> Point:
        """Where its middle is, out of the picture too."""
        return self.blob[0].middle(self.length[0]), self.blob[1].middle(self.length[1])

    @property
    def axis(self) -> Axis | None:
        """Along which axis it has moved, x 0 or y 1; None before it has."""
        if max(map(abs, self.way)) <= _REST_PIXELS:
            return None
        return 0 if abs(self.way[0]) >= abs(self.way[1]) else 1

    @property
    def direction(self) -> Direction | None:
        """Where it has moved to."""
        if self.axis is None:
            return None
        names: tuple[Direction, Direction] = ("left", "right") if self.axis == 0 else ("up", "down")
        return names[self.way[self.axis] > 0]

    @property
    def has_moved(self) -> bool:
        """Whether it came into view, or has moved by more than what light and noise do to its outline."""
        return self.entered or max(map(abs, self.way)) > _MOVED_PART * max(self.length)

    def whole(self, usual: Axis | None) -> list[Sight]:
        """Return the views in which it is whole along the way that it and the belt go, best first."""
        return [sight for sight in self.sights if self.is_whole(sight.blob, usual)]

    def is_whole(self, blob: Blob, usual: Axis | None) -> bool:
        """Tell whether both ends are in view along its axis and the `usual` one: only there more will come."""
        axes = {axis for axis in (self.axis, usual) if axis is not None}
        if not axes:
            return not any(span.is_cut for span in blob)
        return not any(blob[axis].cut_low or blob[axis].cut_high for axis in axes)

    def take_over(self, other: Part, views: int) -> None:
        """Go on as one part with another that was a piece of it."""
        self.entered, self.answered = self.entered or other.entered, self.answered or other.answered
        if other.began_s < self.began_s:
            self.began_s, self.origin, self.frames = other.began_s, other.origin, self.frames + other.frames
        self.sights = sorted([*self.sights, *other.sights], key=lambda sight: -sight.score)[:views]


@dataclass(frozen=True)
class Line:
    """A line across the picture at `at` of its width (`axis` 0) or height (1), crossed to `direction`; None: either way.

    Without an `axis` it lies across the way of each part.
    """

    axis: Axis | None = None
    at: float = 0.5
    direction: Direction | None = None

    def is_crossed(self, part: Part, usual: Axis | None, size_wh: tuple[int, int], middle: Point) -> bool:
        """Tell whether a part that is at `middle` has come over the line."""
        axis = self.axis if self.axis is not None else (part.axis if part.axis is not None else usual)
        if axis is None:
            return False
        place = self.at * size_wh[axis]
        forward, back = part.origin[axis] < place <= middle[axis], middle[axis] <= place < part.origin[axis]
        if self.direction is None:
            return forward or back
        return forward if self.direction in ("right", "down") else back


@dataclass(frozen=True, eq=False)
class Passed:
    """A part that is to be reported: its `sights` are the best views of it, none unless it was seen whole."""

    number: int
    outcome: Outcome
    frames: int
    seconds: float
    direction: Direction | None
    sights: tuple[Sight, ...] = ()


class Passages:
    """Finds the parts in a camera's frames and says of each, once, when it is to be answered.

    With a `line` that is when its middle has crossed it, else when it has left the picture or has come to rest. A part that
    was never whole in view is `partial`, one in whose passage the camera was lost `interrupted`.
    """

    def __init__(self, line: Line | None = None, *, views: int = 5, live: bool = True, fps: float = 30.0) -> None:
        """Keep the best `views` of each part. Without a `live` source time goes by media time, or by `fps`."""
        self._line, self._views, self._live, self._period_s = line, views, live, 1 / fps
        self._background = Background()
        self._parts: list[Part] = []
        self._next = 1
        self._velocities: deque[Point] = deque(maxlen=_MOST_VELOCITIES)
        self._sizes: deque[Point] = deque(maxlen=_MOST_VELOCITIES)
        self._gaps: deque[float] = deque(maxlen=_MOST_VELOCITIES)
        self._last_s: float | None = None
        self._size_wh = (1, 1)
        self._strange_s = self._quiet_s = 0.0
        # Parts may have been in view when the background was learned; until that is known, frames are held.
        self._is_sure = False
        self._early: deque[Held] = deque(maxlen=_EARLY_FRAMES)
        self._gathering: Gathering | None = None

    def update(self, frame: Frame) -> list[Passed]:
        """Take the next frame that can be believed; return the parts that are to be reported."""
        small, factor = _shrunk(frame.image_bgr)
        now_s, gap_s = self._time(frame)
        done: list[Passed] = []
        if not self._background.fits(small) or self._is_interrupted(gap_s):
            done = self.interrupt()
            if not self._background.fits(small):
                self._begin_again()
        self._gaps.append(gap_s)
        self._size_wh = small.shape[1], small.shape[0]
        if self._is_sure:
            return done + self._take(small, frame, factor, now_s, gap_s)
        is_new = self._gathering is not None or not self._background.is_ready
        held = Held.keep(small, factor, frame, now_s, picture=is_new and not self._live)
        return done + self._take_unsure(held, frame, gap_s)

    def _take_unsure(self, held: Held, frame: Frame, gap_s: float) -> list[Passed]:
        """Take a frame while it is not known whether the background shows parts that were in view when it was learned."""
        if self._gathering is not None:
            self._gathering.add(held)
            if self._gathering.is_over:
                return self._look_back(self._gathering, learn=True)
            return self._look_back(self._gathering, learn=False) if self._gathering.is_idle(held.now_s) else []
        self._early.append(held)
        if not self._background.is_ready:
            self._background.warm(held.small)
            if self._background.is_ready and self._has_moved():
                self._gather()
            return []
        done = self._take(held.small, frame, held.factor, held.now_s, gap_s)
        if self._parts and not self._live:
            self._early[-1] = Held.keep(held.small, held.factor, frame, held.now_s, picture=True)
        if any(part.frames == 1 and self._was_there(part, held.small) for part in self._parts):
            self._gather()
            return []
        self._is_sure = any(passed.outcome == "answered" for passed in done)
        return done

    def _was_there(self, part: Part, small: Image) -> bool:
        """Tell whether what is seen for the first time has not come into view: it may have been there from the start."""
        if not part.entered:
            return True
        mask, level = self._background.changed(small)
        return self._background.outline(level, only(mask, box_of(part.blob))) > _HAS_OUTLINE

    def _has_moved(self) -> bool:
        """Tell whether the first frames differ from what they have in common."""
        first, last = self._early[0].small, self._early[-1].small
        return any(find_blobs(self._background.changed(small)[0]) for small in (first, last))

    def _gather(self) -> None:
        """Wait until what is in view has moved on."""
        self._gathering = Gathering()
        for held in self._early:
            self._gathering.add(held)
        self._parts.clear()
        self._velocities.clear()
        self._early.clear()

    def _look_back(self, gathering: Gathering, *, learn: bool) -> list[Passed]:
        """Take the frames that were gathered, before the background that they tell or the one there is."""
        if learn:
            self._background.relearn(gathering.smalls())
        self._gathering, self._is_sure = None, True
        done: list[Passed] = []
        last_s = gathering.held[0].now_s - self._period_s
        for held in gathering.held:
            done += self._take(held.small, held.unpacked(), held.factor, held.now_s, held.now_s - last_s)
            last_s = held.now_s
        return done

    def _begin_again(self) -> None:
        """Learn the background anew."""
        self._background.forget()
        self._early.clear()
        self._gathering, self._is_sure = None, False

    def _take(self, small: Image, frame: Frame | None, factor: int, now_s: float, gap_s: float) -> list[Passed]:
        """Follow the parts in a frame; None where its picture was not kept."""
        self._quiet_s += gap_s
        if not self._parts and self._quiet_s < _LOOK_S and self._background.is_same(small):
            self._strange_s = 0.0
            return []
        mask, level = self._background.changed(small)
        self._strange_s = self._strange_s + gap_s if cv2.countNonZero(mask) > _WHOLE_SCENE * mask.size else 0.0
        if self._strange_s > _STRANGE_S and not any(part.has_moved for part in self._parts):
            self._begin_again()  # another view, or another lamp
            self._parts.clear()
            self._strange_s = 0.0
            return []
        blobs = find_blobs(mask, self._usual_size(), self._usual_axis())
        self._follow(blobs, frame, factor, now_s, gap_s)
        self._absorb(now_s)
        done = self._report(now_s, level, mask)
        seen = [part for part in self._parts if not part.unseen]
        ahead = [self._ahead(part, gap_s) for part in seen]
        self._background.learn(level, [box_of(part.blob) for part in seen], ahead, self._quiet_s)
        self._quiet_s = 0.0
        return done

    def interrupt(self) -> list[Passed]:
        """Give up all parts in view."""
        if self._gathering is not None:
            self._begin_again()
        parts, self._parts = self._parts, []
        return [_passed(part, "interrupted") for part in parts if part.has_moved and not part.answered]

    def finish(self) -> list[Passed]:
        """Report the parts that are in view when the source ends: without a line they are answered where they were whole."""
        done = [] if self._gathering is None else self._look_back(self._gathering, learn=True)
        if self._line is not None:
            self._parts.clear()
            return done
        parts, self._parts = self._parts, []
        return done + [self._answer(part) for part in parts if not part.answered and self._is_part(part)]

    def _time(self, frame: Frame) -> tuple[float, float]:
        """Return the frame's time and the time since the frame before, in seconds."""
        now_s = frame.media_time_s if frame.media_time_s is not None and not self._live else frame.monotonic_s
        if not self._live and frame.media_time_s is None:
            now_s = frame.number * self._period_s
        last_s, self._last_s = self._last_s, now_s
        if last_s is None or now_s <= last_s:  # the first frame, or a file that has begun again
            return now_s, self._period_s
        return now_s, now_s - last_s

    def _is_interrupted(self, gap_s: float) -> bool:
        usual_s = median(self._gaps) if self._gaps else gap_s
        return gap_s > max(_INTERRUPTED_S, _INTERRUPTED_FRAMES * usual_s)

    def _follow(self, blobs: list[Blob], frame: Frame | None, factor: int, now_s: float, gap_s: float) -> None:
        """Find each part again, and begin a new one for what belongs to none."""
        if self._usual_velocity() is None:
            self._suppose(blobs, now_s)
        found = self._match(blobs, now_s)
        taken = {id(blob) for blob in found.values()}
        for part in self._parts:
            blob = found.get(part.number)
            if blob is None:
                part.unseen += 1
            else:
                self._move(part, blob, now_s)
        for blob in blobs:
            if id(blob) not in taken and len(self._parts) < MOST_PARTS and not self._is_leaving(blob):
                self._parts.append(self._begin(blob, now_s, gap_s))
        for part in self._parts:
            if frame is None:
                part.overlooked = True
            elif not part.unseen and not part.answered:
                self._look(part, frame, factor)

    def _is_leaving(self, blob: Blob) -> bool:
        """Tell whether something goes out of view: it is a piece of a part that came in elsewhere, and no new one."""
        velocity, axis = self._usual_velocity(), self._usual_axis()
        if velocity is None or axis is None or not blob[axis].is_cut:
            return False
        return blob[axis].cut_high if velocity[axis] > 0 else blob[axis].cut_low

    def _ahead(self, part: Part, seconds: float) -> Box:
        """Return the box in which a part is expected to be then."""
        velocity = part.velocity or self._usual_velocity() or (0.0, 0.0)
        (x, w), (y, h) = (
            (round(part.middle[axis] + velocity[axis] * seconds - part.length[axis] / 2), round(part.length[axis]))
            for axis in get_args(Axis)
        )
        return x, y, w, h

    def _suppose(self, blobs: list[Blob], now_s: float) -> None:
        """Give parts whose velocity nobody knows yet the one that explains most of what is seen, the smallest of these.

        A blob is explained by a part that moved there, or by the border that it came over; a part by a blob, or by having left.
        """
        new = [part for part in self._parts if part.velocity is None and now_s > part.seen_s]
        ways = sorted((_way(part, blob) for part, blob in product(new, blobs)), key=lambda way: math.hypot(*way))
        if len(ways) < 2:
            return
        best = min(ways, key=lambda way: self._unexplained(way, blobs))
        for part in new:
            part.velocity = best[0] / (now_s - part.seen_s), best[1] / (now_s - part.seen_s)

    def _unexplained(self, way: Point, blobs: list[Blob]) -> int:
        reach = _REACH_PIXELS + _REACH_SIZE / 2 * math.hypot(*way)
        near = [[math.dist(_way(part, blob), way) <= reach for blob in blobs] for part in self._parts]
        lost = sum(not any(row) and not self._is_out(part.blob, way) for part, row in zip(self._parts, near, strict=True))
        back = -way[0], -way[1]
        born = sum(not any(row[i] for row in near) and not self._is_out(blob, back) for i, blob in enumerate(blobs))
        return lost + born

    def _is_out(self, blob: Blob, way: Point) -> bool:
        """Tell whether something is cut by the border, or out of view, after it has moved."""
        return any(
            span.low + way[axis] <= 1 or span.high + way[axis] >= self._size_wh[axis] - 1
            for axis, span in enumerate(blob)
            if abs(way[axis]) > _REST_PIXELS
        )

    def _match(self, blobs: list[Blob], now_s: float) -> dict[int, Blob]:
        """Return the blob of each part by its number: first those near where they are expected, the nearest first."""
        pairs = [
            (rest, part, blob)
            for part, blob in product(self._parts, blobs)
            if (rest := self._residual(part, blob, now_s)) is not None
        ]
        found: dict[int, Blob] = {}
        taken: set[int] = set()
        for _, part, blob in sorted(pairs, key=lambda pair: pair[0]):
            if part.number not in found and id(blob) not in taken:
                found[part.number] = blob
                taken.add(id(blob))
        return found

    def _residual(self, part: Part, blob: Blob, now_s: float) -> float | None:
        """Return how far a blob is from where a part is expected; None where it cannot be that part."""
        way = _way(part, blob)
        velocity = part.velocity or self._usual_velocity()
        cut = any(span.cut_low or span.cut_high for span in (*part.blob, *blob))
        growth = blob[0].length * blob[1].length / (part.blob[0].length * part.blob[1].length)
        if not cut and not 1 / _MOST_GROWTH < growth < _MOST_GROWTH:
            return None
        if velocity is None:
            return math.hypot(*way)
        seconds = now_s - part.seen_s
        expected = velocity[0] * seconds, velocity[1] * seconds
        distance = math.hypot(way[0] - expected[0], way[1] - expected[1])
        reach = max(_REACH_SIZE * max(part.length), _REACH_WAY * math.hypot(*expected)) + _REACH_PIXELS
        if distance <= reach:
            return distance
        # A belt that stops at once: what stands in the middle of the picture has not just come into view.
        stopped = math.hypot(*way) <= math.hypot(*expected) and not cut and not self._has_left(part, now_s)
        return distance + sum(self._size_wh) if stopped else None

    def _usual_velocity(self) -> Point | None:
        """Return the velocity of the belt, in pixels per second: the median of the last ones."""
        if not self._velocities:
            return None
        return _medians(self._velocities)

    def _usual_size(self) -> Point | None:
        """Return the usual width and height of a part: the medians of the last ones."""
        if len(self._sizes) < _MIN_SIZES:
            return None
        return _medians(self._sizes)

    def _usual_axis(self) -> Axis | None:
        velocity = self._usual_velocity()
        return None if velocity is None else (0 if abs(velocity[0]) >= abs(velocity[1]) else 1)

    def _begin(self, blob: Blob, now_s: float, gap_s: float) -> Part:
        velocity = self._usual_velocity() or (0.0, 0.0)
        length = [span.length for span in blob]
        origin = [
            _origin(span, length, velocity[axis] * gap_s, self._size_wh[axis])
            for axis, (span, length) in enumerate(zip(blob, length, strict=True))
        ]
        entered = any(span.is_cut for span in blob)
        part = Part(self._next, blob, (origin[0], origin[1]), now_s, now_s, entered, length, rest_since_s=now_s)
        self._next += 1
        return part

    def _move(self, part: Part, blob: Blob, now_s: float) -> None:
        way, seconds = _way(part, blob), now_s - part.seen_s
        part.way[0] += way[0]
        part.way[1] += way[1]
        if math.hypot(*way) > _REST_PIXELS:
            part.rest_since_s, part.rest_frames = now_s, 0
            if seconds > 0:
                self._velocities.append((way[0] / seconds, way[1] / seconds))
        else:
            part.rest_frames += 1
        if seconds > 0:
            part.velocity = way[0] / seconds, way[1] / seconds
        for axis, span in enumerate(blob):
            part.length[axis] = max(part.length[axis], span.length) if span.is_cut else span.length
        part.blob, part.seen_s, part.unseen = blob, now_s, 0
        part.frames += 1

    def _absorb(self, now_s: float) -> None:
        """Join parts that are not seen with those that are seen in their place: pieces of one part."""
        for part in [part for part in self._parts if part.unseen]:
            box = self._ahead(part, now_s - part.seen_s)
            for other in self._parts:
                own = box_of(other.blob)
                if not other.unseen and shared(box, own) > _SAME * min(area(box), area(own)):
                    other.take_over(part, self._views)
                    self._parts.remove(part)
                    break

    def _look(self, part: Part, frame: Frame, factor: int) -> None:
        """Keep this view of a part if it is among the best."""
        usual = self._usual_axis()
        if not part.is_whole(part.blob, usual):
            return
        axis = part.axis if usual is None else usual
        box = _frame_box(part.blob, factor, frame.image_bgr)
        offset = [2 * part.middle[each] / self._size_wh[each] - 1 for each in get_args(Axis)]
        away = math.hypot(*offset) if axis is None else abs(offset[axis])
        score = math.log(1 + sharpness(frame.image_bgr, box)) - _MIDDLE * away
        part.sights.append(Sight(frame, box, score, part.blob))
        part.sights.sort(key=lambda sight: -sight.score)
        del part.sights[self._views :]

    def _report(self, now_s: float, level: Image, mask: NDArray[np.uint8]) -> list[Passed]:
        """Return what is to be said of the parts now, and let go of those that have left."""
        done: list[Passed] = []
        kept: list[Part] = []
        for part in self._parts:
            if part.unseen:
                if not self._has_left(part, now_s) and not self._has_vanished(part, now_s):
                    kept.append(part)
                elif not part.answered and self._is_part(part) and (self._line is None or self._crosses_out(part, now_s)):
                    done.append(self._answer(part))
                continue
            if not self._strange_s and self._is_at_rest(part, now_s) and self._is_scenery(part, level, mask, now_s):
                self._background.adopt(level, box_of(part.blob))
                continue
            kept.append(part)
            if not part.answered and self._is_due(part, now_s):
                part.answered = True
                done.append(self._answer(part))
                part.sights.clear()
        self._parts = kept
        return done

    def _is_due(self, part: Part, now_s: float) -> bool:
        """Tell whether a part in view is to be answered now."""
        if self._strange_s or not self._is_part(part) or not part.whole(self._usual_axis()):
            return False
        if self._line is None:
            return self._is_at_rest(part, now_s)
        return self._line.is_crossed(part, self._usual_axis(), self._size_wh, part.middle)

    def _is_part(self, part: Part) -> bool:
        """Tell a part from light and noise: it was seen twice, unless none can be on so fast a belt."""
        return part.frames > 1 or ((part.entered or bool(part.whole(None))) and self._is_fast(part))

    def _is_fast(self, part: Part) -> bool:
        velocity, axis = self._usual_velocity(), self._usual_axis()
        if velocity is None or axis is None or not self._gaps:
            return False
        way = abs(velocity[axis]) * median(self._gaps)
        return self._size_wh[axis] - part.length[axis] < 2 * way

    def _is_at_rest(self, part: Part, now_s: float) -> bool:
        return part.rest_frames >= _REST_FRAMES and now_s - part.rest_since_s >= _REST_S

    def _is_scenery(self, part: Part, level: Image, mask: NDArray[np.uint8], now_s: float) -> bool:
        """Tell whether what is at rest is no part: the place that one has left, another view, or what nobody takes away."""
        if now_s - part.rest_since_s > _FORGOTTEN_S:
            return True
        if now_s - part.rest_since_s > 2 * _REST_S:  # asked already
            return False
        return self._background.outline(level, only(mask, box_of(part.blob))) > 1

    def _has_left(self, part: Part, now_s: float) -> bool:
        """Tell whether a part that is not seen should be out of view by now."""
        velocity = part.velocity or self._usual_velocity() or (0.0, 0.0)
        for axis, (span, size) in enumerate(zip(part.blob, self._size_wh, strict=True)):
            place = part.middle[axis] + velocity[axis] * (now_s - part.seen_s)
            half = part.length[axis] / 2
            if span.is_cut or place < -0.5 * half or place > size + 0.5 * half:
                return True
        return False

    def _has_vanished(self, part: Part, now_s: float) -> bool:
        return part.unseen >= _UNSEEN_FRAMES and now_s - part.seen_s >= _UNSEEN_S

    def _crosses_out(self, part: Part, now_s: float) -> bool:
        """Tell whether a part that has left crossed the line on its way out."""
        assert self._line is not None
        velocity = part.velocity or self._usual_velocity() or (0.0, 0.0)
        seconds = now_s - part.seen_s
        out = part.middle[0] + velocity[0] * seconds, part.middle[1] + velocity[1] * seconds
        return self._line.is_crossed(part, self._usual_axis(), self._size_wh, out)

    def _answer(self, part: Part) -> Passed:
        whole = part.whole(self._usual_axis())
        if whole:
            self._sizes.append((part.length[0], part.length[1]))
        without: Outcome = "interrupted" if part.overlooked else "partial"
        return _passed(part, "answered" if whole else without, tuple(whole))


def sharpness(image: Image, box: Box) -> float:
    """Return the variance of the Laplacian (Pech-Pacheco et al., ICPR 2000) in the middle of a box of `(h, w, 3)`.

    Its border is left out: an outline that lies within the box by a pixel is sharper than anything on the part.
    """
    x, y, w, h = box
    across, down = (max(1, min(round(_INNER * side), _SHARP_SIDE)) for side in (w, h))
    left, top = x + (w - across) // 2, y + (h - down) // 2
    gray = cv2.cvtColor(image[top : top + down, left : left + across], cv2.COLOR_BGR2GRAY)
    _, deviation = cv2.meanStdDev(cv2.Laplacian(gray, cv2.CV_16S))
    return float(deviation[0, 0]) ** 2


def _shrunk(image: Image) -> tuple[Image, int]:
    """Return the picture shrunk by a whole number, and that number; a median takes noise and weave away, and leaves edges."""
    height, width = image.shape[:2]
    factor = max(1, math.ceil(max(height, width) / _LONGEST))
    factor += factor > _MOST_ODD and factor % 2
    small, rest = image[: max(1, height // factor) * factor, : max(1, width // factor) * factor], factor
    while rest > 1:  # by two at a time: three times as fast as at once
        step = 2 if rest % 2 == 0 else rest
        size_wh = max(1, small.shape[1] // step), max(1, small.shape[0] // step)
        small, rest = np.asarray(cv2.resize(small, size_wh, interpolation=cv2.INTER_AREA), np.uint8), rest // step
    return np.asarray(cv2.medianBlur(small, 3), np.uint8), factor


def _medians(points: Iterable[Point]) -> Point:
    """Return the medians of both coordinates; of so few numbers ten times as fast as by NumPy."""
    x, y = zip(*points, strict=True)
    return median(x), median(y)


def _origin(span: Span, length: float, step: float, size: int) -> float:
    """Return where something came from that has just been seen: out of view, or a step back."""
    if span.is_cut:
        return -1.0 if span.cut_low else size + 1.0
    return span.middle(length) - step


def _way(part: Part, blob: Blob) -> Point:
    x, y = (old.way_to(new, length) for old, new, length in zip(part.blob, blob, part.length, strict=True))
    return x, y


def _frame_box(blob: Blob, factor: int, image: Image) -> Box:
    """Return a blob's box in frame pixels: what touches the border of the shrunk picture reaches to that of the frame.

    Its outermost pixels show the background, too, and a network takes an edge of that for a defect.
    """
    edges = []
    for span, size in zip(blob, (image.shape[1], image.shape[0]), strict=True):
        low = 0 if span.cut_low else round((span.low + _EDGE) * factor)
        high = size if span.cut_high else round((span.high - _EDGE) * factor)
        edges.append((low, high - low))
    (x, w), (y, h) = edges
    return x, y, w, h


def _passed(part: Part, outcome: Outcome, sights: tuple[Sight, ...] = ()) -> Passed:
    return Passed(part.number, outcome, part.frames, part.seen_s - part.began_s, part.direction, sights)
