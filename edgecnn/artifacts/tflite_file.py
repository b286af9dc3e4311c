"""The contract in a `.tflite`: a ZIP archive behind the flatbuffer, as the TFLite Metadata format packs associated files.

The flatbuffer knows its own extent, so every TFLite runtime ignores the tail; `python -m zipfile -l FILE` lists it.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

from edgecnn.artifacts.contract import MAX_JSON_BYTES
from edgecnn.errors import ContractError

# Places of the fields in the table `Model` of the schema (schema.fbs, LiteRT 2).
_EXTERNAL_BUFFER_GROUPS, _EXTERNAL_BUFFERS = 8, 9
CONTRACT_NAME = "edgecnn.json"
LABELS_NAME = "labels.txt"
SIGNATURE_NAME = "edgecnn.sig"


def check_self_contained(model: bytes) -> None:
    """Raise ContractError when the model names other files as the places of its weights: no digest is over those.

    Bytes that are no flatbuffer pass: whatever opens them will refuse them.
    """
    if any(_count(model, place) for place in (_EXTERNAL_BUFFER_GROUPS, _EXTERNAL_BUFFERS)):
        raise ContractError("the model has weights in another file, which no digest covers; save it with all weights inside")


def _count(buffer: bytes, place: int) -> int:
    """Return how many entries the vector at `place` of a flatbuffer's root table has (FlatBuffers, "Internals")."""
    try:
        root = _number(buffer, "<I", 0)
        vtable = root - _number(buffer, "<i", root)
        at = 4 + 2 * place
        offset = _number(buffer, "<H", vtable + at) if at < _number(buffer, "<H", vtable) else 0
        vector = root + offset
        return _number(buffer, "<I", vector + _number(buffer, "<I", vector)) if offset else 0
    except struct.error:
        return 0


def _number(buffer: bytes, form: str, at: int) -> int:
    if at < 0:  # which Python would count from the end
        raise struct.error
    return int(struct.unpack_from(form, buffer, at)[0])


def split(data: bytes) -> tuple[bytes, bytes | None]:
    """Separate a file's bytes into the model and its contract JSON, None where it carries none."""
    model, entries = unpack(data)
    return model, entries.get(CONTRACT_NAME)


def unpack(data: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Separate a file's bytes into the model and what stands behind it, by its name; nothing where there is no contract."""
    start, entries = _entries(data)
    return data[:start], entries


def read_labels(entries: dict[str, bytes]) -> tuple[str, ...] | None:
    """Return the labels that other tools read beside the model, None where there are none."""
    labels = entries.get(LABELS_NAME)
    return None if labels is None else tuple(labels.decode("utf-8", "replace").removesuffix("\n").split("\n"))


def _entries(data: bytes) -> tuple[int | None, dict[str, bytes]]:
    """Return where the archive behind the model starts and what our entries hold; (None, {}) where there is no contract."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            names = [info.filename for info in infos]
            if CONTRACT_NAME not in names:
                return None, {}
            if len(set(names)) < len(names):
                raise ContractError("the file carries two contracts, or two of what belongs to one")
            ours = [info for info in infos if info.filename in (CONTRACT_NAME, LABELS_NAME, SIGNATURE_NAME)]
            return min(info.header_offset for info in infos), {info.filename: _read_bounded(archive, info) for info in ours}
    except zipfile.BadZipFile as error:
        if CONTRACT_NAME.encode() in data[-(2**16) :]:
            raise ContractError(f"the contract at the end of the file is damaged: {error}") from error
        return None, {}
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


def join(model: bytes, contract_json: bytes, labels: tuple[str, ...], *, signature: bytes | None = None) -> bytes:
    """Append contract, labels and any signature to a model that carries none; the same input gives the same bytes."""
    tail = io.BytesIO()
    entries = {CONTRACT_NAME: contract_json, LABELS_NAME: ("\n".join(labels) + "\n").encode()}
    with zipfile.ZipFile(tail, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (entries | ({} if signature is None else {SIGNATURE_NAME: signature})).items():
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return model + tail.getvalue()
