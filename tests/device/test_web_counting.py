"""Counters, seconds and the history behind the page."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from web_page import Page, black, lost, seen, serve

from edgecnn.testing import JumpingClock
from edgecnn_device import board
from edgecnn_device.frames import OK, STATES, State
from edgecnn_device.web import counters
from edgecnn_device.web.counters import BUCKETS_S, Histogram, StateClock
from edgecnn_device.web.history import History

STALE, BLIND, ERROR = State("stale", "lost"), State("blind", "black"), State("error", "no number")


def metrics(page: Page) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return name and labels of each sample with its value, as Prometheus' own reader finds them."""
    families = text_string_to_metric_families(page.ask("/metrics")[2].decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def value(samples: dict[tuple[str, tuple[tuple[str, str], ...]], float], name: str, **labels: str) -> float:
    return samples[f"edgecnn_{name}", tuple(sorted(labels.items()))]


def test_metrics_tell_what_was_counted() -> None:
    with serve() as page:
        page.source.losses, page.source.skipped = 3, 40
        page.statistics.sink_errors["csv"] = 5
        failed = replace(black(4), state=ERROR)
        for observation in (seen(1), seen(2, class_id=2), lost(), black(3), failed):
            page.show(observation)

        found = metrics(page)

    assert value(found, "frames_total") == 4
    assert value(found, "skipped_frames_total") == 40
    assert value(found, "source_losses_total") == 3
    assert [value(found, "observations_total", state=name) for name in STATES] == [2, 1, 1, 1]
    assert [value(found, "predictions_total", label=name) for name in ("dark", "gray", "light", "unknown")] == [0, 1, 1, 0]
    assert value(found, "sink_errors_total", sink="csv") == 5
    assert value(found, "stage_seconds_count", stage="invoke") == 2
    assert value(found, "stage_seconds_count", stage="capture") == 4
    assert value(found, "frame_age_seconds_count") == 4
    assert value(found, "viewers", kind="stream") == 0


def test_metrics_tell_what_wears_the_card() -> None:
    with serve() as page:
        found = metrics(page)

    assert value(found, "written_bytes_total") >= 0
    assert sum(name == "edgecnn_disk_written_bytes_total" for name, _ in found) == len(board.disk_written_bytes())


def test_metrics_name_the_state_and_the_model() -> None:
    with serve() as page:
        page.show(lost())

        found = metrics(page)

    assert [value(found, "state", state=name) for name in STATES] == [0, 1, 0, 0]
    info = next(dict(labels) for name, labels in found if name == "edgecnn_model_info")
    assert (info["task"], info["parity"], info["export_id"]) == ("light", "pass", "made-up-1")


def test_the_age_of_the_newest_frame_grows_while_the_camera_is_lost() -> None:
    with serve() as page:
        page.show(seen(1))
        page.show(lost())
        time.sleep(0.2)

        assert value(metrics(page), "newest_frame_age_seconds") >= 0.2


def test_counters_only_grow() -> None:
    with serve() as page:
        seen_values = []
        for observation in (seen(1), lost(), black(2), seen(3), lost()):
            page.show(observation)
            time.sleep(0.05)
            seen_values.append(metrics(page))

    counters = [key for key in seen_values[-1] if key[0].endswith(("_total", "_bucket", "_sum", "_count"))]
    assert all(a.get(key, 0) <= b[key] for a, b in itertools.pairwise(seen_values) for key in counters)


def test_a_loop_that_stands_still_is_stale_on_every_route() -> None:
    with serve(patience_s=0.2) as page:
        page.show(seen(1))
        time.sleep(0.6)

        states = page.status("/healthz"), page.status("/snapshot.jpg"), page.json("/api/stats")["state"]

    assert states == (503, 503, "stale")


def test_frames_that_are_only_gated_keep_the_state() -> None:
    with serve(patience_s=0.6) as page:
        page.show(seen(1))
        for _ in range(12):
            page.statistics.frames += 1
            time.sleep(0.1)

        assert page.status("/healthz") == 200


def test_every_second_of_an_outage_is_counted() -> None:
    clock = StateClock(0.0)

    clock.note(OK, 1.0)
    clock.note(STALE, 4.0)
    clock.note(OK, 14.0)
    clock.note(BLIND, 15.0)

    assert clock.seconds(17.0) == {"ok": 4.0, "stale": 11.0, "blind": 2.0, "error": 0.0}


def test_seconds_in_which_the_loop_stands_still_are_stale() -> None:
    clock = StateClock(0.0)
    clock.note(OK, 0.0)

    assert clock.seconds(65.0) == {"ok": counters.PATIENCE_S, "stale": 65.0 - counters.PATIENCE_S, "blind": 0.0, "error": 0.0}


@given(st.lists(st.tuples(st.floats(0, 20), st.sampled_from([OK, STALE, BLIND, ERROR, None]))))
def test_seconds_never_shrink_and_add_up_to_the_time_that_has_passed(steps: list[tuple[float, State | None]]) -> None:
    clock, now_s, before = StateClock(0.0), 0.0, dict.fromkeys(STATES, 0.0)
    for pause_s, state in steps:
        now_s += pause_s
        if state is not None:
            clock.note(state, now_s)
        after = clock.seconds(now_s)
        assert all(before[name] <= after[name] for name in before)
        before = after

    assert sum(before.values()) == pytest.approx(now_s)


@given(st.lists(st.floats(0, 10)))
def test_a_histogram_counts_every_duration_once(durations: list[float]) -> None:
    histogram = Histogram()

    for seconds in durations:
        histogram.add(seconds)

    assert sum(histogram.counts) == len(durations)
    assert histogram.counts[-1] == sum(seconds > BUCKETS_S[-1] for seconds in durations)


def test_the_history_keeps_four_of_thirty_frames_a_second() -> None:
    history = History()

    for number in range(300):
        history.add(seen(number), number / 30)

    assert len(history.entries(10.0)) == pytest.approx(40, abs=4)


def test_the_history_keeps_whatever_is_new() -> None:
    history = History()

    for number in range(30):
        history.add(seen(number, class_id=number % 3), number / 1000)

    assert len(history.entries(0.03)) == 30


def test_the_history_is_bounded() -> None:
    history, observation = History(), seen(1)

    for number in range(5000):
        history.add(observation, float(number))

    assert len(history.entries(5000.0)) <= 300


def test_a_clock_that_is_set_does_not_touch_the_history() -> None:
    wall = JumpingClock(1e9)
    history = History(wall)
    history.add(lost(), 1.0)
    wall.now_s = 2e9
    history.add(replace(lost(), state=BLIND), 2.0)

    assert [entry.at_s for entry in history.entries(3.0)] == [1e9, 2e9]
