"""All files of an export from one folded model."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts.contract import DataInfo, HeadInfo, TensorSpec
from edgecnn.artifacts.operators import Operator, read_graph
from edgecnn.errors import ConversionError
from edgecnn.runtimes.head import write_weights
from edgecnn_export.conversion.annotation import end_layers, start_layers
from edgecnn_export.conversion.calibration import Calibration, calibrate
from edgecnn_export.conversion.culprit import find_culprit
from edgecnn_export.conversion.features import name_features
from edgecnn_export.conversion.folded import Folded
from edgecnn_export.conversion.onnx import to_int8_onnx, to_int8_onnx_by_pictures, to_mixed_onnx, to_onnx
from edgecnn_export.conversion.tflite import (
    to_int8_tflite,
    to_int8_tflite_by_pictures,
    to_int16x8_tflite,
    to_mixed_tflite,
    to_tflite,
)

Format = Literal["tflite", "onnx"]
Precision = Literal["float32", "int8", "int16x8", "mixed"]
FloatEnds = Literal["none", "last", "both"]
FORMATS: tuple[Format, ...] = ("tflite", "onnx")
_MOST_WEIGHTS = 2**16  # of a head: 350 kB as base64, of the megabyte that a contract may have
_ROUNDING = ("CAST", "DEQUANTIZE", "QUANTIZE")
_MOVING = ("EXPAND_DIMS", "RESHAPE", "SQUEEZE", "TRANSPOSE")
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "CONV_3D", "BATCH_MATMUL")


@dataclass(frozen=True, eq=False)
class Conversion:
    """The bytes of one converted model, still without a contract.

    `float_layers` names the layers of a quantized one that compute in floats between quantized tensors; `features` and `head`
    are as in the contract.
    """

    model: bytes
    format: Format
    precision: Precision
    float_layers: tuple[str, ...] = ()
    features: TensorSpec | None = None
    head: HeadInfo | None = None

    def with_features(self) -> Conversion:
        """Return the same model with its features as second output, where it has some."""
        found = name_features(self.model, self.format)
        if found is None:
            return self
        head = None if found.weights.size > _MOST_WEIGHTS else write_weights(found.weights, found.bias)
        return dataclasses.replace(self, model=found.model, features=found.features, head=head)

    @property
    def suffix(self) -> str:
        """How the file's name ends: `int8.tflite`."""
        return f"{self.precision}.{self.format}"

    @property
    def sha256(self) -> str:
        """The digest of the bytes."""
        return hashlib.sha256(self.model).hexdigest()


@dataclass(frozen=True)
class Failure:
    """A file that was asked for and cannot be made, and why."""

    format: Format
    precision: Precision
    reason: str

    @property
    def suffix(self) -> str:
        """How the file's name would have ended: `int8.tflite`."""
        return f"{self.precision}.{self.format}"


@dataclass(frozen=True, eq=False)
class Conversions:
    """What could be made of a model, and what could not."""

    made: tuple[Conversion, ...]
    failures: tuple[Failure, ...]


@dataclass(frozen=True, eq=False)
class Quantization:
    """How a folded model is to become a quantized one.

    `int8` and `mixed` go by the calibration's ranges, or by `images` `(n, h, w, c)` where it has none, `int16x8` by `images`.
    `float_ends` says which layers of a `mixed` one keep computing in floats: the last, or the first and the last.
    """

    folded: Folded
    calibration: Calibration
    precision: Precision = "int8"
    images: NDArray[np.uint8] | None = None
    float_ends: FloatEnds = "none"

    def float_layers(self) -> tuple[str, ...]:
        """Name the layers that keep computing in floats, in order."""
        if self.float_ends == "none":
            return ()
        graph, _ = self.folded.annotated()
        return (*(start_layers(graph) if self.float_ends == "both" else ()), *reversed(end_layers(graph)))


def convert(
    folded: Folded,
    formats: Collection[Format],
    calibration: Calibration | None = None,
    images: NDArray[np.uint8] | None = None,
) -> Conversions:
    """Convert a folded model to float32 and, with a calibration, to int8 as well: what can be made of it.

    A calibration without ranges (of a model without an annotation) needs the pictures `images` `(n, h, w, c)`, on
    which the converters' own calibrators run. An int8 TFLite file of which some layers compute in floats is called mixed.
    """
    made, failures = list[Conversion](), list[Failure]()
    for file_format in formats:
        try:
            made.append(_to_float(folded, file_format).with_features())
        except ConversionError as error:
            layer = find_culprit(folded, lambda layer: _to_float(layer, file_format))  # noqa: B023  # called at once
            failures.append(Failure(file_format, "float32", _blaming(layer, error)))
        if calibration is not None:
            quantization = Quantization(folded, calibration, images=images)
            try:
                made.append(convert_quantized(quantization, file_format))
            except ConversionError as error:
                layer = find_culprit(folded, lambda layer: _to_int8(layer, file_format))  # noqa: B023
                failures.append(Failure(file_format, "int8", _blaming(layer, error)))
    return Conversions(tuple(made), tuple(failures))


def convert_quantized(quantization: Quantization, file_format: Format) -> Conversion:
    """Convert a folded model in the way that `quantization` describes; ConversionError where the format has no such thing."""
    calibration, images = quantization.calibration, quantization.images
    folded = calibration.corrected(quantization.folded)
    float_start = quantization.float_ends == "both"
    if quantization.precision == "int8":
        convert_int8 = _int8_tflite if file_format == "tflite" else _int8_onnx
        return convert_int8(folded, calibration, images).with_features()
    if quantization.precision == "mixed" and file_format == "tflite":
        model = to_mixed_tflite(folded, calibration.ranges, float_start=float_start)
    elif quantization.precision == "mixed":
        model = to_mixed_onnx(folded, calibration.ranges, float_start=float_start)
    elif file_format == "tflite":
        model = to_int16x8_tflite(folded, _needed(images))
        check_integer_only(model)
    else:
        raise ConversionError("ONNX Runtime has no integer kernels for 16-bit activations")
    return Conversion(model, file_format, quantization.precision).with_features()


def check_integer_only(model: bytes) -> None:
    """Raise ConversionError that names the operators of a `.tflite` which compute in floating point."""
    graph = read_graph(model, "tflite")
    odd = {operator.name for operator in graph.operators if not operator.is_integer or operator.name in _ROUNDING}
    if odd or any("float" in dtype for dtype in graph.constant_bytes):
        names = ", ".join(sorted(odd)) or "constants"
        raise ConversionError(f"the int8 model would still compute in floating point: {names}; replace these layers")


def _to_float(folded: Folded, file_format: Format) -> Conversion:
    return Conversion(to_tflite(folded) if file_format == "tflite" else to_onnx(folded), file_format, "float32")


def _int8_tflite(folded: Folded, calibration: Calibration, images: NDArray[np.uint8] | None) -> Conversion:
    """Convert by ranges where there are some; by pictures where there are none, or where a kernel would stay in floats."""
    model = to_int8_tflite(folded, calibration.ranges) if calibration.ranges else b""
    if not model or (images is not None and _float_kernels(model)):
        model = to_int8_tflite_by_pictures(folded, _needed(images))
    if kernels := _float_kernels(model):
        layers = ", ".join(repr(name) for name in layer_names(folded, kernels))
        raise ConversionError(f"TensorFlow Lite computes the weights of {layers or 'some layers'} in floats only")
    odd = [operator for operator in read_graph(model, "tflite").operators if not operator.is_integer]
    floats = layer_names(folded, [operator for operator in odd if operator.name not in (*_ROUNDING, *_MOVING)])
    return Conversion(model, "tflite", "mixed" if floats else "int8", floats)


def _int8_onnx(folded: Folded, calibration: Calibration, images: NDArray[np.uint8] | None) -> Conversion:
    if calibration.ranges:
        _, annotation = folded.annotated()
        return Conversion(to_int8_onnx(folded, calibration.ranges), "onnx", "int8", annotation.islands)
    return Conversion(to_int8_onnx_by_pictures(to_onnx(folded), _needed(images)), "onnx", "int8")


def _float_kernels(model: bytes) -> list[Operator]:
    """Return the operators with weights that compute in floats."""
    return [each for each in read_graph(model, "tflite").operators if each.name in _WEIGHTED and not each.is_integer]


def layer_names(folded: Folded, operators: Collection[Operator]) -> tuple[str, ...]:
    """Return the layers of a folded model that operators are of, in order, by the names that the converter left in them.

    An operator whose layer is unknown stands with its own name.
    """
    known = [step.name for step in folded.steps]
    found = dict.fromkeys(_layer_of(operator, known) or operator.name for operator in operators)
    return tuple(sorted(found, key=lambda name: known.index(name) if name in known else len(known)))


def _layer_of(operator: Operator, known: Collection[str]) -> str | None:
    for segment in re.split("[/;:]", ";".join(operator.output_names)):
        for name in (segment, re.sub(r"_\d+$", "", segment)):
            if name in known:
                return name
    return None


def _to_int8(folded: Folded, file_format: Format) -> Conversion:
    """Convert with ranges of noise: whether it can be done at all is what is asked."""
    images = np.random.default_rng(0).integers(0, 256, (8, *folded.model.input_shape[1:])).astype(np.uint8)
    calibration = calibrate(folded, images, DataInfo("noise", "none", len(images), ""), 0)
    return convert_quantized(Quantization(folded, calibration, images=images), file_format)


def _blaming(layer: str | None, error: ConversionError) -> str:
    return str(error) if layer is None or f"{layer!r}" in str(error) else f"layer {layer!r}: {error}"


def _needed(images: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    if images is None:
        raise ConversionError(
            "this model has layers whose ranges cannot be recorded: int8 needs pictures; give --data or --calibration"
        )
    return images
