"""From a picture of one handwritten digit to the form that MNIST has."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def mnist_form(image_gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Map a gray picture `(h, w)` uint8 of one digit, dark on light or light on dark, to `(28, 28)`: light on black.

    As the MNIST authors did (LeCun et al., 1998): the ink's box is scaled into 20 x 20 keeping its aspect, and its centre
    of mass is put at the centre of 28 x 28. An empty picture gives an empty (all black) one.
    """
    ink = _ink(image_gray)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    if rows.size == 0:
        return np.zeros((28, 28), np.uint8)
    box = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = 20.0 / max(box.shape)
    if scale < 1:
        sigma = 0.5 * float(np.sqrt(1 / scale**2 - 1))
        margin = int(np.ceil(3 * sigma))
        padded = np.asarray(cv2.copyMakeBorder(box, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=0), np.uint8)
        box = np.asarray(cv2.GaussianBlur(padded, (0, 0), sigma), np.uint8)
    moments = cv2.moments(box)
    centre_x, centre_y = moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]
    # Pixel (x, y) of the box lands at scale * (x - centre) + 13.5: the middle between the two central pixels of 28.
    matrix = np.array([[scale, 0, 13.5 - scale * centre_x], [0, scale, 13.5 - scale * centre_y]])
    form = np.asarray(cv2.warpAffine(box, matrix, (28, 28), flags=cv2.INTER_LINEAR, borderValue=0), np.uint8)
    peak = int(form.max())
    return form if peak == 0 else np.asarray(cv2.convertScaleAbs(form, alpha=255.0 / peak), np.uint8)


def _ink(image_gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Separate ink from paper by Otsu's threshold; the border tells which side is paper. Paper becomes 0."""
    border = np.concatenate([image_gray[0], image_gray[-1], image_gray[:, 0], image_gray[:, -1]])
    threshold, _ = cv2.threshold(image_gray, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    light_ink = image_gray if np.median(border) <= threshold else cv2.bitwise_not(image_gray)
    cut, _ = cv2.threshold(np.asarray(light_ink, np.uint8), 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return np.asarray(cv2.threshold(np.asarray(light_ink, np.uint8), cut, 255, cv2.THRESH_TOZERO)[1], np.uint8)
