"""What is added to a training run: labelled samples, class folders, and what of them is only measured with."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgecnn.datasets.layout import OTHERS, label_of, part_named
from edgecnn.errors import DatasetError, InputError, OutputError
from edgecnn.files import make_folder, read_bytes, write_bytes
from edgecnn.folders import list_pictures
from edgecnn.pictures import MAX_FILE_BYTES
from edgecnn.progress import report
from edgecnn.samples.exchange import COLUMNS, TABLE, read_rows, sample_row, write_rows
from edgecnn.samples.folder import NAME, group_events, read_samples
from edgecnn.samples.labels import BAD, FILE, LabelLog
from edgecnn.text import counted

RANDOM = "random"
_CLASS_FOLDERS = "add a samples folder of edgecnn camera --keep, what edgecnn samples export wrote, or class folders"


@dataclass(frozen=True)
class Addition:
    """A picture to add: its file, its label (`_other` for none of the classes), and its row of a table of samples.

    `sha256` is of the file's bytes. The row's `group` names an event, whose pictures may show one part; `""` where nothing is
    known. `is_field` tells that it is there to measure with, and is not trained on.
    """

    path: Path
    label: str
    sha256: str
    row: Mapping[str, str]
    is_field: bool = False

    @property
    def name(self) -> str:
        """What its copy is called: a sample as it was, another file with its digest, so that no two are called alike."""
        stem = self.path.stem
        own = stem if NAME.fullmatch(stem) or stem.endswith(self.sha256[:8]) else f"{stem[:80]}-{self.sha256[:8]}"
        return f"{self.label}/{own}{self.path.suffix.lower()}"


@dataclass(frozen=True)
class Additions:
    """What was found to add: pictures to `learn` from, pictures of the `field` to measure with, and remarks on the rest.

    `refused` are the names of samples that were called bad pictures: no longer to be learned from, where they were.
    """

    learn: tuple[Addition, ...] = ()
    field: tuple[Addition, ...] = ()
    remarks: tuple[str, ...] = ()
    refused: frozenset[str] = frozenset()

    def labels(self) -> Counter[str]:
        """How many pictures there are of each class."""
        return Counter(each.label for each in (*self.learn, *self.field) if each.label != OTHERS)


def read_additions(folders: Sequence[Path]) -> Additions:
    """Read what the folders hold; InputError for one that holds nothing to add, or two labels for one picture.

    A folder is one of samples, of which the labelled ones count, or holds class folders, with the table of an export where
    there is one. What a camera kept at random is of the field, and of its event nothing is learned from.
    """
    found = [_read_samples(folder) if _holds_samples(folder) else read_class_folders(folder) for folder in folders]
    learn = _distinct(each for one in found for each in one.learn)
    in_field = _distinct(each for one in found for each in one.field)
    _refuse_contradictions([*learn, *in_field])
    remarks = tuple(remark for one in found for remark in one.remarks)
    refused = frozenset[str]().union(*(one.refused for one in found))
    measured = {each.row["group"] for each in in_field} - {""}
    kept = [each for each in learn if each.row["group"] not in measured]
    if len(kept) < len(learn):
        count = counted(len(learn) - len(kept), "sample")
        remarks = (*remarks, f"{count} left out: of an event of which one was kept at random, which is there to measure with")
    field_digests = {each.sha256 for each in in_field}
    return Additions(tuple(e for e in kept if e.sha256 not in field_digests), tuple(in_field), remarks, refused)


def read_class_folders(folder: Path, *, is_field: bool = False) -> Additions:
    """Read `folder/<class>/<pictures>`, with `samples.csv` where an export wrote one; DatasetError where there is none."""
    if not folder.is_dir():
        raise DatasetError(f"{folder} {'is not a folder' if folder.exists() else 'does not exist'}; {_CLASS_FOLDERS}")
    listing = list_pictures(folder)
    paths = [path for path in listing.pictures if len(path.parts) > 1]
    if not paths:
        raise DatasetError(f"{folder} holds no class folders with pictures{listing.excuse()}; {_CLASS_FOLDERS}")
    if divided := next((path.parts[0] for path in paths if part_named(path.parts[0])), None):
        raise DatasetError(
            f"{folder} is divided by its owner ({divided}); the run's split decides here: add {folder / divided}"
        )
    table = {row["file"]: row for row in read_rows(folder / TABLE)}
    found = []
    for done, path in enumerate(paths):
        report("looking at what is added", done, len(paths))
        label = path.parts[0] if path.parts[0] == OTHERS else label_of(path.parts[0])
        row = table.get(path.as_posix(), dict.fromkeys(COLUMNS, ""))
        is_random = RANDOM in row["kept"].split()
        found.append(_addition(folder / path, label, row, is_field=is_field or is_random))
    report("looking at what is added", len(paths), len(paths))
    rest = [f"{counted(len(listing.left_out), 'file')} of {folder} left out: no pictures"] if listing.left_out else []
    return Additions(tuple(e for e in found if not e.is_field), tuple(e for e in found if e.is_field), tuple(rest))


def _holds_samples(folder: Path) -> bool:
    return folder.is_dir() and ((folder / FILE).is_file() or bool(read_samples(folder).samples))


def _read_samples(folder: Path) -> Additions:
    found, labels = read_samples(folder), LabelLog(folder).read()
    events = group_events(found.samples)
    labelled = [sample for sample in found.samples if sample.name in labels.of]
    bad = {sample.name for sample in labelled if labels.of[sample.name].label == BAD}
    usable = [sample for sample in labelled if sample.name not in bad and sample.picture is not None]
    measured = {events[sample.name] for sample in found.samples if RANDOM in sample.reasons}
    learn, in_field, siblings = [], [], 0
    for sample in usable:
        assert sample.picture is not None
        row, label = sample_row(sample, labels, events, ""), labels.of[sample.name].label
        if RANDOM in sample.reasons:
            in_field.append(_addition(sample.picture, label, row, is_field=True))
        elif events[sample.name] in measured:
            siblings += 1
        else:
            learn.append(_addition(sample.picture, label, row))
    remarks = [
        f"{counted(count, 'sample')} of {folder} left out: {why}"
        for count, why in (
            (len(found.samples) - len(labelled), f"without a label; label them with: edgecnn review {folder}"),
            (len(bad), "labelled as bad pictures"),
            (len(labelled) - len(bad) - len(usable), "their pictures are gone"),
            (siblings, "of an event of which one was kept at random, which is there to measure with"),
        )
        if count
    ]
    said = ((name, labels.of[name].contradiction) for name in (sample.name for sample in usable))
    remarks += [f"{name}: {contradiction}" for name, contradiction in said if contradiction]
    if not usable:
        raise InputError(f"{folder} has no labelled picture to learn from; label some with: edgecnn review {folder}")
    return Additions(tuple(learn), tuple(in_field), tuple(remarks), frozenset(bad))


def _addition(path: Path, label: str, row: Mapping[str, str], *, is_field: bool = False) -> Addition:
    digest = hashlib.sha256(read_bytes(path, at_most=MAX_FILE_BYTES)).hexdigest()
    return Addition(path, label, digest, {**row, "label": label}, is_field)


def _distinct(additions: Iterable[Addition]) -> list[Addition]:
    """Return each picture once per label: a folder may be given twice, and a picture may be in two."""
    return list({(each.sha256, each.label): each for each in additions}.values())


def _refuse_contradictions(additions: Sequence[Addition]) -> None:
    first: dict[str, Addition] = {}
    for each in additions:
        before = first.setdefault(each.sha256, each)
        if before.label != each.label:
            raise InputError(
                f"{before.path} and {each.path} are the same picture under two labels, {before.label!r} and {each.label!r}; "
                "keep one of them"
            )


def keep_additions(additions: Sequence[Addition], folder: Path) -> list[Addition]:
    """Copy pictures to `folder/<class>/` with a table of them, each file whole or not at all; return them as they lie there.

    What an interrupted training has copied is left there. Raises OutputError where another picture stands in the way.
    """
    kept = []
    for done, each in enumerate(additions):
        report("keeping what is added", done, len(additions))
        target, data = folder / each.name, read_bytes(each.path, at_most=MAX_FILE_BYTES)
        if not target.exists():
            make_folder(target.parent)
            write_bytes(target, data)
        elif read_bytes(target) != data:
            raise OutputError(
                f"{target} exists and is another picture; it is not overwritten: choose another folder with --out"
            )
        kept.append(replace(each, path=target, row={**each.row, "file": each.name}))
    report("keeping what is added", len(additions), len(additions))
    if kept:
        write_rows(folder / TABLE, [each.row for each in kept])
    return kept
