"""A training that several processes share, as TF_CONFIG describes them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from picture_files import write_classes

from edgecnn.datasets.folder import task_from_folder
from edgecnn.datasets.load import load_splits
from edgecnn.errors import InputError
from edgecnn_export.training import train
from edgecnn_export.training.workers import Cluster

LOSS_TOLERANCE = 1e-3  # relative: sums of gradients are rounded in another order, and rounding grows from step to step


def free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def stated(workers: list[str], index: int = 0, **more: object) -> str:
    return json.dumps({"cluster": {"worker": workers} | more, "task": {"type": "worker", "index": index}})


def losses(run: Path) -> np.ndarray:
    history = json.loads((run / "training.json").read_text())["history"]
    return np.array([[entry["loss"], entry["validation_loss"]] for entry in history])


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "parts"
    write_classes(folder, count=24)
    return folder


def test_two_workers_learn_what_one_process_with_the_same_batches_learns(parts: Path, tmp_path: Path) -> None:
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    command = [sys.executable, "-m", "edgecnn", "train", str(parts), "--network", "course", "--epochs", "2", "--batch-size", "8"]
    processes = [
        subprocess.Popen(
            [*command, "--no-report", "--out", str(tmp_path / "shared")],
            env=os.environ | {"TF_CONFIG": stated(addresses, index)},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        for index in range(2)
    ]
    task = task_from_folder(parts)

    train(task, load_splits(task, None, 0), out=tmp_path / "alone", model="course", epochs=2, batch_size=8)
    said = [process.communicate(timeout=300)[1].decode() for process in processes]

    assert [process.returncode for process in processes] == [0, 0], said
    assert f"waiting for the 2 workers of TF_CONFIG: {', '.join(addresses)}" in said[0]
    np.testing.assert_allclose(losses(tmp_path / "shared"), losses(tmp_path / "alone"), rtol=LOSS_TOLERANCE)
    np.testing.assert_array_equal(losses(tmp_path / "shared"), losses(tmp_path / "shared" / "worker-1"))


@pytest.mark.parametrize("text", ["", "  ", "{}", stated(["a:1"])])
def test_without_a_second_worker_there_is_no_cluster(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", text)

    assert Cluster.stated() is None


def test_a_chief_is_the_first_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", stated(["b:1", "c:1"], 1, chief=["a:1"]))

    assert Cluster.stated() == Cluster(("a:1", "b:1", "c:1"), 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "TF_CONFIG is malformed .* expected such as"),
        ("[1]", "TF_CONFIG is malformed"),
        ('{"cluster": 3}', "TF_CONFIG is malformed"),
        (stated(["a:1", "b:1"], 2), "this is worker 2 of 2 workers; indices begin at 0"),
        (stated(["a:1", "b:1"], ps=["c:1"]), "TF_CONFIG names ps; a training has workers only"),
    ],
)
def test_a_cluster_that_is_none_is_one_line(text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", text)

    with pytest.raises(InputError, match=message):
        Cluster.stated()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minutes": 1.0}, "train without --minutes"),
        ({"resume": True}, "train without --resume"),
        ({"teacher": True}, "train without a teacher: --network lite, or compact with --teacher none"),
        ({"batch_size": 15}, "a batch of 15 pictures cannot be shared by 2 workers; --batch-size"),
    ],
)
def test_what_workers_cannot_share_is_refused(options: dict[str, object], message: str) -> None:
    settings: dict[str, object] = {"batch_size": 16, "minutes": None, "teacher": False, "resume": False}

    with pytest.raises(InputError, match=message):
        Cluster(("a:1", "b:1"), 0).check(**settings | options)  # type: ignore[arg-type]
