"""Two tiny artifacts, one a format, with contracts of their own: small enough to damage every single byte."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecnn.artifacts import Artifact, Contract, golden
from edgecnn.artifacts.contract import GoldenVectors, ParityInfo, TensorSpec
from edgecnn.preprocessing import Preprocessing
from edgecnn.runtimes import open_runtime
from edgecnn.runtimes.select import open_tflite

LABELS = ("crazing", "inclusion", "patches")
SHAPE = (4, 4, 1)
SEEDS = (0, 1, 2)

# One dense layer in int8. In a process of its own: TensorFlow stays out of the process that tests what loads it.
CONVERT_TFLITE = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np, tensorflow as tf

class Dense(tf.Module):
    def __init__(self):
        super().__init__()
        self.weights = tf.Variable(np.random.RandomState(0).normal(0, 0.004, (16, 3)).astype(np.float32))
    @tf.function(autograph=False)
    def serve(self, image):
        return {"scores": tf.nn.softmax(tf.reshape(image, (1, 16)) @ self.weights)}

dense = Dense()
concrete = dense.serve.get_concrete_function(tf.TensorSpec((1, 4, 4, 1), tf.float32, name="image"))
converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], dense)
converter.optimizations = [tf.lite.Optimize.DEFAULT]
ramps = [np.linspace(0, 255, 16, dtype=np.float32).reshape(1, 4, 4, 1)[:, ::step] for step in (1, -1)]
converter.representative_dataset = lambda: ([ramp] for ramp in ramps)
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
converter.inference_input_type = converter.inference_output_type = tf.int8
open(sys.argv[1], "wb").write(converter.convert())
"""


def _contract(model: bytes, tensors: tuple[TensorSpec, TensorSpec], precision: str) -> Contract:
    inputs = golden.make_inputs(SEEDS, SHAPE)
    return Contract(
        task="steel",
        title="Steel surfaces – Stahlflächen",
        labels=LABELS,
        preprocessing=Preprocessing(4, 4),
        input=tensors[0],
        output=tensors[1],
        precision="int8" if precision == "int8" else "float32",
        model="one dense layer",
        parameters=48,
        versions={"edgecnn": "0"},
        training_data=None,
        calibration=None,
        parity=ParityInfo("not measured"),
        golden=GoldenVectors(SEEDS, golden.inputs_digest(inputs), (), (), 0.01),
        model_sha256=hashlib.sha256(model).hexdigest(),
        export_id="tiny",
    )


def _with_answers(draft: Artifact) -> Artifact:
    answers = open_runtime(draft).run(golden.make_inputs(SEEDS, SHAPE))
    rows = tuple(tuple(float(p) for p in row) for row in answers)
    return replace(
        draft, contract=replace(draft.contract, golden=replace(draft.contract.golden, reference=rows, artifact=rows))
    )


@pytest.fixture(scope="session")
def tiny_tflite_artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """An int8 `.tflite` of one dense layer from 4 x 4 gray pixels to three classes, saved at its `path`."""
    folder = tmp_path_factory.mktemp("tflite")
    subprocess.run([sys.executable, "-c", CONVERT_TFLITE, str(folder / "model")], check=True, capture_output=True, timeout=300)
    model = (folder / "model").read_bytes()
    opened = open_tflite(model)
    artifact = _with_answers(Artifact(folder / "tiny.tflite", model, _contract(model, (opened.input, opened.output), "int8")))
    artifact.save(artifact.path)
    return artifact


@pytest.fixture(scope="session")
def tiny_onnx_artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A float `.onnx` of the same form with a dynamic batch, saved at its `path`."""
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    model = _dense_onnx(np.random.RandomState(0).normal(0, 0.004, (16, 3)).astype(np.float32))
    tensors = TensorSpec("image", "uint8", (None, *SHAPE)), TensorSpec("scores", "float32", (None, len(LABELS)))
    artifact = _with_answers(Artifact(path, model, _contract(model, tensors, "float32")))
    artifact.save(path)
    return artifact


def _dense_onnx(weights: NDArray[np.float32]) -> bytes:
    from onnx import TensorProto, checker, helper, numpy_helper

    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["float"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", *SHAPE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", len(LABELS)])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    model.metadata_props.add(key="author", value="somebody else")
    checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.fixture(scope="session", params=["tflite", "onnx"])
def tiny_artifact(request: pytest.FixtureRequest) -> Artifact:
    """Each of the two tiny artifacts."""
    artifact = request.getfixturevalue(f"tiny_{request.param}_artifact")
    assert isinstance(artifact, Artifact)
    return artifact


@pytest.fixture
def save_altered(tmp_path: Path) -> Callable[[bytes, str], Path]:
    """Return a function that writes bytes as a file `altered.SUFFIX` and returns its path."""

    def save(data: bytes, suffix: str) -> Path:
        path = tmp_path / f"altered.{suffix}"
        path.write_bytes(data)
        return path

    return save
