"""What every command with --json prints: an object with the version of its form, and probabilities by label."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from fleet_reports import fleet, hear_board
from local_board import make_ssh
from published_schemas import PUBLISHED, check

from edgecnn.cli.main import cli
from edgecnn.cli.options import SCHEMA
from edgecnn.shipped import find_task, int8_path
from edgecnn_device.fleet.history import History

NEU = str(int8_path("neu"))
# The arguments of each; PICTURE and FOLDER are made.
COMMANDS = {
    "export": ["neu", "--format", "tflite", "--unproven", "--out", "OUT"],
    "parity": ["neu", NEU, "--data", "FOLDER"],
    "study crossval": ["FOLDER"],
    "study ablation": ["FOLDER", "--out", "OUT"],
    "study leave-one-out": ["FOLDER"],
    "study only-good": ["GOOD", "--others", "FOLDER"],
    "classify": ["neu", "PICTURE"],
    "evaluate": ["neu", "--data", "FOLDER"],
    "robustness": ["neu", "--data", "FOLDER", "--pictures", "6", "--severity", "1"],
    "study where": ["neu", "--data", "FOLDER", "--masks", "MASKS"],
    "study digits": ["VIDEO", "LABELS"],
    "study belt": ["neu", "--data", "FOLDER", "--pictures", "3"],
    "rejection": ["neu", "--data", "FOLDER", "--per-kind", "3"],
    "bench": ["neu", "--runtime", "ai-edge-litert", "--threads", "1", "--runs", "2"],
    "doctor": ["neu"],
    "inspect": ["neu"],
    "verify": ["neu"],
    "data check": ["FOLDER", "--measure", "--against", "TABLE"],
    "data info": ["FOLDER"],
    "data photos": ["PHOTOS"],
    "data suspects": ["FOLDER"],
    "study learning-curve": ["FOLDER"],
    "study drift": ["neu", "--data", "synthetic", "--frames", "100"],
    "compare": ["neu", "neu", "--data", "FOLDER"],
    "samples list": ["SAMPLES"],
    "fleet list": ["--mqtt", "mqtt://broker/plant"],
    "fleet status": ["--mqtt", "mqtt://broker/plant"],
    "fleet history": ["--history", "HISTORY"],
    "deploy": ["--history", "board", "--model", "MODEL", "--program", "PROGRAM"],
}


def commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield prefix + name, command
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("json")
    task = find_task("neu")
    assert task.synthesize is not None
    made = task.synthesize(40, 3)
    masks = folder / "masks"
    masks.mkdir()
    for number, (image, class_id) in enumerate(zip(made.images, made.class_ids, strict=True)):
        label = task.labels[class_id]
        path = folder / "parts" / label / f"{label}_{number // len(task.labels) + 1}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
        mask = np.zeros((200, 200), np.uint8)
        mask[50:120, 60:150] = 255
        cv2.imwrite(str(masks / f"{path.stem}.png"), mask)
    (folder / "photos").mkdir()
    cv2.imwrite(str(folder / "photos/a.png"), np.full((200, 200, 3), 255, np.uint8))
    (folder / "photos/labels.csv").write_text("file,x,y,w,h,label,kind\na.png,10,10,40,60,3,digit\n")
    (folder / "video").mkdir()
    cv2.imwrite(str(folder / "video/a.png"), np.full((200, 200, 3), 255, np.uint8))
    (folder / "labels.csv").write_text("frame,digit,x,y,w,h,label\n0,a,10,10,40,60,3\n")
    (folder / "samples").mkdir()
    cv2.imwrite(str(folder / "samples/one.png"), made.images[0])
    region = {"id": 1, "box": [0, 0, 200, 200], "label": None, "verdict": "novel", "class_id": 0, "probability": 0.5}
    sample = {"source": "drawn", "captured_at": "2026-11-29T00:31:53+00:00", "regions": [region], "kept": ["novel"]}
    (folder / "samples/one.json").write_text(json.dumps(sample))
    with History(folder / "fleet.sqlite"):
        pass
    shutil.copy(NEU, folder / "model.tflite")
    rows = "".join(f"{each.stem}.jpg,{each.stem}\n" for each in masks.iterdir())
    (folder / "groups.csv").write_text(f"file,group\n{rows}")
    found = {
        "SAMPLES": folder / "samples",
        "TABLE": folder / "groups.csv",
        "FOLDER": folder / "parts",
        "GOOD": path.parent,
        "PICTURE": path,
        "OUT": folder / "out",
        "HISTORY": folder / "fleet.sqlite",
        "PHOTOS": folder / "photos",
        "MASKS": masks,
        "VIDEO": folder / "video",
        "LABELS": folder / "labels.csv",
        "MODEL": folder / "model.tflite",
        "PROGRAM": make_ssh(folder / "bin") / "edgecnn",
    }
    return {name: str(path) for name, path in found.items()}


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a study find its answer at once."""
    from edgecnn.metrics import Share
    from edgecnn_export.studies.crossval import CrossValidation
    from edgecnn_export.studies.drift import DriftStudy, Noticed
    from edgecnn_export.studies.only_good import KindRow, OnlyGoodFigures

    def ablate(*_: object, out: Path, **__: object) -> list[Any]:
        out.mkdir(parents=True, exist_ok=True)
        (out / "ablation.json").write_text('{"rows": []}')
        return []

    found = CrossValidation.__new__(CrossValidation)
    row = KindRow("hole", Share(3, 4), 0.9, (0.8, 1.0))
    figures = OnlyGoodFigures((row,), Share(1, 20), 0.05, 20)
    monkeypatch.setattr("edgecnn_export.studies.crossval.cross_validate", lambda *_, **__: found)
    monkeypatch.setattr("edgecnn_export.studies.crossval.to_json", lambda _: {"figures": []})
    monkeypatch.setattr("edgecnn_export.studies.ablation.ablate", ablate)
    monkeypatch.setattr("edgecnn_export.studies.only_good.study_only_good", lambda *_, **__: figures)
    drift = DriftStudy(300, 164, 3, (Noticed("noise", 2, (9, 12), ("noisier",)), Noticed("dust", 2, (9,), ())), 0, 0, 100)
    monkeypatch.setattr("edgecnn_export.studies.drift.study_drift", lambda *_, **__: drift)
    monkeypatch.setattr("edgecnn_export.studies.leave_one_out.leave_one_class_out", lambda *_, **__: [])


def test_every_command_with_json_is_asked_here() -> None:
    found = {name for name, command in commands(cli) if any("--json" in parameter.opts for parameter in command.params)}

    assert found == set(COMMANDS)


@pytest.fixture
def no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a fleet have been heard."""
    boards = fleet(known={"line-1/press-9": "line-1"})
    hear_board(boards)
    monkeypatch.setattr("edgecnn.cli.fleet._gather", lambda *_: boards)


@pytest.mark.usefixtures("no_training", "no_broker")
@pytest.mark.parametrize("name", COMMANDS)
def test_json_says_its_version_and_names_its_probabilities(
    name: str, places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [places.get(word, word) for word in COMMANDS[name]]
    monkeypatch.setenv("PATH", str(Path(places["PROGRAM"]).parent), prepend=os.pathsep)

    done = CliRunner().invoke(cli, [*name.split(), *arguments, "--json"], catch_exceptions=False)

    body = json.loads(done.stdout)
    assert (next(iter(body)), body["schema"]) == ("schema", SCHEMA)
    assert all(isinstance(found, dict) for found in values_of("probabilities", body))
    if name not in {"study crossval", "study ablation", "study leave-one-out"}:  # what they find takes trainings
        check(name.replace(" ", "-"), body)


def test_every_json_has_a_schema_that_the_documentation_shows() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/json-and-mqtt.md").read_text("utf-8")

    assert {name for name in PUBLISHED if f"\n<!-- schema: {name} -->\n" in page} == PUBLISHED
    assert {name.replace(" ", "-") for name in COMMANDS} | {"observation", "state", "board"} == PUBLISHED


def test_classify_gives_each_label_its_probability(places: dict[str, str]) -> None:
    done = CliRunner().invoke(cli, ["classify", "neu", places["PICTURE"], "--json"], catch_exceptions=False)

    (picture,) = json.loads(done.stdout)["pictures"]
    assert list(picture["probabilities"]) == list(find_task("neu").labels)
    assert picture["probability"] == max(picture["probabilities"].values())


def values_of(key: str, body: Any) -> Iterator[Any]:
    if isinstance(body, dict):
        if key in body:
            yield body[key]
        body = list(body.values())
    if isinstance(body, list):
        for each in body:
            yield from values_of(key, each)
