"""Which workers TF_CONFIG describes, and what they cannot share; tests/system/test_large_jobs.py runs two of them."""

from __future__ import annotations

import json

import pytest

from edgecnn.errors import InputError
from edgecnn_export.training.workers import Cluster


def stated(workers: list[str], index: int = 0, **more: object) -> str:
    return json.dumps({"cluster": {"worker": workers} | more, "task": {"type": "worker", "index": index}})


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
