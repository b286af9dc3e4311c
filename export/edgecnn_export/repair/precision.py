"""Fourth rung: int16 activations with int8 weights. Slower, since few kernels are made for it, but next to no rounding."""

from __future__ import annotations

import contextlib

from edgecnn_export.conversion.calibration import choose_calibration
from edgecnn_export.conversion.convert import Quantization
from edgecnn_export.repair.context import SkippedError, Workshop
from edgecnn_export.repair.equalization import equalized_copy

METHOD = "TensorFlow Lite, 16-bit activations"
_PICTURES = 300  # 16 bits are finer than any choice of range


def widen_activations(shop: Workshop) -> Quantization:
    """Quantize to 16x8, equalized where that is possible, since the weights keep 8 bits; ONNX Runtime has no such kernels."""
    images = choose_calibration(shop.pictures, _PICTURES, shop.seed).images
    folded, method = shop.folded, METHOD
    with contextlib.suppress(SkippedError):
        shop.check_annotated()
        folded, method = equalized_copy(folded, shop.sample), f"{METHOD}, equalized"
    return Quantization(folded, shop.calibration({}, method), "int16x8", images)
