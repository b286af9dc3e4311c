"""Latencies of models on their runtimes as bars: where the time goes, and how much it varies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgecnn_export.plots.figures import INK, NEUTRAL, PALE, RIGHT, new_figure, save_figure

_STAGES = {"preprocess": PALE, "invoke": NEUTRAL}


def draw_latencies(models: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the median of preprocessing and inference of each case of `edgecnn bench`, with the whole path's p95 as a mark.

    `models` are the `ModelBenchmark.to_json()`s. InputError for an unknown picture format.
    """
    cases = [(Path(model["path"]).name, case) for model in models for case in model["cases"]]
    figure = new_figure(9, 1.4 + 0.34 * len(cases))
    axes = figure.subplots()
    rows = range(len(cases))
    left = [0.0] * len(cases)
    for stage, color in _STAGES.items():
        medians = [case[stage]["p50_ms"] for _, case in cases]
        axes.barh(rows, medians, left=left, color=color, height=0.66, label=f"{stage}, median")
        left = [start + median for start, median in zip(left, medians, strict=True)]
    ends = [case["whole"]["p95_ms"] for _, case in cases]
    axes.plot(ends, rows, "|", color=RIGHT, markersize=11, markeredgewidth=2, label="whole path, 95th percentile")
    axes.set_yticks(rows, [_name(name, case) for name, case in cases], color=INK)
    axes.invert_yaxis()
    # One case that was interrupted must not press all the others into a corner.
    axes.set_xlim(0, min(max([*ends, *left]), 4 * max(left)) * 1.08)
    axes.set_xlabel("milliseconds per picture", color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    figure.set_layout_engine("constrained")
    save_figure(figure, path)


def _name(name: str, case: dict[str, Any]) -> str:
    threads = f"{case['threads']} thread" + ("s" if case["threads"] > 1 else "")
    return f"{name} · {case['runtime']}{'' if case['delegate'] else ' without delegate'} · {threads}"
