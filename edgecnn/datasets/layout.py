"""Which picture of a folder has which label: `FOLDER/<class>/...`, or `FOLDER/train|val|test/<class>/...` divided."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgecnn.errors import DatasetError, InputError
from edgecnn.folders import SEEN, UNREADABLE_FOLDER, Listing, count_reasons, list_pictures, natural_key

_DETECTION = {"images", "labels"}
OTHERS = "_other"  # the folder beside the class folders for pictures of none of them
_OF_NO_CLASS = f"in {OTHERS}: of no class, to be distinguished from them"
EXPECTED = "expected FOLDER/<class>/<pictures>"
_GOOD_ALONE = "good parts alone are learned by `edgecnn train FOLDER --only-good`"
_PARTS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class LabelledFile:
    """A picture file: its path, its name relative to the data folder, its label, and its split where the owner divided."""

    path: Path
    name: str
    label: str
    part: str | None = None
    deeper: int = 0  # folders between the class folder and the file


@dataclass(frozen=True)
class Layout:
    """The labelled pictures of a folder.

    `labels` are the classes with pictures in natural order, `empty` the class folders without any, `left_out` maps every other
    file to the reason, `remarks` are sentences on what may not be meant as it was read.
    """

    folder: Path
    files: tuple[LabelledFile, ...]
    labels: tuple[str, ...]
    empty: tuple[str, ...]
    left_out: dict[str, str]
    remarks: tuple[str, ...] = ()

    @property
    def divided(self) -> bool:
        """True when the owner divided the pictures into train, validation and test."""
        return any(file.part is not None for file in self.files)

    def require_pictures(self) -> None:
        """Raise DatasetError for a class folder without pictures: a class that cannot be learned is a mistake."""
        if self.empty:
            label = self.empty[0]
            inside = {name: why for name, why in self.left_out.items() if label in Path(name).parts}
            hint = "these look like folders for object detection" if {*self.labels, *self.empty} >= _DETECTION else EXPECTED
            raise DatasetError(
                f"the class folder {label!r} of {self.folder} holds no pictures"
                f"{f': {count_reasons(inside)}' if inside else ''}; fill it or remove it ({hint})"
            )


def find_layout(folder: Path) -> Layout:
    """Find the labelled pictures of `folder`, pictures in deeper folders counted for their class.

    Folders named train, val and test (or training, valid, validation, testing) that hold the class folders, or that each class
    folder holds, are the owner's own division; a folder `_other` beside them holds pictures of no class. Raises DatasetError,
    in one line, for anything that is not a folder with at least two class folders, and for class folders whose names cannot be
    distinguished.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise DatasetError(f"{folder} {what}; {EXPECTED}")
    try:
        listing = list_pictures(folder)
    except InputError as error:
        raise DatasetError(str(error)) from error
    for name, reason in listing.left_out.items():
        if len(Path(name).parts) == 1 and reason.startswith((SEEN, UNREADABLE_FOLDER)):
            raise DatasetError(f"the class folder {folder / name} is {reason}; remove it or make it readable")
    listing = _without_others(listing)
    tops = [path.name for path in listing.folders if len(path.parts) == 1]
    owned = {top: part for top in tops if (part := part_named(top))}
    if len(set(owned.values())) > 1 and ("train" in owned.values() or len(owned) == len(tops)):
        return _divided(listing, owned)
    return _by_class(listing, tops)


GOOD = "good"


def find_good(folder: Path) -> Layout:
    """Find the pictures of `folder` that holds good parts only, in itself or in one folder: all get the label `good`.

    Raises DatasetError, in one line, for anything that is not a folder, and for one with pictures in several folders.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} {'is not a folder' if folder.exists() else 'does not exist'}; expected one of good parts")
    try:
        listing = list_pictures(folder)
    except InputError as error:
        raise DatasetError(str(error)) from error
    tops = sorted({path.parts[0] if len(path.parts) > 1 else "" for path in listing.pictures})
    if len(tops) > 1:
        named = [top for top in tops if top]
        raise DatasetError(
            f"{folder} holds pictures in several places ({', '.join(map(repr, named[:3]))}): only good parts are learned from, "
            f"name their folder, such as {folder / min(named, key=lambda name: name.lower() != GOOD)}"
        )
    files = [_file(listing, path, GOOD, None, max(0, len(path.parts) - 2)) for path in listing.pictures]
    if not files:
        raise DatasetError(f"{folder} holds no pictures{listing.excuse()}")
    return _layout(listing, files, [GOOD], dict(listing.left_out), ())


def _without_others(listing: Listing) -> Listing:
    """Leave out what is of no class."""
    of_no_class = {path: _OF_NO_CLASS for path in listing.pictures if path.parts[0] == OTHERS and len(path.parts) > 1}
    return replace(
        listing,
        pictures=[path for path in listing.pictures if path not in of_no_class],
        left_out=listing.left_out | {str(path): why for path, why in of_no_class.items()},
        folders=[path for path in listing.folders if path.parts[0] != OTHERS],
    )


def part_named(folder_name: str) -> str | None:
    """Return which split a folder of this name holds, None for any other name."""
    return _PARTS.get(folder_name.strip().lower())


def label_of(folder_name: str) -> str:
    """Return the label of a class folder: its name, composed (NFC, as anyone types it) and without spaces around it.

    Raises DatasetError for a name that cannot stand in a file of labels.
    """
    label = unicodedata.normalize("NFC", folder_name).strip()
    if not label or any(unicodedata.category(letter) in ("Cc", "Cs") or _turns_text(letter) for letter in label):
        raise DatasetError(
            f"the name of the class folder {folder_name!a} is not a valid label: "
            "it has line breaks or other control characters, is not UTF-8, or is blank; rename it"
        )
    return label


def _turns_text(letter: str) -> bool:
    """Tell whether a character turns the direction of the text behind it: two names could look the same."""
    return unicodedata.bidirectional(letter) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def _by_class(listing: Listing, tops: Sequence[str]) -> Layout:
    """Take each folder at the top for a class."""
    labels = _labels(listing.folder, tops)
    left_out = dict(listing.left_out)
    files = []
    first_in_class = _divided_inside(listing)
    for path in listing.pictures:
        top, *between = path.parts[:-1] or ("",)
        if not top:
            left_out[str(path)] = "beside the class folders"
            continue
        part = part_named(between[0]) if first_in_class else None
        files.append(_file(listing, path, labels[top], part, len(between) - (part is not None)))
    if not tops:
        holds = "pictures but no class folders" if listing.pictures else "no class folders"
        good = f"; {_GOOD_ALONE}" if listing.pictures else ""
        raise DatasetError(f"{listing.folder} holds {holds}; {EXPECTED}{good}")
    if len(tops) == 1:
        raise DatasetError(_one_class(listing, tops[0]))
    _refuse_untrained(files)
    return _layout(listing, files, labels.values(), left_out, [] if first_in_class else _remarks(listing, tops))


def _divided(listing: Listing, owned: dict[str, str]) -> Layout:
    """Take the folders at the top for splits, and the folders in them for classes."""
    _refuse_unlike_splits(listing, owned)
    inside = {top: [path.name for path in listing.folders if path.parent == Path(top)] for top in owned}
    labels: dict[str, str] = {}
    for top, names in inside.items():
        labels |= _labels(listing.folder / top, names)
    left_out = dict(listing.left_out)
    files = []
    for path in listing.pictures:
        top, *between = path.parts[:-1] or ("",)
        if top not in owned or not between:
            left_out[str(path)] = "beside the class folders"
            continue
        files.append(_file(listing, path, labels[between[0]], owned[top], len(between) - 1))
    _refuse_untrained(files)
    return _layout(listing, files, labels.values(), left_out, ())


def _refuse_untrained(files: Sequence[LabelledFile]) -> None:
    """Raise DatasetError for a class that its owner tests but does not train."""
    trained = {file.label for file in files if file.part == "train"}
    if lost := [file for file in files if file.part is not None and file.label not in trained]:
        raise DatasetError(
            f"{lost[0].path} is of a class, {lost[0].label!r}, that has no pictures in the train folder; "
            "what is not trained on cannot be tested"
        )


def _refuse_unlike_splits(listing: Listing, owned: dict[str, str]) -> None:
    folder, names = listing.folder, " and ".join(owned)
    if "train" not in owned.values():
        raise DatasetError(f"{folder} holds {names} but no train folder; expected FOLDER/train/<class>/<pictures>")
    if twice := [part for part, count in Counter(owned.values()).items() if count > 1]:
        same = [top for top, part in owned.items() if part == twice[0]]
        raise DatasetError(f"{folder} holds {' and '.join(same)}: both are names of one split; rename or join them")
    if beside := [path for path in listing.pictures if len(path.parts) > 1 and path.parts[0] not in owned]:
        raise DatasetError(
            f"{folder} holds {names} and beside them {beside[0].parts[0]} with pictures: splits and classes are mixed; "
            "move it elsewhere"
        )
    trained = [path for path in listing.folders if owned.get(str(path.parent)) == "train"]
    if len(trained) < 2:
        train = next(top for top, part in owned.items() if part == "train")
        holds = f"one class folder only ({trained[0].name})" if trained else "no class folders"
        raise DatasetError(
            f"{folder} holds {names}, the names of splits, but {train} holds {holds}; "
            f"expected FOLDER/{train}/<class>/<pictures>"
        )


def _divided_inside(listing: Listing) -> bool:
    """Tell whether the class folders hold train and test folders, and no picture outside of them."""
    inside = [path.parts for path in listing.pictures if len(path.parts) > 1]
    parts = {part_named(parts[1]) if len(parts) > 2 else None for parts in inside}
    return None not in parts and len(parts) > 1 and "train" in parts


def _labels(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the label of each class folder; DatasetError where two have the same."""
    labels: dict[str, str] = {}
    for name in names:
        label = label_of(name)
        if label in labels.values():
            other = next(known for known, same in labels.items() if same == label)
            raise DatasetError(
                f"{folder} has two class folders that look the same, {other!a} and {name!a}: they differ only by spaces or by "
                "how a letter is composed; join them"
            )
        labels[name] = label
    return labels


def _file(listing: Listing, path: Path, label: str, part: str | None, deeper: int) -> LabelledFile:
    return LabelledFile(listing.folder / path, path.as_posix(), label, part, deeper)


def _layout(
    listing: Listing, files: Sequence[LabelledFile], labels: Iterable[str], left_out: dict[str, str], remarks: Sequence[str]
) -> Layout:
    present = {file.label for file in files}
    every = sorted(sorted(set(labels)), key=lambda label: natural_key(Path(label)))
    found = tuple(label for label in every if label in present)
    empty = tuple(label for label in every if label not in present)
    return Layout(listing.folder, tuple(files), found, empty, left_out, (*alike(found), *remarks))


def alike(labels: Iterable[str]) -> list[str]:
    """Return a remark for each label that differs from one before it by case, spaces, hyphens or underscores alone."""
    first: dict[str, str] = {}
    remarks = []
    for label in labels:
        other = first.setdefault(re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", label).casefold()), label)
        if other != label:
            remarks.append(f"the classes {other!r} and {label!r} differ only by case or spaces: are they one?")
    return remarks


def _remarks(listing: Listing, tops: Sequence[str]) -> list[str]:
    """Return a remark where the folders inside the class folders look more like splits or classes."""
    splits = sorted({path.name for path in listing.folders if len(path.parts) == 2 and part_named(path.name)})
    if len({part_named(name) for name in splits}) > 1:
        called = " and ".join(splits)
        return [f"folders called {called} stand in class folders beside other pictures: they are not used as splits"]
    below = {top: {path.name for path in listing.folders if path.parent == Path(top)} for top in tops}
    same = next(iter(below.values()), set())
    direct = any(len(path.parts) == 2 for path in listing.pictures)
    if direct or len(same) < 2 or any(inside != same for inside in below.values()):
        return []
    return [f"all class folders hold the same folders ({', '.join(sorted(same))}): if those are the classes, make them the top"]


def _one_class(listing: Listing, top: str) -> str:
    inside = {path.parts[1] for path in listing.pictures if len(path.parts) > 2}
    hint = f"; did you mean {listing.folder / top}?" if len(inside) > 1 else ""
    return f"{listing.folder} has one class only ({top}); a task needs at least two class folders{hint}; {_GOOD_ALONE}"
