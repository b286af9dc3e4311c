"""Fifth to seventh technique: more precision than int8, at a price.

int16 activations with int8 weights are slower, since few kernels are made for them, but hardly round; or the last layer, then
the first as well, computes in floats, and the file is no longer integers only.
"""

from __future__ import annotations

import contextlib

from edgecnn_export.conversion.annotation import start_layers
from edgecnn_export.conversion.calibration import choose_calibration
from edgecnn_export.conversion.convert import Quantization
from edgecnn_export.repair.context import RepairContext, SkippedError
from edgecnn_export.repair.equalization import equalized_copy

METHOD = "TensorFlow Lite, 16-bit activations"
_PICTURES = 300  # 16 bits are finer than any choice of range


def widen_activations(context: RepairContext) -> Quantization:
    """Quantize to 16x8, equalized where that is possible, since the weights keep 8 bits; ONNX Runtime has no such kernels."""
    images = choose_calibration(context.pictures, _PICTURES, context.seed).images
    folded, method = context.folded, METHOD
    with contextlib.suppress(SkippedError):
        context.check_annotated()
        folded, method = equalized_copy(folded, context.sample), f"{METHOD}, equalized"
    return Quantization(folded, context.calibration({}, method), "int16x8", images)


def leave_last_float(context: RepairContext) -> Quantization:
    """Leave the last layer of the closest model so far in floats."""
    return Quantization(*context.closest(), "mixed", float_ends="last")


def leave_both_float(context: RepairContext) -> Quantization:
    """Leave the first convolution and the last layer of the closest model so far in floats."""
    folded, calibration = context.closest()
    if not start_layers(folded.annotated()[0]):
        raise SkippedError("the pixels go into several layers: there is no first one")
    return Quantization(folded, calibration, "mixed", float_ends="both")
