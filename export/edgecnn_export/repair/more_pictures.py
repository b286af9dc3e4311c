"""First rung: the ranges of more training pictures, equally many of each class."""

from __future__ import annotations

from edgecnn_export.conversion.calibration import METHOD, STOCK_METHOD
from edgecnn_export.conversion.convert import Quantization
from edgecnn_export.repair.context import SkippedError, Workshop


def calibrate_on_more(shop: Workshop) -> Quantization:
    """Calibrate by min-max on up to 4,000 pictures; SkippedError when the plain calibration has seen them all."""
    chosen = shop.pictures
    if shop.plain.data.digest == chosen.digest():
        raise SkippedError(f"the plain calibration has seen all {len(chosen)} training pictures, as many of each class")
    if shop.folded.annotation is None:
        return Quantization(shop.folded, shop.calibration({}, STOCK_METHOD), images=chosen.images)
    calibration = shop.calibration(shop.limits, METHOD)
    shop.offer(shop.folded, calibration)
    return Quantization(shop.folded, calibration)
