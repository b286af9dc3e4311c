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
            if CONTRACT_NAME not in archive.namelist():
                return data, None
            if archive.getinfo(CONTRACT_NAME).file_size > MAX_JSON_BYTES:
                raise ContractError(f"the contract is larger than {MAX_JSON_BYTES} bytes")
            return data[: min(entry.header_offset for entry in entries)], archive.read(CONTRACT_NAME)
    except zipfile.BadZipFile as error:
        if CONTRACT_NAME.encode() in data[-(2**16) :]:
            raise ContractError(f"the contract at the end of the file is damaged: {error}") from error
        return data, None
    except (NotImplementedError, RuntimeError, EOFError, ValueError, OSError, zlib.error) as error:
        if isinstance(error, ContractError):
            raise
        raise ContractError(f"the contract at the end of the file is damaged: {error}") from error


def join(model: bytes, contract_json: bytes, labels: tuple[str, ...]) -> bytes:
    """Append the contract and the label file to a model that carries none; the same input gives the same bytes."""
    tail = io.BytesIO()
    with zipfile.ZipFile(tail, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in ((CONTRACT_NAME, contract_json), (LABELS_NAME, ("\n".join(labels) + "\n").encode())):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return model + tail.getvalue()
