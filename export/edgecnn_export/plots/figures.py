"""Making and saving figures: what all plots share."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecnn.errors import InputError, MissingDependencyError
from edgecnn.files import MADE_HERE, replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, PALE = "#263238", "#b0bec5"
# Where each format keeps a word about its origin: Matplotlib's own writers, and those of Pillow.
_METADATA = {"png": "Software", "svg": "Creator", "pdf": "Creator", "ps": "Creator", "eps": "Creator"}
_PILLOW: dict[str, dict[str, Any]] = {
    **{form: {"comment": MADE_HERE.encode()} for form in ("jpg", "jpeg")},
    **{form: {"description": MADE_HERE} for form in ("tif", "tiff")},
    "gif": {"comment": MADE_HERE.encode()},
    "webp": {"xmp": MADE_HERE.encode()},
}
RIGHT, WRONG, NEUTRAL = "#2e7d32", "#c62828", "#1565c0"


def new_figure(width: float, height: float) -> Figure:
    """Return an empty white figure of this size in inches that no window and no global state knows of.

    Raises MissingDependencyError when Matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("Matplotlib is not installed. Install it with: pip install 'edgecnn[export]'") from error
    return Figure(figsize=(width, height), facecolor="white")


def save_figure(figure: Figure, path: Path, *, dpi: int = 120) -> None:
    """Write a figure in the format that the suffix of `path` names, whole or not at all."""
    check_format(path)
    with warnings.catch_warnings(), replacing(path) as beside:
        # A label in a script that the font lacks is drawn as boxes; that is not a reason to write on stderr.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(beside, dpi=dpi, **mark(path.suffix))


def mark(suffix: str) -> dict[str, Any]:
    """Return what `savefig` takes to note in a file of this format that it was drawn here: `check_replaceable` looks for it."""
    form = suffix[1:].lower()
    if form in _METADATA:
        return {"metadata": {_METADATA[form]: MADE_HERE}}
    return {"pil_kwargs": _PILLOW[form]} if form in _PILLOW else {}


def check_format(path: Path) -> None:
    """Raise InputError unless the suffix of `path` names a format that can be drawn."""
    known = new_figure(1, 1).canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in known:
        raise InputError(f"cannot draw {path}: unknown picture format {path.suffix!r}; known: {', '.join(sorted(known))}")


def hide_frame(axes: Axes) -> None:
    """Remove ticks, and leave a thin pale frame."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=PALE, linewidth=0.6)
