"""What Home Assistant receives: descriptions of a camera's sensors, and their values at a pace that its database can bear.

Form: Home Assistant, "MQTT Discovery" and "MQTT Sensor" (home-assistant.io/integrations/mqtt and /sensor.mqtt).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

from edgecnn import __version__
from edgecnn.errors import EdgecnnError
from edgecnn.files import read_bytes, write_bytes
from edgecnn_device.classes import NONE_OF_THESE, NOTHING_FOUND, Classes
from edgecnn_device.frames import Observation, RegionPrediction, State

_AT_LEAST_S, _HEARTBEAT_S = 1.0, 60.0
_MOST_REGIONS = 64
_MOST_BYTES = 1024
# Home Assistant takes no longer state, and keeps these words for itself.
_MOST_LETTERS = 255
_RESERVED = frozenset({"unknown", "unavailable", "none"})


class Answers:
    """The value of the sensors: the answer of the worst region, or the text of a camera that reads.

    At once when the answer changes or a trigger has fired, else when something else has, at most once a second, and once a
    minute in any case.
    """

    def __init__(self, classes: Classes, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Publish nothing yet."""
        self._classes = classes
        self._clock = clock
        self._last: dict[str, Any] = {}
        self._last_s = 0.0

    def take(self, observation: Observation) -> dict[str, Any] | None:
        """Return what is to be published for an observation whose state is ok, None when that is nothing."""
        body, now_s = self._body(observation.predictions), self._clock()
        passed_s = now_s - self._last_s
        is_due = passed_s >= (_HEARTBEAT_S if body == self._last else _AT_LEAST_S)
        if body.get("answer") == self._last.get("answer") and not is_due and observation.event is None:
            return None
        self._last, self._last_s = body, now_s
        return body

    def forget(self) -> None:
        """Publish the next observation, whatever was published before."""
        self._last = {}

    def _body(self, predictions: tuple[RegionPrediction, ...]) -> dict[str, Any]:
        answers = [_word(prediction) for prediction in predictions[:_MOST_REGIONS]]
        shown = predictions[0] if self._classes.reads and predictions else self._classes.worst(predictions)
        if shown is None:
            return {"answer": NOTHING_FOUND, "probability": None, "region": None, "regions": []}
        answer = ", ".join(answers)[:_MOST_LETTERS] if self._classes.reads else _word(shown)
        region = next(number for number, prediction in enumerate(predictions, 1) if prediction is shown)
        # Hundredths: more digits would be another row in a database every second.
        probability = round(100 * shown.smoothed.probability)
        return {"answer": answer, "probability": probability, "region": region, "regions": answers}


def describe_sensors(prefix: str, discovery_prefix: str, classes: Classes) -> dict[str, dict[str, Any]]:
    """Return the description of each sensor by its topic.

    The answers are unavailable to Home Assistant unless the camera is online and its state `ok`: it would otherwise go on
    showing the last class of a camera that sees nothing.
    """
    online = {"topic": f"{prefix}/status", "payload_available": "online", "payload_not_available": "offline"}
    seeing = {"topic": f"{prefix}/state", "value_template": "{{ 'online' if value_json.state == 'ok' else 'offline' }}"}
    answers = {"state_topic": f"{prefix}/answer", "availability": [online, seeing], "availability_mode": "all"}
    words = {} if classes.reads or not classes.labels else {"device_class": "enum", "options": _options(classes)}
    sensors: dict[str, dict[str, Any]] = {
        "prediction": {
            "name": "Prediction",
            "icon": "mdi:eye",
            "value_template": "{{ value_json.answer }}",
            "json_attributes_topic": f"{prefix}/answer",
            "json_attributes_template": "{{ {'region': value_json.region, 'regions': value_json.regions} | tojson }}",
            **words,
            **answers,
        },
        "probability": {
            "name": "Probability",
            "unit_of_measurement": "%",
            "state_class": "measurement",
            "value_template": "{{ value_json.probability }}",
            **answers,
        },
        "state": {
            "name": "State",
            "icon": "mdi:cctv",
            "entity_category": "diagnostic",
            "device_class": "enum",
            "options": list(get_args(get_type_hints(State)["name"])),
            "state_topic": f"{prefix}/state",
            "value_template": "{{ value_json.state }}",
            "json_attributes_topic": f"{prefix}/state",
            "json_attributes_template": (
                "{{ {'reason': value_json.reason, 'warning': value_json.warning | default('')} | tojson }}"
            ),
            "availability": [online],
        },
    }
    sensors["drift"] = {
        "name": "Drift",
        "icon": "mdi:chart-bell-curve-cumulative",
        "entity_category": "diagnostic",
        "state_topic": f"{prefix}/state",
        "value_template": "{{ (value_json.drift.words if value_json.drift is defined else 'no drift') | truncate(250) }}",
        "json_attributes_topic": f"{prefix}/state",
        "json_attributes_template": "{{ (value_json.drift if value_json.drift is defined else {}) | tojson }}",
        "availability": [online],
    }
    shared = {
        "device": {
            "identifiers": [_identity(prefix)],
            "name": f"edgecnn {prefix}",
            "manufacturer": "edgecnn",
            "sw_version": __version__,
        },
        "origin": {"name": "edgecnn", "sw_version": __version__},
    }
    return {
        topic: sensors[name] | {"unique_id": f"{_identity(prefix)}-{name}"} | shared
        for name, topic in _topics(prefix, discovery_prefix).items()
    }


class Announcement:
    """Remembers across restarts under which prefix the sensors were announced to Home Assistant, to take that back.

    Nothing is announced elsewhere: a broker may disconnect a client that publishes on a topic that it does not own.
    """

    def __init__(self, prefix: str, folder: Path | None) -> None:
        """Remember in `folder`, or nothing where there is none."""
        self._prefix = prefix
        self._file = None if folder is None else folder / f"{_identity(prefix)}.discovery"

    def outdated(self, discovery_prefix: str | None) -> list[str]:
        """Return the topics on which an empty retained message takes sensors away that are no longer announced there."""
        remembered = self._read()
        return list(_topics(self._prefix, remembered).values()) if remembered and remembered != discovery_prefix else []

    def remember(self, discovery_prefix: str | None) -> None:
        """Remember the prefix of now; None: there is nothing to take back any more."""
        if self._file is None or (self._read() or None) == discovery_prefix:
            return
        if discovery_prefix is None:
            self._file.unlink(missing_ok=True)
        else:
            write_bytes(self._file, discovery_prefix.encode())

    def _read(self) -> str:
        if self._file is None or not self._file.exists():
            return ""
        try:
            return read_bytes(self._file, at_most=_MOST_BYTES).decode()
        except (EdgecnnError, UnicodeDecodeError):
            return ""


def _topics(prefix: str, discovery_prefix: str) -> dict[str, str]:
    names = ("prediction", "probability", "state", "drift")
    return {name: f"{discovery_prefix}/sensor/{_identity(prefix)}/{name}/config" for name in names}


def _identity(prefix: str) -> str:
    """Return what stays the same for a camera's place when its board is replaced: it comes from the topic alone."""
    return f"edgecnn-{hashlib.sha256(prefix.encode()).hexdigest()[:12]}"


def _options(classes: Classes) -> list[str]:
    return [*(_word_for(label) for label in classes.labels), NONE_OF_THESE, NOTHING_FOUND]


def _word(prediction: RegionPrediction) -> str:
    label = prediction.smoothed.label
    return NONE_OF_THESE if label is None else _word_for(label)


def _word_for(label: str) -> str:
    return f"class {label}" if label.lower() in _RESERVED else label[:_MOST_LETTERS]
