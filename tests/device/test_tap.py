"""What a running camera tells a listener beside its model file, and that it never waits for one."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from edgecnn.shipped import int8_path
from edgecnn_device.deploy.listener import Listener, Seen
from edgecnn_device.deploy.store import digest_of
from edgecnn_device.distinct import DistinctAnswers
from edgecnn_device.frames import OK, Frame, Observation, Region, RegionPrediction
from edgecnn_device.model import ModelOptions, ModelSlot
from edgecnn_device.sinks.timeline import Timeline
from edgecnn_device.tap import Tap, versions_folder


@pytest.fixture
def slot(tmp_path: Path) -> ModelSlot:
    folder = tmp_path / ("deep" * 30)  # beyond the 108 bytes of a socket's address
    folder.mkdir()
    model = Path(shutil.copy(int8_path("neu"), folder / "model.tflite"))
    return ModelSlot(ModelOptions(str(model), verify=False), notice=print)


def observation(slot: ModelSlot, number: int = 1) -> Observation:
    from edgecnn.testing import START

    image = np.random.default_rng(number).integers(0, 256, (300, 400, 3), np.uint8)
    classifier = slot.current.classifier
    (found,) = classifier.classify([image])
    region = RegionPrediction(1, Region((0, 0, 400, 300), image), classifier.preprocessing(image), found, found)
    return Observation(
        "camera",
        OK,
        Frame(image, number, "camera", START, 0.0),
        (region,),
        1.0,
        {"preprocess": 1.0, "invoke": 2.0},
        cpu_ms=2.5,
    )


def tap_of(slot: ModelSlot) -> Tap:
    return Tap(slot, DistinctAnswers(Timeline(live=True, fps=30.0)))


def heard(listener: Listener, tap: Tap, slot: ModelSlot) -> list[Seen]:
    """Go round as a loop does until something was seen."""
    seen: list[Seen] = []
    until_s = time.monotonic() + 20
    while not seen and time.monotonic() < until_s:
        tap._due_s = 0.0
        tap.beat()
        listener.hear(0.01)
        tap.write(observation(slot))
        seen = listener.hear(0.01)
    return seen


def test_a_camera_that_nobody_listens_to_makes_nothing(slot: ModelSlot) -> None:
    with tap_of(slot) as tap:
        tap.beat()
        tap.write(observation(slot))

    assert not versions_folder(slot.path).exists()


def test_a_listener_hears_which_file_runs_and_what_it_answers(slot: ModelSlot) -> None:
    versions_folder(slot.path).mkdir()
    with Listener(versions_folder(slot.path)) as listener, tap_of(slot) as tap:
        (seen, *_) = heard(listener, tap, slot)
        (camera,) = listener.running

    assert camera.digest == seen.digest == digest_of(slot.path)
    (wanted,) = observation(slot).predictions
    assert seen.answers == ((wanted.raw.verdict, slot.current.classifier.labels[wanted.raw.class_id]),)
    assert (seen.work_ms, seen.cpu_ms, seen.counts, seen.pictures, seen.state) == (3.0, 2.5, (True,), (), "ok")


@pytest.mark.parametrize("wanted", ["inputs", "views"])
def test_pictures_come_only_when_asked_for_and_bit_by_bit(slot: ModelSlot, wanted: str) -> None:
    versions_folder(slot.path).mkdir()
    with Listener(versions_folder(slot.path)) as listener, tap_of(slot) as tap:
        listener.want(wanted)  # type: ignore[arg-type]
        seen = heard(listener, tap, slot)
        while not seen[-1].pictures:
            seen = heard(listener, tap, slot)

    (region,) = observation(slot).predictions
    assert np.array_equal(seen[-1].pictures[0], region.input if wanted == "inputs" else region.region.view)


def test_a_listener_that_hangs_holds_no_camera_up(slot: ModelSlot) -> None:
    versions_folder(slot.path).mkdir()
    with Listener(versions_folder(slot.path)) as listener, tap_of(slot) as tap:
        listener.want("views")
        heard(listener, tap, slot)
        tap._due_s = 0.0
        tap.beat()
        made = observation(slot)
        started_s = time.process_time()
        for _ in range(500):
            tap.write(made)  # 180 MB in all, which nobody takes

        assert time.process_time() - started_s < 5


def test_a_listener_that_was_killed_leaves_a_socket_that_harms_nobody(slot: ModelSlot) -> None:
    versions_folder(slot.path).mkdir()
    with Listener(versions_folder(slot.path)) as listener:
        listener._folder = Path("/nonexistent")  # what is killed removes nothing
    with tap_of(slot) as tap:
        tap.beat()
        tap.write(observation(slot))

    assert tap._socket is None
