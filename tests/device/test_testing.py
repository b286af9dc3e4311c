"""The stand-ins that users get: a camera, a clock, a runtime and a sink that play together."""

from __future__ import annotations

import subprocess
import sys

from edgecnn.testing import FakeCamera, JumpingClock, ListSink, fake_classifier, gray_picture
from edgecnn_device.finders import find_whole, look_at
from edgecnn_device.health import Health, Limits
from edgecnn_device.loop import Watcher, run_loop
from edgecnn_device.sources import Source
from edgecnn_device.tracking import Tracker


def test_a_fake_camera_goes_through_the_loop_and_is_lost_after_a_while() -> None:
    clock, sink = JumpingClock(), ListSink()
    camera: Source = FakeCamera([gray_picture(60), gray_picture(240, 1), *[None] * 60], clock=clock)
    model = fake_classifier()
    watcher = Watcher(lambda: model, look_at(find_whole), Health(Limits()), Tracker(1), clock=clock)

    with camera as opened:
        run_loop(opened, watcher, [sink])

    labels = [[prediction.raw.label for prediction in seen.predictions] for seen in sink.observations]
    assert labels[:2] == [["dark"], ["light"]]
    assert [seen.state.name for seen in sink.observations][-1] == "stale"
    assert camera.losses == 1


def test_the_clock_moves_when_it_is_told() -> None:
    clock = JumpingClock(5.0)

    clock.jump(2.5)

    assert clock() == 7.5


def test_no_framework_comes_along() -> None:
    code = (
        "import sys, edgecnn.testing; print(sorted({'tensorflow', 'keras', 'onnx', 'matplotlib', 'pytest'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert done.stdout.strip() == "[]"
