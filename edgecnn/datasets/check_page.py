"""What `edgecnn data check` found, as one page: pairs side by side, and what a random split would hide."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from edgecnn.datasets.check import FolderCheck, Pair, TableComparison
from edgecnn.datasets.flattery import Flattery
from edgecnn.errors import InputError
from edgecnn.files import MADE_HERE, write_bytes
from edgecnn.markup import figure, row
from edgecnn.pictures import read_picture
from edgecnn.text import printable

MOST_PAIRS = 36  # of each section; a page of some megabytes
_STYLE = (
    "body{font-family:sans-serif;margin:24px;max-width:1100px}figure{display:inline-block;vertical-align:top}"
    ".pair{display:inline-block;border:1px solid #ccc;border-radius:4px;margin:4px;padding:4px;max-width:360px;font-size:13px}"
    "figcaption{overflow-wrap:anywhere}"
)
_KINDS = {
    "duplicate": "copies",
    "overlap": "overlapping crops",
    "again": "the same part again (turned, mirrored, in other light)",
}


def write_page(found: FolderCheck, path: Path, compared: TableComparison | None = None) -> None:
    """Write the page, whole or not at all; pictures that can be read no longer are named without being shown."""
    write_bytes(path, render_page(found, compared).encode("utf-8", "surrogateescape"))


def render_page(found: FolderCheck, compared: TableComparison | None = None) -> str:
    """Return the page as HTML; every name in it is escaped."""
    sections = [("Conflicting labels", found.conflicts)]
    if compared is not None:
        sections.append(("Pairs across the groups of the table", compared.across))
    for kind, title in _KINDS.items():
        sections.append((title.capitalize(), tuple(pair for pair in found.pairs if pair.kind == kind)))
    title = html.escape(printable(f"Data check of {found.folder}"))
    body = "".join(_section(Path(found.folder), heading, pairs) for heading, pairs in sections)
    facts = "".join(f"<li>{html.escape(printable(line))}</li>" for line in _facts(found))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f'<meta name="generator" content="{MADE_HERE}"></head>'
        f"<body><h1>{title}</h1><ul>{facts}</ul>{body}</body></html>\n"
    )


def _facts(found: FolderCheck) -> list[str]:
    return [
        *found.summary.facts(),
        f"{found.groups} groups with {found.grouped} pictures, the largest with {found.largest_group}",
        f"a random test split would have leaked {100 * found.leaked:.1f} % of its pictures",
        *([] if found.flattery is None else [describe_flattery(found.flattery)]),
        *found.remarks(),
    ]


def describe_flattery(measured: Flattery) -> str:
    """Say in one line what a random split hides."""
    shares = [
        f"{100 * part.value:.1f} % ({100 * part.interval[0]:.1f} to {100 * part.interval[1]:.1f})"
        for part in (measured.random, measured.grouped)
    ]
    return (
        f"{measured.classifier}, {measured.folds} folds, {measured.seeds} seeds: {shares[0]} right by random folds, "
        f"{shares[1]} where groups stay together (95 % intervals over groups)"
    )


def _section(folder: Path, title: str, pairs: Sequence[Pair]) -> str:
    """Show the pairs that are least certain first: those are worth a look."""
    if not pairs:
        return ""
    shown = sorted(pairs, key=lambda pair: pair.score)[:MOST_PAIRS]
    more = f", the {len(shown)} least certain shown" if len(shown) < len(pairs) else ""
    return f"<h2>{html.escape(title)}: {len(pairs)}{more}</h2>" + "".join(_pair(folder, pair) for pair in shown)


def _pair(folder: Path, pair: Pair) -> str:
    pictures = row([_shown(folder, name, label) for name, label in zip((pair.first, pair.second), pair.labels, strict=True)])
    line = f"{100 * pair.share:.0f} % of the area, correlation {pair.score:.2f}"
    return f'<div class="pair">{pictures}{line}</div>'


def _shown(folder: Path, name: str, label: str) -> str:
    caption = printable(f"{name} ({label})")
    try:
        return figure(read_picture(folder / name), caption)
    except InputError:
        return f"<p>{html.escape(caption)}: cannot be read</p>"
