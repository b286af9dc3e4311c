"""An hour of a camera's life at full speed: nothing grows, every second is accounted for, nothing promised is lost.

EDGECNN_SOAK_FRAMES sets another length; 108,000 frames are an hour.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest
from commands import SHIPPED
from ledger import SEED, Ledger, counted
from soak import LIMITS, SAMPLE_BYTES, Hour, live_an_hour

from edgecnn_device.model import ModelOptions, open_model

pytestmark = pytest.mark.timeout(7200)
FRAMES = int(os.environ.get("EDGECNN_SOAK_FRAMES", "108000"))
TABLE = "soak"
# What Python's and the C library's allocators may still settle at.
MOST_GROWN_MB = 8.0


@pytest.fixture(scope="module")
def hour(tmp_path_factory: pytest.TempPathFactory) -> Hour:
    model = open_model(ModelOptions(str(SHIPPED / "mnist-int8.tflite")))
    return live_an_hour(model, tmp_path_factory.mktemp("soak"), frames=FRAMES, seed=SEED)


def test_every_frame_is_seen_or_counted_as_skipped(hour: Hour, ledger: Ledger) -> None:
    states = hour.statistics.states

    assert hour.statistics.frames == FRAMES == hour.metrics["frames_total"]
    assert hour.metrics['observations_total{state="ok"}'] == states["ok"]
    visits = sum(hour.visits.values())
    outcome = f"{hour.seconds / 60:.0f} minutes of the camera in {hour.took_s / 60:.1f} of ours, {hour.skipped} skipped"
    ledger.note(
        TABLE, f"{visits:,} visits of viewers, {hour.broker_deaths} deaths of the broker meanwhile: frames", FRAMES, outcome
    )


def test_memory_threads_and_descriptors_are_flat(hour: Hour, ledger: Ledger) -> None:
    later = hour.readings[len(hour.readings) // 5 :]
    early, late = later[: len(later) // 3], later[-len(later) // 3 :]

    assert hour.grown_mb() < MOST_GROWN_MB
    assert min(r.threads for r in late) <= min(r.threads for r in early)
    assert min(r.descriptors for r in late) <= min(r.descriptors for r in early)
    outcome = (
        f"memory {later[0].memory_mb:.0f} to {later[-1].memory_mb:.0f} MB, slope {hour.grown_mb():+.1f} MB over the whole; "
        f"least threads {min(r.threads for r in early)} and {min(r.threads for r in late)}, "
        f"least descriptors {min(r.descriptors for r in early)} and {min(r.descriptors for r in late)} (first, last third)"
    )
    ledger.note(TABLE, "memory, threads and descriptors", len(hour.readings), outcome)


def test_every_second_of_trouble_stands_in_the_metrics(hour: Hour, ledger: Ledger) -> None:
    seconds = {name: hour.metrics[f'state_seconds_total{{state="{name}"}}'] for name in ("ok", "stale", "blind")}
    lasted = {kind: [o.ended_s - o.began_s for o in hour.outages if o.kind == kind] for kind in ("lost", "frozen", "black")}
    # A frame may be this old, and a picture this long the same, before either counts as trouble.
    grace_s = {"lost": LIMITS.max_age_s, "frozen": LIMITS.frozen_after_s}
    stale_s = sum(max(0.0, each - grace_s[kind]) for kind in grace_s for each in lasted[kind])
    count = Counter(o.kind for o in hour.outages)

    assert min(count[kind] for kind in lasted) >= 1
    assert seconds["stale"] == pytest.approx(stale_s, abs=0.15 * (count["lost"] + count["frozen"]) + 0.5)
    assert seconds["blind"] == pytest.approx(sum(lasted["black"]), abs=0.1 * count["black"] + 0.1)
    assert sum(seconds.values()) == pytest.approx(hour.seconds, abs=0.2)
    outcome = (
        f"stale {seconds['stale']:.0f} s of {stale_s:.0f} expected, blind {seconds['blind']:.0f} s of "
        f"{sum(lasted['black']):.0f}; all states together {sum(seconds.values()):.0f} s of {hour.seconds:.0f}"
    )
    ledger.note(TABLE, f"troubles of the camera: {counted(count)}", len(hour.outages), outcome)


def test_no_line_is_missing(hour: Hour, ledger: Ledger) -> None:
    assert hour.lines == hour.statistics.states.total()
    assert (hour.line_errors, hour.statistics.sink_errors["jsonl"]) == (0, 0)
    ledger.note(TABLE, "JSON Lines", hour.lines, "one an observation, whole and in order")


def test_no_message_is_lost_that_is_not_counted_as_lost(hour: Hour, ledger: Ledger) -> None:
    missing = hour.said - hour.received

    assert hour.broker_deaths >= 1
    assert missing <= hour.dropped + hour.waiting
    assert missing == 0 or hour.statistics.sink_errors["mqtt"] > 0
    outcome = f"{hour.received:,} received, {missing} lost while the broker was away longer than the queue reaches, all counted"
    ledger.note(TABLE, "MQTT predictions", hour.said, outcome)


def test_the_ring_of_samples_stays_in_its_bounds(hour: Hour, ledger: Ledger) -> None:
    assert 0 < hour.sample_bytes <= SAMPLE_BYTES
    assert hour.statistics.sink_errors["samples"] == 0
    ledger.note(TABLE, "bytes of kept samples", hour.sample_bytes, f"at most {SAMPLE_BYTES:,} allowed")
