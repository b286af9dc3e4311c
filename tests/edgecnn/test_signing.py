"""A signature is made by one key, stands for one contract, and leaves the file otherwise as it was."""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from edgecnn.artifacts import Artifact, onnx_file, tflite_file
from edgecnn.artifacts.artifact import join_bytes
from edgecnn.artifacts.contract import ParityInfo
from edgecnn.artifacts.signature import TrustedKey
from edgecnn.cli.main import main
from edgecnn.errors import ArtifactError, ContractError, InputError, SignatureError
from edgecnn.sign import sign_file

Saver = Callable[[bytes, str], Path]
PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8


def write_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """Write a key pair as PEM files, private and public."""
    key = ed25519.Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    private.write_bytes(key.private_bytes(PEM, PKCS8, serialization.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return write_keys(tmp_path, "ours")


@pytest.fixture
def copy(tiny_artifact: Artifact, save_altered: Saver) -> Path:
    """A copy of the tiny artifact that may be written to."""
    return save_altered(tiny_artifact.path.read_bytes(), tiny_artifact.format)


def test_a_signed_file_opens_for_those_who_demand_it_and_for_all_others(copy: Path, keys: tuple[Path, Path]) -> None:
    before = Artifact.open(copy)

    sign_file(copy, keys[0])

    for opened in (Artifact.open(copy), Artifact.open(copy, trusted=TrustedKey.open(keys[1]))):
        assert (opened.model, opened.contract) == (before.model, before.contract)


def test_a_file_that_contradicts_its_own_reference_is_neither_signed_nor_verified(
    tiny_onnx_artifact: Artifact, keys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contract, path = tiny_onnx_artifact.contract, tmp_path / "other.onnx"
    other = replace(contract.golden, reference=tuple(row[::-1] for row in contract.golden.reference))
    replace(tiny_onnx_artifact, contract=replace(contract, golden=other)).save(path)

    with pytest.raises(ArtifactError, match="contradicts its own reference"):
        sign_file(path, keys[0])
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(path)])
    assert ended.value.code == 1
    assert "its record contradicts itself" in capsys.readouterr().out


def test_an_unsigned_file_is_refused_with_the_way_out(copy: Path, keys: tuple[Path, Path]) -> None:
    with pytest.raises(SignatureError, match=r"carries no signature .* edgecnn sign"):
        Artifact.open(copy, trusted=TrustedKey.open(keys[1]))


def test_a_file_signed_by_another_key_is_refused(copy: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    sign_file(copy, write_keys(tmp_path, "theirs")[0])

    with pytest.raises(SignatureError, match=r"is not signed by the key .*ours\.pub\.pem"):
        Artifact.open(copy, trusted=TrustedKey.open(keys[1]))


def test_a_second_signature_takes_the_place_of_the_first(copy: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    sign_file(copy, write_keys(tmp_path, "theirs")[0])
    sign_file(copy, keys[0])

    assert Artifact.open(copy, trusted=TrustedKey.open(keys[1]))


def test_signing_twice_gives_the_same_bytes(copy: Path, keys: tuple[Path, Path]) -> None:
    sign_file(copy, keys[0])
    once = copy.read_bytes()
    sign_file(copy, keys[0])

    assert copy.read_bytes() == once


def test_the_signature_of_one_model_does_not_vouch_for_another(
    tiny_artifact: Artifact, save_altered: Saver, keys: tuple[Path, Path]
) -> None:
    signed = save_altered(tiny_artifact.path.read_bytes(), tiny_artifact.format)
    sign_file(signed, keys[0])
    data = signed.read_bytes()
    form = {"tflite": tflite_file, "onnx": onnx_file}[tiny_artifact.format]
    signature = form.unpack(data)[1][form.SIGNATURE_NAME]
    other = replace(tiny_artifact.contract, export_id="another")
    forged = join_bytes(tiny_artifact.model, other.to_json(), other.labels, tiny_artifact.format, signature=signature)

    with pytest.raises(SignatureError):
        Artifact.open(save_altered(forged, tiny_artifact.format), trusted=TrustedKey.open(keys[1]))


@pytest.mark.parametrize("shift", [0, 5])
def test_no_flipped_bit_of_a_signed_file_gives_another_model(copy: Path, keys: tuple[Path, Path], shift: int) -> None:
    sign_file(copy, keys[0])
    trusted, data = TrustedKey.open(keys[1]), copy.read_bytes()
    original = Artifact.open(copy, trusted=trusted)

    unnoticed = []
    with copy.open("r+b", buffering=0) as file:
        for at in range(len(data) - 900, len(data)):
            file.seek(at)
            file.write(bytes([data[at] ^ 1 << (at + shift) % 8]))
            try:
                opened = Artifact.open(copy, trusted=trusted)
                unnoticed += [] if (opened.model, opened.contract) == (original.model, original.contract) else [at]
            except ArtifactError:
                pass
            file.seek(at)
            file.write(data[at : at + 1])

    assert unnoticed == []


def test_the_onnx_package_still_reads_a_signed_file(tiny_onnx_artifact: Artifact, tmp_path: Path) -> None:
    import onnx

    private, public = write_keys(tmp_path, "ours")
    path = tmp_path / "signed.onnx"
    path.write_bytes(tiny_onnx_artifact.path.read_bytes())

    sign_file(path, private)
    again = tmp_path / "again.onnx"
    onnx.save(onnx.load(str(path)), str(again))

    assert Artifact.open(again, trusted=TrustedKey.open(public)).contract == tiny_onnx_artifact.contract


def test_a_file_that_failed_its_parity_is_not_signed(
    tiny_artifact: Artifact, save_altered: Saver, keys: tuple[Path, Path]
) -> None:
    failed = replace(tiny_artifact.contract, parity=ParityInfo("fail"))
    path = save_altered(
        join_bytes(tiny_artifact.model, failed.to_json(), failed.labels, tiny_artifact.format), tiny_artifact.format
    )

    with pytest.raises(InputError, match="failed its parity"):
        sign_file(path, keys[0])


def test_labels_that_other_tools_would_read_cannot_be_exchanged(tiny_tflite_artifact: Artifact, save_altered: Saver) -> None:
    contract = tiny_tflite_artifact.contract
    swapped = tflite_file.join(tiny_tflite_artifact.model, contract.to_json(), contract.labels[::-1])

    with pytest.raises(ContractError, match=r"its labels\.txt is not the list of its contract"):
        Artifact.open(save_altered(swapped, "tflite"))


def _wrong_keys(folder: Path) -> dict[str, Path]:
    other = ec.generate_private_key(ec.SECP256R1())
    secret = serialization.BestAvailableEncryption(b"secret")
    contents = {
        "of another kind": other.private_bytes(PEM, PKCS8, serialization.NoEncryption()),
        "is encrypted": ed25519.Ed25519PrivateKey.generate().private_bytes(PEM, PKCS8, secret),
        "no private key in PEM": b"hello\n",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents} | {"no such file": folder / "gone"}


@pytest.mark.parametrize("kind", ["of another kind", "is encrypted", "no private key in PEM", "no such file"])
def test_a_key_of_no_use_is_one_line(
    tiny_tflite_artifact: Artifact, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["sign", str(tiny_tflite_artifact.path), "--key", str(_wrong_keys(tmp_path)[kind])])

    said = capsys.readouterr()
    assert (ended.value.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert kind in said.err


def test_the_private_key_is_no_public_key(keys: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match=r"no public key in PEM; .*-pubout"):
        TrustedKey.open(keys[0])


def test_sign_and_verify_tell_what_they_did(copy: Path, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["sign", str(copy), "--key", str(keys[0])])
    with pytest.raises(SystemExit, match="0"):
        main(["verify", str(copy), "--require-signature", str(keys[1])])

    signed, verified = capsys.readouterr().out.splitlines()
    assert signed == f"{copy}: signed by the key {TrustedKey.open(keys[1]).fingerprint}"
    assert verified.startswith(f"{copy}: verified on ")


def test_standard_tools_list_the_signature(tiny_tflite_artifact: Artifact, tmp_path: Path, save_altered: Saver) -> None:
    path = save_altered(tiny_tflite_artifact.path.read_bytes(), "tflite")
    sign_file(path, write_keys(tmp_path, "ours")[0])

    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["edgecnn.json", "labels.txt", "edgecnn.sig"]


def test_without_the_extra_the_way_out_is_told(keys: tuple[Path, Path], copy: Path) -> None:
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from edgecnn.cli.main import main\n"
        f"main(['verify', {str(copy)!r}, '--require-signature', {str(keys[1])!r}])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)

    assert (done.returncode, done.stderr) == (
        2,
        "edgecnn: signatures need cryptography. Install it with: pip install 'edgecnn[sign]'\n",
    )


def test_a_key_that_everybody_can_read_is_told_of(
    copy: Path, keys: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    key = Path(shutil.copy(keys[0], tmp_path / "key.pem"))
    said = {}
    for mode in (0o644, 0o600):
        key.chmod(mode)
        with pytest.raises(SystemExit, match="0"):
            main(["sign", str(copy), "--key", str(key)])
        said[mode] = capsys.readouterr().err

    assert said == {
        0o644: f"edgecnn: {key} holds a secret, and everybody on this machine can read it: chmod o= {key}\n",
        0o600: "",
    }


PRIME = 2**255 - 19
ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826


@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize("y", [0, 1, PRIME - 1, PRIME, PRIME + 1, ORDER_8, PRIME - ORDER_8])
def test_a_key_of_small_order_is_refused_since_anybody_can_sign_for_it(tmp_path: Path, y: int, sign: int) -> None:
    raw = (y | sign << 255).to_bytes(32, "little")
    spki = bytes.fromhex("302a300506032b6570032100") + raw
    text = base64.b64encode(spki).decode()
    (tmp_path / "small.pem").write_text(f"-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")

    with pytest.raises(InputError, match="of small order"):
        TrustedKey.open(tmp_path / "small.pem")


def test_ordinary_keys_are_of_no_small_order(keys: tuple[Path, Path]) -> None:
    assert len(TrustedKey.open(keys[1]).raw) == 32
