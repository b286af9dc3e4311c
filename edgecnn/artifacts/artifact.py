"""An exported model file and the promise inside it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from edgecnn.artifacts import onnx_file, tflite_file
from edgecnn.artifacts.contract import Contract
from edgecnn.artifacts.signature import TrustedKey
from edgecnn.errors import ArtifactError, ContractError, DigestError, InputError
from edgecnn.files import read_bytes, write_bytes
from edgecnn.quick_dataclass import dataclass

MAX_FILE_BYTES = 2**30
SUFFIXES = (".tflite", ".onnx")
_FORMS = {"tflite": tflite_file, "onnx": onnx_file}
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Artifact:
    """One exported file, checked: its model bytes and its contract. `path` is where it was read from."""

    path: Path
    model: bytes
    contract: Contract

    @classmethod
    def open(cls, path: Path | str, *, trusted: TrustedKey | None = None) -> Artifact:
        """Read a file and check it before any native code sees it.

        Raises InputError when it cannot be read; ContractError when it has no contract, a damaged one or one of an unknown
        format version, or a model with data in another file; DigestError when the model's bytes are not those that the
        contract was written for; and, where a `trusted` key is given, SignatureError when its owner has not signed the file.
        """
        path = Path(path)
        return cls.read(read_file(path), path, trusted=trusted)

    @classmethod
    def read(cls, data: bytes, path: Path, *, trusted: TrustedKey | None = None) -> Artifact:
        """Check the bytes of a file that was read from `path`; raises what `open` raises, but for what reading raises."""
        name = file_format(path)
        model, entries = _naming(path, _unpack, data, name)
        contract_json = entries.get(_FORMS[name].CONTRACT_NAME)
        if contract_json is None:
            raise ContractError(f"{path} {without_contract(name, path)}")
        try:
            contract = Contract.from_json(contract_json)
        except ContractError as error:
            raise ContractError(f"{path}: {error}") from error
        digest = hashlib.sha256(model).hexdigest()
        if digest != contract.model_sha256:
            raise DigestError(
                f"{path} was damaged or altered: its model has SHA-256 {digest}, expected {contract.model_sha256}"
            )
        if name == "tflite" and tflite_file.read_labels(entries) not in (None, contract.graph_labels):
            raise ContractError(f"{path} was altered: its {tflite_file.LABELS_NAME} is not the list of its contract")
        if trusted is not None:
            trusted.check(contract_json, entries.get(_FORMS[name].SIGNATURE_NAME), path)
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


def without_contract(name: str, path: Path) -> str:
    """Say of a `tflite` or `onnx` file without a contract what it may be, and what can be done with it."""
    way_out = (
        f"run such a file with: edgecnn classify {path} PICTURE --labels a,b,c"
        if name == "tflite"
        else "of other tools' files only .tflite is run; export the Keras model that it was made from: "
        "edgecnn export MODEL.keras --labels a,b,c"
    )
    return f"carries no edgecnn contract: it is cut short, or another tool's model; {way_out}"


def is_foreign(path: Path, data: bytes, labels: tuple[str, ...] | None) -> bool:
    """Tell whether a file is a `.tflite` without a contract whose labels are known: by the user, or by its label file.

    `data` is what was read from `path`.

    Raises InputError where they are not: it is another tool's, or one of ours that was cut short. ContractError for an
    `.onnx` without a contract.
    """
    name = file_format(path)
    model, contract_json = split_bytes(data, path)
    if contract_json is not None:
        return False
    if name != "tflite":
        raise ContractError(f"{path} {without_contract(name, path)}")
    from edgecnn.artifacts.tflite_metadata import describe  # for other tools' files alone

    if labels is None and describe(model).labels is None:
        raise InputError(
            f"{path} carries no edgecnn contract: it is cut short, or another tool's model; if so, name its classes in "
            "order: --labels a,b,c or a file with one per line"
        )
    return True


def split(path: Path) -> tuple[bytes, bytes | None]:
    """Read a `.tflite` or `.onnx` and separate the model's bytes from the contract JSON (None where there is none)."""
    return split_bytes(read_file(path), path)


def split_bytes(data: bytes, path: Path) -> tuple[bytes, bytes | None]:
    """Separate the bytes of a file that was read from `path`, as `split` does."""
    name = file_format(path)
    model, entries = _naming(path, _unpack, data, name)
    return model, entries.get(_FORMS[name].CONTRACT_NAME)


def join(model: bytes, contract: Contract, name: str) -> bytes:
    """Return the bytes of an artifact: the model and, behind it, the contract. `name` is `tflite` or `onnx`."""
    return join_bytes(model, contract.to_json(), contract.graph_labels, name)


def join_bytes(
    model: bytes, contract_json: bytes, labels: tuple[str, ...], name: str, *, signature: bytes | None = None
) -> bytes:
    """Return the bytes of an artifact whose contract is given as it is to stand there."""
    if name == "tflite":
        return tflite_file.join(model, contract_json, labels, signature=signature)
    return onnx_file.join(model, contract_json, signature=signature)


def read_file(path: Path) -> bytes:
    """Read the bytes of a `.tflite` or `.onnx`; InputError when that is not possible, ArtifactError for another suffix."""
    file_format(path)  # another suffix is refused before a byte is read
    return read_bytes(path, at_most=MAX_FILE_BYTES)


def _unpack(data: bytes, name: str) -> tuple[bytes, dict[str, bytes]]:
    """Separate the model from what is ours, in one pass over the file."""
    form = _FORMS[name]
    model, entries = form.unpack(data)
    if form.CONTRACT_NAME in entries:
        form.check_self_contained(model)
    return model, entries


def _naming(path: Path, read: Callable[[bytes, str], T], data: bytes, name: str) -> T:
    """Return `read(data, name)`; its ContractError names the file."""
    try:
        return read(data, name)
    except ContractError as error:
        raise ContractError(f"{path}: {error}") from error
