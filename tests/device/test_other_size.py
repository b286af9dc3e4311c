"""A camera that comes back with another size, after a reset of its firmware or by its night profile."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
from device_fakes import frame, watcher

from edgecnn.classifier import Classifier
from edgecnn.errors import InferenceError, InputError
from edgecnn.testing import JumpingClock, ListSink, gray_picture
from edgecnn_device.finders import Clock, Look, Seen, Tiles, look_at
from edgecnn_device.frames import Frame, Image, Observation
from edgecnn_device.loop import Statistics, run_loop
from edgecnn_device.sources import SourceOptions, open_source
from edgecnn_device.sources.live import transformed
from edgecnn_device.sources.select import Recording
from edgecnn_device.sources.transform import Roi, Transform

LARGE, SMALL = (480, 640), (240, 320)


def observe(frames: Iterable[Frame], look: Look | None = None, *, live: bool = True) -> tuple[list[Observation], Statistics]:
    watching, sink = watcher(JumpingClock(), live=live), ListSink()
    if look is not None:
        watching.look = look
    statistics = run_loop(frames, watching, [sink])
    return sink.observations, statistics


def states(observations: list[Observation]) -> list[str]:
    return [observation.state.name for observation in observations]


def sized(*sizes_hw: tuple[int, int]) -> list[Frame]:
    return [frame(gray_picture(128, number, size_hw), number) for number, size_hw in enumerate(sizes_hw)]


def test_a_region_of_interest_in_pixels_is_blind_while_the_picture_is_too_small() -> None:
    transform = Transform(roi=Roi.parse("100,100,400,300"))
    frames = [transformed(item, transform) for item in sized(LARGE, SMALL, LARGE)]

    seen, statistics = observe(frames)

    assert states(seen) == ["ok", "blind", "ok"]
    assert seen[1].state.reason == "--roi 100,100,400,300 is not inside the picture of 320x240"
    assert not seen[1].predictions
    assert sum(statistics.reasons.values()) == 1


def test_tiles_that_a_picture_is_too_small_for_are_blind() -> None:
    seen, _ = observe(sized(LARGE, (30, 30), LARGE), look_at(Tiles(40, 1)))

    assert states(seen) == ["ok", "blind", "ok"]
    assert seen[1].state.reason == "a frame of 30x30 pixels has no 40x1 tiles"


@pytest.mark.parametrize(
    ("error", "state"),
    [(InferenceError("the runtime refused"), "error"), (MemoryError(), "blind"), (cv2.error("resize: empty"), "blind")],
)
def test_a_frame_that_cannot_be_worked_on_has_no_answer_and_the_camera_goes_on(error: Exception, state: str) -> None:
    usual, calls = watcher().look, []

    def look(image_bgr: Image, classifier: Classifier, clock: Clock) -> Seen:
        calls.append(image_bgr)
        if len(calls) == 2:
            raise error
        return usual(image_bgr, classifier, clock)

    seen, _ = observe(sized(LARGE, LARGE, LARGE), look)

    assert states(seen) == ["ok", state, "ok"]
    assert seen[1].state.reason


def test_what_does_not_fit_the_first_picture_of_a_file_is_the_users_mistake() -> None:
    with pytest.raises(InputError, match="no 40x1 tiles"):
        observe(sized((30, 30)), look_at(Tiles(40, 1)), live=False)
    with pytest.raises(InputError, match="--roi"):
        list(Recording(sized(SMALL), 1.0, Transform(roi=Roi.parse("0,0,400,300"))))


def test_a_smaller_picture_in_a_folder_is_blind(tmp_path: Path) -> None:
    for name, size_hw in (("a.png", LARGE), ("b.png", SMALL), ("c.png", LARGE)):
        cv2.imwrite(str(tmp_path / name), gray_picture(128, size_hw=size_hw))

    with open_source(SourceOptions(str(tmp_path), transform=Transform(roi=Roi.parse("0,0,400,300")))) as source:
        unusable = [item.unusable for item in source if isinstance(item, Frame)]

    assert unusable == ["", "--roi 0,0,400,300 is not inside the picture of 320x240", ""]


@pytest.mark.parametrize(
    "options",
    [
        SourceOptions("0", size_wh=(320, 240), transform=Transform(roi=Roi.parse("0,0,400,200"))),
        SourceOptions("rtsp://camera", size_wh=(640, 480), transform=Transform(rotation=90, roi=Roi.parse("0,0,640,480"))),
        SourceOptions("synthetic", transform=Transform(roi=Roi.parse("0,0,641,10"))),
    ],
)
def test_a_region_outside_of_the_size_that_is_asked_for_is_refused_at_the_start(options: SourceOptions) -> None:
    with pytest.raises(InputError, match="is not inside the picture"):
        open_source(options)


def test_a_picture_that_cannot_be_transformed_is_unusable_and_kept_as_it_is() -> None:
    good = Frame(np.zeros((4, 4, 3), np.uint8), 1, "fake", datetime.now(UTC), 0.0)

    def fail(image: Image) -> Image:
        raise cv2.error("resize: empty\n  picture")

    assert transformed(good, fail).unusable == "resize: empty picture"
    assert transformed(good, fail).image_bgr is good.image_bgr
