"""A camera whose pictures drift: which frames count, what it says where, what a restart, a clock and another model change."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from published_schemas import check
from web_page import model as page_model

from edgecnn.artifacts.contract import DataInfo, DriftInfo
from edgecnn.drift import GIVEN, Baseline, measure_all, statistics_for
from edgecnn.testing import LABELS, START, JumpingClock, fake_classifier
from edgecnn_device.drift import NO_BASELINE, DriftMonitor, DriftOptions, state_file
from edgecnn_device.finders import Tiles, find_whole, look_at
from edgecnn_device.frames import Change, Drift, Frame, Image, Observation, State
from edgecnn_device.model import Model
from edgecnn_device.sinks.jsonl import json_line
from edgecnn_device.sinks.mqtt_discovery import describe_sensors
from edgecnn_device.sinks.selection import Changes
from edgecnn_device.sinks.terminal import describe
from edgecnn_device.sinks.timeline import Timeline
from edgecnn_device.tracking import Tracker

DARKER = Drift((Change("brightness", "falls", -0.62, "darker by 0.6 stops", START.timestamp()),))


def part(number: int, light: float = 1.0) -> Image:
    """Return a picture `(48, 64, 3)` uint8 of another part each, under so much light."""
    random = np.random.default_rng(number)
    coarse = random.uniform(80, 160, (6, 8)).repeat(8, axis=0).repeat(8, axis=1) + random.normal(0, 4, (48, 64))
    return np.clip(coarse * light, 0, 255).astype(np.uint8)[:, :, None].repeat(3, axis=2)


def info(classifier: Any = None) -> DriftInfo:
    classifier = classifier or fake_classifier()
    images = np.stack([classifier.preprocessing(part(number)) for number in range(1000, 1200)])
    values, class_ids = measure_all(classifier, images)
    fitted = Baseline.fit(statistics_for(classifier.preprocessing), values, class_ids, len(LABELS))
    return fitted.to_info(DataInfo("parts", "validation", 200, "ab"), 200)


BASELINE = info()


def running(drift: DriftInfo | None = BASELINE, digest: str = "one") -> Model:
    given = page_model()
    contract = dataclasses.replace(given.artifact.contract, drift=drift, model_sha256=digest)
    return Model(dataclasses.replace(given.artifact, contract=contract), fake_classifier(), verified=True)


class Camera:
    """A monitor whose frames come by a clock of ours."""

    def __init__(self, model: Model | None = None, *, file: Path | None = None, live: bool = True, **options: Any) -> None:
        self.clock, self.model, self.said = JumpingClock(), model or running(), list[str]()
        self.tracker, self.number = Tracker(1), 0
        self.monitor = DriftMonitor(
            lambda: self.model,
            DriftOptions(**options),
            Timeline(live=live, fps=10, clock=self.clock),
            file=file,
            notice=self.said.append,
            clock=self.clock,
            wall_clock=lambda: START.timestamp() + self.clock(),
        )

    def show(self, image: Image, *, source: str = "camera", after_s: float = 1.0, **change: Any) -> Observation:
        self.clock.jump(after_s)
        self.number += 1
        frame = Frame(image, self.number, source, START + timedelta(seconds=self.clock()), self.clock())
        look = look_at(find_whole)
        seen = look(image, self.model.classifier, self.clock)
        predictions = self.tracker.update(source, seen, self.model.classifier)
        return self.monitor.add(Observation(source, State("ok"), frame, predictions, **change))

    def show_all(self, images: Iterable[Image]) -> list[int]:
        """Return which of the pictures were shown while something had drifted."""
        return [number for number, image in enumerate(images) if self.show(image).drift is not None]


def dark(count: int = 200, first: int = 0) -> list[Image]:
    return [part(number, 0.5) for number in range(first, first + count)]


def test_pictures_as_usual_are_no_drift() -> None:
    camera = Camera()

    assert camera.show_all(part(number) for number in range(300)) == []
    assert camera.monitor.describe() == "none in 300 different pictures"


def test_half_the_light_is_noticed_said_and_over_again() -> None:
    camera = Camera()

    noticed = camera.show_all(dark())
    over = camera.show_all(part(number) for number in range(300))

    assert noticed
    assert noticed[0] < 60
    assert camera.said[0].startswith("drifting: darker by ")
    assert camera.said[-1] == "drift ended: the pictures are as usual again"
    assert over[-1] < 150
    assert camera.monitor.drift is None


def test_a_drift_that_lasts_is_said_again_only_when_more_than_its_echo_has_changed() -> None:
    camera = Camera()

    camera.show_all(dark())
    camera.show_all(cv2.GaussianBlur(image, (0, 0), 3) for image in dark(100, 200))

    assert camera.monitor.drift is not None
    plain = [each for each in camera.monitor.drift.changes if not each.what.endswith(GIVEN)]
    assert len(camera.said) <= len(plain) < len(camera.monitor.drift.changes)


def test_the_size_of_a_drift_is_that_of_the_light() -> None:
    camera = Camera()
    camera.show_all(dark())

    assert camera.monitor.drift is not None
    (brightness,) = [each for each in camera.monitor.drift.changes if each.what == "brightness"]
    assert brightness.by == pytest.approx(-1, abs=0.15)
    assert brightness.since == pytest.approx(START.timestamp() + 101, abs=10)


def test_a_part_that_stands_still_is_one_picture_however_long_it_stands() -> None:
    camera = Camera()

    for number in range(2000):
        noise = np.random.default_rng(number).integers(-2, 3, (48, 64, 1))
        camera.show(np.clip(part(1, 0.5) + noise, 0, 255).astype(np.uint8))

    assert camera.monitor.counted == 1
    assert camera.monitor.drift is None


def test_two_parts_that_take_turns_are_two_pictures() -> None:
    camera = Camera()

    camera.show_all(part(number % 2, 0.5) for number in range(500))

    assert camera.monitor.counted == 2


def test_thirty_frames_a_second_are_one_picture_a_second() -> None:
    camera = Camera()

    for number in range(300):
        camera.show(part(number), after_s=1 / 30)

    assert camera.monitor.counted <= 11


def test_the_next_picture_of_a_folder_need_not_wait() -> None:
    camera = Camera(live=False)

    for number in range(50):
        camera.show(part(number), source=f"{number}.png", after_s=0)

    assert camera.monitor.counted == 50


def test_a_camera_that_sees_nothing_says_nothing_of_a_drift() -> None:
    camera = Camera()
    stale = Observation("camera", State("stale", "lost"), None)

    assert camera.monitor.add(stale) is stale
    assert camera.monitor.counted == 0


def test_a_model_without_a_baseline_says_that_nothing_is_judged() -> None:
    camera = Camera(running(None))
    camera.show_all(dark(50))

    assert not camera.monitor.judged
    assert camera.monitor.describe() == NO_BASELINE
    assert camera.monitor.to_json() == {"text": NO_BASELINE, "judged": False, "pictures": 0, "drift": None}


def test_what_is_usual_can_be_learned_of_the_camera() -> None:
    camera = Camera(running(None), baseline=60)
    learning = []
    for image in dark(60, first=500):
        camera.show(image)
        learning.append(camera.monitor.describe())

    usual, changed = camera.show_all(dark(200)), camera.show_all(part(number) for number in range(200))

    assert learning[0] == "learning what is usual: 1 of 60 pictures"
    assert camera.said[0] == "drift: learned what is usual from 60 pictures of this camera"
    assert usual == []
    assert changed
    assert any("brighter" in line for line in camera.said)


def test_more_of_a_class_than_ever_is_noticed_once_its_share_was_learned() -> None:
    def light(number: int) -> Image:
        return part(number, 1.6 if number % 10 == 0 else 1.0)

    camera = Camera(running(None), baseline=200)
    camera.show_all(light(number) for number in range(200))
    as_ever = camera.show_all(light(number) for number in range(1000, 1400))

    camera.show_all(part(number, 1.6) for number in range(2000, 2200))

    assert as_ever == []
    assert camera.monitor.drift is not None
    assert any(each.words.startswith("more light than ever (") for each in camera.monitor.drift.changes)


def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    file = tmp_path / "drift.json"
    first = Camera(file=file)
    drifted = first.show_all(dark(100))
    first.monitor.close()

    second = Camera(file=file)

    assert drifted
    assert second.monitor.counted == 100
    assert second.monitor.drift == first.monitor.drift


def test_a_restart_keeps_what_was_learned_and_what_is_being_learned(tmp_path: Path) -> None:
    file = tmp_path / "drift.json"
    for already in (0, 20, 40):
        camera = Camera(running(None), file=file, baseline=50)
        assert camera.monitor.describe() == f"learning what is usual: {already} of 50 pictures"
        camera.show_all(part(number) for number in range(already, already + 20))
        camera.monitor.close()

    assert Camera(running(None), file=file, baseline=50).monitor.judged


def test_another_model_begins_again(tmp_path: Path) -> None:
    file = tmp_path / "drift.json"
    camera = Camera(file=file)
    camera.show_all(dark(100))
    camera.monitor.close()
    camera.model = running(digest="two")

    camera.show(part(1))

    assert camera.monitor.counted == 1
    assert camera.monitor.drift is None
    assert Camera(running(digest="two"), file=file).monitor.counted == 0


def test_the_same_model_asked_for_again_changes_nothing() -> None:
    camera = Camera()
    camera.show_all(part(number) for number in range(20))
    camera.model = running()

    camera.show(part(100))

    assert camera.monitor.counted == 21


def test_what_is_known_is_saved_while_the_camera_runs(tmp_path: Path) -> None:
    file = tmp_path / "state/drift.json"
    camera = Camera(file=file)
    camera.show_all(part(number) for number in range(310))
    saved = [thread for thread in [camera.monitor._saving] if thread is not None]
    for thread in saved:
        thread.join()

    assert saved
    assert Camera(file=file).monitor.counted >= 300


@pytest.mark.parametrize(
    "damage",
    [
        lambda body: "not JSON",
        lambda body: json.dumps(body | {"version": 99}),
        lambda body: json.dumps(body | {"detector": {}}),
        lambda body: json.dumps(body | {"detector": body["detector"] | {"growth": [[1e999]]}}),
        lambda body: json.dumps(body | {"counted": "many"}),
        lambda body: json.dumps(body | {"learned": {"table": 1}, "shares": []}),
        lambda body: json.dumps([]),
    ],
)
def test_a_damaged_memory_is_worth_less_than_a_camera_that_starts(tmp_path: Path, damage: Callable[[Any], str]) -> None:
    file = tmp_path / "drift.json"
    first = Camera(file=file)
    first.show_all(dark(20))
    first.monitor.close()
    file.write_text(damage(json.loads(file.read_text())))

    assert Camera(file=file).monitor.counted == 0


def test_a_clock_that_is_set_moves_what_was_noted_by_it() -> None:
    camera = Camera()
    camera.show_all(dark(100))
    before = camera.monitor.drift

    after = camera.show(part(1, 0.5), clock_jump_s=86400.0).drift

    assert before is not None
    assert after is not None
    assert after.changes[0].since == pytest.approx(before.changes[0].since + 86400, abs=1)


def test_each_camera_of_a_board_has_a_memory_of_its_own(tmp_path: Path) -> None:
    files = {
        state_file(tmp_path, source, model, where)
        for source in ("0", "1")
        for model in ("neu", "tiles")
        for where in ("", "6x1")
    }

    assert len(files) == 8
    assert state_file(None, "0", "neu", "") is None


@pytest.mark.parametrize(
    ("days", "words"),
    [(0, "since 12:00"), (1, "since yesterday 12:00"), (4, "since Tuesday"), (400, "since 27 Oct 2026")],
)
def test_since_when_is_said_as_people_say_it(days: int, words: str) -> None:
    at = datetime(2026, 10, 27, 12) if days != 4 else datetime(2026, 12, 1, 12)
    drift = Drift((dataclasses.replace(DARKER.changes[0], since=at.timestamp()),))

    assert drift.describe((at + timedelta(days=days)).timestamp()) == f"darker by 0.6 stops {words}"


def test_many_changes_are_not_all_named() -> None:
    assert Drift(DARKER.changes * 5).words == ", ".join(["darker by 0.6 stops"] * 3) + " and 2 more"


def test_a_line_says_what_has_drifted_as_its_schema_says() -> None:
    observation = Observation("camera", State("ok"), drift=DARKER)

    line = json.loads(json_line(observation))

    check("observation", line)
    assert line == observation.to_json()
    assert line["drift"]["words"] == "darker by 0.6 stops"


def test_a_drift_that_begins_or_ends_is_worth_a_line() -> None:
    is_news = Changes(Timeline(live=False, fps=1))
    plain, drifting = Observation("camera", State("ok")), Observation("camera", State("ok"), drift=DARKER)

    assert [is_news(each) for each in (plain, plain, drifting, drifting, plain)] == [True, False, True, False, True]


def test_the_terminal_says_it_beside_the_answer() -> None:
    assert describe(Observation("camera", State("ok"), drift=DARKER)) == "nothing found; drifting: darker by 0.6 stops"


def test_home_assistant_gets_a_sensor_for_it() -> None:
    sensors = describe_sensors("line-1", "homeassistant", page_classes())

    (sensor,) = [each for each in sensors.values() if each["name"] == "Drift"]
    assert sensor["state_topic"] == "line-1/state"
    assert "no drift" in sensor["value_template"]


def page_classes() -> Any:
    from edgecnn_device.classes import NO_CLASSES

    return NO_CLASSES


def test_of_many_tiles_a_few_are_measured_at_a_time() -> None:
    camera = Camera()
    image = np.tile(part(3), (4, 4, 1))
    seen = look_at(Tiles(4, 4))(image, camera.model.classifier, camera.clock)
    predictions = Tracker(1).update("camera", seen, camera.model.classifier)
    frame = Frame(image, 1, "camera", START, camera.clock())

    camera.monitor.add(Observation("camera", State("ok"), frame, predictions))

    assert camera.monitor.counted == 1
