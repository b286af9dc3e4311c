"""Fourth rung: int16 activations with int8 weights. Slower, since few kernels are made for it, but next to no rounding."""

from __future__ import annotations

from edgecnn_export.conversion.calibration import choose_calibration
from edgecnn_export.conversion.converting import Quantization
from edgecnn_export.repairing.workshop import Workshop

METHOD = "TensorFlow Lite, 16-bit activations"
_PICTURES = 300  # 16 bits are finer than any choice of range


def widen_activations(shop: Workshop) -> Quantization:
    """Quantize the folded model as it is to 16x8; ONNX Runtime has no such kernels."""
    images = choose_calibration(shop.pictures, _PICTURES, shop.seed).images
    return Quantization(shop.folded, shop.calibration({}, METHOD), "int16x8", images)
