"""A study's jobs on two worker processes of a scheduler, of which one dies, or which is gone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import dask
import dask_jobs
import pytest
from distributed import LocalCluster

from edgecnn.errors import ClusterError, DatasetError, InferenceError, InputError
from edgecnn_export.studies import over_dask
from edgecnn_export.studies.over_dask import map_over_dask, require_small

pytestmark = pytest.mark.filterwarnings("ignore")  # Dask's own


def two_workers(count: int = 2) -> LocalCluster:
    return LocalCluster(
        n_workers=count, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=logging.CRITICAL
    )


@pytest.fixture(scope="module", autouse=True)
def short_timeouts() -> Iterator[None]:
    """Let workers and clients miss a dead one after seconds, not after half a minute."""
    with dask.config.set({"distributed.comm.timeouts.connect": "3s", "distributed.comm.retry.count": 0}):
        yield


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with two_workers() as made:
        yield made


def test_each_job_comes_back_with_its_result(cluster: LocalCluster, capsys: pytest.CaptureFixture[str]) -> None:
    found = dict(map_over_dask(cluster.scheduler_address, dask_jobs.multiply, 3, range(20)))

    assert found == {number: 3 * number for number in range(20)}
    assert f"20 jobs for 2 workers of {cluster.scheduler_address}" in capsys.readouterr().err


def test_what_a_killed_worker_was_at_is_done_by_another(cluster: LocalCluster, tmp_path: Path) -> None:
    found = dict(map_over_dask(cluster.scheduler_address, dask_jobs.die_once, str(tmp_path), range(6)))

    assert (tmp_path / "died").exists()
    assert sorted(found) == list(range(6))


def test_a_job_that_kills_every_worker_is_one_line() -> None:
    said = r"ended one worker of .* after the other.* results that came are kept"
    allowed = dask.config.set({"distributed.scheduler.allowed-failures": 0})
    with allowed, two_workers(1) as own, pytest.raises(ClusterError, match=said):
        list(map_over_dask(own.scheduler_address, dask_jobs.die, None, [1]))


def test_a_scheduler_that_goes_away_leaves_the_results_that_came() -> None:
    came, own = [], two_workers()

    with pytest.raises(ClusterError, match=f"the Dask scheduler {own.scheduler_address} went away; results that came are kept"):
        for job, _ in map_over_dask(own.scheduler_address, dask_jobs.slowly, 1, [0.1, 30.0]):
            came.append(job)
            own.close()

    assert came == [0.1]


def test_a_mistake_on_a_worker_is_the_same_mistake_here(cluster: LocalCluster) -> None:
    with pytest.raises(DatasetError, match=r"class 4 has 1 picture\(s\)"):
        list(map_over_dask(cluster.scheduler_address, dask_jobs.fail, None, [4]))


def test_what_is_no_error_of_ours_is_one_line_too(cluster: LocalCluster) -> None:
    with pytest.raises(InferenceError, match=r"a worker of tcp://.* failed: ValueError: axes don't match; results that came"):
        list(map_over_dask(cluster.scheduler_address, dask_jobs.fail_strangely, None, [1]))


def test_a_scheduler_without_workers_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(over_dask, "PATIENCE_S", 1.0)
    with two_workers(0) as empty, pytest.raises(ClusterError, match="has had no worker for 1 s"):
        list(map_over_dask(empty.scheduler_address, dask_jobs.multiply, 1, [1]))


def test_nobody_at_the_address_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(over_dask, "_CONNECT_S", 1.0)

    with pytest.raises(ClusterError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9 within 1 s"):
        list(map_over_dask("tcp://127.0.0.1:9", dask_jobs.multiply, 1, [1]))


@pytest.mark.parametrize("address", ["", "127.0.0.1:8786", "http://127.0.0.1:8786", "tcp://host", "tcp://a b:1"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="is no address of a Dask scheduler"):
        list(map_over_dask(address, dask_jobs.multiply, 1, [1]))


def test_pictures_beyond_what_a_scheduler_passes_on_are_refused() -> None:
    with pytest.raises(InputError, match=r"the pictures are 3\.0 GB; at most 2\.1 GB"):
        require_small(3 * 10**9, "the pictures")
