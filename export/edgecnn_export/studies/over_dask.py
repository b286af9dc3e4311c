"""The jobs of a study as tasks of Dask distributed, on as many machines as its scheduler has workers."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import click

import edgecnn
from edgecnn.errors import ClusterError, EdgecnnError, InferenceError, InputError, MissingDependencyError
from edgecnn.runtimes.tflite import first_line
from edgecnn.text import counted

Job = TypeVar("Job")
Shared = TypeVar("Shared")
Result = TypeVar("Result")

MOST_BYTES = 2**31  # of what all jobs share: it goes through the scheduler's memory
PATIENCE_S = 300.0  # without any worker: one that died is started again in seconds to minutes
_CONNECT_S = 10.0
_POLL_S = 0.5
_TOPIC = "edgecnn"
_KEPT = "results that came are kept, and the same command goes on"
_ADDRESS = re.compile(r"(tcp|tls|ws|wss|ucx)://[^\s/]+:\d+")


def map_over_dask(
    address: str, work: Callable[[Shared, Job], Result], shared: Shared, jobs: Sequence[Job]
) -> Iterator[tuple[Job, Result]]:
    """Yield each job with `work(shared, job)`, run by a worker of the scheduler at `address`, in the order in which they end.

    `work` must be a function of a module that the workers have too. What a worker was at when it died is done again by another,
    as often as the scheduler allows (`distributed.scheduler.allowed-failures`, 3). Lines for people go to stderr. Raises
    InputError for an address that is none, MissingDependencyError without Dask, ClusterError when the scheduler cannot be
    reached, goes away, has no worker for PATIENCE_S, or a job killed one worker after the other; what `work` raises if it is
    an EdgecnnError, else InferenceError.
    """
    check_scheduler(address)
    if not jobs:
        return
    with _client(address) as client:
        click.echo(f"{counted(len(jobs), 'job')} for {counted(_workers(client), 'worker')} of {address}", err=True)
        # A task of its own, which the scheduler knows how to repeat: what is scattered is lost with its worker.
        common = client.submit(_itself, shared, pure=False)
        running = {client.submit(_checked, edgecnn.__version__, work, common, job, pure=False): job for job in jobs}
        yield from _collected(client, address, running)


def check_scheduler(address: str) -> None:
    """Raise InputError for an address that is none, MissingDependencyError without Dask."""
    if _ADDRESS.fullmatch(address) is None:
        raise InputError(f"--scheduler {address!r} is no address of a Dask scheduler, such as tcp://192.168.1.5:8786")
    if importlib.util.find_spec("distributed") is None:
        raise MissingDependencyError("--scheduler needs Dask. Install it with: pip install 'edgecnn[dask]'")


def _collected(client: Any, address: str, running: dict[Any, Job]) -> Iterator[tuple[Job, Any]]:
    from distributed import wait

    seen = time.monotonic()
    while running:
        with _one_line(address):
            there = _workers(client)
        if there:
            seen = time.monotonic()
        elif time.monotonic() - seen > PATIENCE_S:
            raise ClusterError(f"{address} has had no worker for {PATIENCE_S:.0f} s; {_KEPT}")
        ended: list[Any] = []
        with _one_line(address), contextlib.suppress(TimeoutError):
            ended = list(wait(list(running), timeout=_POLL_S, return_when="FIRST_COMPLETED").done)
        for future in sorted(ended, key=lambda each: each.status != "finished"):  # what came is kept before an error ends all
            with _one_line(address):
                result = future.result()
            yield running.pop(future), result


@contextlib.contextmanager
def _one_line(address: str) -> Iterator[None]:
    """Raise ClusterError for what Dask raises about scheduler and workers, InferenceError for what is no error of ours."""
    from distributed import KilledWorker
    from distributed.client import CancelledError
    from distributed.comm import CommClosedError

    try:
        yield
    except KilledWorker as error:
        raise ClusterError(
            f"a job ended one worker of {address} after the other, perhaps for want of memory; {_KEPT}"
        ) from error
    except (CancelledError, CommClosedError) as error:
        raise ClusterError(f"the Dask scheduler {address} went away; {_KEPT}") from error
    except (EdgecnnError, TimeoutError):
        raise
    except Exception as error:  # whatever a worker lacks, or a training raises there
        raise InferenceError(f"a worker of {address} failed: {type(error).__name__}: {first_line(error)}; {_KEPT}") from error


def _workers(client: Any) -> int:
    return len(client.scheduler_info(n_workers=-1)["workers"]) if client.status == "running" else 0


@contextlib.contextmanager
def _client(address: str) -> Iterator[Any]:
    """Connect, print what workers say, and end what is still running when the block is left."""
    from distributed import Client

    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.CRITICAL)  # an error of ours is the only line about it
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a "large graph": the pictures
            try:
                client = Client(address, timeout=_CONNECT_S, set_as_default=False)
            except (OSError, ValueError) as error:
                raise ClusterError(f"no Dask scheduler answers at {address} within {_CONNECT_S:.0f} s") from error
            client.subscribe_topic(_TOPIC, lambda event: click.echo(event[1], err=True))
            try:
                with client.as_current():
                    yield client
            finally:
                with contextlib.suppress(Exception):  # of a scheduler that is gone
                    client.close(timeout=2)
    finally:
        logger.setLevel(before)


def say(line: str) -> None:
    """Send one line from a worker to whoever runs the study."""
    from distributed import get_worker

    with contextlib.suppress(ValueError):  # no worker
        get_worker().log_event(_TOPIC, line)


def _itself(shared: Shared) -> Shared:
    return shared


def _checked(version: str, work: Callable[[Shared, Job], Result], shared: Shared, job: Job) -> Result:
    """Do one job; on a worker. InputError where that has another version."""
    if edgecnn.__version__ != version:
        raise InputError(f"a Dask worker has edgecnn {edgecnn.__version__}, not {version}: install the same on all machines")
    return work(shared, job)


def require_small(size: int, what: str) -> None:
    """Raise InputError for more bytes than can go through a scheduler."""
    if size > MOST_BYTES:
        raise InputError(
            f"{what} are {size / 1e9:.1f} GB; at most {MOST_BYTES / 1e9:.1f} GB go to the workers of a scheduler: leave out "
            "--scheduler, or take a smaller --size"
        )
