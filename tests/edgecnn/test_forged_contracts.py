"""Contracts that say anything, with digests made right, are refused in one line or contradict nothing.

`make test-faults` tries more.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from forging import absurd, sealed, use

from edgecnn.artifacts import Artifact
from edgecnn.artifacts.artifact import join_bytes
from edgecnn.errors import ContractError, EdgecnnError

Saver = Callable[[bytes, str], Path]


def forged(artifact: Artifact, body: dict[str, object]) -> bytes:
    """Return the artifact with another contract."""
    return join_bytes(artifact.model, sealed(body), artifact.contract.labels, artifact.format)


def test_no_forged_contract_is_another_error(tiny_artifact: Artifact, save_altered: Saver) -> None:
    rng, body, refused = random.Random(0), json.loads(tiny_artifact.contract.to_json()), 0
    for _ in range(250):
        path = save_altered(forged(tiny_artifact, absurd(body, rng)), tiny_artifact.format)
        try:
            use(path)
        except EdgecnnError as error:
            refused += 1
            assert str(error).isprintable()

    assert refused > 100


@pytest.mark.parametrize("field", ["export_id", "model_sha256", "task"])
def test_no_text_of_a_contract_takes_over_a_terminal(tiny_artifact: Artifact, save_altered: Saver, field: str) -> None:
    body = json.loads(tiny_artifact.contract.to_json()) | {field: "\x1b]0;owned\x07"}

    with pytest.raises(ContractError, match="control characters"):
        Artifact.open(save_altered(forged(tiny_artifact, body), tiny_artifact.format))
