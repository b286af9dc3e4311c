"""Reports of boards that are made up, and what is known of a fleet by them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from edgecnn_device.fleet.boards import Board, Boards

NOW_S = 1_795_900_000.0
PREFIX = "plant"


def report(at_s: float = NOW_S, **changes: Any) -> dict[str, Any]:
    """Return what a healthy board publishes at `at_s` by its clock."""
    at = datetime.fromtimestamp(at_s, UTC).isoformat()
    body = {
        "at": at,
        "every_s": 60.0,
        "group": "line-1",
        "host": "press-1",
        "edgecnn": "0.2.0",
        "address": "10.0.0.11",
        "page": "http://10.0.0.11:8080/",
        "pictures": True,
        "clock_synchronised": True,
        "boot_id": "cac62fe7-9c4e-4b6f-94c5-6b5110c820b5",
        "up_s": 5000.0,
        "running_s": 4000.0,
        "model": {
            "task": "neu",
            "network": "compact",
            "precision": "int8",
            "file": "neu-int8.tflite",
            "export_id": "5880c8e7610164b3",
            "sha256": "1f" * 32,
            "runtime": "ai-edge-litert 2.3.0",
            "verified": True,
            "refused": False,
        },
        "promise": {
            "accuracy": 0.99,
            "low": 0.97,
            "high": 0.998,
            "pictures": 300,
            "split": "validation",
            "source": "NEU surface defects",
            "synthetic": False,
        },
        "today": {"day": "2026-11-29", "since": at, "answers": 1000, "unsure": 20, "novel": 10},
        "fps": 14.9,
        "latency_ms": {"p50": 2.1, "p95": 3.0},
    }
    return body | changes


def fleet(**settings: Any) -> Boards:
    """Return a fleet that nobody has heard of, at NOW_S."""
    return Boards(PREFIX, **({"wall_clock": lambda: NOW_S} | settings))


def hear_board(
    boards: Boards,
    name: str = "line-1/press-1",
    *,
    state: str = "ok",
    reason: str = "",
    drift: str | None = None,
    retained: bool = True,
    **changes: Any,
) -> Board:
    """Let a fleet hear all that an online board publishes; return the board as it is seen then."""
    body = report(**changes)
    said: dict[str, Any] = {"state": state, "reason": reason}
    if drift is not None:
        said["drift"] = {"words": drift, "since": "2026-11-24T08:05:31+00:00"}
    for kind, payload in (
        ("status", "online"),
        ("state", json.dumps(said)),
        ("board", json.dumps(body)),
    ):
        boards.hear(f"{PREFIX}/{name}/{kind}", payload.encode(), retained=retained)
    return boards.find(name)
