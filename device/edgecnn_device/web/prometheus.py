"""`/metrics`: counters in Prometheus' text format (version 0.0.4), written here since it is a page of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate

from edgecnn_device import board
from edgecnn_device.board import THROTTLE_WORDS
from edgecnn_device.frames import STATES
from edgecnn_device.surroundings import Surroundings
from edgecnn_device.web.broadcast import Hub
from edgecnn_device.web.counters import BUCKETS_S, Histogram
from edgecnn_device.web.status import Watched

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_VIEWERS = ("page", "predictions", "stream")


def write_metrics(watched: Watched, hub: Hub) -> str:
    """Return all metrics; counters only grow, and rates are left to who reads them."""
    return "".join(_lines(watched, hub))


def _lines(watched: Watched, hub: Hub) -> Iterator[str]:
    statistics, tally, state = watched.statistics, hub.tally, hub.look().state
    labels = dict.fromkeys((*watched.model().classifier.labels, "unknown"), 0) | dict(statistics.labels)
    age_s = hub.age_s()
    yield from _plain("frames_total", "counter", "Frames that the loop took.", statistics.frames)
    yield from _plain("skipped_frames_total", "counter", "Frames that the source dropped.", watched.source.skipped)
    yield from _plain("gated_frames_total", "counter", "Frames not looked at (interval, no motion).", statistics.gated)
    yield from _plain("source_losses_total", "counter", "Failures of the camera.", watched.source.losses)
    yield from _plain("model_swaps_total", "counter", "Exchanges of the model.", watched.swaps())
    yield from _plain("model_refusals_total", "counter", "Bad new models that were refused.", watched.refusals())
    yield from _plain(
        "model_refused", "gauge", "1 while the model's file was refused, and another one runs.", int(bool(watched.warning()))
    )
    observations = {name: statistics.states[name] for name in STATES}
    yield from _by("observations_total", "counter", "Observations by state.", "state", observations)
    yield from _plain("clock_jumps_total", "counter", "Times that the wall clock was set.", statistics.clock_jumps)
    reasons = dict(statistics.reasons)
    yield from _by("unusable_frames_total", "counter", "Frames that could not be believed, by reason.", "reason", reasons)
    seconds = tally.states.seconds(tally.clock())
    yield from _by("state_seconds_total", "counter", "Seconds spent in each state.", "state", seconds)
    yield from _by("predictions_total", "counter", "Answers by label, before smoothing.", "label", labels)
    yield from _by("sink_errors_total", "counter", "Failed writes by sink.", "sink", dict(statistics.sink_errors))
    yield from _histograms("stage_seconds", "Time in each stage.", {_labels(stage=s): h for s, h in tally.latency.items()})
    yield from _histograms("frame_age_seconds", "Age of a frame when the loop took it.", {"": tally.age})
    yield from _by("state", "gauge", "1 for the present state.", "state", {name: int(name == state.name) for name in STATES})
    if age_s is not None:
        yield from _plain("newest_frame_age_seconds", "gauge", "Age of the newest frame now.", age_s)
    yield from _plain("uptime_seconds", "gauge", "Seconds since the start.", tally.clock() - tally.started_s)
    yield from _by("viewers", "gauge", "Open pages and streams.", "kind", {kind: hub.viewers[kind] for kind in _VIEWERS})
    if (written := board.own_written_bytes()) is not None:
        yield from _plain("written_bytes_total", "counter", "Bytes that the camera wrote to disks.", written)
    on_disks = board.disk_written_bytes()
    yield from _by("disk_written_bytes_total", "counter", "Bytes written to each disk since boot.", "disk", on_disks)
    yield from _around(watched.surroundings)
    yield from _family("model_info", "gauge", "The running model.")
    yield f"edgecnn_model_info{{{_model_labels(watched)}}} 1\n"


def _around(surroundings: Surroundings) -> Iterator[str]:
    """Return the metrics of the board, its disks and its broker; what the machine does not tell is not there."""
    if (celsius := surroundings.celsius()) is not None:
        yield from _plain("temperature_celsius", "gauge", "Temperature of the processor.", celsius)
    if (flags := surroundings.throttling()) is not None:
        for name, text, set_flags in (
            ("throttled", "1 for what slows the board down now.", flags.now),
            ("throttled_since_boot", "1 for what has slowed the board down since boot.", flags.since_boot),
        ):
            yield from _by(name, "gauge", text, "reason", {word: int(word in set_flags) for word in THROTTLE_WORDS})
    if free := surroundings.free_bytes():
        yield from _by("disk_free_bytes", "gauge", "Free space where sinks write.", "folder", free)
    if (queue := surroundings.queue) is not None:
        yield from _plain("mqtt_unsent_messages", "gauge", "Messages that the broker has not confirmed.", queue.waiting)
        yield from _plain("mqtt_lost_messages_total", "counter", "Messages lost because the queue was full.", queue.dropped)


def _model_labels(watched: Watched) -> str:
    model = watched.model()
    contract = model.artifact.contract
    return _labels(
        task=contract.task,
        model=contract.model,
        precision=contract.precision,
        export_id=contract.export_id,
        runtime=model.classifier.runtime.name,
        parity=contract.parity.verdict,
        verified=str(model.verified).lower(),
    )


def _plain(name: str, kind: str, text: str, value: float) -> Iterator[str]:
    yield from _family(name, kind, text)
    yield f"edgecnn_{name} {value}\n"


def _by(name: str, kind: str, text: str, label: str, values: Mapping[str, float]) -> Iterator[str]:
    yield from _family(name, kind, text)
    for key, value in values.items():
        yield f"edgecnn_{name}{{{_labels(**{label: key})}}} {value}\n"


def _histograms(name: str, text: str, histograms: Mapping[str, Histogram]) -> Iterator[str]:
    yield from _family(name, "histogram", text)
    for labels, histogram in histograms.items():
        comma, braced = (labels + ",", f"{{{labels}}}") if labels else ("", "")
        *up_to, count = accumulate(histogram.counts)
        for bound, value in zip((*map(str, BUCKETS_S), "+Inf"), (*up_to, count), strict=True):
            yield f'edgecnn_{name}_bucket{{{comma}le="{bound}"}} {value}\n'
        yield f"edgecnn_{name}_sum{braced} {histogram.sum_s}\nedgecnn_{name}_count{braced} {count}\n"


def _family(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP edgecnn_{name} {text}\n# TYPE edgecnn_{name} {kind}\n"


def _labels(**values: str) -> str:
    escaped = {key: value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"") for key, value in values.items()}
    return ",".join(f'{key}="{value}"' for key, value in escaped.items())
