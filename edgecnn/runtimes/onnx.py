"""ONNX Runtime, for the `.onnx` artifacts."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edgecnn.artifacts.contract import Contract, TensorSpec
from edgecnn.errors import ContractError, InferenceError
from edgecnn.runtimes.runtime import Answers, check_answers, check_images
from edgecnn.runtimes.tflite import check_tensors, first_line, quantize

NAME = f"onnxruntime {version('onnxruntime')}"
_BATCH = 64
_DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int8)": "int8"}


class OnnxRuntime:
    """An `.onnx` with a dynamic batch, run in batches of at most 64 pictures so that memory stays bounded."""

    name = NAME

    def __init__(self, model: bytes, contract: Contract, threads: int) -> None:
        """Open a session; InferenceError when ONNX Runtime refuses the model, ContractError when its tensors differ."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Not guessed from the bytes: ONNX Runtime's own format is none that was looked into.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        # Spinning threads burn a core between two frames (measured: 30 ms CPU a frame against 5.5 ms).
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no public base class
            raise InferenceError(f"{NAME} cannot run this model: {first_line(error)}") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        expected = 1 if contract.features is None else 2
        if len(inputs) != 1 or len(outputs) != expected:
            raise ContractError(f"expected one input and {expected} outputs, got {len(inputs)} and {len(outputs)}")
        self._input, self._output = tensor_spec(inputs[0]), tensor_spec(outputs[0])
        # What the integers stand for is not part of an ONNX output: the contract alone knows.
        self._features = contract.features
        self._names = [each.name for each in outputs]
        found = None if self._features is None else tensor_spec(outputs[1])
        if found is not None and self._features is not None:
            found = replace(found, scale=self._features.scale, zero_point=self._features.zero_point)
        check_tensors(contract, self._input, self._output, found)
        self._shape = contract.preprocessing.shape

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map images `(n, height, width, channels)` to probabilities `(n, classes)`."""
        return self.answer(images).probabilities

    def answer(self, images: NDArray[np.uint8]) -> Answers:
        """Map images `(n, height, width, channels)` to probabilities and, where the model gives them, features."""
        check_images(images, self._shape)
        parts = [self._run(images[at : at + _BATCH]) for at in range(0, len(images), _BATCH)]
        if not parts:
            parts = [self._run(np.zeros((1, *self._shape), np.uint8))]
        scores = np.concatenate([part[0] for part in parts])[: len(images)]
        values = None if self._features is None else np.concatenate([part[1] for part in parts])[: len(images)]
        if values is not None and values.ndim == 4:
            values = values.transpose(0, 2, 3, 1)  # ONNX keeps channels first
            values = values[:, 0, 0] if values.shape[1:3] == (1, 1) else values
        return Answers(scores, values, self._features)

    def _run(self, images: NDArray[np.uint8]) -> list[NDArray[Any]]:
        try:
            scores, *rest = self._session.run(self._names, {self._input.name: quantize(images, self._input)})
        except Exception as error:
            raise InferenceError(f"{NAME} failed while running the model: {first_line(error)}") from error
        return [check_answers(np.asarray(scores, np.float32), NAME), *rest]


def tensor_spec(node: Any) -> TensorSpec:
    """Read one entry of a session's inputs or outputs."""
    shape = tuple(side if isinstance(side, int) else None for side in node.shape)
    return TensorSpec(node.name, _DTYPES.get(node.type, node.type), (None, *shape[1:]))
