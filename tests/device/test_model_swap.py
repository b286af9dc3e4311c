from __future__ import annotations

import copy
import dataclasses
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from device_fakes import a_second
from hostile_models import crashing, endless

from edgecnn.artifacts import Artifact
from edgecnn.errors import ArtifactError, DigestError, InferenceError
from edgecnn.preprocessing import Preprocessing
from edgecnn.shipped import int8_path
from edgecnn.teach import teach
from edgecnn.testing import JumpingClock
from edgecnn_device import model
from edgecnn_device.last_good import LastGood
from edgecnn_device.model import ModelOptions, ModelSlot, open_model, read_candidate


@pytest.fixture
def running(artifacts: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(artifacts / "neu.tflite", tmp_path / "running.tflite"))


def replace(path: Path, by: Path) -> None:
    beside = Path(shutil.copy(by, path.with_suffix(".part")))
    beside.replace(path)


def slot_of(path: Path, clock: JumpingClock) -> tuple[ModelSlot, list[str]]:
    """Return a slot whose first model runs, and what it says."""
    said: list[str] = []
    slot = ModelSlot(ModelOptions(str(path)), notice=said.append, clock=clock)
    assert slot.current.verified
    return slot, said


def exchanged(slot: ModelSlot, limit_s: float = 30.0) -> bool:
    """Go on with an exchange until it is made or refused; True when it was made."""
    deadline_s, refusals = time.monotonic() + limit_s, slot.refusals
    while not slot.refresh():
        if slot.refusals > refusals or not slot.is_checking:
            return False
        assert time.monotonic() < deadline_s
        time.sleep(0.005)
    return True


def altered(path: Path, artifacts: Path) -> Path:
    """Write an artifact whose golden vectors say something else than its model."""
    artifact = Artifact.open(artifacts / "neu.tflite")
    golden = artifact.contract.golden
    answers = tuple(tuple(reversed(row)) for row in golden.artifact)
    contract = dataclasses.replace(artifact.contract, golden=dataclasses.replace(golden, artifact=answers, tolerance=1e-6))
    dataclasses.replace(artifact, contract=contract).save(path)
    return path


def test_a_model_that_computes_something_else_here_refuses_to_start(artifacts: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="computes something else on this machine"):
        open_model(ModelOptions(str(altered(tmp_path / "x.tflite", artifacts))))


@pytest.mark.parametrize("is_known", [False, True], ids=["in a child process", "here, as it passed before"])
def test_a_model_whose_own_softmax_says_something_else_here_refuses_to_start(tmp_path: Path, is_known: bool) -> None:
    artifact = Artifact.open(int8_path("neu"))
    golden = artifact.contract.golden
    graph = tuple(tuple(reversed(row)) for row in golden.graph)
    contract = dataclasses.replace(artifact.contract, golden=dataclasses.replace(golden, graph=graph))
    dataclasses.replace(artifact, contract=contract).save(tmp_path / "x.tflite")

    with pytest.raises(ArtifactError, match="computes something else on this machine"):
        read_candidate(ModelOptions(str(tmp_path / "x.tflite")), known=lambda *_: is_known).model()


def test_those_who_insist_can_run_it(artifacts: Path, tmp_path: Path) -> None:
    path = altered(tmp_path / "x.tflite", artifacts)

    assert not open_model(ModelOptions(str(path), verify=False)).verified


def test_a_damaged_file_is_not_run_even_by_those_who_insist(running: Path) -> None:
    data = bytearray(running.read_bytes())
    data[1000] ^= 1
    running.write_bytes(data)

    with pytest.raises(DigestError):
        open_model(ModelOptions(str(running), verify=False))


def test_a_changed_file_is_exchanged(artifacts: Path, running: Path) -> None:
    clock = JumpingClock()
    slot, said = slot_of(running, clock)
    replace(running, artifacts / "neu-other.tflite")
    clock.now_s += 2

    assert exchanged(slot)
    assert (slot.current.artifact.contract.export_id, slot.swaps, len(said)) == ("tiny-2", 1, 1)


def test_a_file_that_did_not_change_is_left_alone(running: Path) -> None:
    clock = JumpingClock()
    slot, _ = slot_of(running, clock)
    before = slot.current
    clock.now_s += 2

    assert not slot.refresh()
    assert slot.current is before


def test_an_exchange_that_is_asked_for_happens_at_once(running: Path) -> None:
    slot, _ = slot_of(running, JumpingClock())
    before = slot.current
    slot.ask()

    assert exchanged(slot)
    assert slot.current is not before


@pytest.mark.parametrize("kind", ["cut short", "other task", "lying"])
def test_a_bad_new_file_leaves_the_old_model_running_and_is_complained_about_once(
    artifacts: Path, running: Path, tmp_path: Path, kind: str
) -> None:
    clock = JumpingClock()
    slot, said = slot_of(running, clock)
    before = slot.current
    match kind:
        case "cut short":
            running.write_bytes((artifacts / "neu-other.tflite").read_bytes()[:2000])
        case "other task":
            replace(running, artifacts / "mnist.tflite")
        case _:
            replace(running, altered(tmp_path / "lying.tflite", artifacts))
    for _ in range(3):
        clock.now_s += 2
        assert not exchanged(slot)

    assert slot.current is before
    assert (slot.refusals, len(said)) == (1, 1)
    assert said[0].startswith("the new model was refused, the old one keeps running: ")


def test_a_model_that_was_retrained_in_a_folder_of_another_name_is_exchanged(artifacts: Path, running: Path) -> None:
    clock = JumpingClock()
    slot, said = slot_of(running, clock)
    retrained = Artifact.open(artifacts / "neu-other.tflite")
    contract = dataclasses.replace(retrained.contract, task="my-parts-2", title="my parts 2")
    dataclasses.replace(retrained, contract=contract).save(running)
    clock.now_s += 2

    assert exchanged(slot), said
    assert slot.current.artifact.contract.task == "my-parts-2"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": ("dent", "scratches")}, r"has other classes \(new: dent; gone: "),
        ({"labels": ("crazing", "scratches")}, r"has other classes \(gone: inclusion"),
        ({"preprocessing": Preprocessing(200, 200, "rgb")}, "takes pictures as rgb with fit"),
    ],
)
def test_a_contract_says_what_makes_it_another_task(artifacts: Path, change: dict[str, Any], words: str) -> None:
    contract = Artifact.open(artifacts / "neu.tflite").contract
    other = copy.copy(contract)
    for name, value in change.items():
        object.__setattr__(other, name, value)

    assert re.search(words, str(other.differs_from(contract)))
    assert contract.differs_from(dataclasses.replace(contract, task="another name")) is None


def test_the_same_classes_in_another_order_are_another_task(artifacts: Path) -> None:
    contract = Artifact.open(artifacts / "neu.tflite").contract
    other = dataclasses.replace(contract, labels=contract.labels[::-1])

    assert "the same classes in another order" in str(other.differs_from(contract))


@pytest.mark.parametrize("restarts", [True, False])
def test_a_model_with_a_class_more_asks_a_camera_that_can_to_start_again(restarts: bool, running: Path, tmp_path: Path) -> None:
    shutil.copy(int8_path("neu"), running)
    rng = np.random.default_rng(0)
    said: list[str] = []
    clock = JumpingClock()
    slot = ModelSlot(ModelOptions(str(running)), notice=said.append, clock=clock, restarts=restarts)
    assert slot.current.verified
    drawn = [tmp_path / f"{number}.png" for number in range(5)]
    for path in drawn:
        cv2.imwrite(str(path), rng.integers(0, 255, (200, 200), np.uint8))
    taught = teach(Artifact.open(int8_path("neu")), "noise", drawn, path=tmp_path / "taught.tflite").artifact
    taught.save(tmp_path / "taught.tflite")
    replace(running, tmp_path / "taught.tflite")
    clock.now_s += 2

    assert not exchanged(slot)
    assert slot.needs_restart == restarts
    assert "noise" not in slot.current.artifact.contract.labels
    assert ("has new classes: the camera starts again with it" if restarts else "restart the camera to change that") in said[-1]


def test_a_model_without_an_old_class_does_not_extend_it(artifacts: Path) -> None:
    contract = Artifact.open(artifacts / "neu.tflite").contract
    other = copy.copy(contract)
    object.__setattr__(other, "labels", (*contract.labels[1:], "dent"))

    assert not other.extends(contract)
    assert not contract.extends(contract)


def test_a_file_that_is_gone_for_a_moment_is_waited_for(artifacts: Path, running: Path) -> None:
    clock = JumpingClock()
    slot, said = slot_of(running, clock)
    running.unlink()
    clock.now_s += 2
    gone = slot.refresh()
    shutil.copy(artifacts / "neu-other.tflite", running)
    clock.now_s += 2

    assert (gone, exchanged(slot), len(said)) == (False, True, 1)


def test_a_file_that_is_exchanged_while_it_is_read_at_the_start_is_noticed(
    artifacts: Path, running: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, real = JumpingClock(), model.read_file

    def read_and_lose_the_race(path: Path) -> bytes:
        data = real(path)
        replace(running, artifacts / "neu-other.tflite")
        monkeypatch.setattr(model, "read_file", real)
        return data

    monkeypatch.setattr(model, "read_file", read_and_lose_the_race)
    slot, _ = slot_of(running, clock)
    first = slot.current.artifact.contract.export_id
    clock.now_s += 2

    assert (first, exchanged(slot), slot.current.artifact.contract.export_id) == ("tiny-1", True, "tiny-2")


def test_a_file_that_is_exchanged_while_it_is_checked_at_the_start_is_noticed(artifacts: Path, running: Path) -> None:
    clock = JumpingClock()
    slot = ModelSlot(ModelOptions(str(running)), notice=lambda line: None, clock=clock)
    replace(running, artifacts / "neu-other.tflite")
    first = slot.current.artifact.contract.export_id
    clock.now_s += 2

    assert (first, exchanged(slot), slot.current.artifact.contract.export_id) == ("tiny-1", True, "tiny-2")


def test_a_file_that_is_rewritten_in_place_with_its_old_time_is_noticed(artifacts: Path, running: Path) -> None:
    clock = JumpingClock()
    slot, _ = slot_of(running, clock)
    status, new = running.stat(), (artifacts / "neu-other.tflite").read_bytes()
    with running.open("r+b") as file:
        file.write(new)
        file.truncate(len(new))
    os.utime(running, ns=(status.st_atime_ns, status.st_mtime_ns))
    clock.now_s += 2

    assert exchanged(slot)


def test_a_file_that_is_only_touched_is_not_exchanged(running: Path) -> None:
    clock = JumpingClock()
    slot, said = slot_of(running, clock)
    running.touch()
    clock.now_s += 2

    assert (exchanged(slot), slot.swaps, slot.refusals, said) == (False, 0, 0, [])


def test_a_new_model_that_never_ends_leaves_the_loop_and_the_old_model_running(artifacts: Path, running: Path) -> None:
    clock, said = JumpingClock(), list[str]()
    slot = ModelSlot(ModelOptions(str(running), timeout_s=1), notice=said.append, clock=clock)
    before = slot.current
    endless(Artifact.open(artifacts / "neu-other.tflite")).save(running)
    clock.now_s += 2
    durations_s = []
    while slot.refusals == 0:
        started_s = time.monotonic()
        assert not slot.refresh()
        durations_s.append(time.monotonic() - started_s)
        time.sleep(0.01)

    assert slot.current is before
    assert "did not load and answer within 1 s" in said[0]
    assert max(durations_s) < 0.5 * a_second()


def test_a_newer_file_takes_the_place_of_one_that_is_still_being_checked(artifacts: Path, running: Path) -> None:
    clock = JumpingClock()
    slot, _ = slot_of(running, clock)
    endless(Artifact.open(artifacts / "neu.tflite")).save(running)
    clock.now_s += 2
    first = slot.refresh()
    replace(running, artifacts / "neu-other.tflite")
    clock.now_s += 2

    assert (first, exchanged(slot), slot.swaps, slot.refusals) == (False, True, 1, 0)


def test_the_end_of_a_camera_ends_a_check(artifacts: Path, running: Path) -> None:
    clock = JumpingClock()
    slot, _ = slot_of(running, clock)
    endless(Artifact.open(artifacts / "neu.tflite")).save(running)
    clock.now_s += 2
    slot.refresh()
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    started = children.read_text().split()

    slot.close()

    assert set(started) - set(children.read_text().split())


@pytest.mark.parametrize("make", [endless, crashing])
def test_a_model_that_never_ends_or_crashes_does_not_start(
    artifacts: Path, running: Path, make: Callable[[Artifact], Artifact]
) -> None:
    make(Artifact.open(artifacts / "neu.tflite")).save(running)

    with pytest.raises(InferenceError, match=r"running\.tflite"):
        open_model(ModelOptions(str(running), timeout_s=1))


def start(path: Path, folder: Path, said: list[str], clock: JumpingClock | None = None, **options: Any) -> ModelSlot:
    """Start as a camera does that keeps its last good model in `folder`."""
    slot = ModelSlot(
        ModelOptions(str(path), **options),
        notice=said.append,
        last_good=LastGood(folder),
        clock=clock or JumpingClock(),
        remind_s=60,
    )
    assert slot.current.verified
    return slot


@pytest.mark.parametrize("kind", ["gone", "cut short", "lying", "endless"])
def test_a_camera_whose_file_is_bad_starts_with_the_last_good_model_and_says_so(
    artifacts: Path, running: Path, tmp_path: Path, kind: str
) -> None:
    start(running, tmp_path / "state", [])
    match kind:
        case "gone":
            running.unlink()
        case "cut short":
            running.write_bytes(running.read_bytes()[:2000])
        case "lying":
            altered(running, artifacts)
        case _:
            endless(Artifact.open(running)).save(running)
    said: list[str] = []

    slot = start(running, tmp_path / "state", said, timeout_s=1)

    assert slot.current.artifact.contract.export_id == "tiny-1"
    assert said == [slot.warning]
    assert re.match(r"running the last good model, of 2\d\d\d-.*: the file was refused: .*running\.tflite", slot.warning)


def test_the_last_good_model_is_told_of_again_and_again_until_the_file_is_good(
    artifacts: Path, running: Path, tmp_path: Path
) -> None:
    clock, said = JumpingClock(), list[str]()
    start(running, tmp_path / "state", said)
    running.unlink()
    slot = start(running, tmp_path / "state", said, clock)
    for _ in range(10):
        clock.now_s += 30
        slot.refresh()
    reminded = list(said)
    replace(running, artifacts / "neu-other.tflite")
    clock.now_s += 30

    assert reminded == [slot.warning] * 6
    assert exchanged(slot)
    assert (slot.warning, slot.current.artifact.contract.export_id) == ("", "tiny-2")


def test_what_was_exchanged_is_the_last_good_model_from_then_on(artifacts: Path, running: Path, tmp_path: Path) -> None:
    clock = JumpingClock()
    slot = start(running, tmp_path / "state", [], clock)
    replace(running, artifacts / "neu-other.tflite")
    clock.now_s += 2
    assert exchanged(slot)
    running.write_bytes(b"rubbish")
    clock.now_s += 2
    refused = exchanged(slot), slot.warning

    again = start(running, tmp_path / "state", [])

    assert refused[0] is False
    assert refused[1].startswith("the new model was refused, the old one keeps running: ")
    assert again.current.artifact.contract.export_id == "tiny-2"


def test_a_bad_file_without_a_last_good_model_is_refused_as_ever(running: Path, tmp_path: Path) -> None:
    running.write_bytes(b"rubbish")

    with pytest.raises(ArtifactError, match="carries no edgecnn contract"):
        start(running, tmp_path / "state", [])


def test_a_last_good_model_that_is_damaged_is_not_run(running: Path, tmp_path: Path) -> None:
    start(running, tmp_path / "state", [])
    running.write_bytes(b"rubbish")
    kept = LastGood(tmp_path / "state").path(running)
    kept.write_bytes(kept.read_bytes()[:2000])

    with pytest.raises(ArtifactError, match=r"carries no edgecnn contract.*; nor can the last good model be used: "):
        start(running, tmp_path / "state", [])


def test_the_last_good_model_of_another_task_is_not_run(artifacts: Path, running: Path, tmp_path: Path) -> None:
    start(running, tmp_path / "state", [])
    endless(Artifact.open(artifacts / "mnist.tflite")).save(running)

    with pytest.raises(InferenceError, match=r"nor can the last good model be used: .* has other classes"):
        start(running, tmp_path / "state", [], timeout_s=1)


def test_the_last_good_model_of_another_file_is_not_touched(artifacts: Path, running: Path, tmp_path: Path) -> None:
    other = Path(shutil.copy(artifacts / "neu-other.tflite", tmp_path / "other.tflite"))
    for path in (running, other):
        start(path, tmp_path / "state", [])
        path.unlink()

    assert start(running, tmp_path / "state", []).current.artifact.contract.export_id == "tiny-1"
    assert start(other, tmp_path / "state", []).current.artifact.contract.export_id == "tiny-2"


def test_the_same_model_is_not_written_at_every_start(running: Path, tmp_path: Path) -> None:
    start(running, tmp_path / "state", [])
    kept = LastGood(tmp_path / "state").path(running)
    written = kept.stat().st_mtime_ns, kept.stat().st_ino

    start(running, tmp_path / "state", [])

    assert (kept.stat().st_mtime_ns, kept.stat().st_ino) == written


def test_only_so_many_models_are_kept_and_nothing_else_is_removed(running: Path, tmp_path: Path) -> None:
    keeper = LastGood(tmp_path / "state", most=2)
    (tmp_path / "state" / "models").mkdir(parents=True)
    for name in ("mine.json", "mine.tflite", "0123456789abcdef.txt"):
        (tmp_path / "state" / "models" / name).write_text("mine")
    for number in range(4):
        keeper.keep(tmp_path / f"{number}.tflite", b"%d" % number, "r")
        os.utime(keeper.path(tmp_path / f"{number}.tflite").with_suffix(".json"), (number, number))

    left = {path.name for path in (tmp_path / "state" / "models").iterdir()}
    assert {"mine.json", "mine.tflite", "0123456789abcdef.txt"} < left
    assert len(left) == 3 + 2 * 2
    assert keeper.path(tmp_path / "3.tflite").read_bytes() == b"3"


def test_a_state_folder_that_cannot_be_written_is_told_and_no_hindrance(running: Path, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    said: list[str] = []

    start(running, tmp_path / "state", said)

    assert len(said) == 1
    assert said[0].startswith("the last good model could not be saved: ")
