"""Hostile model files: refused in Python before native code sees a byte, or exactly the file that was exported."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import random
import resource
import struct
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from commands import SHIPPED, run_edgecnn
from forging import absurd, sealed, use
from ledger import SEED, Ledger, counted

from edgecnn.artifacts import Artifact
from edgecnn.artifacts.artifact import join, join_bytes, split
from edgecnn.errors import ArtifactError, ContractError, DigestError, EdgecnnError

pytestmark = pytest.mark.timeout(900)
NAMES = ["neu-float32.tflite", "neu-int8.tflite", "neu-float32.onnx", "neu-int8.onnx", "mnist-int8.tflite"]
FLIPS, MUTATIONS, CONTRACTS = 4000, 3000, 1500
TABLE = "files"


@pytest.fixture(params=NAMES)
def original(request: pytest.FixtureRequest, artifacts: dict[str, Path]) -> Artifact:
    return Artifact.open(artifacts[request.param])


class Trial:
    """Opens altered bytes again and again, and counts what came of it; `wrong` remembers what opened as something else."""

    def __init__(self, original: Artifact, folder: Path) -> None:
        self.original = original
        self.path = folder / f"altered.{original.format}"
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.slowest_s = 0.0

    def open(self, data: bytes, what: str) -> None:
        """Try one file. Any error but ours is a failure of the test."""
        self.path.write_bytes(data)
        started_s = time.perf_counter()
        try:
            opened = Artifact.open(self.path)
        except ArtifactError:
            self.counts["refused"] += 1
        else:
            same = opened.model == self.original.model and opened.contract == self.original.contract
            self.counts["opened as the very same model and contract" if same else "opened as something else"] += 1
            if not same:
                self.wrong.append(what)
        self.slowest_s = max(self.slowest_s, time.perf_counter() - started_s)

    @property
    def outcome(self) -> str:
        return counted(self.counts) + "; 0 opened as anything else"


def test_no_flipped_byte_gives_another_model(original: Artifact, tmp_path: Path, ledger: Ledger) -> None:
    trial, rng = Trial(original, tmp_path), random.Random(f"{SEED} {original.path.name}")
    data = original.path.read_bytes()
    stride = max(1, len(data) // (FLIPS // 2))
    # Every region of the model once, and every byte of what stands around it.
    regions = [*range(0, len(original.model), stride), *range(len(original.model), len(data))]
    for at in [*regions, *(rng.randrange(len(data)) for _ in range(max(0, FLIPS - len(regions))))]:
        trial.open(data[:at] + bytes([data[at] ^ rng.randrange(1, 256)]) + data[at + 1 :], f"byte {at}")

    assert trial.wrong == []
    ledger.note(TABLE, f"`{original.path.name}`: one byte changed, in every region", trial.counts.total(), trial.outcome)


def test_no_cut_gives_a_model(original: Artifact, tmp_path: Path, ledger: Ledger) -> None:
    trial, data = Trial(original, tmp_path), original.path.read_bytes()
    for length in sorted({*range(0, len(data), 1024), *range(len(data) - 300, len(data))}):
        trial.open(data[:length], f"{length} bytes")

    assert trial.counts.keys() == {"refused"}
    ledger.note(TABLE, f"`{original.path.name}`: cut at every kilobyte", trial.counts.total(), trial.outcome)


def mutations(data: bytes, rng: random.Random, count: int) -> Iterator[bytes]:
    """Yield files in which blocks were overwritten, put in, taken out, doubled or exchanged."""
    for _ in range(count):
        altered = bytearray(data)
        for _ in range(rng.randrange(1, 5)):
            at, other = rng.randrange(len(altered)), rng.randrange(len(altered))
            # Half of all mutations hit the end, where the contract stands.
            at = len(altered) - 1 - rng.randrange(min(len(altered), 6000)) if rng.random() < 0.5 else at
            size = rng.choice((1, 2, 4, 8, 64, 1024))
            match rng.randrange(6):
                case 0:
                    altered[at : at + size] = rng.randbytes(size)
                case 1:
                    altered[at:at] = rng.randbytes(size)
                case 2:
                    del altered[at : at + size]
                case 3:
                    altered[at:at] = altered[other : other + size]
                case 4:
                    altered[at : at + size] = rng.choice((b"\0", b"\xff", b"\x80", b"\x7f")) * size
                case _:
                    altered[at : at + 8] = struct.pack("<Q", rng.choice((0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)))
            if not altered:
                break
        yield bytes(altered)


def test_no_mutation_gives_another_model_or_another_error(original: Artifact, tmp_path: Path, ledger: Ledger) -> None:
    trial, rng = Trial(original, tmp_path), random.Random(f"{SEED} mutations {original.path.name}")
    for number, altered in enumerate(mutations(original.path.read_bytes(), rng, MUTATIONS)):
        trial.open(altered, f"mutation {number}")

    assert trial.wrong == []
    assert trial.slowest_s < 10
    ledger.note(TABLE, f"`{original.path.name}`: blocks overwritten, moved, doubled, lost", MUTATIONS, trial.outcome)


def test_no_contract_fits_another_model(artifacts: dict[str, Path], tmp_path: Path, ledger: Ledger) -> None:
    opened, counts = {name: Artifact.open(path) for name, path in artifacts.items()}, Counter[str]()
    for artifact, other in itertools.permutations(opened.values(), 2):
        if other.format != artifact.format:
            continue
        path = tmp_path / f"swapped.{artifact.format}"
        path.write_bytes(join(artifact.model, other.contract, artifact.format))
        with pytest.raises(DigestError):
            Artifact.open(path)
        counts["refused"] += 1
        # A forger who makes the digests right meets the tensors and the golden vectors.
        forged = dataclasses.replace(other.contract, model_sha256=artifact.contract.model_sha256)
        path.write_bytes(join(artifact.model, forged, artifact.format))
        try:
            use(path)
        except EdgecnnError:
            counts["refused"] += 1
        else:
            assert artifact.contract.labels == other.contract.labels
            counts["ran: float and int8 of one model, whose answers lie within the tolerance"] += 1

    assert counts["refused"] >= 8
    ledger.note(
        TABLE, "the contract of one model on another, digests as they were or made right", counts.total(), counted(counts)
    )


@pytest.mark.parametrize("name", ["mnist-int8.tflite", "neu-float32.onnx"])
def test_no_forged_contract_is_a_traceback_or_overrides_the_model(
    artifacts: dict[str, Path], name: str, tmp_path: Path, ledger: Ledger
) -> None:
    original, rng = Artifact.open(artifacts[name]), random.Random(f"{SEED} contracts {name}")
    path, counts = tmp_path / f"forged.{original.format}", Counter[str]()
    body = json.loads(original.contract.to_json())
    for _ in range(CONTRACTS):
        forged = sealed(absurd(body, rng))
        path.write_bytes(join_bytes(original.model, forged, original.contract.labels, original.format))
        try:
            use(path)
        except EdgecnnError as error:
            assert "\n" not in str(error) and "\x1b" not in str(error)
            counts["refused"] += 1
        else:
            counts["ran, being no contradiction to the model"] += 1

    outcome = f"{counted(counts)} (whoever can make digests can write a contract: that is what signatures are for)"
    ledger.note(TABLE, f"`{name}`: absurd contracts with digests made right", CONTRACTS, outcome)


def test_a_forger_who_can_make_digests_cannot_make_a_signature(
    artifacts: dict[str, Path], tmp_path: Path, ledger: Ledger
) -> None:
    from edgecnn.artifacts.signature import TrustedKey
    from edgecnn.sign import sign_file

    private, public = _write_keys(tmp_path)
    cases = 0
    for path in artifacts.values():
        artifact = Artifact.open(path)
        # Labels in another order: every other check of the file passes.
        forged = dataclasses.replace(artifact.contract, labels=artifact.contract.labels[::-1])
        copied = tmp_path / f"forged.{artifact.format}"
        copied.write_bytes(join(artifact.model, forged, artifact.format))
        use(copied)
        with pytest.raises(ArtifactError):
            Artifact.open(copied, trusted=TrustedKey.open(public))
        copied.write_bytes(path.read_bytes())
        sign_file(copied, private)
        assert Artifact.open(copied, trusted=TrustedKey.open(public)).contract == artifact.contract
        cases += 1

    ledger.note(TABLE, "labels in another order with all digests made right, `--require-signature`", cases, f"{cases} refused")


def _write_keys(folder: Path) -> tuple[Path, Path]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key, pem = Ed25519PrivateKey.generate(), serialization.Encoding.PEM
    private, public = folder / "key.pem", folder / "public.pem"
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


def _bombs() -> dict[str, bytes]:
    def packed(*entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
        tail = io.BytesIO()
        with zipfile.ZipFile(tail, "w", method) as archive:
            for name, content in entries:
                archive.writestr(name, content)
        return tail.getvalue()

    zeros = b"\0" * 2**27
    lying = bytearray(packed(("edgecnn.json", zeros)))
    for signature, at in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<I", lying, lying.index(signature) + at, 2)
    deep = b'{"a":' * 200_000 + b"1" + b"}" * 200_000
    return {
        "128 MB of zeros as contract": packed(("edgecnn.json", zeros)),
        "the same, claiming 2 bytes": bytes(lying),
        "128 MB of zeros as labels": packed(("edgecnn.json", b"{}"), ("labels.txt", zeros)),
        "packed by LZMA": packed(("edgecnn.json", zeros), method=zipfile.ZIP_LZMA),
        "packed by BZIP2": packed(("edgecnn.json", zeros), method=zipfile.ZIP_BZIP2),
        "60,000 entries": packed(*((f"{n}", b"") for n in range(60_000)), ("edgecnn.json", b"{}")),
        "JSON 200,000 levels deep": packed(("edgecnn.json", deep)),
        "a million keys": packed(("edgecnn.json", b"{" + b",".join(b'"%d":1' % n for n in range(90_000)) + b"}")),
        "a number of a million digits": packed(("edgecnn.json", b'{"format_version":' + b"9" * 1_000_000 + b"}")),
    }


def test_no_bomb_unfolds(tmp_path: Path, ledger: Ledger) -> None:
    path, slowest_s, most_bytes = tmp_path / "bomb.tflite", 0.0, 0
    bombs = _bombs()
    for name, bomb in bombs.items():
        path.write_bytes(b"model" + bomb)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started_s = time.perf_counter()
        with pytest.raises(ContractError):
            Artifact.open(path)
        slowest_s = max(slowest_s, time.perf_counter() - started_s)
        most_bytes = max(most_bytes, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
        assert slowest_s < 10, name

    assert most_bytes < 2**26
    ledger.note(TABLE, f"bombs: {', '.join(bombs)}", len(bombs), f"{len(bombs)} refused, the slowest in {slowest_s:.1f} s")


def run_fuzzer(kind: str, folder: Path, *, cases: int, limit_s: float) -> dict[str, int]:
    """Fuzz in a process of its own, since native code is reached: it must come to its end. Return its counts."""
    command = [
        sys.executable,
        str(Path(__file__).parent / "fuzzing.py"),
        kind,
        str(folder),
        str(SEED),
        str(cases),
        str(limit_s),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s + 300, check=False)
    assert done.returncode == 0, (done.returncode, done.stdout[-500:], done.stderr[-3000:])
    counts: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return counts


def test_no_damaged_keras_file_is_a_crash_or_another_model(tmp_path: Path, ledger: Ledger) -> None:
    counts = run_fuzzer("keras", tmp_path, cases=1500, limit_s=120)

    assert counts.pop("opened as something else", 0) == 0
    assert counts["refused"] > 100
    outcome = counted(counts) + "; 0 opened as anything else"
    ledger.note(TABLE, "`mnist-compact.keras`: bytes and blocks changed, cut short", sum(counts.values()), outcome)


def test_no_damaged_checkpoint_is_a_crash_or_another_training(tmp_path: Path, ledger: Ledger) -> None:
    counts = run_fuzzer("checkpoint", tmp_path, cases=3000, limit_s=60)

    assert counts.pop("opened as something else", 0) == 0
    assert counts["refused"] > 1000
    outcome = counted(counts) + "; 0 opened as anything else"
    ledger.note(TABLE, "`checkpoint.npz`: bytes and blocks changed, cut short", sum(counts.values()), outcome)


def test_what_the_probe_lets_through_does_not_crash_what_follows(tmp_path: Path, ledger: Ledger) -> None:
    counts = run_fuzzer("foreign", tmp_path, cases=2000, limit_s=120)

    assert counts.pop("crashed after the probe", 0) == 0
    assert counts["ran"] > 50 and counts["refused"] > 50
    outcome = counted(counts) + "; 0 crashed afterwards, on other pictures"
    ledger.note(TABLE, "`.tflite` without contract, damaged, tried in a child process", sum(counts.values()), outcome)


def test_the_command_refuses_damaged_models_of_others_in_one_line(tmp_path: Path, picture: Path, ledger: Ledger) -> None:
    model, _ = split(SHIPPED / "mnist-int8.tflite")
    rng, counts = random.Random(f"{SEED} command"), Counter[str]()
    labels = ",".join("abcdefghij")
    for altered in mutations(model, rng, 12):
        path = tmp_path / "foreign.tflite"
        path.write_bytes(altered)
        done = run_edgecnn("classify", path, picture, "--labels", labels, timeout_s=200)
        assert done.code == 0 or done.is_one_line, done
        counts["ran" if done.code == 0 else "refused in one line"] += 1

    ledger.note(TABLE, "the same by `edgecnn classify --labels`", counts.total(), counted(counts))


def _a_zip() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("readme.txt", "no contract")
    return held.getvalue()


OTHERS: dict[str, Callable[[], bytes]] = {
    "an empty file": lambda: b"",
    "a picture": lambda: b"\x89PNG\r\n\x1a\n" + bytes(500),
    "a ZIP of something else": _a_zip,
    "an ELF program": lambda: Path(sys.executable).resolve().read_bytes()[:100_000],
    "a text": lambda: b"hello\n" * 1000,
    "noise": lambda: np.random.default_rng(0).bytes(10_000),
}


@pytest.mark.parametrize("command", ["verify", "inspect", "classify", "camera"])
def test_files_of_others_are_one_line_for_every_command(command: str, tmp_path: Path, picture: Path, ledger: Ledger) -> None:
    cases = [(what, suffix) for what in OTHERS for suffix in (".tflite", ".onnx")]
    if command != "verify":  # a process each, and the code that refuses is the same
        cases = random.Random(f"{SEED} {command}").sample(cases, 3)
    for what, suffix in cases:
        path = tmp_path / f"other{suffix}"
        path.write_bytes(OTHERS[what]())
        extra = {"classify": [str(picture)], "camera": ["--frames", "1"]}.get(command, [])
        done = run_edgecnn(command, path, *extra)
        assert done.is_one_line, (what, suffix, done)

    ledger.note(TABLE, f"files that are no models, by `edgecnn {command}`", len(cases), "refused in one line, exit code 2")


def test_contracts_of_the_future_are_refused_with_the_way_out(tmp_path: Path) -> None:
    original = Artifact.open(SHIPPED / "mnist-int8.tflite")
    future = dataclasses.replace(original.contract, format_version=3)
    path = tmp_path / "future.tflite"
    path.write_bytes(join(original.model, future, "tflite"))

    with pytest.raises(ContractError, match="install the edgecnn that exported the file"):
        Artifact.open(path)
