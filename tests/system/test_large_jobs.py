"""Jobs too large for one process: a folder of 5,000 pictures, a training of two workers, a study over Dask."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import LocalCluster
from frozen_clusters import clusters
from numpy.typing import NDArray
from picture_files import write_classes
from running import find_port, wait_until

from benchmarks.streaming_memory import CLASSES, draw, follow
from edgecnn_export.studies.learning_curve import learning_curve

COUNT = 5000
MOST_GB = 2.0  # of anonymous memory; the inputs alone are 0.55
LOSS_TOLERANCE = 1e-3  # relative: sums of gradients are rounded in another order, and rounding grows from step to step
TRAIN = (sys.executable, "-m", "edgecnn", "train")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many") / "pictures"
    draw(folder, COUNT, side=72)
    (folder / "class0" / "broken.png").write_bytes((folder / "class0" / "0.png").read_bytes()[:500])
    return folder


def test_a_folder_of_5000_pictures_is_checked(many: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgecnn", "data", "check", str(many), "--json"], capture_output=True, timeout=1800, check=True
    )

    found = json.loads(done.stdout)
    assert sum(found["counts"].values()) == COUNT
    assert list(found["unreadable"]) == ["class0/broken.png"]
    assert found["pairs"] == []


def test_a_folder_of_5000_pictures_is_trained_for_an_epoch_from_the_disk(many: Path, tmp_path: Path) -> None:
    command = [*TRAIN, str(many), "--network", "compact", "--teacher", "none", "--epochs", "1", "--no-report"]
    process = subprocess.Popen([*command, "--size", "192", "--color", "rgb", "--out", str(tmp_path / "run")])

    anonymous, _ = follow(process)

    assert process.wait() == 0
    record = json.loads((tmp_path / "run" / "training.json").read_text())
    assert sum(part["count"] for part in record["data"].values()) == COUNT
    assert len(record["validation"]["confusion"]) == CLASSES
    assert anonymous < MOST_GB


def losses(run: Path) -> NDArray[np.float64]:
    history = json.loads((run / "training.json").read_text())["history"]
    return np.array([[entry["loss"], entry["validation_loss"]] for entry in history])


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "parts"
    write_classes(folder, count=24)
    return folder


def start_workers(parts: Path, out: Path, epochs: int) -> list[subprocess.Popen[bytes]]:
    """Start two workers of one training; both write below `out`."""
    addresses = [f"127.0.0.1:{find_port()}" for _ in range(2)]
    command = [*TRAIN, str(parts), "--network", "course", "--epochs", str(epochs), "--batch-size", "8", "--no-report"]
    settings = [{"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}} for index in range(2)]
    return [
        subprocess.Popen(
            [*command, "--out", str(out)],
            env=os.environ | {"TF_CONFIG": json.dumps(each)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for each in settings
    ]


def test_two_workers_learn_what_one_process_with_the_same_batches_learns(parts: Path, tmp_path: Path) -> None:
    workers = start_workers(parts, tmp_path / "shared", epochs=2)
    said = [worker.communicate(timeout=900)[1].decode() for worker in workers]
    alone = [*TRAIN, str(parts), "--network", "course", "--epochs", "2", "--batch-size", "8", "--no-report"]
    subprocess.run([*alone, "--out", str(tmp_path / "alone")], check=True, capture_output=True, timeout=900)

    assert [worker.returncode for worker in workers] == [0, 0], said
    assert "waiting for the 2 workers of TF_CONFIG: 127.0.0.1:" in said[0]
    np.testing.assert_allclose(losses(tmp_path / "shared"), losses(tmp_path / "alone"), rtol=LOSS_TOLERANCE)
    np.testing.assert_array_equal(losses(tmp_path / "shared"), losses(tmp_path / "shared" / "worker-1"))


def test_a_worker_that_dies_ends_the_others_with_one_line(parts: Path, tmp_path: Path) -> None:
    first, second = start_workers(parts, tmp_path / "shared", epochs=100_000)
    wait_until((tmp_path / "shared" / "checkpoint.npz").exists, 300, "checkpoint")

    second.kill()
    said = first.communicate(timeout=900)[1].decode().strip().splitlines()
    second.communicate()

    assert first.returncode == 2, said[-3:]
    assert said[-1].startswith("edgecnn: another worker of 127.0.0.1:")
    assert said[-1].endswith("went away; start all of them again")


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=logging.CRITICAL
    ) as made:
        yield made


def study(parts: Path, out: Path, *options: str) -> list[str]:
    command = [sys.executable, "-m", "edgecnn", "study", "crossval", str(parts), "--network", "course", "--epochs", "1"]
    return [*command, "--folds", "3", "--split", "grouped", "--json", "--out", str(out), *options]


def worker_pids(cluster: LocalCluster) -> list[int]:
    return [nanny.pid for nanny in cluster.workers.values()]


def right(text: bytes) -> dict[str, Any]:
    return {f"{each['rule']} {each['precision']}": each["correct"] for each in json.loads(text)["figures"]}


@pytest.mark.filterwarnings("ignore")  # Dask's own
def test_a_study_whose_worker_is_killed_says_what_it_says_here(cluster: LocalCluster, parts: Path, tmp_path: Path) -> None:
    there = subprocess.Popen(
        study(parts, tmp_path / "there", "--scheduler", cluster.scheduler_address),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_until(lambda: bool(list((tmp_path / "there").glob("*/result.json"))), 600, "result")
    os.kill(worker_pids(cluster)[0], 9)
    out, said = there.communicate(timeout=1800)
    here = subprocess.run(study(parts, tmp_path / "here"), capture_output=True, timeout=1800, check=True)

    assert there.returncode == 0, said
    assert b"3 jobs for 2 workers of tcp://" in said
    assert right(out) == right(here.stdout)


@pytest.mark.filterwarnings("ignore")  # Dask's own
def test_a_study_whose_scheduler_goes_away_keeps_what_came_and_goes_on_without(
    cluster: LocalCluster, parts: Path, tmp_path: Path
) -> None:
    there = subprocess.Popen(
        study(parts, tmp_path / "study", "--scheduler", cluster.scheduler_address),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_until(lambda: bool(list((tmp_path / "study").glob("*/result.json"))), 600, "result")
    cluster.close()
    said = there.communicate(timeout=300)[1].decode().strip().splitlines()

    assert there.returncode == 2
    assert said[-1].startswith("edgecnn: the Dask scheduler tcp://")
    again = subprocess.run(study(parts, tmp_path / "study"), capture_output=True, timeout=1800, check=True)
    assert len(list((tmp_path / "study").glob("*/result.json"))) == 3
    assert right(again.stdout)


@pytest.mark.filterwarnings("ignore")  # Dask's own
def test_a_learning_curve_is_the_same_over_dask(cluster: LocalCluster) -> None:
    frozen = clusters(2, groups=6)

    here, there = learning_curve(frozen), learning_curve(frozen, scheduler=cluster.scheduler_address)

    assert here == there
    assert np.isfinite(here.classes[0].recall or 0)
