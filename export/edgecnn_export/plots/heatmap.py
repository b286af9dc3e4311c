"""A robustness report as a picture: corruptions down, severities across, the redder the more answers are lost."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.robustness.report import ModelScores, PairScores, RobustnessReport, describe
from edgecnn_export.plots.figures import INK, PALE, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CELL_IN, _ROW_IN, _LABELS_IN, _GAP_IN, _TOP_IN, _BOTTOM_IN = 0.62, 0.29, 1.75, 0.45, 0.65, 0.95
_NARROWEST_IN = 2.6
_LETTERS_AN_INCH = 13
_FAMILY_NAMES = {True: "in our augmentation", False: "not in our augmentation"}
# From white (nothing lost) to a deep red that still carries white figures; a blue for what a candidate gains.
_LOST, _GAINED = "#a50f15", "#08519c"


@dataclass(frozen=True, eq=False)
class _Rows:
    """What stands in a panel's rows: `names`, the rows' places in the report (None for a mean), a line under a kind's last."""

    names: tuple[str, ...]
    kinds: tuple[bool | None, ...]
    places: tuple[int | None, ...]


def plot_heatmap(report: RobustnessReport) -> Figure:
    """Draw each model's accuracy (%) and each pair's drop (points) as panels side by side, rows by family with their means.

    The color's scale is the same in all pictures: the square root of the share of wrong answers, so that 99 and 95 % differ
    to the eye.
    """
    rows = _rows(report)
    panel = max(_NARROWEST_IN, _CELL_IN * len(report.severities))
    panels = len(report.models) + len(report.pairs)
    width = _LABELS_IN + panels * (panel + _GAP_IN)
    height = _TOP_IN + _ROW_IN * len(rows.names) + _BOTTOM_IN
    figure = new_figure(width, height)
    for i in range(panels):
        left = _LABELS_IN + i * (panel + _GAP_IN)
        box = left / width, _BOTTOM_IN / height, panel / width, 1 - (_TOP_IN + _BOTTOM_IN) / height
        axes = figure.add_axes(box)
        if i < len(report.models):
            _draw_model(axes, report, report.models[i], rows)
        else:
            _draw_pair(axes, report, report.pairs[i - len(report.models)], rows)
        _label(axes, report, rows, first=i == 0)
    caption = textwrap.fill(describe(report), round(width * _LETTERS_AN_INCH))
    figure.text(0.12 / width, 0.14 / height, caption, fontsize=8, color=INK, parse_math=False)
    return figure


def _rows(report: RobustnessReport) -> _Rows:
    names, kinds, places = list[str](), list[bool | None](), list[int | None]()
    for kind in report.families():
        for i, corruption in enumerate(report.corruptions):
            if corruption.in_family is kind:
                names.append(corruption.name.replace("_", " "))
                kinds.append(kind)
                places.append(i)
        names.append("mean of these")
        kinds.append(kind)
        places.append(None)
    return _Rows((*names, "mean of all"), (*kinds, None), (*places, None))


def _draw_model(axes: Axes, report: RobustnessReport, model: ModelScores, rows: _Rows) -> None:
    severities = range(len(report.severities))
    accuracy = np.array(
        [
            [
                (report.mean(model, severity=j, in_family=kind) if place is None else report.cell(model, place, j)).value
                for j in severities
            ]
            for kind, place in zip(rows.kinds, rows.places, strict=True)
        ]
    )
    _paint(axes, np.sqrt(1 - accuracy), 100 * accuracy, "{:.1f}")
    clean, mean = report.clean(model).value, report.mean(model).value
    _title(axes, model.name, f"accuracy in %: clean {100 * clean:.1f}, mean {100 * mean:.1f}")


def _draw_pair(axes: Axes, report: RobustnessReport, pair: PairScores, rows: _Rows) -> None:
    drops = report.drops(pair)
    severities = range(len(report.severities))
    points = np.array(
        [
            [report.mean_drop(pair, severity=j, in_family=kind) for j in severities] if place is None else drops[place].tolist()
            for kind, place in zip(rows.kinds, rows.places, strict=True)
        ]
    )
    _paint(axes, np.sign(points) * np.sqrt(np.abs(points) / 100), points, "{:+.1f}")
    clean, mean = report.clean_drop(pair), report.mean_drop(pair)
    title = "drop" if len(report.pairs) == 1 else f"drop of {pair.candidate}"
    _title(axes, title, f"points: clean {clean:+.2f}, mean {mean:+.2f}")


def _paint(axes: Axes, shades: NDArray[np.float64], figures: NDArray[np.float64], form: str) -> None:
    """Paint shades `(rows, columns)` from -1 (gained) over 0 to 1 (lost) and write the figures into them."""
    from matplotlib.colors import LinearSegmentedColormap

    colors: Any = LinearSegmentedColormap.from_list(
        "lost", [(0, _GAINED), (0.5, "#ffffff"), (0.75, "#fb8a6a"), (1, _LOST)], N=512
    )
    axes.imshow(shades, cmap=colors, vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    for edge in np.arange(1, max(shades.shape)) - 0.5:
        axes.axhline(edge, color="white", linewidth=1)
        axes.axvline(edge, color="white", linewidth=1)
    axes.set(xlim=(-0.5, shades.shape[1] - 0.5), ylim=(shades.shape[0] - 0.5, -0.5))
    for (row, column), shade in np.ndenumerate(shades):
        # -0.04 is written as a plain 0.0, not as a loss of nothing.
        text = form.format(figures[row, column]).replace("-0.0", "0.0").replace("+0.0", "0.0")
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if abs(shade) > 0.62 else INK)


def _label(axes: Axes, report: RobustnessReport, rows: _Rows, *, first: bool) -> None:
    axes.set_xticks(range(len(report.severities)), [str(severity) for severity in report.severities], fontsize=8, color=INK)
    axes.set_xlabel("severity", fontsize=8, color=INK)
    axes.set_yticks(range(len(rows.names)), rows.names if first else [], fontsize=8.5, color=INK)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set(color=PALE, linewidth=0.6)
    for row, (kind, place) in enumerate(zip(rows.kinds, rows.places, strict=True)):
        if place is not None:
            continue
        axes.axhline(row - 0.5, color=PALE, linewidth=0.8)
        axes.axhline(row + 0.5, color=INK, linewidth=1.2)
        if first:
            axes.get_yticklabels()[row].set_fontweight("bold")
        if first and kind is not None:
            _name_family(axes, rows, kind)


def _name_family(axes: Axes, rows: _Rows, kind: bool) -> None:
    """Write beside the rows of a kind what training knows of it."""
    members = [i for i, each in enumerate(rows.kinds) if each is kind]
    middle = (members[0] + members[-1]) / 2
    axes.annotate(
        _FAMILY_NAMES[kind], (0, middle), xycoords=("axes fraction", "data"), xytext=(-_LABELS_IN * 72 + 10, 0),
        textcoords="offset points", rotation=90, ha="center", va="center", fontsize=8, color=INK,
    )  # fmt: skip


def _title(axes: Axes, name: str, figures: str) -> None:
    axes.set_title(f"{name}\n", fontsize=10, color=INK, fontweight="bold", loc="left", parse_math=False)
    axes.text(0, 1.012, figures, transform=axes.transAxes, fontsize=8, color=INK, va="bottom")
