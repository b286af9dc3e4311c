from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from device_fakes import FakeClock

from edgecnn.artifacts import Artifact
from edgecnn.errors import ArtifactError, DigestError
from edgecnn_device.model import ModelOptions, ModelSlot, open_model


@pytest.fixture
def running(artifacts: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(artifacts / "neu.tflite", tmp_path / "running.tflite"))


def replace(path: Path, by: Path) -> None:
    beside = Path(shutil.copy(by, path.with_suffix(".part")))
    beside.replace(path)


def slot_of(path: Path, clock: FakeClock) -> tuple[ModelSlot, list[str]]:
    said: list[str] = []
    return ModelSlot(ModelOptions(str(path)), notice=said.append, clock=clock), said


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
    clock = FakeClock()
    slot, said = slot_of(running, clock)
    replace(running, artifacts / "neu-other.tflite")
    clock.now_s += 2

    assert slot.refresh()
    assert (slot.current.artifact.contract.export_id, slot.swaps, len(said)) == ("tiny-2", 1, 1)


def test_a_file_that_did_not_change_is_left_alone(running: Path) -> None:
    clock = FakeClock()
    slot, _ = slot_of(running, clock)
    before = slot.current
    clock.now_s += 2

    assert not slot.refresh()
    assert slot.current is before


def test_an_exchange_that_is_asked_for_happens_at_once(running: Path) -> None:
    slot, _ = slot_of(running, FakeClock())
    before = slot.current
    slot.ask()

    assert slot.refresh()
    assert slot.current is not before


@pytest.mark.parametrize("kind", ["cut short", "other task", "lying"])
def test_a_bad_new_file_leaves_the_old_model_running_and_is_complained_about_once(
    artifacts: Path, running: Path, tmp_path: Path, kind: str
) -> None:
    clock = FakeClock()
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
        slot.refresh()

    assert slot.current is before
    assert (slot.refusals, len(said)) == (1, 1)
    assert said[0].startswith("the new model was refused, the old one goes on: ")


def test_a_file_that_is_gone_for_a_moment_is_waited_for(artifacts: Path, running: Path) -> None:
    clock = FakeClock()
    slot, said = slot_of(running, clock)
    running.unlink()
    clock.now_s += 2
    gone = slot.refresh()
    shutil.copy(artifacts / "neu-other.tflite", running)
    clock.now_s += 2

    assert (gone, slot.refresh(), len(said)) == (False, True, 1)
