"""Running a `.tflite` on any of the three interpreters that share TensorFlow Lite's Python interface."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts.contract import Contract, TensorSpec
from edgecnn.errors import ContractError, InferenceError
from edgecnn.runtimes.runtime import check_images


class Interpreter(Protocol):
    """The part of TensorFlow Lite's interpreter that is used here."""

    def allocate_tensors(self) -> None: ...  # noqa: D102
    def get_input_details(self) -> list[dict[str, Any]]: ...  # noqa: D102
    def get_output_details(self) -> list[dict[str, Any]]: ...  # noqa: D102
    def set_tensor(self, index: int, value: NDArray[Any]) -> None: ...  # noqa: D102
    def invoke(self) -> None: ...  # noqa: D102
    def get_tensor(self, index: int) -> NDArray[Any]: ...  # noqa: D102


class TfliteRuntime:
    """A `.tflite` with batch 1, run picture by picture: for these models as fast as a batch, and free of resizing."""

    def __init__(self, interpreter: Interpreter, contract: Contract, name: str) -> None:
        """Take an interpreter that holds the contract's model; ContractError when its tensors are not as promised."""
        self.name = name
        self._interpreter = interpreter
        self._shape = contract.preprocessing.shape
        try:
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise InferenceError(f"{name} cannot run this model: {_first_line(error)}") from error
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ContractError(f"expected one input and one output, got {len(inputs)} and {len(outputs)}")
        self._input, self._output = tensor_spec(inputs[0]), tensor_spec(outputs[0])
        for promised, found in ((contract.input, self._input), (contract.output, self._output)):
            check_tensor(promised, found)
        self._input_index, self._output_index = inputs[0]["index"], outputs[0]["index"]

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map images `(n, height, width, channels)` to probabilities `(n, classes)`."""
        check_images(images, self._shape)
        scores = np.empty((len(images), self._output.shape[-1] or 0), np.dtype(self._output.dtype))
        for i, image in enumerate(quantize(images, self._input)):
            self._interpreter.set_tensor(self._input_index, image[None])
            try:
                self._interpreter.invoke()
            except (RuntimeError, ValueError) as error:
                raise InferenceError(f"{self.name} failed while running the model: {_first_line(error)}") from error
            scores[i] = self._interpreter.get_tensor(self._output_index)[0]
        return dequantize(scores, self._output)


def quantize(images: NDArray[np.uint8], spec: TensorSpec) -> NDArray[Any]:
    """Map raw pixels to the input tensor's dtype: q = round(pixel / scale) + zero_point, clipped."""
    if spec.scale is None:
        return images.astype(spec.dtype, copy=False)
    if spec.dtype == "int8" and spec.scale == 1.0 and spec.zero_point == -128:
        return (images ^ np.uint8(0x80)).view(np.int8)  # pixel - 128, without leaving eight bits
    limits = np.iinfo(spec.dtype)
    # A table of all 256 pixel values: the same bits everywhere, and one look-up a pixel.
    table = np.clip(np.rint(np.arange(256) / spec.scale) + (spec.zero_point or 0), limits.min, limits.max)
    return np.asarray(table.astype(spec.dtype)[images])


def dequantize(scores: NDArray[Any], spec: TensorSpec) -> NDArray[np.float32]:
    """Map the output tensor's values to probabilities: (q - zero_point) * scale."""
    if spec.scale is None:
        return scores.astype(np.float32, copy=False)
    # int32 first: int8 minus a zero point would wrap.
    return ((scores.astype(np.int32) - np.int32(spec.zero_point or 0)) * np.float32(spec.scale)).astype(np.float32)


def tensor_spec(details: dict[str, Any]) -> TensorSpec:
    """Read one entry of `get_input_details()` or `get_output_details()`."""
    scale, zero_point = details["quantization"]
    shape = tuple(None if side < 0 else int(side) for side in details["shape"])
    quantized = scale != 0.0
    return TensorSpec(
        name=details["name"],
        dtype=np.dtype(details["dtype"]).name,
        shape=(None, *shape[1:]),
        scale=float(scale) if quantized else None,
        zero_point=int(zero_point) if quantized else None,
    )


def check_tensor(promised: TensorSpec, found: TensorSpec) -> None:
    """Raise ContractError unless the model's tensor is the one that the contract describes."""
    same_scale = promised.scale == found.scale or (
        promised.scale is not None and found.scale is not None and np.isclose(promised.scale, found.scale, rtol=1e-6)
    )
    agrees = (promised.dtype, promised.shape[1:], promised.zero_point) == (found.dtype, found.shape[1:], found.zero_point)
    if not (agrees and same_scale):
        raise ContractError(f"the contract promises the tensor {_describe(promised)}, the model has {_describe(found)}")


def _describe(spec: TensorSpec) -> str:
    quantization = "" if spec.scale is None else f" scale {spec.scale:g} zero point {spec.zero_point}"
    return f"{spec.dtype} {list(spec.shape)}{quantization}"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
