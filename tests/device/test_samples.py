"""What the ring of samples keeps, and what it lets go of first."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from device_fakes import frame
from numpy.typing import NDArray

from edgecnn.classifier import Prediction, Verdict
from edgecnn.samples.folder import read_samples
from edgecnn.samples.labels import LabelLog
from edgecnn.testing import LABELS, JumpingClock, gray_picture
from edgecnn_device.frames import OK, STAGES, Observation, Region, RegionPrediction
from edgecnn_device.sinks.samples import SampleOptions, SampleSink
from edgecnn_device.sinks.timeline import Timeline


def answer(class_id: int = 0, verdict: Verdict = "label", probability: float = 0.9) -> Prediction:
    probabilities = np.full(3, (1 - probability) / 2, np.float32)
    probabilities[class_id] = probability
    label = LABELS[class_id] if verdict == "label" else None
    return Prediction(label, class_id, probability, probabilities, verdict)


def seen(
    number: int,
    raw: Prediction,
    smoothed: Prediction | None = None,
    features: NDArray[np.float64] | None = None,
) -> Observation:
    picture = frame(gray_picture(128, number), number, at_s=100.0 + number)
    region = Region((0, 0, 64, 48), picture.image_bgr)
    answered = RegionPrediction(1, region, picture.image_bgr[:20, :20, :1], raw, smoothed or raw, features=features)
    return Observation("cam", OK, picture, (answered,), 2.0, dict.fromkeys(STAGES, 1.0))


def pointing(number: int) -> NDArray[np.float64]:
    """Return features that are far from those of every other number."""
    return np.random.default_rng(number).normal(size=64)


@pytest.fixture
def clock() -> JumpingClock:
    return JumpingClock()


@pytest.fixture
def sink(tmp_path: Path, clock: JumpingClock) -> SampleSink:
    """A ring without a random share."""
    return SampleSink(SampleOptions(tmp_path, every_s=None), clock=clock)


def kept_reasons(folder: Path) -> list[list[str]]:
    return [json.loads(path.read_text())["kept"] for path in sorted(folder.glob("*Z-*.json"))]


@pytest.mark.parametrize(
    ("raw", "smoothed", "reasons"),
    [
        (answer(verdict="novel"), None, ["novel"]),
        (answer(verdict="unsure", probability=0.4), None, ["unsure"]),
        (answer(1), answer(2), ["disagrees"]),
        (answer(1, "novel"), answer(2), ["novel", "disagrees"]),
    ],
)
def test_a_doubtful_answer_is_kept_and_says_why(
    tmp_path: Path, sink: SampleSink, raw: Prediction, smoothed: Prediction | None, reasons: list[str]
) -> None:
    sink.write(seen(1, raw, smoothed))

    assert kept_reasons(tmp_path) == [reasons]


def test_a_sure_answer_is_not_kept_for_its_doubt(tmp_path: Path, sink: SampleSink) -> None:
    sink.write(seen(1, answer()))

    assert list(tmp_path.iterdir()) == []


def test_what_looks_the_same_to_the_model_is_not_kept_twice(tmp_path: Path, sink: SampleSink, clock: JumpingClock) -> None:
    for number in range(10):
        clock.jump(2)
        noise = np.random.default_rng(number).normal(size=64) * 0.03
        sink.write(seen(number, answer(verdict="novel"), features=pointing(number // 5 + 100) + noise))

    assert len(list(tmp_path.glob("*.png"))) == 2


def test_tiles_of_one_frame_that_look_the_same_are_kept_once(tmp_path: Path, sink: SampleSink) -> None:
    observation = seen(1, answer(verdict="novel"), features=pointing(1))
    tiles = tuple(replace(observation.predictions[0], region_id=number) for number in range(6))
    other = replace(tiles[0], region_id=6, features=pointing(2))

    sink.write(replace(observation, predictions=(*tiles, other)))

    assert sorted(path.stem[-1] for path in tmp_path.glob("*.png")) == ["0", "6"]


def test_duplicates_of_before_a_restart_are_known(tmp_path: Path, clock: JumpingClock) -> None:
    for number in range(2):
        clock.jump(2)
        with SampleSink(SampleOptions(tmp_path, every_s=None), clock=clock) as opened:
            opened.write(seen(number, answer(verdict="novel"), features=pointing(1)))

    assert len(list(tmp_path.glob("*.png"))) == 1


def test_duplicates_in_the_random_share_are_kept(tmp_path: Path, clock: JumpingClock) -> None:
    sink = SampleSink(SampleOptions(tmp_path, every_s=1e-9), clock=clock)
    for number in range(5):
        clock.jump(2)
        sink.write(seen(number, answer(), features=pointing(1)))

    assert kept_reasons(tmp_path) == [["random"]] * 5


def test_a_day_of_doubt_leaves_room_for_the_time_after_it(tmp_path: Path, clock: JumpingClock) -> None:
    options = SampleOptions(tmp_path, every_s=None, max_bytes=400_000, max_age_s=100_000)
    sink = SampleSink(options, clock=clock)
    for number in range(300):
        clock.jump(2)
        sink.write(seen(number, answer(verdict="unsure"), features=pointing(number)))

    used = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert 100_000 <= used < 125_000  # a quarter at once, and a sample more


def test_the_random_share_keeps_a_quarter_of_the_room(tmp_path: Path, clock: JumpingClock) -> None:
    options = SampleOptions(tmp_path, every_s=20.0, max_bytes=200_000, max_age_s=1000)
    sink = SampleSink(options, clock=clock, seed=1)
    for number in range(500):
        clock.jump(2)
        sink.write(seen(number, answer(verdict="unsure"), features=pointing(number)))

    by_chance = [path for path in read_samples(tmp_path).samples if "random" in path.reasons]
    sizes = sum(sample.picture.stat().st_size for sample in by_chance if sample.picture is not None)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 200_000
    assert 30_000 < sizes < 70_000


def test_what_somebody_labelled_is_the_last_to_go_and_does_not_age(tmp_path: Path, clock: JumpingClock) -> None:
    options = SampleOptions(tmp_path, every_s=1e-9, max_bytes=80_000, max_age_s=50)
    sink = SampleSink(options, clock=clock)
    sink_clock_start = clock.now_s
    clock.jump(1)
    sink.write(seen(0, answer()))
    name = next(tmp_path.glob("*.png")).stem
    LabelLog(tmp_path).label([name], "dent", by="anna")
    for number in range(1, 60):
        clock.jump(2)
        sink.write(seen(number, answer()))

    left = sorted(path.stem for path in tmp_path.glob("*.png"))
    assert clock.now_s - sink_clock_start > 100
    assert name in left and len(left) > 1
    assert sum(path.stat().st_size for path in tmp_path.glob("*Z-*")) <= 80_000


def test_a_log_of_labels_that_cannot_be_read_does_not_stop_the_ring(tmp_path: Path, clock: JumpingClock) -> None:
    (tmp_path / "labels.jsonl").write_text("somebody's own notes\n")
    sink = SampleSink(SampleOptions(tmp_path, every_s=1e-9, max_bytes=50_000), clock=clock)
    for number in range(20):
        clock.jump(2)
        sink.write(seen(number, answer()))

    assert sum(path.stat().st_size for path in tmp_path.glob("*Z-*")) <= 50_000
    assert (tmp_path / "labels.jsonl").read_text() == "somebody's own notes\n"


def test_in_a_file_the_time_is_that_of_the_recording(tmp_path: Path, clock: JumpingClock) -> None:
    sink = SampleSink(SampleOptions(tmp_path, every_s=None), clock=clock, timeline=Timeline(live=False, fps=10.0))
    for number in range(1, 51):  # five seconds of a recording, at once
        sink.write(seen(number, answer(verdict="novel"), features=pointing(number)))

    assert len(list(tmp_path.glob("*.png"))) == 5


def test_a_sample_says_what_the_model_answered(tmp_path: Path, sink: SampleSink) -> None:
    raw = replace(answer(1, "novel", 0.7), novelty=1.5, nearest="gray")
    sink.write(seen(3, raw, features=pointing(3)))

    sample = read_samples(tmp_path).samples[0]

    assert (sample.answer, sample.novelty, sample.nearest, sample.reasons) == ("novel", 1.5, "gray", ("novel",))
    assert sample.features is not None
    unit = pointing(3) / np.linalg.norm(pointing(3))
    assert float(sample.features @ unit) > 0.999
