"""A deployment from the file to the camera that runs it; only the network and the camera's process are stood in for."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hostile_models import endless
from local_board import ThreadCamera, make_ssh, variant
from published_schemas import check

from edgecnn.artifacts import Artifact
from edgecnn.cli.main import main
from edgecnn.errors import OutputError
from edgecnn.shipped import int8_path
from edgecnn_device.deploy import DeployOptions, Limits, Plan, deploy, history, rollback
from edgecnn_device.deploy.store import Store, digest_of

QUICK = {"find_s": 10.0, "before_s": 0.3, "watch_s": 0.6, "confirm_s": 20.0}


@pytest.fixture(scope="module")
def live_artifact() -> Artifact:
    return Artifact.open(int8_path("neu"))


@pytest.fixture
def live(live_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    programs = make_ssh(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    (tmp_path / "board").mkdir()
    shutil.copy(variant(live_artifact, tmp_path / "first.tflite"), tmp_path / "board/model.tflite")
    return tmp_path / "board/model.tflite"


@pytest.fixture
def camera(live: Path) -> Iterator[ThreadCamera]:
    with ThreadCamera(live) as running:
        yield running


def options(live: Path, **plan: object) -> DeployOptions:
    program = str(live.parents[1] / "bin/edgecnn")
    return DeployOptions(Plan(live=str(live), **(QUICK | plan)), program=program, silence_s=20)  # type: ignore[arg-type]


def test_a_model_is_shadowed_put_live_and_rolled_back(
    live: Path, camera: ThreadCamera, live_artifact: Artifact, tmp_path: Path
) -> None:
    said: list[str] = []
    better = variant(live_artifact, tmp_path / "better.tflite")
    outcome = deploy(better, "board", options(live, shadow=40), said.append)

    assert (outcome.live, outcome.rolled_back) == (True, False), said
    assert (outcome.version, digest_of(live), camera.running) == (digest_of(better), digest_of(better), "better")
    measured = outcome.measured
    assert (measured.shadow_frames, measured.agreement) == (40, 1.0)
    assert measured.doubt == pytest.approx(measured.doubt_before, abs=0.1)

    back = rollback("board", options(live), said.append)
    found = history("board", options(live))
    assert (back.live, camera.running) == (True, "first")
    assert [(event.what, event.export_id) for event in found.events] == [
        ("adopted", "first"),
        ("live", "better"),
        ("live", "first"),
    ]
    assert (found.live, found.previous, found.pending) == (digest_of(live), outcome.version, None)
    for name, body in {"outcome": outcome, "history": found}.items():
        check("deploy", json.loads(json.dumps({"schema": 1, name: dataclasses.asdict(body)})))


def test_a_model_that_is_worse_live_is_taken_back(
    live: Path, camera: ThreadCamera, live_artifact: Artifact, tmp_path: Path
) -> None:
    before, evidence = digest_of(live), live_artifact.contract.evidence
    assert evidence is not None
    stricter = dataclasses.replace(evidence, novel_above=0.4 * evidence.novel_above)
    worse = variant(live_artifact, tmp_path / "worse.tflite", evidence=stricter)

    outcome = deploy(worse, "board", options(live, watch_s=20))

    assert (outcome.live, outcome.rolled_back) == (False, True)
    assert "are unsure or novel, before" in outcome.reason
    assert (digest_of(live), camera.running) == (before, "first")


def test_one_novel_part_that_stands_in_view_through_the_watch_takes_no_model_back(
    live: Path, live_artifact: Artifact, tmp_path: Path
) -> None:
    same = variant(live_artifact, tmp_path / "same.tflite")
    novel = np.random.default_rng(1).integers(0, 256, (200, 200, 1), np.uint8)

    with ThreadCamera(live, stands=lambda export_id: novel if export_id == "same" else None):
        outcome = deploy(same, "board", options(live))

    assert (outcome.live, outcome.measured.answers, outcome.measured.doubt) == (True, 1, 1.0)
    assert outcome.measured.answers_before >= 30
    assert "no judgement on unsure and novel answers (1 answer in the watch, " in outcome.reason


@pytest.mark.parametrize(
    ("name", "reason"),
    [("swapped", "the same classes in another order"), ("endless", "it never ends"), ("failed", "failed its parity")],
)
def test_a_sabotaged_model_is_refused_before_it_is_live(
    name: str, reason: str, live: Path, live_artifact: Artifact, tmp_path: Path
) -> None:
    path, before = tmp_path / f"{name}.tflite", live.read_bytes()
    contract = live_artifact.contract
    if name == "endless":
        endless(live_artifact).save(path)
    elif name == "failed":
        variant(live_artifact, path, parity=dataclasses.replace(contract.parity, verdict="fail"))
    else:
        variant(live_artifact, path, labels=tuple(reversed(contract.labels)))

    outcome = deploy(path, "board", options(live, verify_s=1.0))

    assert (outcome.live, outcome.rolled_back, live.read_bytes()) == (False, False, before)
    assert reason in outcome.reason
    assert not [path for path in Store(live).folder.glob("*.tflite") if digest_of(path) == outcome.version]


@pytest.mark.parametrize("lines", ['on = ["scratches:command:/bin/true"]', 'good = "scratches"'])
def test_a_model_with_which_the_camera_would_not_start_is_refused_before_the_restart(
    lines: str, live: Path, live_artifact: Artifact, tmp_path: Path
) -> None:
    (tmp_path / "camera.toml").write_text(f'model = "{live}"\n{lines}\n')
    labels = tuple("dents" if label == "scratches" else label for label in live_artifact.contract.labels)
    renamed, before = variant(live_artifact, tmp_path / "renamed.tflite", labels=labels), digest_of(live)
    settings = {"config": str(tmp_path / "camera.toml"), "new_labels": True, "restart": f"touch {tmp_path / 'restarted'}"}
    plan = dataclasses.replace(options(live, watch_s=0.0).plan, live=None, **settings)

    outcome = deploy(renamed, "board", dataclasses.replace(options(live), plan=plan))

    assert not outcome.live
    assert "the camera would not start with it" in outcome.reason and "'scratches'" in outcome.reason
    assert (digest_of(live), (tmp_path / "restarted").exists()) == (before, False)


def test_the_history_of_a_model_that_was_never_there_is_one_line(live: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program, mistyped = live.parents[1] / "bin/edgecnn", live.with_name("modle.tflite")

    with pytest.raises(SystemExit) as ended:
        main(["deploy", "--history", "board", "--model", str(mistyped), "--program", str(program)])

    assert ended.value.code == 2
    assert f"there is no model {mistyped}" in capsys.readouterr().err


def test_a_file_for_another_runtime_is_refused_before_it_is_sent(live: Path, live_artifact: Artifact, tmp_path: Path) -> None:
    onnx = live.with_suffix(".onnx")

    with pytest.raises(OutputError, match=r"other\.tflite cannot replace .*: deploy the \.onnx of the same export"):
        deploy(variant(live_artifact, tmp_path / "other.tflite"), "board", options(onnx))

    assert not Store(onnx).folder.exists()


def test_nothing_is_rolled_back_to_before_something_was_deployed(live: Path) -> None:
    with pytest.raises(OutputError, match="no other was deployed"):
        rollback("board", options(live))


def test_without_a_camera_nothing_is_watched_and_that_is_said(live: Path, live_artifact: Artifact, tmp_path: Path) -> None:
    better = variant(live_artifact, tmp_path / "better.tflite")

    watched = deploy(better, "board", options(live, find_s=0.5))
    unwatched = deploy(better, "board", options(live, find_s=0.5, watch_s=0.0))

    assert (watched.live, "no camera runs" in watched.reason) == (False, True)
    assert (unwatched.live, unwatched.reason) == (True, "no camera ran it yet")
    assert digest_of(live) == digest_of(better)


def test_a_slow_model_is_taken_back(live: Path, live_artifact: Artifact, tmp_path: Path) -> None:
    slow = variant(live_artifact, tmp_path / "slow.tflite")

    with ThreadCamera(live, slow_ms=lambda export_id: 50.0 * (export_id == "slow")):
        outcome = deploy(slow, "board", options(live, watch_s=20, limits=Limits(latency=3.0)))

    assert outcome.rolled_back and "ms instead of 1.0 ms" in outcome.reason, outcome


def test_a_camera_that_dies_of_a_model_gets_the_old_one_back(live: Path, live_artifact: Artifact, tmp_path: Path) -> None:
    crashing = variant(live_artifact, tmp_path / "crashing.tflite")

    with ThreadCamera(live, crashes=lambda export_id: export_id == "crashing"):
        outcome = deploy(crashing, "board", options(live, watch_s=60, confirm_s=2))

    assert outcome.rolled_back and "the camera" in outcome.reason, outcome
    assert digest_of(live) != outcome.version
