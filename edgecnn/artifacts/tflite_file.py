"""The contract in a `.tflite`: a ZIP archive behind the flatbuffer, as the TFLite Metadata format packs associated files.

The flatbuffer knows its own extent, so every TFLite runtime ignores the tail; `python -m zipfile -l FILE` lists it.
"""

from __future__ import annotations

import io
import zipfile
import zlib

from edgecnn.artifacts.contract import MAX_JSON_BYTES
from edgecnn.errors import ContractError

CONTRACT_NAME = "edgecnn.json"
LABELS_NAME = "labels.txt"


def split(data: bytes) -> tuple[bytes, bytes | None]:
    """Separate a file's bytes into the model and its contract JSON, None where it carries none."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            contracts = [entry for entry in entries if entry.filename == CONTRACT_NAME]
            if not contracts:
                return data, None
            if len(contracts) > 1:
                raise ContractError("the file carries two contracts")
            return data[: min(entry.header_offset for entry in entries)], _read_bounded(archive, contracts[0])
    except zipfile.BadZipFile as error:
        if CONTRACT_NAME.encode() in data[-(2**16) :]:
            raise ContractError(f"the contract at the end of the file is damaged: {error}") from error
        return data, None
    except (NotImplementedError, RuntimeError, EOFError, ValueError, OSError, zlib.error) as error:
        if isinstance(error, ContractError):
            raise
        raise ContractError(f"the contract at the end of the file is damaged: {error}") from error


def _read_bounded(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """Unpack an entry that may lie about its size: at most MAX_JSON_BYTES are ever held."""
    # Python bounds what it unpacks at a time for these two methods only.
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ContractError(f"the contract is packed by method {entry.compress_type}; only stored and deflated are read")
    with archive.open(entry) as file:
        content = file.read(MAX_JSON_BYTES + 1)
    if len(content) > MAX_JSON_BYTES:
        raise ContractError(f"the contract is larger than {MAX_JSON_BYTES} bytes")
    return content


def join(model: bytes, contract_json: bytes, labels: tuple[str, ...]) -> bytes:
    """Append the contract and the label file to a model that carries none; the same input gives the same bytes."""
    tail = io.BytesIO()
    with zipfile.ZipFile(tail, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in ((CONTRACT_NAME, contract_json), (LABELS_NAME, ("\n".join(labels) + "\n").encode())):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return model + tail.getvalue()
