"""Fifth rung: the last layer, then also the first, computes in floats; the file is then no longer integers only."""

from __future__ import annotations

from edgecnn_export.conversion.annotation import start_layers
from edgecnn_export.conversion.convert import Quantization
from edgecnn_export.repair.context import SkippedError, Workshop


def leave_last_float(shop: Workshop) -> Quantization:
    """Leave the last layer of the closest model so far in floats."""
    return Quantization(*shop.closest(), "mixed", float_ends="last")


def leave_both_float(shop: Workshop) -> Quantization:
    """Leave the first convolution and the last layer of the closest model so far in floats."""
    folded, calibration = shop.closest()
    if not start_layers(folded.annotated()[0]):
        raise SkippedError("the pixels go into several layers: there is no first one")
    return Quantization(folded, calibration, "mixed", float_ends="both")
