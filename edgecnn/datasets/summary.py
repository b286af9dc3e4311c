"""What was made of a folder of pictures, in a few lines for people and as JSON for the record of a training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.layout import Layout
from edgecnn.datasets.reading import Picture, cut_off
from edgecnn.datasets.shortcuts import Shortcut, find_shortcuts
from edgecnn.folders import left_out_line
from edgecnn.preprocessing import Preprocessing
from edgecnn.text import counted

LEAST_CUT = 0.01  # of a picture's area: less is rounding
FEW = 10  # pictures: of fewer, little is learned, and next to nothing is measured
UNEVEN = 4  # times as many pictures in one class as in another are worth a word
_SHOWN = 12  # classes
_FITS = {
    "crop": "the crop to the middle cuts off {}",
    "squash": "pictures of another aspect are squashed; a crop (train --fit crop) would cut off {}",
    "pad": "pictures of another aspect get black bars; a crop (train --fit crop) would cut off {}",
}


@dataclass(frozen=True)
class Crossing:
    """How many pictures of a split overlap training pictures (by a chain at most), of how many, and one such pair of files."""

    pictures: int
    of: int
    example: tuple[str, str]


@dataclass(frozen=True)
class FolderSummary:
    """What was read from a folder of pictures, and what was not.

    `counts` are the pictures used of each class; `gray` of them have no color, `usual_size` (height x width) is the most
    frequent one and `usual` how many have it. `input` is the model's `(height, width, channels)`; `cropped` pictures have
    another aspect: a crop cuts off the share `cut_off` of their area on average, `most_cut_off` of `most_cut_off_file`; where
    `fit` is squash or pad it would, and nothing is cut off. `enlarged` are smaller than the input, which was `chosen` for these
    pictures or is a task's. `deeper` are in folders below their class folder. `left_out` maps files to reasons; `conflicts`
    are files with the same pixels under two labels; `crossing` is what the splits of a folder that its owner divided share
    with train.
    """

    counts: dict[str, int]
    gray: int
    chosen: bool
    usual_size: str
    usual: int
    input: tuple[int, int, int]
    fit: str
    cropped: int
    cut_off: float
    most_cut_off: float
    most_cut_off_file: str
    enlarged: int
    deeper: int
    left_out: dict[str, str]
    conflicts: tuple[tuple[str, str], ...]
    remarks: tuple[str, ...]
    shortcuts: tuple[Shortcut, ...]
    crossing: dict[str, Crossing]

    @property
    def total(self) -> int:
        """The number of pictures used."""
        return sum(self.counts.values())

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)

    def facts(self) -> list[str]:
        """Return what was read, a line each: classes, input, what is cut off."""
        classes = "1 class" if len(self.counts) == 1 else f"{len(self.counts)} classes"
        lines = [f"{counted(self.total, 'picture')} in {classes}: {_listed(self.counts)}", self._input_line()]
        if self.cropped:
            which = f"all {self.total}" if self.cropped == self.total else f"{self.cropped} of {self.total}"
            cuts = (
                f"{_percent(self.cut_off)} of the area of {which} pictures"
                f" (mean; at most {_percent(self.most_cut_off)}: {self.most_cut_off_file})"
            )
            lines.append(_FITS[self.fit].format(cuts))
        if self.enlarged:
            lines.append(f"smaller than the input, and enlarged: {counted(self.enlarged, 'picture')}")
        if self.deeper:
            lines.append(f"in deeper folders, and counted for the class folder above: {counted(self.deeper, 'picture')}")
        return lines

    def omissions(self) -> list[str]:
        """Return which files were left out and why: one line, or none."""
        return [left_out_line(self.left_out)] if self.left_out else []

    def warnings(self) -> list[str]:
        """Return what may spoil a training or its measurement, a line each."""
        lines = list(self.remarks)
        if self.conflicts:
            first, second = self.conflicts[0]
            more = f", and {len(self.conflicts) - 1} more such pictures" if len(self.conflicts) > 1 else ""
            lines.append(f"the same picture stands under two labels: {first} and {second}{more}")
        smallest, largest = min(self.counts.values()), max(self.counts.values())
        if largest >= UNEVEN * smallest:
            names = [next(label for label, count in self.counts.items() if count == wanted) for wanted in (largest, smallest)]
            lines.append(f"uneven classes: {names[0]!r} has {largest} pictures, {names[1]!r} {smallest}")
        if few := {label: count for label, count in self.counts.items() if count < FEW}:
            lines.append(f"too few pictures to rely on what is measured: {_listed(few)}; at least 20 per class are a start")
        return [*lines, *(shortcut.describe() for shortcut in self.shortcuts)]

    def crossing_lines(self) -> list[str]:
        """Return what the owner's own splits have in common with train, a line a split."""
        return [
            f"{crossing.pictures} of {crossing.of} {split} pictures overlap training pictures, such as {crossing.example[0]} "
            f"and {crossing.example[1]}: what is measured on them flatters the model"
            for split, crossing in self.crossing.items()
        ]

    def _input_line(self) -> str:
        height, width, channels = self.input
        if 2 * self.usual > self.total:
            which = f"{self.usual} of {self.total}" if self.usual < self.total else "all"
            sizes = f"{which} pictures {self.usual_size}"
        else:
            sizes = "pictures of different sizes"
        color, other = ("gray", "in color") if channels == 1 else ("color", "gray")
        odd = self.total - self.gray if channels == 1 else self.gray
        way_out = f" (train --color {'rgb' if channels == 1 else 'gray'} decides otherwise)" if self.chosen else ""
        return f"input: {color}, {height} x {width}; {sizes}" + (f"; {odd} of {self.total} {other}{way_out}" if odd else "")


def find_crossing(names: Sequence[str], groups: NDArray[np.int64], parts: dict[str, NDArray[np.int64]]) -> dict[str, Crossing]:
    """Tell which validation and test pictures overlap a training picture: they are in one of the `groups` `(n,)` with it.

    `parts` has the indices of each split; a split without such a picture is left out.
    """
    trained = {int(groups[i]): names[i] for i in reversed(parts["train"])}
    found = {}
    for split, indices in parts.items():
        leaked = [i for i in indices if int(groups[i]) in trained]
        if split != "train" and leaked:
            example = names[leaked[0]], trained[int(groups[leaked[0]])]
            found[split] = Crossing(len(leaked), len(indices), example)
    return found


def summarize(
    layout: Layout,
    pictures: Sequence[Picture],
    preprocessing: Preprocessing,
    *,
    left_out: dict[str, str],
    conflicts: Sequence[tuple[str, str]] = (),
    chosen: bool = False,
) -> FolderSummary:
    """Sum up the `pictures` that are used of a folder; `chosen` tells that the input was chosen to fit them."""
    labels = Counter(picture.file.label for picture in pictures)
    sizes = Counter(f"{picture.size_hw[0]} x {picture.size_hw[1]}" for picture in pictures)
    cuts = {picture.file.name: _cut_off(picture.size_hw, preprocessing) for picture in pictures}
    cut = {name: share for name, share in cuts.items() if share > LEAST_CUT}
    usual_size, usual = sizes.most_common(1)[0]
    most = max(cut, key=cut.__getitem__, default="")
    return FolderSummary(
        counts={label: labels[label] for label in layout.labels if labels[label]},
        gray=sum(picture.is_gray for picture in pictures),
        chosen=chosen,
        usual_size=usual_size,
        usual=usual,
        input=preprocessing.shape,
        fit=preprocessing.fit,
        cropped=len(cut),
        cut_off=sum(cut.values()) / max(len(cut), 1),
        most_cut_off=cut.get(most, 0.0),
        most_cut_off_file=most,
        enlarged=sum(
            picture.size_hw[0] < preprocessing.height or picture.size_hw[1] < preprocessing.width for picture in pictures
        ),
        deeper=sum(picture.file.deeper > 0 for picture in pictures),
        left_out=left_out,
        conflicts=tuple(conflicts),
        remarks=layout.remarks,
        shortcuts=tuple(find_shortcuts(pictures)),
        crossing={},
    )


def _cut_off(size_hw: tuple[int, int], preprocessing: Preprocessing) -> float:
    """Return the share of a picture's area that a crop to the input's aspect leaves out, or would."""
    return 0.0 if preprocessing.fit == "digit" else cut_off(size_hw, (preprocessing.height, preprocessing.width))


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _listed(counts: dict[str, int]) -> str:
    shown = [f"{label} {count}" for label, count in counts.items()][:_SHOWN]
    return ", ".join(shown) + (f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else "")
