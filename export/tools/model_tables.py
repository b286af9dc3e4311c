"""The tables of docs/reference/models.md, made from the records beside it, so that no figure there is typed by hand.

    python -m export.tools.model_tables docs/reference/models.md

Each table stands between `<!-- table: NAME -->` and `<!-- end -->`; the text around them is left alone. Records are what the
commands printed with --json or left in a run: models/NAME/{training,parity,robustness,rejection,latency,test}.json beside it,
for NEU also crossval (grouped folds), crossval-random, ablation and leave-one-class-out.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgecnn.errors import EdgecnnError, InputError
from edgecnn.files import read_bytes, write_bytes

Record = dict[str, Any]
MISSING = "not measured"
_BLOCK = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


class Records:
    """The JSON files below a folder, by model and kind; one that is not there reads as None."""

    def __init__(self, folder: Path) -> None:
        """Read from `folder`."""
        self._folder = folder

    def __call__(self, model: str, kind: str) -> Record | None:
        """Return `folder/model/kind.json`."""
        path = self._folder / model / f"{kind}.json"
        return json.loads(read_bytes(path)) if path.exists() else None


def update(page: Path) -> bool:
    """Rewrite every table of a page and return whether one changed; InputError for a table that nobody knows."""
    text = read_bytes(page).decode("utf-8")
    records = Records(page.with_suffix(""))

    def block(match: re.Match[str]) -> str:
        if match[2] not in TABLES:
            raise InputError(f"{page} asks for the table {match[2]!r}; known: {', '.join(TABLES)}")
        return f"{match[1]}\n{TABLES[match[2]](records)}\n\n{match[3]}"

    made = _BLOCK.sub(block, text)
    if made != text:
        write_bytes(page, made.encode())
    return made != text


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def _share(share: Record | None) -> str:
    """Return `99.7 (98.1 to 99.9)` in percent."""
    if share is None:
        return MISSING
    low, high = share["interval"]
    return f"{100 * share['accuracy']:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _trainings(records: Records) -> str:
    rows = []
    for name in ("neu", "neu-course", "neu-course-random", "mnist", "mnist-course"):
        record = records(name, "training")
        if record is not None:
            validation = record["validation"]
            rows.append([
                name, f"{record['parameters']:,}", str(record["epochs"]), str(record["seed"]), record["split"]["rule"],
                f"{validation['correct']:,} of {validation['count']:,}", _share(validation),
                f"{record['seconds_per_epoch']:.0f} ({record['device']})",
            ])  # fmt: skip
    if not rows:
        return MISSING
    head = ["model", "parameters", "epochs", "seed", "split", "right on validation", "in %", "seconds per epoch"]
    return _markdown(head, rows)


def _corruptions(task: str) -> Callable[[Records], str]:
    """Return a table of all models of a task under each corruption at severity 3."""

    def table(records: Records) -> str:
        report = records(task, "robustness")
        if report is None:
            return MISSING
        models, pair = report["models"], report["pairs"][0]
        head = [
            "at severity 3, in %",
            "training saw it",
            *(f"{m['name']} ({m['precision']})" for m in models),
            "int8 drop, points",
        ]
        rows = [["clean", "", *(_share(m["clean"]) for m in models), f"{pair['clean_drop']:+.2f}"]]
        for corruption in report["corruptions"]:
            name = corruption["name"]
            cells = [f"{100 * m['corrupted'][name]['3']['accuracy']:.1f}" for m in models]
            rows.append([name, "yes" if corruption["in_family"] else "no", *cells, f"{pair['drops'][name]['3']:+.2f}"])
        for mean, title in (("in_family", "mean, seen"), ("out_of_family", "mean, never seen"), ("all", "mean of all")):
            rows.append([f"**{title}**", "", *(_share(m["mean_by_severity"]["3"][mean]) for m in models), ""])
        worst = [m["worst_by_severity"]["3"] for m in models]
        rows.append(["**worst**", "", *(f"{100 * w['accuracy']:.1f} {w['corruption']}" for w in worst), ""])
        return _markdown(head, rows)

    return table


def _severities(task: str) -> Callable[[Records], str]:
    """Return a table of the mean over corruptions at each severity."""

    def table(records: Records) -> str:
        report = records(task, "robustness")
        if report is None:
            return MISSING
        head = ["mean over all corruptions, in %", *(f"severity {severity}" for severity in report["severities"])]
        rows = [
            [f"{m['name']} ({m['precision']})", *(_share(m["mean_by_severity"][str(s)]["all"]) for s in report["severities"])]
            for m in report["models"]
        ]
        return _markdown(head, rows)

    return table


def _crossval(records: Records) -> str:
    found = [record for kind in ("crossval", "crossval-random") if (record := records("neu", kind)) is not None]
    if not found:
        return MISSING
    rows = [
        [
            figure["rule"], figure["precision"], str(figure["seed"]), f"{figure['correct']:,} of {figure['count']:,}",
            _share(figure), " ".join(f"{100 * fold:.1f}" for fold in figure["folds"]),
        ]
        for record in found
        for figure in record["figures"]
    ]  # fmt: skip
    return _markdown(["folds", "model", "seed", "right", "in %", "single folds"], rows)


def _ablation(task: str) -> Callable[[Records], str]:
    def table(records: Records) -> str:
        record = records(task, "ablation")
        if record is None:
            return MISSING
        rows = []
        for row in record["rows"]:
            int8, floating = row["int8"], row["float32"]
            shares = [f"{100 * int8[name]:.1f}" for name in ("clean", "seen", "unseen", "mean")]
            worst = f"{100 * int8['worst']:.1f} {int8['worst_corruption']}"
            doubt = ["", ""] if row["doubt"] is None else [f"{row['doubt']['auroc']:.3f}", f"{100 * row['doubt']['kept']:.1f}"]
            means = [f"{100 * floating[name]:.1f}" for name in ("clean", "mean")]
            rows.append([row["name"], f"{row['parameters']:,}", *shares, worst, *doubt, *means])
        head = ["variant", "parameters", "int8 clean", "kinds seen", "never seen", "mean", "worst"]
        head += ["AUROC", "kept at 5 % false accepts", "float clean", "float mean"]
        return f"{record['epochs'] or 'all'} epochs, seed {record['seed']}:\n\n{_markdown(head, rows)}"

    return table


def _rejection(records: Records) -> str:
    rows = []
    for name in ("neu", "mnist"):
        record = records(name, "rejection")
        if record is not None:
            area = next(iter(record["auroc"].values()))
            wanted, stated, mean = record["wanted"], record["stated"], _mean_corrupted(record)
            rows.append([
                name, f"{area['value']:.3f} ({area['interval'][0]:.3f} to {area['interval'][1]:.3f})", _of(wanted["kept"]),
                f"{100 * mean['kept_wanted']:.1f}", _of(stated["kept"]), f"{100 * mean['kept']:.1f}",
                _of(stated["false_accepts"]), f"{record['calibration_error']:.4f}", f"{mean['calibration_error']:.4f}",
            ])  # fmt: skip
    if not rows:
        return MISSING
    head = [
        "int8 model", "AUROC of the novelty", "kept at 5 % false accepts, %", "corrupted", "kept by its own thresholds, %",
        "corrupted", "false accepts, %", "calibration error", "corrupted",
    ]  # fmt: skip
    return _markdown(head, rows)


def _mean_corrupted(record: Record) -> dict[str, float]:
    """Return the means over all corruptions of what is kept, and of the calibration error."""
    found = list(record["corrupted"].values())
    shares = {name: sum(each[name]["share"] for each in found) / len(found) for name in ("kept", "kept_wanted", "right")}
    return shares | {"calibration_error": sum(each["calibration_error"] for each in found) / len(found)}


def _left_out(records: Records) -> str:
    record = records("neu", "leave-one-class-out")
    if record is None:
        return MISSING
    rows = []
    for row in record["classes"]:
        (low, high), accepted = row["auroc"]["interval"], row["accepted"]
        area = f"{row['auroc']['value']:.3f} ({low:.3f} to {high:.3f})"
        rows.append([row["label"], area, MISSING if accepted is None else _of(accepted), _of(row["kept"])])
    head = ["class left out", "AUROC", "of it accepted, %", "other classes kept at 5 % of it accepted, %"]
    return f"{record['epochs'] or 'all'} epochs, seed {record['seed']}:\n\n{_markdown(head, rows)}"


def _of(share: Record) -> str:
    low, high = share["interval"]
    return f"{100 * share['share']:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _targets(records: Records) -> str:
    """Return each target of the project with what was reached: met or missed, by the point estimate."""
    rows = []
    for title, wanted, found, met in _reached(records):
        verdict = MISSING if met is None else "met" if met else "**missed**"
        rows.append([title, wanted, MISSING if found is None else found, verdict])
    return _markdown(["target", "wanted", "reached", ""], rows)


def _reached(records: Records) -> list[tuple[str, str, str | None, bool | None]]:
    found: list[tuple[str, str, str | None, bool | None]] = []

    def least(title: str, wanted: float, value: float | None, unit: str = "%") -> None:
        shown = None if value is None else f"{value:.{2 if wanted > 1 else 3}f} {unit}"
        found.append((title, f"at least {wanted:g} {unit}", shown, None if value is None else value >= wanted))

    def most(title: str, wanted: float, value: float | None, unit: str) -> None:
        found.append((title, f"at most {wanted:g} {unit}", None if value is None else f"{value:.2f} {unit}",
                      None if value is None else value <= wanted))  # fmt: skip

    def small(title: str, wanted: float, value: float | None) -> None:
        found.append((title, f"at most {wanted:g}", None if value is None else f"{value:.4f}",
                      None if value is None else value <= wanted))  # fmt: skip

    for task, mean, worst, unseen, drop in (("neu", 97.0, 90.0, 95.0, 0.3), ("mnist", 97.0, None, None, 0.05)):
        report = records(task, "robustness")
        int8 = None if report is None else next(m for m in report["models"] if m["precision"] == "int8")
        at3 = None if int8 is None else int8["mean_by_severity"]["3"]
        least(f"{task} int8, mean of all corruptions at severity 3", mean, _percent(at3, "all"))
        if unseen is not None:
            least(f"{task} int8, mean of corruptions that training never saw", unseen, _percent(at3, "out_of_family"))
        if worst is not None:
            least(f"{task} int8, worst corruption at severity 3", worst, _percent(int8, "worst_by_severity", "3"))
        pair = None if report is None else report["pairs"][0]
        most(f"{task} int8 drop, clean validation", drop, None if pair is None else pair["clean_drop"], "points")
        if task == "neu":
            at3_drop = None if pair is None else sum(d["3"] for d in pair["drops"].values()) / len(pair["drops"])
            most("neu int8 drop, mean of all corruptions at severity 3", drop, at3_drop, "points")
    crossval = records("neu", "crossval")
    for rule in ("grouped",):
        own = [] if crossval is None else [f for f in crossval["figures"] if (f["rule"], f["precision"]) == (rule, "int8")]
        least(f"neu int8, {rule} 5-fold cross-validation", 99.5, 100 * own[0]["accuracy"] if own else None)
    latency = records("neu", "latency")
    least("neu int8, course's float time over ours, one thread, LiteRT, median", 40, _latency_ratio(latency), "times")
    test = records("mnist", "test")
    least("mnist int8, test split", 99.6, None if test is None else 100 * test["accuracy"])
    for task, kept_wanted in (("neu", 98.0), ("mnist", 99.0)):
        rejection = records(task, "rejection")
        area = None if rejection is None else next(iter(rejection["auroc"].values()))["value"]
        least(f"{task} int8, AUROC against out-of-distribution pictures", 0.99, area, "")
        kept = None if rejection is None else 100 * rejection["wanted"]["kept"]["share"]
        least(f"{task} int8, true pictures kept at 5 % false accepts", kept_wanted, kept)
        if task == "neu":
            shown = None if rejection is None else _mean_corrupted(rejection)
            hardest = None if rejection is None else min(each["value"] for each in rejection["auroc_by_kind"].values())
            least("neu int8, AUROC against the hardest kind", 0.95, hardest, "")
            least("neu int8, kept at 5 % false accepts, mean of corruptions at severity 3", 93.0,
                  None if shown is None else 100 * shown["kept_wanted"])  # fmt: skip
            small("neu int8, calibration error", 0.02, None if rejection is None else rejection["calibration_error"])
            small(
                "neu int8, calibration error, mean of corruptions", 0.04, None if shown is None else shown["calibration_error"]
            )
    left_out = [each["auroc"]["value"] for each in (records("neu", "leave-one-class-out") or {"classes": ()})["classes"]]
    least("neu int8, AUROC of a class left out, mean", 0.92, sum(left_out) / len(left_out) if left_out else None, "")
    least("neu int8, AUROC of a class left out, worst", 0.85, min(left_out) if left_out else None, "")
    where = records("neu", "where")
    row = None if where is None else next(row for row in where["classes"] if row["label"] == "all")
    least("neu int8, pointing accuracy of the map", 0.85, None if row is None else row["pointing"]["share"], "")
    least("neu int8, pixel AUROC of the map", 0.85, None if row is None else row["pixel_auroc"], "")
    return found


def _latency_ratio(record: Record | None) -> float | None:
    """Return how many times as long the second model of a record of `edgecnn bench` takes as the first, with XNNPACK."""
    if record is None:
        return None
    ours, theirs = (next(case for case in model["cases"] if case["delegate"]) for model in record["models"])
    return float(theirs["invoke"]["p50_ms"] / ours["invoke"]["p50_ms"])


def _percent(record: Record | None, *keys: str) -> float | None:
    value: Any = record
    for key in keys:
        value = None if value is None else value.get(key)
    return None if value is None else 100 * value["accuracy"]


TABLES: dict[str, Callable[[Records], str]] = {
    "targets": _targets,
    "trainings": _trainings,
    "neu-corruptions": _corruptions("neu"),
    "mnist-corruptions": _corruptions("mnist"),
    "neu-severities": _severities("neu"),
    "mnist-severities": _severities("mnist"),
    "crossval": _crossval,
    "neu-ablation": _ablation("neu"),
    "mnist-ablation": _ablation("mnist"),
    "rejection": _rejection,
    "left-out": _left_out,
}


if __name__ == "__main__":
    try:
        for argument in sys.argv[1:]:
            update(Path(argument))
    except EdgecnnError as problem:
        sys.exit(f"tables: {problem}")
