"""The camera corruptions: each with its meaning, its unit and five fixed levels, chosen by what cameras do and not by a model.

Severity 3 is what a carelessly installed camera shows; 1 is just visible, 5 is hard for people too. Lengths are shares of the
picture's shorter side, so that one level fits every size: 0.0075 is 1.5 pixels of a 200-pixel picture.

A picture's random draws (a direction, a place, noise) come from the seed, the corruption's name and the picture's own
pixels. So they do not depend on the other pictures, and are the same at all severities.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import InputError, ShapeError
from edgecnn.robustness import geometry, light, optics, paper, sensor
from edgecnn.robustness.pixels import Picture, Rng
from edgecnn.shipped import shipped_tasks
from edgecnn.tasks import Task

SEVERITIES = (1, 2, 3, 4, 5)

Effect = Callable[[Picture, float, Rng], Picture]


@dataclass(frozen=True)
class Corruption:
    """One thing that a camera does to a picture.

    `levels` are its strengths at severity 1 to 5 in `unit`. `in_family` says that the training's augmentation draws the same
    kind of change, if not the same strengths. `on_paper` is for pictures in the form of digits (light ink on black): they are
    drawn as dark ink on light paper, corrupted there, and brought back.
    """

    name: str
    meaning: str
    unit: str
    levels: tuple[float, ...]
    in_family: bool
    effect: Effect
    on_paper: bool = False

    def level(self, severity: int) -> float:
        """Return the strength at `severity` 1 to 5; InputError for another."""
        if severity not in SEVERITIES:
            raise InputError(f"severity must be 1, 2, 3, 4 or 5, got {severity}")
        return self.levels[severity - 1]


_SHARE = "share of the shorter side"

_CAMERA = (
    Corruption(
        "underexposure", "less light reaches the sensor", "stops",
        (0.25, 0.5, 0.75, 1.25, 2.0), True, light.underexpose,
    ),
    Corruption(
        "overexposure", "more light reaches the sensor, bright parts saturate", "stops",
        (0.2, 0.4, 0.6, 0.8, 1.0), True, light.overexpose,
    ),
    Corruption(
        "gain", "little light, made up for by gain: shot noise and coarse levels", "stops",
        (2, 3, 4, 5, 6), True, sensor.amplify,
    ),
    Corruption(
        "gamma", "another tone curve: levels (0 to 1) to this power or to its inverse", "exponent",
        (1.15, 1.3, 1.5, 1.8, 2.2), False, light.change_gamma,
    ),
    Corruption(
        "contrast", "haze: this factor of the contrast about the mean remains", "factor",
        (0.85, 0.75, 0.6, 0.45, 0.3), True, light.lower_contrast,
    ),
    Corruption(
        "light_gradient", "light from one side: this much more at one end, this much less at the other", "share of the light",
        (0.1, 0.2, 0.3, 0.45, 0.6), True, light.tilt_light,
    ),
    Corruption(
        "vignette", "the lens darkens the corners by this much (cos^4 law)", "share of the light",
        (0.15, 0.3, 0.45, 0.6, 0.75), False, light.vignette,
    ),
    Corruption(
        "highlight", "a lamp's reflection that saturates, its sigma", _SHARE,
        (0.02, 0.04, 0.07, 0.1, 0.14), True, light.add_highlight,
    ),
    Corruption(
        "defocus", "out of focus: a Gaussian blur, its sigma", _SHARE,
        (0.0025, 0.005, 0.0075, 0.0125, 0.02), True, optics.defocus,
    ),
    Corruption(
        "motion_horizontal", "the object moves sideways during the exposure, by this much", _SHARE,
        (0.015, 0.025, 0.04, 0.06, 0.09), True, optics.smear_across,
    ),
    Corruption(
        "motion_vertical", "the object moves up or down during the exposure, by this much", _SHARE,
        (0.015, 0.025, 0.04, 0.06, 0.09), True, optics.smear_down,
    ),
    Corruption(
        "noise", "shot and read noise, standard deviation at level 128", "gray levels of 255",
        (4, 8, 15, 22, 30), True, sensor.add_noise,
    ),
    Corruption(
        "banding", "rows lit unevenly by a flickering lamp, amplitude", "share of the light",
        (0.05, 0.1, 0.18, 0.28, 0.4), True, light.band,
    ),
    Corruption(
        "jpeg", "JPEG compression", "quality",
        (70, 50, 30, 18, 10), True, sensor.compress,
    ),
    Corruption(
        "low_resolution", "taken with this share of the pixels per side, enlarged again", "factor",
        (0.95, 0.9, 0.8, 0.65, 0.5), True, optics.lower_resolution,
    ),
    Corruption(
        "rotation", "the object is rotated, either way", "degrees",
        (2, 4, 6, 9, 12), True, geometry.rotate,
    ),
    Corruption(
        "perspective", "the camera looks at an angle, from two shorter sides away", "degrees",
        (5, 10, 15, 22, 30), False, geometry.tilt,
    ),
    Corruption(
        "shift", "the object is off centre, in any direction", _SHARE,
        (0.02, 0.04, 0.06, 0.09, 0.12), True, geometry.shift,
    ),
    Corruption(
        "dust", "soft specks on the lens, each takes 30 to 70 % of the light", "specks",
        (2, 4, 8, 14, 22), False, optics.add_dust,
    ),
)  # fmt: skip

_PEN = (
    Corruption(
        "stroke_weight", "a pen wider or narrower, by this share of a dilation or erosion by 3 x 3 pixels", "share",
        (0.15, 0.3, 0.5, 0.7, 0.85), True, paper.change_stroke, on_paper=True,
    ),
    Corruption(
        "slant", "the writing leans, either way", "degrees",
        (4, 8, 12, 18, 25), True, partial(geometry.slant, mirrored=False), on_paper=True,
    ),
    Corruption(
        "paper_texture", "rough paper, standard deviation of its light", "share of the light",
        (0.02, 0.04, 0.07, 0.1, 0.14), False, paper.add_grain, on_paper=True,
    ),
    Corruption(
        "ink_color", "colored or failing ink, up to this share of its darkness missing", "share of the darkness",
        (0.2, 0.4, 0.6, 0.8, 1.0), False, paper.pale_ink, on_paper=True,
    ),
)  # fmt: skip

CORRUPTIONS = _CAMERA + _PEN

# A digit that fills 28 pixels is small on the sensor: the same camera's blur and dust are larger beside it. Its strokes are all
# that there is to read, so a highlight is smaller; and 28 pixels have fewer resolutions below them.
_DIGIT_LEVELS = {
    "defocus": (0.015, 0.025, 0.035, 0.045, 0.06),
    "motion_horizontal": (0.05, 0.08, 0.11, 0.15, 0.2),
    "motion_vertical": (0.05, 0.08, 0.11, 0.15, 0.2),
    "dust": (1, 2, 3, 5, 7),
    "highlight": (0.015, 0.03, 0.045, 0.06, 0.08),
    "low_resolution": (0.93, 0.86, 0.8, 0.65, 0.5),
}
# Digits are trained without bands of light and without hidden parts.
_UNSEEN_IN_DIGITS = ("banding", "highlight")
_DIGIT_EFFECTS: dict[str, Effect] = {
    "rotation": partial(geometry.rotate, mirrored=False),
    "perspective": partial(geometry.tilt, mirrored=False),
    "shift": partial(geometry.shift, mirrored=False),
    "dust": partial(optics.add_dust, radius=(0.04, 0.08)),
}


def corruptions_for(task: Task) -> tuple[Corruption, ...]:
    """Return the corruptions that make sense for a task: digits have pen and paper besides, and levels of their own size."""
    if task.preprocessing.fit != "digit":
        return _CAMERA
    return tuple(_for_digits(corruption) for corruption in CORRUPTIONS)


def corrupt(
    images: NDArray[np.uint8], corruption: Corruption, severity: int, seed: int, *, one_camera: bool = False
) -> NDArray[np.uint8]:
    """Return pictures `(n, h, w, c)` uint8 as they look after `corruption` at `severity` 1 to 5, and leave the originals alone.

    The same picture and seed give the same result, whatever stands beside it. With `one_camera` the draws are the same for all
    pictures: its lamp stands on one side, and its dust in one place. Raises InputError for another severity or a negative seed,
    ShapeError for other arrays.
    """
    level = corruption.level(severity)
    if seed < 0:
        raise InputError(f"the seed of corruptions must not be negative, got {seed}")
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[3] not in (1, 3):
        raise ShapeError(f"expected pictures (n, h, w, 1 or 3) uint8, got {images.shape} {images.dtype}")
    corrupted = np.empty_like(images)
    for i, image in enumerate(images):
        random = _random(None if one_camera else image, corruption.name, seed)
        seen = paper.photographed(image) if corruption.on_paper else image
        seen = corruption.effect(seen, level, random)
        corrupted[i] = paper.form_of(seen) if corruption.on_paper else seen
    return corrupted


def _random(image: Picture | None, name: str, seed: int) -> Rng:
    own = 0 if image is None else zlib.crc32(np.ascontiguousarray(image).data)
    return np.random.default_rng([seed, zlib.crc32(name.encode()), own])


def _for_digits(corruption: Corruption) -> Corruption:
    return replace(
        corruption,
        levels=_DIGIT_LEVELS.get(corruption.name, corruption.levels),
        in_family=corruption.in_family and corruption.name not in _UNSEEN_IN_DIGITS,
        effect=_DIGIT_EFFECTS.get(corruption.name, corruption.effect),
        on_paper=True,
    )


def list_corruptions() -> str:
    """Return two Markdown tables: the camera's corruptions of any picture, and what differs or is added for digits."""
    camera = [corruption for corruption in CORRUPTIONS if not corruption.on_paper]
    known = {corruption.name: (corruption.levels, corruption.in_family) for corruption in camera}
    digit_task = next(task for task in shipped_tasks().values() if task.preprocessing.fit == "digit")
    of_digits = [each for each in corruptions_for(digit_task) if known.get(each.name) != (each.levels, each.in_family)]
    parts = ["Any picture:", "", *_markdown(camera), "", "Digits, where they differ or come to it:", "", *_markdown(of_digits)]
    return "\n".join(parts) + "\n"


def _markdown(corruptions: Sequence[Corruption]) -> list[str]:
    head = [
        "corruption",
        "what the camera does",
        "unit",
        *(str(severity) for severity in SEVERITIES),
        "in our augmentation",
    ]
    rows = [_row(corruption) for corruption in corruptions]
    rule = ["---"] * 3 + ["---:"] * len(SEVERITIES) + ["---"]
    return [f"| {' | '.join(row)} |" for row in (head, rule, *rows)]


def _row(corruption: Corruption) -> list[str]:
    levels = [f"{level:g}" for level in corruption.levels]
    return [corruption.name, corruption.meaning, corruption.unit, *levels, "yes" if corruption.in_family else "no"]
