"""Contracts that say anything, with digests that make them look whole."""

from __future__ import annotations

import copy
import hashlib
import json
import random
from functools import partial
from pathlib import Path
from typing import Any

from edgecnn.artifacts import Artifact, golden
from edgecnn.errors import ArtifactError
from edgecnn.runtimes import open_runtime
from edgecnn.runtimes.runtime import answer

NASTY: list[Any] = [
    *(None, True, -1, 0, 1, 2**31, 2**63, 2**64, 10**400, -0.0, 1e308, -1e308, 5e-324),
    *("", "\x1b[2J", "a\nb", "ü" * 3000, "\ud800", "int8", "float32"),
    *([], {}, [None], [[]], {"": {}}, ["a"] * 5000, [[0.1] * 7] * 9, [1, 4096, 4096, 3], [None, 2**40, 1, 1]),
]


def absurd(body: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Return a contract's JSON in which a few values, anywhere, are others, or are missing, or are too many."""
    body = copy.deepcopy(body)
    for _ in range(rng.randrange(1, 4)):
        holder: Any = body
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(holder[key], dict | list) and holder[key] and rng.random() < 0.7:
                holder = holder[key]
                continue
            match rng.randrange(4):
                case 0 | 1:
                    holder[key] = copy.deepcopy(rng.choice(NASTY))
                case 2:
                    del holder[key]
                case _:
                    if isinstance(holder, dict):
                        holder[str(rng.choice(NASTY))[:50]] = copy.deepcopy(rng.choice(NASTY))
                    else:
                        holder.append(copy.deepcopy(rng.choice(NASTY)))
            break
    return body


def sealed(body: dict[str, Any]) -> bytes:
    """Return the JSON with the digest that makes it look whole."""
    body = {key: value for key, value in body.items() if key != "contract_sha256"}

    def dump(value: dict[str, Any]) -> bytes:
        return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")

    return dump(body | {"contract_sha256": hashlib.sha256(dump(body)).hexdigest()})


def use(path: Path) -> None:
    """Do what a camera does before its first frame."""
    artifact = Artifact.open(path)
    runtime = open_runtime(artifact)
    report = golden.replay(artifact.contract, partial(answer, runtime))
    if not report.passed:
        raise ArtifactError("the golden vectors differ")
