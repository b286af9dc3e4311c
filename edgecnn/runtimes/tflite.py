"""Running a `.tflite` on any of the three interpreters that share TensorFlow Lite's Python interface."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts.contract import Contract, TensorSpec
from edgecnn.endings import Ending
from edgecnn.errors import ContractError, EdgecnnError, InferenceError, InputError
from edgecnn.normalization import RAW, Normalization
from edgecnn.runtimes.runtime import Answers, check_answers, check_images

_SIGN_BIT = np.uint8(0x80)


class Interpreter(Protocol):
    """The part of TensorFlow Lite's interpreter that is used here."""

    def allocate_tensors(self) -> None: ...  # noqa: D102
    def get_input_details(self) -> list[dict[str, Any]]: ...  # noqa: D102
    def get_output_details(self) -> list[dict[str, Any]]: ...  # noqa: D102
    def resize_tensor_input(self, index: int, shape: list[int]) -> None: ...  # noqa: D102
    def set_tensor(self, index: int, value: NDArray[Any]) -> None: ...  # noqa: D102
    def invoke(self) -> None: ...  # noqa: D102
    def get_tensor(self, index: int) -> NDArray[Any]: ...  # noqa: D102


class TfliteRuntime:
    """A `.tflite` with batch 1, run picture by picture: for these models as fast as a batch, and free of resizing."""

    def __init__(
        self,
        interpreter: Interpreter,
        name: str,
        *,
        output: str | None = None,
        size_hw: tuple[int, int] | None = None,
        with_features: bool = False,
    ) -> None:
        """Take an interpreter that holds a model of one input and one output, or of one called `output`.

        A model `with_features` gives probabilities first and features second. `size_hw` is the size of pictures for a model
        that takes any. `pixels` and `ending` may be set to how another tool's model wants its pixels and what it gives; those
        of edgecnn take them raw and give probabilities.

        Raises InferenceError when the interpreter cannot prepare the model, ContractError when it has other than one input and
        one output, InputError when it takes pictures of any size and none is stated, or another one.
        """
        self.name = name
        self.pixels, self.ending = RAW, Ending()
        self._interpreter = interpreter
        try:
            _resize(interpreter, size_hw)
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            if isinstance(error, EdgecnnError):
                raise
            raise InferenceError(f"{name} cannot run this model: {first_line(error)}") from error
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        if len(inputs) != 1:
            raise ContractError(f"expected one input, the picture, got {len(inputs)}")
        if with_features and len(outputs) != 2:
            raise ContractError(f"expected probabilities and features, got {len(outputs)} outputs")
        chosen = outputs[0] if with_features else _chosen(outputs, output)
        self.features = tensor_spec(outputs[1]) if with_features else None
        self._features_index = outputs[1]["index"] if with_features else -1
        self._features_shape = () if self.features is None else _shape_of_one(self.features)
        self.input, self.output = tensor_spec(inputs[0]), tensor_spec(chosen)
        self._input_index, self._output_index = inputs[0]["index"], chosen["index"]
        self._classes = int(np.prod([side or 0 for side in self.output.shape[1:]]))
        # All 256 answers of an eight-bit model: one look-up a frame instead of four operations on a few numbers.
        is_small = np.dtype(self.output.dtype).itemsize == 1
        self._answers = dequantize(np.arange(256, dtype=np.uint8).view(self.output.dtype), self.output) if is_small else None

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map images `(n, height, width, channels)` to probabilities `(n, classes)`."""
        return self.answer(images).probabilities

    def answer(self, images: NDArray[np.uint8]) -> Answers:
        """Map images `(n, height, width, channels)` to probabilities and, where the model gives them, features."""
        check_images(images, self.input.shape[1:])
        inputs = quantize(images, self.input, self.pixels)
        if len(inputs) == 1:  # a camera's frame: nothing is gathered
            scores, values = self._invoke(inputs)
            return Answers(self._probabilities(scores), values, self.features)
        scores = np.empty((len(inputs), self._classes), np.dtype(self.output.dtype))
        shape, spec = self._features_shape, self.features
        values = None if spec is None else np.empty((len(inputs), *shape), np.dtype(spec.dtype))
        for i in range(len(inputs)):
            scores[i : i + 1], found = self._invoke(inputs[i : i + 1])
            if values is not None:
                values[i : i + 1] = found
        return Answers(self._probabilities(scores), values, self.features)

    def _invoke(self, image: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Run one quantized picture `(1, height, width, channels)`; return its scores `(1, classes)` and features."""
        self._interpreter.set_tensor(self._input_index, image)
        try:
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise InferenceError(f"{self.name} failed while running the model: {first_line(error)}") from error
        scores = self._interpreter.get_tensor(self._output_index).reshape(1, -1)
        if self.features is None:
            return scores, None
        return scores, self._interpreter.get_tensor(self._features_index).reshape(1, *self._features_shape)

    def _probabilities(self, scores: NDArray[Any]) -> NDArray[np.float32]:
        if self._answers is not None:
            return self.ending.probabilities(self._answers.take(scores.view(np.uint8)))
        return self.ending.probabilities(check_answers(dequantize(scores, self.output), self.name))


def _shape_of_one(spec: TensorSpec) -> tuple[int, ...]:
    """Return the shape of one picture's features; a map of one place is a vector."""
    sides = tuple(side or 0 for side in spec.shape[1:])
    return sides if sides[:-1] != (1, 1) else sides[-1:]


def _resize(interpreter: Interpreter, size_hw: tuple[int, int] | None) -> None:
    """Let a model of pictures of any size take the stated one; InputError where a size is missing or wrong."""
    details = interpreter.get_input_details()[0]
    sides = [int(side) for side in details.get("shape_signature", details["shape"])][1:]
    open_sides = len(sides) == 3 and -1 in sides[:2]
    if open_sides and size_hw is None:
        raise InputError("it takes pictures of any size: state one with --size HEIGHTxWIDTH, that of its training")
    if open_sides and size_hw is not None:
        interpreter.resize_tensor_input(details["index"], [1, *size_hw, sides[2]])
    elif size_hw is not None and tuple(sides[:2]) != size_hw:
        raise InputError(f"it takes pictures of {sides[0]} x {sides[1]}, which is not --size {size_hw[0]}x{size_hw[1]}")


def _chosen(outputs: list[dict[str, Any]], name: str | None) -> dict[str, Any]:
    """Return the output that is named, or the only one."""
    if len(outputs) == 1 and name is None:
        return outputs[0]
    for each in outputs:
        if each["name"] == name:
            return each
    wanted = "" if name is None else f"none called {name!r}, but "
    names = ", ".join(f"{each['name']} {[int(side) for side in each['shape']]}" for each in outputs)
    raise ContractError(f"expected one output, got {wanted}{len(outputs)}: {names}; choose one with --output NAME")


def quantize(images: NDArray[np.uint8], spec: TensorSpec, pixels: Normalization = RAW) -> NDArray[Any]:
    """Map raw pixels to the input tensor's dtype: q = round(value / scale) + zero_point, clipped, where value is the pixel.

    `pixels` maps a raw pixel to the value that the model wants where that is another.
    """
    is_raw = pixels is RAW or pixels == RAW
    if is_raw and spec.scale is None:
        return images.astype(spec.dtype, copy=False)
    if is_raw and spec.dtype == "int8" and spec.scale == 1.0 and spec.zero_point == -128:
        return (images ^ _SIGN_BIT).view(np.int8)  # pixel - 128, without leaving eight bits
    # A table of all 256 pixel values: the same bits everywhere, and one look-up a pixel.
    table = pixels.table(images.shape[-1])
    if spec.scale is not None:
        limits = np.iinfo(spec.dtype)
        table = np.clip(np.rint(table / spec.scale) + (spec.zero_point or 0), limits.min, limits.max)
    table = table.astype(spec.dtype)
    alike = bool((table == table[:, :1]).all())
    values = table[:, 0][images] if alike else table[images, np.arange(images.shape[-1])]
    return np.ascontiguousarray(values[..., ::-1]) if pixels.bgr else np.asarray(values)


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


def check_tensors(
    contract: Contract, runtime_input: TensorSpec, runtime_output: TensorSpec, runtime_features: TensorSpec | None
) -> None:
    """Raise ContractError unless the model's input and outputs are the ones that the contract describes."""
    check_tensor(contract.input, runtime_input)
    check_tensor(contract.output, runtime_output)
    if contract.features is not None and runtime_features is not None:
        check_tensor(contract.features, runtime_features)


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


def first_line(error: Exception) -> str:
    """Return the first line of a native error's text."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
