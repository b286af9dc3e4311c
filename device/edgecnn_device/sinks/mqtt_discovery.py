"""How Home Assistant comes to know a camera: retained descriptions of its sensors.

Form: Home Assistant, "MQTT Discovery" and "MQTT Sensor" (home-assistant.io/integrations/mqtt and /sensor.mqtt).
"""

from __future__ import annotations

from typing import Any

from edgecnn import __version__
from edgecnn_device.sinks.mqtt_broker import Broker

_ROOT = "homeassistant"
# A state of Home Assistant has at most 255 characters.
_ANSWERS = (
    "{% for region in value_json.regions[:8] %}{{ region.smoothed.label or 'unknown' }}{{ '' if loop.last else ', ' }}"
    "{% else %}nothing{% endfor %}"
)
_PROBABILITY = "{{ (100 * value_json.regions[0].smoothed.probability) | round(1) if value_json.regions else None }}"


def describe_sensors(broker: Broker) -> dict[str, dict[str, Any]]:
    """Return the description of each sensor by its topic.

    The answers are unavailable to Home Assistant unless the camera is online and its state `ok`: it would otherwise go on
    showing the last class of a camera that sees nothing.
    """
    prefix, identity = broker.prefix, broker.client_id
    online = {"topic": f"{prefix}/status", "payload_available": "online", "payload_not_available": "offline"}
    seeing = {"topic": f"{prefix}/state", "value_template": "{{ 'online' if value_json.state == 'ok' else 'offline' }}"}
    answers = {"state_topic": f"{prefix}/prediction", "availability": [online, seeing], "availability_mode": "all"}
    sensors: dict[str, dict[str, Any]] = {
        "prediction": {
            "name": "Prediction",
            "icon": "mdi:eye",
            "value_template": _ANSWERS,
            "json_attributes_topic": f"{prefix}/prediction",
            **answers,
        },
        "probability": {"name": "Probability", "unit_of_measurement": "%", "value_template": _PROBABILITY, **answers},
        "state": {
            "name": "State",
            "icon": "mdi:cctv",
            "state_topic": f"{prefix}/state",
            "value_template": "{{ value_json.state }}",
            "json_attributes_topic": f"{prefix}/state",
            "availability": [online],
        },
    }
    shared = {
        "device": {
            "identifiers": [identity],
            "name": f"edgecnn {prefix}",
            "manufacturer": "edgecnn",
            "sw_version": __version__,
        },
        "origin": {"name": "edgecnn", "sw_version": __version__},
    }
    return {
        f"{_ROOT}/sensor/{identity}/{name}/config": sensor | {"unique_id": f"{identity}-{name}"} | shared
        for name, sensor in sensors.items()
    }
