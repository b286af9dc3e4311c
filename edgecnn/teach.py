"""Teaching a class to an exported file by its centres in feature space: seconds on a board, and no training.

The network stays as it is. What it makes of the pictures of a class (the features that its last layer looks at) is summed up in
a few centres; a picture that is nearer to these than to those of every other class is of that class. That is a nearest-mean
classifier on a learned representation (Mensink et al., IEEE TPAMI 35, 2013), beside the head that was trained.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts import Artifact, Contract, golden
from edgecnn.artifacts.contract import MAX_JSON_BYTES, EvidenceInfo, ParityInfo, TaughtInfo
from edgecnn.errors import InputError
from edgecnn.files import read_bytes
from edgecnn.metrics import Share
from edgecnn.pictures import MAX_FILE_BYTES, decode_picture
from edgecnn.progress import report
from edgecnn.rejection.evidence import CENTRES, k_means
from edgecnn.runtimes import Runtime, open_runtime
from edgecnn.runtimes.head import as_compared, distances, read_centres, read_weights, unit
from edgecnn.runtimes.runtime import answer

LEAST = 5  # pictures of a class
_SOFT = 1 / 8  # of the distance from which a picture is novel: odds of e to 1
_FOLDS = 5


@dataclass(frozen=True, eq=False)
class Taught:
    """What was made: the new file's content, and how many of the pictures are recognised by what the others of them taught.

    `before` is how many of them had that answer already.
    """

    artifact: Artifact
    recognised: Share
    before: Share
    is_new: bool


def teach(
    artifact: Artifact, label: str, files: Sequence[Path], *, path: Path, at: datetime | None = None, seed: int = 0
) -> Taught:
    """Return an artifact, to be saved at `path`, that knows a class by pictures of it: a new one, or one that it mistook.

    Its golden vectors are made again on this machine, and its parity is no longer that of the export: it says that it was
    taught. Raises InputError for a model without features or thresholds, or too few pictures.
    """
    contract = artifact.contract
    if contract.good_parts is not None:
        raise InputError(
            f"{artifact.path} knows good parts only: it has no classes to teach one beside; train with all of them"
        )
    if contract.head is None or contract.evidence is None:
        lack = "features" if contract.head is None else "thresholds"
        way_out = "export it again with its pictures, or train with the new ones"
        raise InputError(f"{artifact.path} has no {lack} to teach by; {way_out}")
    runtime = open_runtime(artifact)
    pooled, guesses, digests = _look(runtime, contract, files)
    if len(digests) < LEAST:
        raise InputError(f"too few different pictures to teach {label}: {len(digests)}; at least {LEAST} are needed")
    labels = contract.labels if label in contract.labels else (*contract.labels, label)
    class_id = labels.index(label)
    units = unit(as_compared(pooled, contract.evidence.root))
    info = TaughtInfo(
        label,
        (at or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds"),
        tuple(digests),
        min(CENTRES, len(units)),
        contract.evidence.novel_above * _SOFT,
    )
    centres = k_means(units, info.centres, np.random.default_rng(seed))
    info = replace(info, centres=len(centres))
    evidence = _extended(contract.evidence, len(read_weights(contract.head)), centres, class_id)
    known = read_centres(contract.evidence, pooled.shape[1])
    others = known[np.array(contract.evidence.centre_classes) != class_id]
    count = len(units)
    return Taught(
        _renewed(artifact, path, replace(contract, labels=labels, evidence=evidence, taught=(*contract.taught, info))),
        Share(int(_cross_checked(units, others, seed).sum()), count),
        Share(int((guesses == class_id).sum()), count),
        label not in contract.labels,
    )


def _look(
    runtime: Runtime, contract: Contract, files: Sequence[Path]
) -> tuple[NDArray[np.float64], NDArray[np.int64], list[str]]:
    """Return features `(n, channels)`, the most probable classes `(n,)` and the digests of different pictures."""
    pooled, guesses, digests = [], [], list[str]()
    for done, file in enumerate(files):
        report("looking at pictures", done, len(files))
        data = read_bytes(file, at_most=MAX_FILE_BYTES)
        digest = hashlib.sha256(data).hexdigest()
        if digest in digests:
            continue
        found = answer(runtime, contract.preprocessing(decode_picture(data, name=str(file)))[None])
        assert found.pooled is not None
        pooled.append(found.pooled[0])
        guesses.append(int(found.probabilities[0].argmax()))
        digests.append(digest)
    report("looking at pictures", len(files), len(files))
    return np.array(pooled).reshape(len(pooled), -1), np.array(guesses, np.int64), digests


def _extended(info: EvidenceInfo, channels: int, centres: NDArray[np.float64], class_id: int) -> EvidenceInfo:
    """Return the evidence with more centres; where these are larger than its 8 bits reach, all of them get a larger scale."""
    old = read_centres(info, channels)
    scale = max(info.scale, float(np.abs(centres).max() / 127))
    integers = np.rint(np.concatenate([old, centres]) / scale).astype(np.int8)
    owners = (*info.centre_classes, *[class_id] * len(centres))
    return replace(info, centres=base64.b64encode(integers.tobytes()).decode(), scale=scale, centre_classes=owners)


def _cross_checked(units: NDArray[np.float64], others: NDArray[np.float64], seed: int) -> NDArray[np.bool_]:
    """Tell which pictures `(n,)` are nearer to centres of the pictures of other folds than to those of the other classes."""
    folds = np.random.default_rng(seed).permutation(len(units)) % _FOLDS
    nearer = np.zeros(len(units), bool)
    for fold in range(_FOLDS):
        centres = k_means(units[folds != fold], CENTRES, np.random.default_rng(seed))
        held = units[folds == fold]
        nearer[folds == fold] = distances(held, centres).min(axis=1) < distances(held, others).min(axis=1)
    return nearer


def _renewed(artifact: Artifact, path: Path, contract: Contract) -> Artifact:
    """Return the file with golden vectors of what it computes now: it is its own reference."""
    names = hashlib.sha256("".join(contract.taught[-1].pictures).encode()).hexdigest()
    contract = replace(contract, parity=ParityInfo("not measured"), export_id=f"{contract.export_id}+{names[:8]}")
    made = replace(artifact, path=path, contract=contract)
    found = answer(open_runtime(made), golden.recorded_inputs(contract)).probabilities
    rows = tuple(tuple(float(p) for p in row) for row in found)
    renewed = replace(contract, golden=replace(contract.golden, reference=rows, artifact=rows))
    if len(renewed.to_json()) > MAX_JSON_BYTES:
        raise InputError(f"{artifact.path} has no room for what else would be taught; train with the pictures instead")
    return replace(made, contract=renewed)
