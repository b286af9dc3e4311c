"""Artifacts of tiny untrained networks, which stand in for the shipped models, and pictures to feed them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MAKE = """
import sys
from pathlib import Path
import hashlib, os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
import tensorflow as tf
from edgecnn.artifacts import Artifact, golden
from edgecnn.artifacts.contract import Contract, GoldenVectors, ParityInfo
from edgecnn.runtimes.litert import open_interpreter
from edgecnn.runtimes.tflite import tensor_spec, dequantize, quantize
from edgecnn.shipped import shipped_tasks

class Serve(tf.Module):
    def __init__(self, model):
        super().__init__()
        self.model, self.vars = model, [v.value for v in model.variables]
    @tf.function(autograph=False)
    def serve(self, image):
        return {"scores": self.model(image, training=False)}

def convert(task, seed):
    tf.keras.utils.set_random_seed(seed)
    shape = task.preprocessing.shape
    layers = tf.keras.layers
    model = tf.keras.Sequential([
        layers.Input(shape), layers.Rescaling(1 / 255), layers.Conv2D(8, 5, strides=4, activation="relu"),
        layers.GlobalAveragePooling2D(), layers.Dense(len(task.labels), activation="softmax"),
    ])
    module = Serve(model)
    concrete = module.serve.get_concrete_function(tf.TensorSpec((1, *shape), tf.float32, name="image"))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    rng = np.random.default_rng(seed)
    converter.representative_dataset = lambda: ([rng.integers(0, 256, (1, *shape)).astype(np.float32)] for _ in range(8))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()

def artifact(task, path, seed):
    model = convert(task, seed)
    interpreter = open_interpreter(model, 1)
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    spec, out = map(tensor_spec, details)
    def run(images):
        rows = []
        for image in quantize(images, spec):
            interpreter.set_tensor(details[0]["index"], image[None])
            interpreter.invoke()
            rows.append(interpreter.get_tensor(details[1]["index"])[0])
        return dequantize(np.stack(rows), out)
    seeds = tuple(range(golden.COUNT))
    inputs = golden.make_inputs(seeds, task.preprocessing.shape)
    answers = tuple(tuple(float(p) for p in row) for row in run(inputs))
    contract = Contract(
        task=task.name, title=task.title, labels=task.labels, preprocessing=task.preprocessing, input=spec, output=out,
        precision="int8", model="tiny", parameters=1, versions={}, training_data=None, calibration=None,
        parity=ParityInfo("not measured"),
        golden=GoldenVectors(seeds, golden.inputs_digest(inputs), answers, answers, 0.01),
        model_sha256=hashlib.sha256(model).hexdigest(), export_id=f"tiny-{seed}",
    )
    Artifact(path, model, contract).save(path)

folder = Path(sys.argv[1])
tasks = shipped_tasks()
artifact(tasks["neu"], folder / "neu.tflite", 1)
artifact(tasks["neu"], folder / "neu-other.tflite", 2)
artifact(tasks["mnist"], folder / "mnist.tflite", 3)
"""


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `neu.tflite`, `neu-other.tflite` and `mnist.tflite`, made where TensorFlow does no harm to us."""
    folder = tmp_path_factory.mktemp("artifacts")
    subprocess.run([sys.executable, "-c", MAKE, str(folder)], check=True, capture_output=True, timeout=300)
    return folder
