"""Runs Home Assistant with its MQTT integration until stdin ends, then prints what it knows: PORT DISCOVERY-PREFIX FOLDER.

This is run by the Python of Home Assistant's own environment.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from homeassistant import bootstrap, core, runner
from homeassistant.helpers import entity_registry

ENTRY = {
    "created_at": "2025-01-01T00:00:00+00:00",
    "modified_at": "2025-01-01T00:00:00+00:00",
    "disabled_by": None,
    "discovery_keys": {},
    "domain": "mqtt",
    "entry_id": "broker",
    "minor_version": 1,
    "pref_disable_new_entities": False,
    "pref_disable_polling": False,
    "source": "user",
    "subentries": [],
    "title": "broker",
    "unique_id": None,
    "version": 1,
}


def write_configuration(folder: Path, port: int, prefix: str) -> None:
    """Write what Home Assistant keeps after a person has added the MQTT integration."""
    (folder / ".storage").mkdir()
    (folder / "configuration.yaml").write_text(f"logger:\n  default: warning\nhttp:\n  server_port: {port + 1}\n")
    discovery = {"discovery": True, "discovery_prefix": prefix}
    entry = ENTRY | {"data": {"broker": "127.0.0.1", "port": port} | discovery, "options": discovery}
    stored = {"version": 1, "minor_version": 5, "key": "core.config_entries", "data": {"entries": [entry]}}
    (folder / ".storage/core.config_entries").write_text(json.dumps(stored))


async def run(port: int, prefix: str, folder: Path) -> dict[str, Any]:
    """Return our entities with their states, attributes and how often each changed."""
    write_configuration(folder, port, prefix)
    config = runner.RuntimeConfig(config_dir=str(folder), skip_pip=True, log_no_color=True)
    home = await bootstrap.async_setup_hass(config)
    assert home is not None
    changes: Counter[str] = Counter()

    def count(event: core.Event[Any]) -> None:
        changes[event.data["entity_id"]] += 1

    home.bus.async_listen("state_changed", count)
    await home.async_start()
    print("started", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    ours = [entry for entry in entity_registry.async_get(home).entities.values() if entry.platform == "mqtt"]
    found = {}
    for entry in ours:
        state = home.states.get(entry.entity_id)
        found[entry.original_name] = {
            "unique_id": entry.unique_id,
            "state": None if state is None else state.state,
            "attributes": {} if state is None else json.loads(json.dumps(dict(state.attributes), default=str)),
            "changes": changes[entry.entity_id],
        }
    await home.async_stop(force=True)
    return found


if __name__ == "__main__":
    result = asyncio.run(run(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
    print(json.dumps(result), flush=True)
