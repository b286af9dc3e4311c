"""From a folded Keras model to TFLite flatbuffers, float32 and int8."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgecnn.errors import ConversionError
from edgecnn.quiet import quiet
from edgecnn_export.conversion.annotation import INPUT, end_layers, start_layers
from edgecnn_export.conversion.calibration import Ranges
from edgecnn_export.conversion.folded import Folded
from edgecnn_export.conversion.serving import Serving, serve, serve_quantized
from edgecnn_export.conversion.tflite_edit import has_loops, join_roundings


def to_tflite(folded: Folded) -> bytes:
    """Convert to a float32 flatbuffer with batch 1 that takes raw pixels."""
    with quiet():
        # Raw uint8 and one CAST: measured to cost what the cast in Python costs (0.25 ms both, 200 x 200, LiteRT and
        # tflite-runtime, all else delegated to XNNPACK), and whoever has only the file cannot get the pixels' scale wrong.
        return _convert(_converter(serve(folded), folded, tf.uint8))


def to_int8_tflite(folded: Folded, ranges: Ranges) -> bytes:
    """Convert to an integer-only flatbuffer by ranges (see `annotation`), int8 = pixel - 128 in, int8 probabilities out."""
    with quiet():
        serving = serve_quantized(folded, ranges, to_the_end=True)
        # Asking for TFLITE_BUILTINS_INT8 here would demand pictures to measure on; `check_integer_only` is the proof instead.
        return join_roundings(_convert(_to_int8(_converter(serving, folded, tf.float32))))


def to_mixed_tflite(folded: Folded, ranges: Ranges, *, float_start: bool) -> bytes:
    """Convert to int8 by ranges with the last layer in float, with `float_start` those up to the first convolution as well.

    Takes pixel - 128 as int8, with `float_start` raw uint8 pixels; gives float probabilities.
    """
    graph, _ = folded.annotated()
    unrounded = [*end_layers(graph), *([INPUT, *start_layers(graph)[:-1]] if float_start else [])]
    with quiet():
        serving = serve_quantized(folded, ranges, to_the_end=False, unrounded=unrounded)
        converter = _to_int8(_converter(serving, folded, tf.uint8 if float_start else tf.float32))
        converter.inference_output_type = tf.float32
        if float_start:
            converter.inference_input_type = tf.uint8
        return _convert(converter)


def to_int16x8_tflite(folded: Folded, images: NDArray[np.uint8]) -> bytes:
    """Convert to int16 activations and int8 weights by TensorFlow Lite's own calibration on images `(n, h, w, c)`.

    By pictures, since the converter makes no 16-bit softmax of a range that is written into the function.
    """
    with quiet():
        converter = _by_pictures(folded, images)
        operators = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [operators]
        converter.inference_input_type = converter.inference_output_type = tf.int16
        return _convert(converter)


def to_int8_tflite_by_pictures(folded: Folded, images: NDArray[np.uint8]) -> bytes:
    """Convert a model of which it isn't known where ranges go: TensorFlow Lite's own calibration on images `(n, h, w, c)`."""
    if has_loops(to_tflite(folded)):
        raise ConversionError("it has a loop (a recurrent layer), which TensorFlow Lite cannot calibrate")  # it crashes
    with quiet():
        converter = _by_pictures(folded, images)
        # What has no integer kernel computes in floats; `float_layers` then says so.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
        return join_roundings(_convert(converter))


def _by_pictures(folded: Folded, images: NDArray[np.uint8]) -> Any:
    def representative() -> Iterator[list[NDArray[np.float32]]]:
        for image in images:
            yield [image[None].astype(np.float32)]

    converter = _to_int8(_converter(serve(folded), folded, tf.float32))
    converter.representative_dataset = representative
    return converter


def _converter(serving: Serving, folded: Folded, dtype: tf.DType) -> Any:
    concrete = serving.concrete((1, *folded.model.input_shape[1:]), dtype)
    return tf.lite.TFLiteConverter.from_concrete_functions([concrete], serving)


def _to_int8(converter: Any) -> Any:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    # tflite-runtime 2.14 knows no FULLY_CONNECTED of version 12, which a scale for each row needs.
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    return converter


def _convert(converter: Any) -> bytes:
    try:
        return bytes(converter.convert())
    except Exception as error:  # the converter raises bare Exceptions of several kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConversionError(f"TensorFlow Lite cannot convert this model: {reason}") from error
