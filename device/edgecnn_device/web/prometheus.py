"""`/metrics`: the camera's counters as Prometheus metric families."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from edgecnn_device import board
from edgecnn_device.board import THROTTLE_WORDS
from edgecnn_device.frames import OUTCOMES, STATES
from edgecnn_device.surroundings import Surroundings
from edgecnn_device.web.broadcast import Broadcast
from edgecnn_device.web.counters import BUCKETS_S, Histogram
from edgecnn_device.web.status import Watched

if TYPE_CHECKING:
    from edgecnn_device.actions.sink import ActionSink
    from edgecnn_device.drift import DriftMonitor

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_VIEWERS = ("page", "predictions", "stream")


class Metrics(Collector):
    """All metrics; counters only grow, and rates are left to whoever reads them."""

    def __init__(self, watched: Watched, broadcast: Broadcast) -> None:
        """Read from `watched` and `broadcast` whenever the metrics are asked for."""
        self._watched, self._broadcast = watched, broadcast
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        """Return all of them in Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Name no metrics in advance: some exist only on some boards."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metric families as they are now."""
        yield from self._loop()
        yield from self._page()
        yield from _surroundings(self._watched.surroundings)
        yield _model_info(self._watched)

    def _loop(self) -> Iterator[Metric]:
        watched, statistics = self._watched, self._watched.statistics
        labels = dict.fromkeys((*watched.model().classifier.labels, "unknown"), 0) | dict(statistics.labels)
        yield _counter("frames", "Frames taken by the loop.", statistics.frames)
        yield _counter("skipped_frames", "Frames dropped by the source.", watched.source.skipped)
        yield _counter("gated_frames", "Frames not classified (interval, no motion).", statistics.gated)
        yield _counter("source_losses", "Failures of the camera.", watched.source.losses)
        yield _counter("model_swaps", "Model reloads.", watched.swaps())
        yield _counter("model_refusals", "New models that were refused.", watched.refusals())
        yield _gauge("model_refused", "1 while the model's file is refused and another one runs.", int(bool(watched.warning())))
        yield _counters("observations", "Observations by state.", "state", {name: statistics.states[name] for name in STATES})
        events: dict[str, float] = {outcome: statistics.events[outcome] for outcome in OUTCOMES}
        yield _counters("events", "Parts and shots of a trigger by outcome.", "outcome", events)
        yield _counter("clock_jumps", "Times that the wall clock was set.", statistics.clock_jumps)
        yield _counters("unusable_frames", "Unusable frames by reason.", "reason", statistics.reasons)
        yield _counters("predictions", "Predictions by label, before smoothing.", "label", labels)
        if watched.drift is not None:
            yield from _drift(watched.drift)
        if watched.actions is not None:
            yield from _actions(watched.actions)
        yield _counters("sink_errors", "Failed writes by sink.", "sink", statistics.sink_errors)

    def _page(self) -> Iterator[Metric]:
        broadcast, counters, state = self._broadcast, self._broadcast.counters, self._broadcast.look().state
        yield _counters("state_seconds", "Seconds spent in each state.", "state", counters.states.seconds(counters.clock()))
        yield _histograms("stage_seconds", "Time per stage.", {(stage,): found for stage, found in counters.latency.items()})
        yield _histograms("frame_age_seconds", "Age of a frame when the loop took it.", {(): counters.age})
        yield _gauges("state", "1 for the current state.", "state", {name: int(name == state.name) for name in STATES})
        if (age_s := broadcast.age_s()) is not None:
            yield _gauge("newest_frame_age_seconds", "Age of the newest frame.", age_s)
        yield _gauge("uptime_seconds", "Seconds since the start.", counters.clock() - counters.started_s)
        yield _gauges("viewers", "Open pages and streams.", "kind", {kind: broadcast.viewers[kind] for kind in _VIEWERS})
        if (written := board.own_written_bytes()) is not None:
            yield _counter("written_bytes", "Bytes written to disks by the camera.", written)
        yield _counters("disk_written_bytes", "Bytes written to each disk since boot.", "disk", board.disk_written_bytes())


def _actions(actions: ActionSink) -> Iterator[Metric]:
    counted = CounterMetricFamily("edgecnn_actions", "Actions by rule and outcome.", labels=["on", "action", "outcome"])
    waiting = GaugeMetricFamily("edgecnn_actions_waiting", "Events that wait for an action.", labels=["on", "action"])
    active = GaugeMetricFamily("edgecnn_action_active", "1 while a rule's label counts as there.", labels=["on", "action"])
    for each in actions.to_json():
        own = [each["on"], each["action"]]
        for outcome in ("asked", "done", "failed", "dropped"):
            counted.add_metric([*own, outcome], each[outcome])
        waiting.add_metric(own, each["waiting"])
        active.add_metric(own, int(each["active"]))
    yield from (counted, waiting, active)


def _drift(monitor: DriftMonitor) -> Iterator[Metric]:
    changes = () if monitor.drift is None else monitor.drift.changes
    yield _gauge("drift_judged", "1 when a drift of the pictures would be noticed.", int(monitor.judged))
    yield _gauge("drifting", "1 while the pictures are not like those that the model was proven on.", int(bool(changes)))
    yield _counter("drift_pictures", "Different pictures that were compared with the usual ones.", monitor.counted)
    family = GaugeMetricFamily("edgecnn_drift", "By how much a statistic has changed.", labels=["statistic", "direction"])
    for change in changes:
        family.add_metric([change.what, change.direction], change.by)
    yield family


def _surroundings(surroundings: Surroundings) -> Iterator[Metric]:
    """Yield the metrics of the board, its disks and its broker that this machine can tell."""
    if (celsius := surroundings.celsius()) is not None:
        yield _gauge("temperature_celsius", "Temperature of the processor.", celsius)
    if (flags := surroundings.throttling()) is not None:
        for name, text, set_flags in (
            ("throttled", "1 for what throttles the board now.", flags.now),
            ("throttled_since_boot", "1 for what has throttled the board since boot.", flags.since_boot),
        ):
            yield _gauges(name, text, "reason", {word: int(word in set_flags) for word in THROTTLE_WORDS})
    if free := surroundings.free_bytes():
        yield _gauges("disk_free_bytes", "Free space where outputs are written.", "folder", free)
    if (queue := surroundings.queue) is not None:
        yield _gauge("mqtt_unsent_messages", "Messages not yet confirmed by the broker.", queue.waiting)
        yield _counter("mqtt_lost_messages", "Messages lost because the queue was full.", queue.dropped)


def _model_info(watched: Watched) -> Metric:
    model = watched.model()
    contract = model.artifact.contract
    info = {
        "task": contract.task,
        "model": contract.model,
        "precision": contract.precision,
        "export_id": contract.export_id,
        "runtime": model.classifier.runtime.name,
        "parity": contract.parity.verdict,
        "verified": str(model.verified).lower(),
    }
    return InfoMetricFamily("edgecnn_model", "The running model.", value=info)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"edgecnn_{name}", text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"edgecnn_{name}", text, value=value)


def _counters(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(f"edgecnn_{name}", text, labels=[label])
    for key, value in dict(values).items():
        family.add_metric([key], value)
    return family


def _gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"edgecnn_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _histograms(name: str, text: str, histograms: Mapping[tuple[str, ...], Histogram]) -> Metric:
    """Return a family of histograms, by no label or by that of the stage."""
    family = HistogramMetricFamily(f"edgecnn_{name}", text, labels=["stage"] if () not in histograms else [])
    for labels, histogram in histograms.items():
        buckets = zip((*map(str, BUCKETS_S), "+Inf"), map(float, accumulate(histogram.counts)), strict=True)
        family.add_metric(list(labels), list(buckets), histogram.sum_s)
    return family
