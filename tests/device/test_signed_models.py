"""A board can insist on models that its own workstation signed, at the start and in every exchange."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgecnn.artifacts.signature import TrustedKey
from edgecnn.cli.main import main
from edgecnn.errors import SignatureError
from edgecnn.sign import sign_file
from edgecnn.testing import JumpingClock
from edgecnn_device.model import ModelOptions, ModelSlot, open_model


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A private and a public key as PEM files."""
    folder, key = tmp_path_factory.mktemp("keys"), Ed25519PrivateKey.generate()
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / "public.pem").write_bytes(public)
    return folder / "key.pem", folder / "public.pem"


@pytest.fixture
def running(artifacts: Path, tmp_path: Path, keys: tuple[Path, Path]) -> Path:
    """A signed model."""
    path = Path(shutil.copy(artifacts / "neu.tflite", tmp_path / "running.tflite"))
    sign_file(path, keys[0])
    return path


def wait_for_exchange(slot: ModelSlot) -> bool:
    while not (done := slot.refresh()) and slot.is_checking:
        time.sleep(0.005)
    return done


def demand(path: Path, key: Path) -> ModelOptions:
    return ModelOptions(str(path), trusted=TrustedKey.open(key))


def test_a_signed_model_starts(running: Path, keys: tuple[Path, Path]) -> None:
    assert open_model(demand(running, keys[1])).verified


def test_an_unsigned_model_refuses_to_start(artifacts: Path, keys: tuple[Path, Path]) -> None:
    with pytest.raises(SignatureError, match="carries no signature"):
        open_model(demand(artifacts / "neu.tflite", keys[1]))


def test_an_unsigned_exchange_leaves_the_signed_model_running(artifacts: Path, running: Path, keys: tuple[Path, Path]) -> None:
    clock, said = JumpingClock(), list[str]()
    slot = ModelSlot(demand(running, keys[1]), notice=said.append, clock=clock)
    before = slot.current
    shutil.copy(artifacts / "neu-other.tflite", running)
    clock.now_s += 2

    assert not slot.refresh()
    assert (slot.current, slot.refusals, len(said)) == (before, 1, 1)
    assert "carries no signature" in said[0]


def test_a_signed_exchange_is_made(artifacts: Path, running: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    clock = JumpingClock()
    slot = ModelSlot(demand(running, keys[1]), notice=lambda line: None, clock=clock)
    new = Path(shutil.copy(artifacts / "neu-other.tflite", tmp_path / "new.tflite"))
    sign_file(new, keys[0])
    new.replace(running)
    clock.now_s += 2

    assert wait_for_exchange(slot)
    assert slot.current.artifact.contract.export_id == "tiny-2"


def test_the_command_insists_in_one_line(artifacts: Path, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["camera", str(artifacts / "neu.tflite"), "--require-signature", str(keys[1]), "--frames", "1"])

    said = capsys.readouterr()
    assert (ended.value.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert "carries no signature" in said.err
