"""Labelled samples out to other tools and in again: class folders for training, tables (CSV), and Label Studio's JSON."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgecnn.errors import InputError, OutputError
from edgecnn.files import make_folder, read_bytes, write_bytes, write_json
from edgecnn.progress import report
from edgecnn.samples.folder import NAME, Sample, SampleFolder, group_events
from edgecnn.samples.labels import BAD, LabelLog, Labels, check_label
from edgecnn.text import printable

Form = Literal["folder", "csv", "label-studio"]
TABLE = "samples.csv"
COLUMNS = (
    *("file", "group", "label", "by", "at", "sample"),
    *("kept", "answer", "guess", "probability", "novelty", "source", "model"),
)
_MOST_BYTES = 2**28
_NAME_WITHIN = re.compile(NAME.pattern)


@dataclass(frozen=True)
class Exported:
    """What was written: pictures by label, and why others were left out, by their names."""

    counts: dict[str, int]
    left_out: dict[str, str]


def export_samples(found: SampleFolder, labels: Labels, out: Path, form: Form, *, with_random: bool = False) -> Exported:
    """Write labelled samples to `out`: a folder, or a file that is new; Label Studio's file has the unlabelled ones too.

    What was kept at random stays out of a folder, with all of its event, unless `with_random`: it is there to measure with.
    Raises OutputError where something of somebody else's stands in the way: then nothing was written.
    """
    if form == "folder":
        return export_folder(found, labels, out, with_random=with_random)
    if out.exists():
        raise OutputError(f"{out} exists; it is not overwritten: choose another name")
    chosen, left_out = _labelled(found, labels)
    if form == "csv":
        events = group_events(found.samples)
        rows = [sample_row(sample, labels, events, "" if s is None else s.name) for sample in chosen for s in [sample.picture]]
        write_rows(out, rows)
    else:
        chosen, left_out = list(found.samples), {}
        write_json(out, [_task(sample, labels, number) for number, sample in enumerate(chosen, 1)])
    return Exported(_counts(chosen, labels), left_out)


def export_folder(found: SampleFolder, labels: Labels, out: Path, *, with_random: bool = False) -> Exported:
    """Copy pictures to `out/<class>/`, those of no class to `out/_other/`, and write `out/samples.csv`.

    The table's columns `file` and `group` are what `--group-by` reads: pictures of one event have one group. `out` may hold
    class folders already: files are added, and none is replaced. Bad pictures are left out.
    """
    chosen, left_out = _labelled(found, labels)
    events, table = group_events(found.samples), out / TABLE
    old = read_rows(table)
    measured = {events[sample.name] for sample in found.samples if "random" in sample.reasons and not with_random}
    moves: list[tuple[Path, Path]] = []
    rows = []
    for sample in chosen:
        label = labels.of[sample.name].label
        reason = _unusable(sample, label, events[sample.name] in measured)
        if reason is not None or sample.picture is None:
            left_out[sample.name] = str(reason)
            continue
        target = out / label / f"{sample.name}.png"
        moves.append((sample.picture, target))
        rows.append(sample_row(sample, labels, events, f"{label}/{sample.name}.png"))
    exported = [sample for sample in chosen if sample.name not in left_out]
    if not exported:
        why = f": {next(iter(left_out.values()))}" if left_out else f"; label some with: edgecnn review {found.folder}"
        raise InputError(f"{found.folder} has no labelled picture to export{why}")
    copied = _copy(moves)
    names = {row["sample"] for row in rows}
    write_rows(table, [row for row in old if row["sample"] not in names] + rows)
    return Exported(_counts([s for s in exported if s.name not in copied], labels), left_out | copied)


def _unusable(sample: Sample, label: str, is_measured_with: bool) -> str | None:
    """Say why nothing is to be learned from a labelled sample."""
    if sample.picture is None:
        return "its picture is gone"
    if label == BAD:
        return "labelled as a bad picture"
    return "kept at random, or of such an event: to measure with (--with-random)" if is_measured_with else None


def _labelled(found: SampleFolder, labels: Labels) -> tuple[list[Sample], dict[str, str]]:
    chosen = [sample for sample in found.samples if sample.name in labels.of]
    gone = labels.of.keys() - {sample.name for sample in found.samples}
    return chosen, dict.fromkeys(sorted(gone), "the sample is gone")


def _copy(moves: Sequence[tuple[Path, Path]]) -> dict[str, str]:
    """Copy pictures, each whole or not at all; return why some were not. OutputError before the first for another's file."""
    for source, target in moves:
        if target.exists() and (not target.is_file() or target.read_bytes() != source.read_bytes()):
            raise OutputError(f"{target} exists and is another picture; it is not overwritten: export to another folder")
    left_out = {}
    for done, (source, target) in enumerate(moves):
        report("exporting samples", done, len(moves))
        try:
            data = read_bytes(source)
        except InputError:  # the ring has let go of it
            left_out[source.stem] = "its picture is gone"
            continue
        make_folder(target.parent)
        if not target.exists():
            write_bytes(target, data)
    report("exporting samples", len(moves), len(moves))
    return left_out


def _counts(samples: Sequence[Sample], labels: Labels) -> dict[str, int]:
    counts: dict[str, int] = {}
    for sample in samples:
        label = labels.of[sample.name].label if sample.name in labels.of else "unlabelled"
        counts[label] = counts.get(label, 0) + 1
    return dict(sorted(counts.items()))


def sample_row(sample: Sample, labels: Labels, events: Mapping[str, str], file: str) -> dict[str, str]:
    """Return the row of a labelled sample in a table; `events` names the event of each sample."""
    act = labels.of[sample.name].act
    return {
        "file": file,
        "group": events[sample.name],
        "label": str(act.label),
        "by": act.by,
        "at": act.at,
        "sample": sample.name,
        "kept": " ".join(sample.reasons),
        "answer": sample.answer,
        "guess": sample.guess or "",
        "probability": f"{sample.probability:.4f}",
        "novelty": "" if sample.novelty is None else f"{sample.novelty:.3f}",
        "source": printable(sample.source),
        "model": sample.model,
    }


def write_rows(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write a table of samples, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode("utf-8", "replace"))


def read_rows(table: Path) -> list[dict[str, str]]:
    """Return the rows of a table that an export wrote before; OutputError for somebody else's."""
    if not table.exists():
        return []
    reader = csv.DictReader(read_bytes(table, at_most=_MOST_BYTES).decode("utf-8", "replace").splitlines())
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise OutputError(f"{table} was not made by edgecnn samples export; it is not overwritten: move it away")
    return list(reader)


def _task(sample: Sample, labels: Labels, number: int) -> dict[str, Any]:
    """Return a task of Label Studio (https://labelstud.io/guide/tasks): a picture, its labels, and the model's own guess."""
    said = labels.of.get(sample.name)
    data = {
        "image": f"/data/local-files/?d={sample.name}.png",
        "sample": sample.name,
        "kept": " ".join(sample.reasons),
        "answer": sample.answer,
    }
    annotations = [] if said is None else [{"result": [_choice(said.label)], "created_at": said.act.at}]
    guess = [] if sample.guess is None else [{"model_version": sample.model[:12], "result": [_choice(sample.guess)]}]
    predictions = [{**each, "score": round(sample.probability, 4)} for each in guess]
    return {"id": number, "data": data, "annotations": annotations, "predictions": predictions}


def _choice(label: str) -> dict[str, Any]:
    return {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [label]}}


@dataclass(frozen=True)
class Imported:
    """What was said: how many samples got which label, how many had it already, and what was left out, by its name."""

    counts: dict[str, int]
    unchanged: int
    left_out: dict[str, str]


def import_labels(found: SampleFolder, log: LabelLog, source: Path, *, by: str) -> Imported:
    """Read labels from class folders, a CSV table, or Label Studio's JSON, and append them to the log.

    Samples are known by their names within the names of files. Raises InputError for a source that is none of these, or that
    names no sample of the folder.
    """
    stated, left_out = _stated(source)
    known, labels = {sample.name for sample in found.samples}, log.read()
    wanted: dict[str, list[str]] = {}
    unchanged = 0
    for name, label in stated.items():
        if name not in known:
            left_out[name] = "there is no such sample"
        elif name in labels.of and labels.of[name].label == label:
            unchanged += 1
        else:
            wanted.setdefault(label, []).append(name)
    if not wanted and not unchanged:
        why = next((f"; {name}: {reason}" for name, reason in left_out.items() if name in known), "")
        raise InputError(
            f"{source} labels no sample of {found.folder}{why}: pictures keep their names, such as {_example(found)}, and "
            "each has one class"
        )
    for label, names in wanted.items():
        for at in range(0, len(names), 1000):
            log.label(names[at : at + 1000], label, by=by)
    return Imported({label: len(names) for label, names in sorted(wanted.items())}, unchanged, left_out)


def _example(found: SampleFolder) -> str:
    return f"{found.samples[0].name}.png" if found.samples else "20260102T030405.678901Z-7-1.png"


def _stated(source: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return the label of each sample that a source names, and what of it cannot be used."""
    if source.is_dir():
        pairs = [(str(path.relative_to(source)), path.relative_to(source).parts[0]) for path in sorted(source.rglob("*.*"))]
        rows = [(file, top) for file, top in pairs if file != top]
    elif source.suffix.lower() == ".json":
        rows = _read_label_studio(source)
    else:
        rows = _read_table(source)
    stated, left_out = dict[str, str](), dict[str, str]()
    for file, label in rows:
        name = _NAME_WITHIN.search(Path(file).name)
        if name is None:
            left_out[file] = "its name is not that of a sample"
            continue
        try:
            checked = check_label(label)
        except InputError as error:
            left_out[name[0]] = str(error)
            continue
        if stated.setdefault(name[0], checked) != checked:
            raise InputError(f"{source} has two labels for {name[0]}: {stated[name[0]]!r} and {checked!r}; keep one of them")
    return stated, left_out


def _read_table(source: Path) -> list[tuple[str, str]]:
    text = read_bytes(source, at_most=_MOST_BYTES).decode("utf-8-sig", "replace")
    head = text.split("\n", 1)[0]
    reader = csv.DictReader(text.splitlines(), delimiter=";" if ";" in head and "," not in head else ",")
    columns = set(reader.fieldnames or ())
    key = next((name for name in ("sample", "file") if name in columns), None)
    if key is None or "label" not in columns:
        raise InputError(f"{source} has no columns sample (or file) and label; its first line is {printable(head[:60])!r}")
    try:
        return [
            (row[key] or row.get("file") or "", (row["label"] or "").strip()) for row in reader if (row["label"] or "").strip()
        ]
    except csv.Error as error:
        raise InputError(f"{source} is not a table: {error}") from error


def _read_label_studio(source: Path) -> list[tuple[str, str]]:
    """Read the annotations of an export of Label Studio (JSON or JSON-MIN); a task's latest annotation holds."""
    try:
        tasks = json.loads(read_bytes(source, at_most=_MOST_BYTES))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source} is no JSON that can be read: it is cut short, damaged, or nested too deeply") from error
    try:
        return [row for task in tasks if (row := _annotated(task)) is not None]
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise InputError(f"{source} is no export of Label Studio: export the project as JSON or JSON-MIN") from error


def _annotated(task: dict[str, Any]) -> tuple[str, str] | None:
    data = task.get("data") or task
    file = str(data.get("sample") or data["image"])
    if "annotations" not in task:  # JSON-MIN
        choice = task.get("label") or task.get("choice")
        return None if choice is None else (file, str(choice))
    given = [each for each in task["annotations"] if not each.get("was_cancelled")]
    results = [result for each in given[-1:] for result in each["result"] if result.get("type") == "choices"]
    return (file, str(results[0]["value"]["choices"][0])) if results else None
