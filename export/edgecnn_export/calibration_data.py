"""Where a model's ranges come from: measured on its training pictures, or recorded in it when it was trained."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts.contract import DataInfo
from edgecnn.datasets.dataset import Dataset, Splits
from edgecnn.errors import InputError
from edgecnn.quiet import quiet
from edgecnn_export.calibration_audit import Audit, audit_calibration
from edgecnn_export.conversion.calibration import Calibration, calibrate, choose_calibration
from edgecnn_export.conversion.fold import fold
from edgecnn_export.conversion.folded import Folded
from edgecnn_export.reference import Reference


def find_calibration(
    reference: Reference, folded: Folded, splits: Splits | None, seed: int
) -> tuple[Calibration, NDArray[np.uint8] | None]:
    """Measure ranges on real training pictures where there are some, else take those recorded in the reference.

    Also returns the pictures, None where there are none. Synthetic pictures serve only a model that has no record.
    Raises InputError when there is neither, ConversionError when the record is not of this model.
    """
    recorded = None if reference.calibration is None else Calibration.from_json(reference.calibration)
    if splits is None or (splits.info.synthetic and recorded is not None) or len(splits.train) == 0:
        if recorded is None:
            raise InputError(
                f"int8 needs ranges and model {reference.name!r} has none recorded; "
                "give training pictures with --data or --calibration"
            )
        recorded.check(folded)
        return recorded, None
    chosen = choose_calibration(splits.train, seed=seed)
    return _calibrate(folded, chosen, splits, seed), chosen.images


def audit(folded: Folded, splits: Splits, labels: tuple[str, ...], seed: int) -> Audit:
    """Check the pictures that `find_calibration` measures on; InputError with each reason when they can't be trusted."""
    chosen = choose_calibration(splits.train, seed=seed)
    same = splits.train is splits.validation
    labelled = splits.info.labelled
    found = audit_calibration(folded, chosen, splits.validation, labels, same=same, labelled=labelled, seed=seed)
    if found.failures:
        raise InputError(f"no int8 file was made, the calibration pictures failed their audit: {'; '.join(found.failures)}")
    return found


def record_calibration(reference: Reference, splits: Splits, seed: int) -> Reference:
    """Return the reference with the ranges of its activations on training pictures, so that int8 needs no data later."""
    with quiet():
        folded = fold(reference.model)
    record = _calibrate(folded, choose_calibration(splits.train, seed=seed), splits, seed)
    return dataclasses.replace(reference, calibration=record.to_json() if record.ranges else None)


def _calibrate(folded: Folded, chosen: Dataset, splits: Splits, seed: int) -> Calibration:
    data = DataInfo(splits.info.source, "train", len(chosen), chosen.digest(), splits.info.synthetic)
    return calibrate(folded, chosen.images, data, seed)
