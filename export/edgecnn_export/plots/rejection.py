"""How a model rejects, drawn: coverage against accuracy, and what of each kind is accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecnn_export.plots.figures import INK, NEUTRAL, PALE, WRONG, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from edgecnn.rejection.measure import Rejection


def plot_rejection(rejection: Rejection, *, title: str = "") -> Figure:
    """Draw the coverage-accuracy curve beside the shares of each other kind that are accepted."""
    figure = new_figure(11, 0.9 + max(3.4, 0.3 * len(rejection.aurocs_by_kind)))
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    _draw_curve(left, rejection)
    _draw_kinds(right, rejection)
    figure.suptitle(title, fontsize=11, color=INK)
    figure.tight_layout()
    return figure


def _draw_curve(axes: Axes, rejection: Rejection) -> None:
    axes.plot(100 * rejection.coverage, 100 * rejection.accuracy, color=NEUTRAL, linewidth=1.6)
    for name, cut, mark in (("own threshold", rejection.stated, "o"), ("wanted rate", rejection.wanted, "s")):
        if cut is not None and cut.kept.hits:
            label = f"{name} {abs(cut.threshold):.3f}: {100 * cut.accepted.value:.1f} % of all else accepted"
            axes.plot(100 * cut.kept.value, 100 * cut.right.value, mark, color=WRONG if mark == "o" else INK, label=label)
    low = min(100 * float(rejection.accuracy.min()), 99)
    axes.set(xlim=(0, 101), ylim=(low - 0.05 * (100 - low) - 0.01, 100 + 0.05 * (100 - low)))
    axes.set(xlabel="coverage: pictures answered, %", ylabel="accuracy of the answers, %")
    axes.legend(loc="lower left", fontsize=8, frameon=False)
    axes.grid(color=PALE, linewidth=0.4)


def _draw_kinds(axes: Axes, rejection: Rejection) -> None:
    """Draw a bar a kind with its interval, at the model's own threshold or, where it has none, at the wanted one."""
    cut = rejection.wanted if rejection.stated is None else rejection.stated
    kinds = sorted(cut.by_kind, key=lambda kind: cut.by_kind[kind].value)
    shares = [cut.by_kind[kind] for kind in kinds]
    values = [100 * share.value for share in shares]
    low = [value - 100 * share.interval[0] for value, share in zip(values, shares, strict=True)]
    high = [100 * share.interval[1] - value for value, share in zip(values, shares, strict=True)]
    axes.barh(kinds, values, xerr=(low, high), color=PALE, ecolor=INK, error_kw={"linewidth": 0.8, "capsize": 2})
    axes.axvline(100 * rejection.false_accepts, color=WRONG, linewidth=0.8, linestyle="--")
    for at, kind in enumerate(kinds):
        axes.text(
            1.01,
            at,
            f"{rejection.aurocs_by_kind[kind].value:.3f}",
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=8,
        )
    axes.text(1.01, len(kinds) - 0.3, "AUROC", transform=axes.get_yaxis_transform(), fontsize=8, color=INK)
    axes.set(xlabel=f"accepted at {rejection.score} {abs(cut.threshold):.3f}, % with 95 % interval", xlim=(0, None))
