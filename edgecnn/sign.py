"""Signing a file that exists: model and contract stay as they are, byte for byte."""

from __future__ import annotations

from pathlib import Path

from edgecnn.artifacts.artifact import Artifact, join_bytes, read_file, split_bytes
from edgecnn.artifacts.signature import sign_contract
from edgecnn.errors import InputError
from edgecnn.files import write_bytes
from edgecnn.runtimes.probe import verify


def sign_file(path: Path, key: Path, *, timeout_s: float = 10.0) -> str:
    """Put a signature into an artifact, in the place of an older one; return the fingerprint of the key.

    What is signed was read once and has answered its golden vectors here, within `timeout_s` seconds. Raises what
    `Artifact.open` and `probe.verify` raise, ArtifactError for a file whose answers differ from its contract,
    InputError for one that failed its parity or a key of no use, OutputError when the file cannot be written.
    """
    data = read_file(path)
    artifact = Artifact.read(data, path)
    if artifact.contract.parity.verdict == "fail":
        raise InputError(f"{path} failed its parity; a signature would make boards accept it as good")
    verify(artifact, timeout_s=timeout_s).demand()
    model, contract_json = split_bytes(data, path)
    assert contract_json is not None
    signature, fingerprint = sign_contract(contract_json, key)
    write_bytes(path, join_bytes(model, contract_json, artifact.contract.graph_labels, artifact.format, signature=signature))
    return fingerprint
