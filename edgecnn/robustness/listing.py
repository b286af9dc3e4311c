"""The corruptions as a table in Markdown: what `edgecnn robustness --list` prints and docs/robustness.md holds."""

from __future__ import annotations

from collections.abc import Sequence

from edgecnn.robustness.corruptions import CORRUPTIONS, SEVERITIES, Corruption, corruptions_for
from edgecnn.tasks import shipped_tasks


def list_corruptions() -> str:
    """Return two tables: the camera's corruptions of any picture, and what differs or comes to it for digits."""
    camera = [corruption for corruption in CORRUPTIONS if not corruption.on_paper]
    known = {corruption.name: (corruption.levels, corruption.in_family) for corruption in camera}
    digit_task = next(task for task in shipped_tasks().values() if task.preprocessing.fit == "digit")
    of_digits = [each for each in corruptions_for(digit_task) if known.get(each.name) != (each.levels, each.in_family)]
    parts = ["Any picture:", "", *_table(camera), "", "Digits, where they differ or come to it:", "", *_table(of_digits)]
    return "\n".join(parts) + "\n"


def _table(corruptions: Sequence[Corruption]) -> list[str]:
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
