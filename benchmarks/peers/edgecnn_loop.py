"""The camera loop of this project, with JSON Lines as its sink."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness import run

from edgecnn.cli.start import starting

with starting():  # as `edgecnn camera` does
    import numpy  # noqa: F401

from edgecnn_device.finders import find_whole, look_at
from edgecnn_device.health import Health, Limits
from edgecnn_device.loop import Statistics, Watcher, observe
from edgecnn_device.model import ModelOptions, open_model
from edgecnn_device.sinks.jsonl import JsonLinesSink
from edgecnn_device.sources import SourceOptions, open_source
from edgecnn_device.tracking import Tracker


def answers(model: Path, folder: Path, video: str) -> Iterator[int]:
    """Yield the class of each frame."""
    classifier = open_model(ModelOptions(str(model))).classifier
    watcher = Watcher(lambda: classifier, look_at(find_whole), Health(Limits(live=False)), Tracker(5))
    with (
        tempfile.TemporaryDirectory() as name,
        open_source(SourceOptions(video)) as source,
        JsonLinesSink(Path(name) / "out.jsonl", max_bytes=10**8, keep=1) as sink,
    ):
        for observation in observe(source, watcher, Statistics()):
            sink.write(observation)
            yield observation.predictions[0].raw.class_id
            del observation


run(answers, ["edgecnn"])
