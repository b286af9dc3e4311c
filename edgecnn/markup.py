"""How results show themselves in Jupyter: small pieces of self-contained HTML, every text escaped."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_SIDE = 160  # pixels of a picture's longer side
_STEM, _HEIGHT, _FOOT = 22, 110, 90


@dataclass(frozen=True, eq=False)
class Png:
    """A picture that Jupyter shows; `data` is the file's content."""

    data: bytes

    def __repr__(self) -> str:
        return f"Png({len(self.data)} bytes)"

    def _repr_html_(self) -> str:
        return f'<img src="data:image/png;base64,{base64.b64encode(self.data).decode()}" style="max-width:100%">'


@dataclass(frozen=True, eq=False)
class Confusion:
    """How often each class (row) got each answer (column): `counts` `(classes, classes)`."""

    labels: tuple[str, ...]
    counts: NDArray[np.int64]

    def __repr__(self) -> str:
        width = max(map(len, self.labels))
        rows = [
            f"{label:>{width}}  {'  '.join(f'{n:4d}' for n in row)}"
            for label, row in zip(self.labels, self.counts, strict=True)
        ]
        return "\n".join(rows)

    def _repr_html_(self) -> str:
        rows = [[label, *map(str, row)] for label, row in zip(self.labels, self.counts.tolist(), strict=True)]
        return table(["true class \\ answer", *self.labels], rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of texts."""
    cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    lines = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table>"


def figure(image: NDArray[np.uint8], caption: str, *, title: str = "") -> str:
    """Return a picture `(h, w)`, `(h, w, 1)` or BGR `(h, w, 3)` uint8 with a caption."""
    height, width = image.shape[:2]
    scale = _SIDE / max(height, width)
    if scale < 1:
        image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    encoded = base64.b64encode(cv2.imencode(".png", image)[1].tobytes()).decode()
    shown = (
        f'<img src="data:image/png;base64,{encoded}" width="{max(1, round(width * scale))}" style="image-rendering:pixelated">'
    )
    return (
        f'<figure style="margin:4px" title="{html.escape(title)}">{shown}'
        f'<figcaption style="font-size:12px;max-width:{_SIDE}px">{html.escape(caption)}</figcaption></figure>'
    )


def stems(probabilities: Mapping[str, float]) -> str:
    """Return a stem plot of named probabilities as SVG."""
    parts = [f'<line x2="{_STEM * len(probabilities)}" y1="{_HEIGHT}" y2="{_HEIGHT}" stroke="#888"/>']
    for i, (label, probability) in enumerate(probabilities.items()):
        x, y, name = _STEM * (i + 0.5), _HEIGHT - (_HEIGHT - 10) * probability, html.escape(label)
        parts += [
            f'<line x1="{x}" x2="{x}" y1="{_HEIGHT}" y2="{y:.1f}" stroke="#1f5fa8" stroke-width="2"/>',
            f'<circle cx="{x}" cy="{y:.1f}" r="4" fill="#1f5fa8"><title>{name} {probability:.1%}</title></circle>',
            f'<text x="{x}" y="{_HEIGHT + 8}" font-size="11" transform="rotate(60 {x} {_HEIGHT + 8})">{name}</text>',
        ]
    size = f'width="{_STEM * len(probabilities) + _FOOT}" height="{_HEIGHT + _FOOT}"'
    return f'<svg {size} xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'


def row(pieces: Sequence[str]) -> str:
    """Return pieces side by side."""
    return f'<div style="display:flex;flex-wrap:wrap;align-items:flex-start">{"".join(pieces)}</div>'
