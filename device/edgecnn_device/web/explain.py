"""What stands behind the answer to one region, for who taps it: computed when that is asked, from what the network gave."""

from __future__ import annotations

import base64
from typing import Any

from edgecnn.errors import InputError
from edgecnn.where import MapName, layer
from edgecnn_device.frames import Behind, Image, RegionPrediction
from edgecnn_device.web.jpeg import encode, encode_input


def explain_region(prediction: RegionPrediction) -> dict[str, Any]:
    """Return a region's answers, what the network saw of it, and in `maps` what lies over that: pictures as `data:` addresses.

    All but `smoothed` is of this frame alone. `maps` has `class` and `novelty` as far as the model has them. `distance` is that
    of the features to the nearest centre of the training pictures, 0 to 2, which `novelty` was made of; None without
    thresholds.
    """
    behind = prediction.behind
    distance = None if behind is None else behind.classifier.distance(behind.answers.only(behind.index))
    return prediction.to_json() | {
        "probabilities": [round(float(p), 4) for p in prediction.raw.probabilities],
        "input": encode_input(prediction.input),
        "maps": {} if behind is None else _maps(prediction, behind),
        "distance": None if distance is None else round(distance, 4),
    }


def _maps(prediction: RegionPrediction, behind: Behind) -> dict[MapName, str]:
    try:
        (located,) = behind.classifier.locate(prediction.input[None], behind.answers.only(behind.index), [prediction.raw])
    except InputError:
        return {}
    found: tuple[tuple[MapName, Any], ...] = ("class", located.where), ("novelty", located.novel_where)
    return {name: _data_address(layer(own, name)) for name, own in found if own is not None}


def _data_address(bgra: Image) -> str:
    return f"data:image/png;base64,{base64.b64encode(encode(bgra, '.png')).decode()}"
