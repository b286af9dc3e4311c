"""What lamps do to a picture: their light swings at twice the frequency of the mains, and a sensor reads row after row.

A rolling shutter turns the swing into bands that wander over the picture, a global one into brighter and darker frames. Both
multiply the light of whole rows, by a wave along them; nothing that moves through the scene does.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edgecnn_device.frames import Image

# A row tells its light by pixels that are neither too dark for a ratio nor flooded, or by flooded ones where it has few others.
_DARK, _BRIGHT = 16, 250
_MIN_PIXELS = 16
# Waves along the picture: from a slow readout's many to a part of one; with the second harmonic, since lamps are no pure sines.
_MOST_WAVES, _WAVE_STEP, _HARMONICS = 10.0, 0.25, 2
_MIN_EXPLAINED = 0.75
_PART_OF_LIGHT = 0.05


def without_flicker(image: Image, before: Image, levels: int) -> NDArray[np.bool_]:
    """Say which pixels of `(h, w)` gray differ by more than `levels` from those before in another light; `(h, w)`.

    The light may swing along the rows or, in a picture that was turned, along the columns: what explains more is believed.
    """
    along_rows = _changed(image, before, levels)
    if not along_rows.any():
        return along_rows
    along_columns = _changed(image.T, before.T, levels).T
    return along_rows if np.count_nonzero(along_rows) <= np.count_nonzero(along_columns) else along_columns


def _changed(image: Image, before: Image, levels: int) -> NDArray[np.bool_]:
    now, then = image.astype(np.float32), before.astype(np.float32)
    light = _light(now, then)
    expected = then * light[:, None]
    difference = now - np.minimum(expected, 255)
    limit = levels + _PART_OF_LIGHT * expected
    # What was flooded may have been brighter than 255, by nobody knows how much.
    return np.asarray((difference < -limit) | ((difference > limit) & (then < _BRIGHT)), np.bool_)


def _light(now: NDArray[np.float32], then: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return by how much the light of each row has changed, `(h,)`; 1 where the change is not a wave."""
    bright = then >= _DARK
    exact = bright & (then < _BRIGHT) & (now < _BRIGHT)
    few = np.count_nonzero(exact, axis=1) < _MIN_PIXELS
    used = np.where(few[:, None], bright, exact)
    known = np.count_nonzero(used, axis=1) >= _MIN_PIXELS
    if np.count_nonzero(known) < len(known) // 2:
        return np.ones(len(known), np.float32)
    ratios = np.where(used, np.maximum(now, 1) / np.maximum(then, 1), np.nan)[known]
    profile = np.log(np.nanmedian(ratios, axis=1))
    everywhere = np.interp(np.arange(len(known)), np.flatnonzero(known), profile)
    return np.exp(everywhere).astype(np.float32) if is_wave(everywhere) else np.ones(len(known), np.float32)


def is_wave(profile: NDArray[np.float64], explained: float = _MIN_EXPLAINED) -> bool:
    """Say whether a wave explains this part of how `profile` `(rows,)` differs from no change at all."""
    bases = _bases(len(profile))
    fitted = np.einsum("wrk,wk->wr", bases, np.einsum("wrk,r->wk", bases, profile))
    left = np.square(fitted - profile).sum(axis=1).min()
    return bool(left <= (1 - explained) * np.square(profile).sum())


@lru_cache(maxsize=4)
def _bases(rows: int) -> NDArray[np.float64]:
    """Return an orthonormal base `(rows, 1 + 2 * harmonics)` for each number of waves."""
    waves = np.arange(_WAVE_STEP, _MOST_WAVES + _WAVE_STEP, _WAVE_STEP)
    angles = 2 * np.pi * waves[:, None, None] * np.arange(rows)[:, None] / rows * np.arange(1, _HARMONICS + 1)
    constant = np.ones((len(waves), rows, 1))
    return np.linalg.qr(np.concatenate([constant, np.sin(angles), np.cos(angles)], axis=2))[0]
