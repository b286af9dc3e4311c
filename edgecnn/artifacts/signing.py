"""Signing a file that is there: model and contract stay as they are, to the byte."""

from __future__ import annotations

from pathlib import Path

from edgecnn.artifacts import golden
from edgecnn.artifacts.artifact import Artifact, file_format, join_bytes, split
from edgecnn.artifacts.signature import sign_contract
from edgecnn.errors import InputError
from edgecnn.files import write_bytes


def sign_file(path: Path, key: Path) -> str:
    """Put a signature into an artifact, in the place of an older one; return the fingerprint of the key.

    Raises what `Artifact.open` raises, InputError for a file that failed its parity or a key of no use, OutputError when the
    file cannot be written.
    """
    artifact = Artifact.open(path)
    if artifact.contract.parity.verdict == "fail":
        raise InputError(f"{path} failed its parity; a signature would let boards take it for a good one")
    if contradiction := golden.contradiction(artifact.contract):
        raise InputError(f"{path} contradicts its own reference: {contradiction}; export it again")
    model, contract_json = split(path)
    assert contract_json is not None
    signature, fingerprint = sign_contract(contract_json, key)
    write_bytes(path, join_bytes(model, contract_json, artifact.contract.labels, file_format(path), signature=signature))
    return fingerprint
