"""Twenty seconds of a camera's life with everything failing at random; `make test-faults` lives an hour."""

from __future__ import annotations

import pytest
from soak import LIMITS, SAMPLE_BYTES, Hour, live_an_hour
from web_page import model

FRAMES = 600


@pytest.fixture(scope="module")
def hour(tmp_path_factory: pytest.TempPathFactory) -> Hour:
    return live_an_hour(model(), tmp_path_factory.mktemp("soak"), frames=FRAMES, seed=0, viewers=2)


def test_every_second_of_trouble_stands_in_the_metrics(hour: Hour) -> None:
    stale_s = sum(max(0.0, o.ended_s - o.began_s - LIMITS.max_age_s) for o in hour.outages if o.kind != "black")
    blind_s = sum(o.ended_s - o.began_s for o in hour.outages if o.kind == "black")
    seconds = {name: hour.metrics[f'state_seconds_total{{state="{name}"}}'] for name in ("ok", "stale", "blind")}

    assert hour.outages
    assert seconds["stale"] == pytest.approx(stale_s, abs=1.5)
    assert seconds["blind"] == pytest.approx(blind_s, abs=0.5)
    assert sum(seconds.values()) == pytest.approx(hour.seconds, abs=0.2)


def test_nothing_is_lost_that_is_not_counted(hour: Hour) -> None:
    assert hour.statistics.frames == FRAMES
    assert (hour.lines, hour.line_errors) == (hour.statistics.states.total(), 0)
    assert hour.said - hour.received <= hour.dropped + hour.waiting
    assert 0 < hour.sample_bytes <= SAMPLE_BYTES


def test_nothing_piles_up(hour: Hour) -> None:
    threads = [reading.threads for reading in hour.readings]

    assert min(threads[-len(threads) // 3 :]) <= min(threads[: len(threads) // 3]) + 1
    assert not [line for line in hour.complaints if "Traceback" in line]
