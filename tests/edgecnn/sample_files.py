"""Samples as a camera writes them, for tests of what is done with them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np

from edgecnn.samples.likeness import encode_features

START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def keep(
    folder: Path,
    number: int,
    *,
    after_s: float = 0.0,
    features: list[float] | None = None,
    kept: list[str] | None = None,
    **region: object,
) -> str:
    """Write a sample as a camera does and return its name."""
    at = START + timedelta(seconds=after_s)
    name = f"{at:%Y%m%dT%H%M%S.%f}Z-{number}-1"
    picture = np.random.default_rng(number).integers(0, 256, (24, 24, 3), np.uint8)
    cv2.imwrite(str(folder / f"{name}.png"), picture)
    answer = {"box": [0, 0, 24, 24], "label": "good", "verdict": "label", "probability": 0.9, **region}
    body = {"captured_at": at.isoformat(), "source": "cam", "regions": [answer], "kept": kept or ["unsure"], "guess": "good"}
    body["model"] = {"sha256": "ab", "export_id": "cd"}
    if features is not None:
        body["features"] = encode_features(np.array(features))
    (folder / f"{name}.json").write_text(json.dumps(body))
    return name
