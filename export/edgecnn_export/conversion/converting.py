"""All files of an export from one folded model."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import keras
import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts.graph import read_graph
from edgecnn.errors import ConversionError
from edgecnn_export.conversion.calibration import Calibration
from edgecnn_export.conversion.graph import read_graph as read_steps
from edgecnn_export.conversion.onnx import to_int8_onnx, to_int8_onnx_by_pictures, to_mixed_onnx, to_onnx
from edgecnn_export.conversion.placement import end_layers, start_layers
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


@dataclass(frozen=True, eq=False)
class Conversion:
    """The bytes of one converted model, still without a contract."""

    model: bytes
    format: Format
    precision: Precision

    @property
    def suffix(self) -> str:
        """How the file's name ends: `int8.tflite`."""
        return f"{self.precision}.{self.format}"

    @property
    def sha256(self) -> str:
        """The digest of the bytes."""
        return hashlib.sha256(self.model).hexdigest()


@dataclass(frozen=True, eq=False)
class Quantization:
    """How a folded model is to become a quantized one.

    `int8` and `mixed` go by the calibration's ranges, or by `images` `(n, h, w, c)` where it has none, `int16x8` by `images`.
    `float_ends` says which layers of a `mixed` one keep computing in floats: the last, or the first and the last.
    """

    folded: keras.Model
    calibration: Calibration
    precision: Precision = "int8"
    images: NDArray[np.uint8] | None = None
    float_ends: FloatEnds = "none"

    def float_layers(self) -> tuple[str, ...]:
        """Name the layers that keep computing in floats, in order."""
        if self.float_ends == "none":
            return ()
        graph = read_steps(self.folded)
        return (*(start_layers(graph) if self.float_ends == "both" else ()), *reversed(end_layers(graph)))


def convert(
    folded: keras.Model,
    formats: Collection[Format],
    calibration: Calibration | None = None,
    images: NDArray[np.uint8] | None = None,
) -> list[Conversion]:
    """Convert a folded model to float32 and, with a calibration, to int8 as well.

    A calibration without ranges (of a model whose ranges cannot be placed) needs the pictures `images` `(n, h, w, c)`, on
    which the converters' own calibrators run. Raises ConversionError when a converter refuses the model, or when an operator
    of the int8 TFLite file would compute in floating point.
    """
    conversions = []
    if "tflite" in formats:
        conversions.append(Conversion(to_tflite(folded), "tflite", "float32"))
        if calibration is not None:
            conversions.append(Conversion(_int8_tflite(folded, calibration, images), "tflite", "int8"))
    if "onnx" in formats:
        float_onnx = to_onnx(folded)
        conversions.append(Conversion(float_onnx, "onnx", "float32"))
        if calibration is not None:
            conversions.append(Conversion(_int8_onnx(folded, float_onnx, calibration, images), "onnx", "int8"))
    return conversions


def convert_quantized(quantization: Quantization, file_format: Format) -> Conversion:
    """Convert a folded model in the way that `quantization` describes; ConversionError where the format has no such thing."""
    folded, calibration, images = quantization.folded, quantization.calibration, quantization.images
    float_start = quantization.float_ends == "both"
    if quantization.precision == "int8" and file_format == "tflite":
        model = _int8_tflite(folded, calibration, images)
    elif quantization.precision == "int8":
        model = _int8_onnx(folded, b"" if calibration.ranges else to_onnx(folded), calibration, images)
    elif quantization.precision == "mixed" and file_format == "tflite":
        model = to_mixed_tflite(folded, calibration.ranges, float_start=float_start)
    elif quantization.precision == "mixed":
        model = to_mixed_onnx(folded, calibration.ranges, float_start=float_start)
    elif file_format == "tflite":
        model = to_int16x8_tflite(folded, _needed(images))
        check_integer_only(model)
    else:
        raise ConversionError("ONNX Runtime has no integer kernels for 16-bit activations")
    return Conversion(model, file_format, quantization.precision)


def check_integer_only(model: bytes) -> None:
    """Raise ConversionError that names the operators of a `.tflite` which compute in floating point."""
    graph = read_graph(model, "tflite")
    odd = [operator.name for operator in graph.operators if not operator.is_integer or operator.name in ("CAST", "DEQUANTIZE")]
    if odd or any("float" in dtype for dtype in graph.constant_bytes):
        names = ", ".join(sorted(set(odd))) or "constants"
        raise ConversionError(
            f"the int8 model would still compute in floating point: {names}; export without --int8, or replace these layers"
        )


def _int8_tflite(folded: keras.Model, calibration: Calibration, images: NDArray[np.uint8] | None) -> bytes:
    if calibration.ranges:
        model = to_int8_tflite(folded, calibration.ranges)
    else:
        model = to_int8_tflite_by_pictures(folded, _needed(images))
    check_integer_only(model)
    return model


def _int8_onnx(folded: keras.Model, float_onnx: bytes, calibration: Calibration, images: NDArray[np.uint8] | None) -> bytes:
    if calibration.ranges:
        return to_int8_onnx(folded, calibration.ranges)
    return to_int8_onnx_by_pictures(float_onnx, _needed(images))


def _needed(images: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    if images is None:
        raise ConversionError(
            "this model has layers whose ranges cannot be recorded: int8 needs pictures; give --data or --calibration"
        )
    return images
