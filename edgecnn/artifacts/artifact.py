"""An exported model file and the promise inside it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from edgecnn.artifacts import onnx_file, tflite_file
from edgecnn.artifacts.contract import Contract
from edgecnn.errors import ArtifactError, ContractError, DigestError
from edgecnn.files import read_bytes, write_bytes

MAX_FILE_BYTES = 2**30
SUFFIXES = (".tflite", ".onnx")


@dataclass(frozen=True, eq=False)
class Artifact:
    """One exported file, checked: its model bytes and its contract. `path` is where it was read from."""

    path: Path
    model: bytes
    contract: Contract

    @classmethod
    def open(cls, path: Path | str) -> Artifact:
        """Read a file and check it before any native code sees it.

        Raises InputError when it cannot be read, ContractError when it has no contract, a damaged one or one of an unknown
        format version, DigestError when the model's bytes are not those that the contract was written for.
        """
        path = Path(path)
        model, contract_json = split(path)
        if contract_json is None:
            raise ContractError(
                f"{path} carries no edgecnn contract: it is cut short or was not exported by edgecnn; "
                "to run another tool's model give --labels"
            )
        try:
            contract = Contract.from_json(contract_json)
        except ContractError as error:
            raise ContractError(f"{path}: {error}") from error
        digest = hashlib.sha256(model).hexdigest()
        if digest != contract.model_sha256:
            raise DigestError(
                f"{path} was damaged or altered: its model has SHA-256 {digest}, expected {contract.model_sha256}"
            )
        return cls(path, model, contract)

    @property
    def format(self) -> str:
        """`tflite` or `onnx`."""
        return file_format(self.path)

    def save(self, path: Path) -> None:
        """Write model and contract as one file, whole or not at all."""
        write_bytes(path, join(self.model, self.contract, file_format(path)))


def file_format(path: Path) -> str:
    """Return `tflite` or `onnx` by the file's suffix (`.rejected` files keep theirs before it)."""
    suffix = Path(path.name.removesuffix(".rejected")).suffix.lower()
    if suffix not in SUFFIXES:
        raise ArtifactError(f"{path} is neither .tflite nor .onnx")
    return suffix[1:]


def split(path: Path) -> tuple[bytes, bytes | None]:
    """Read a `.tflite` or `.onnx` and separate the model's bytes from the contract JSON (None where there is none)."""
    name = file_format(path)
    data = read_bytes(path, at_most=MAX_FILE_BYTES)
    try:
        return tflite_file.split(data) if name == "tflite" else onnx_file.split(data)
    except ContractError as error:
        raise ContractError(f"{path}: {error}") from error


def join(model: bytes, contract: Contract, name: str) -> bytes:
    """Return the bytes of an artifact: the model and, behind it, the contract. `name` is `tflite` or `onnx`."""
    if name == "tflite":
        return tflite_file.join(model, contract.to_json(), contract.labels)
    return onnx_file.join(model, contract.to_json())
