"""What both sides answer: the shipped models with and without their softmax, the validation pictures, and photographs."""

from __future__ import annotations

import os
import shutil
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from drawn_sheet import draw_sheet
from numpy.typing import NDArray

from edgecnn import shipped
from edgecnn.artifacts import Artifact
from edgecnn.datasets.load import SYNTHETIC, find_data, load_splits
from edgecnn.shipped import find_task
from edgecnn_device.sources.synthetic import play_sheet, play_strip

SEED = 0
COUNTED_FRAMES = 8
# Sizes of which none has a simple ratio to the networks' input: enlarged, reduced, halved before that.
_SIZES_WH = ((640, 480), (1280, 720), (1920, 1080), (333, 251), (151, 187))


def lay_out(task_name: str, folder: Path) -> str:
    """Write everything that `inside/answer.py` and `inside/count.py` read about a task; return what the pictures are.

    EDGECNN_ARM_PICTURES limits the number of validation pictures.
    """
    artifact = Artifact.open(shipped.int8_path(task_name))
    lay_out_model(artifact, folder)
    (folder / "pictures").mkdir()
    (folder / "logits.tflite").write_bytes(without_softmax(artifact.model))
    splits = load_splits(find_task(task_name), None if find_data(task_name) else SYNTHETIC, SEED)
    limit = int(os.environ.get("EDGECNN_ARM_PICTURES", len(splits.validation)))
    np.save(folder / "validation.npy", splits.validation.images[:limit])
    write_pictures(task_name, folder / "pictures")
    return splits.info.describe("validation")


def lay_out_model(artifact: Artifact, folder: Path) -> None:
    """Write what `inside/count.py` reads about a model into a new folder: the model, and frames of what it is made for."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    artifact.save(folder / "model.tflite")
    np.save(folder / "frames.npy", camera_frames(artifact.contract.preprocessing.fit == "digit", COUNTED_FRAMES + 2))


def camera_frames(digits: bool, count: int) -> NDArray[np.uint8]:
    """Return frames `(count, 480, 640, 3)` of the synthetic camera: a sheet of digits, or a strip of steel."""
    frames = play_sheet(seed=SEED) if digits else play_strip(seed=SEED)
    return np.stack([frame.image_bgr for frame in islice(frames, count)])


def write_pictures(task_name: str, folder: Path) -> None:
    """Write synthetic pictures of several sizes as PNG and JPEG, and the real photographs of digits where they are."""
    for number, (width, height) in enumerate(_SIZES_WH):
        image = _picture(task_name, number, width, height)
        for suffix in ("png", "jpg"):
            cv2.imwrite(str(folder / f"{task_name}_{width}x{height}.{suffix}"), image)
    photos = find_data("digit_photos") if task_name == "mnist" else None
    if photos is not None:
        for path in sorted(photos.glob("*.png")) + sorted(photos.glob("*.jpg")):
            shutil.copy(path, folder)


def _picture(task_name: str, seed: int, width: int, height: int) -> NDArray[np.uint8]:
    if task_name == "mnist":
        return draw_sheet(seed, size_hw=(height, width), digit_height=max(24, height // 10)).image_bgr
    return next(play_strip((width, height), seed=seed)).image_bgr


def without_softmax(model: bytes) -> bytes:
    """Return a `.tflite` whose output is the input of its last operator, the softmax: its logits."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    parsed = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    (graph,) = parsed.subgraphs
    last = graph.operators[-1]
    code = parsed.operatorCodes[last.opcodeIndex]
    if max(code.builtinCode, code.deprecatedBuiltinCode) != schema.BuiltinOperator.SOFTMAX:
        raise ValueError("the model does not end in a softmax")
    graph.operators = graph.operators[:-1]
    graph.outputs = [last.inputs[0]]
    parsed.signatureDefs = []
    builder = flatbuffers.Builder(len(model))
    builder.Finish(parsed.Pack(builder), b"TFL3")
    return bytes(builder.Output())
