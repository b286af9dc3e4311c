"""A folder of samples: a picture each, and a JSON file that says why it was kept and what which model answered."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn.datasets.overlap import connected
from edgecnn.errors import InputError
from edgecnn.files import read_bytes
from edgecnn.samples.likeness import DUPLICATE, Features, decode_features, distances

# The ring makes these names, and nobody else does: what has another name is somebody's own.
NAME = re.compile(r"\d{8}T\d{6}\.\d{6}Z-\d+-\d+")
REASONS = ("random", "novel", "unsure", "disagrees")
# Samples of one source that are no further apart may show one part; longer than a minute, a chain of them is a day of doubt.
EVENT_S, LONGEST_EVENT_S = 10.0, 60.0
_MOST_JSON = 2**20


@dataclass(frozen=True, eq=False)
class Sample:
    """One kept picture, by what its JSON says; `picture` is its path, None where the file is gone.

    `reasons` say why it was kept, some of REASONS; `guess` is the most probable class, `answer` what the model said: a label,
    `unsure` or `novel`. `model` is the SHA-256 of the model, whose `features` are `(channels,)` of unit length. `where` is the
    box of what spoke for the answer as x, y, width, height in fractions of the picture.
    """

    name: str
    picture: Path | None
    at: datetime
    source: str
    reasons: tuple[str, ...] = ()
    answer: str = ""
    guess: str | None = None
    probability: float = 0.0
    novelty: float | None = None
    nearest: str | None = None
    model: str = ""
    features: Features | None = None
    where: tuple[float, float, float, float] | None = None

    @property
    def doubt(self) -> float:
        """How unsure the answer was, 0 to 1."""
        return 1 - self.probability

    def to_json(self) -> dict[str, Any]:
        """Return what lists and tables show."""
        return {
            "sample": self.name,
            "at": self.at.isoformat(timespec="milliseconds"),
            "source": self.source,
            "kept": list(self.reasons),
            "answer": self.answer,
            "guess": self.guess,
            "probability": round(self.probability, 4),
            "novelty": self.novelty,
            "model": self.model,
            "picture": self.picture is not None,
        }


@dataclass(frozen=True, eq=False)
class SampleFolder:
    """The samples of a folder, oldest first; `broken` maps the name of a sample to why it cannot be used."""

    folder: Path
    samples: tuple[Sample, ...]
    broken: dict[str, str]

    def __getitem__(self, name: str) -> Sample:
        """Return a sample by its name, or by that of its picture; InputError where there is none."""
        stem = Path(name).name.removesuffix(".png").removesuffix(".json")
        found = next((sample for sample in self.samples if sample.name == stem), None)
        if found is None:
            why = f"it {self.broken[stem]}" if stem in self.broken else f"list them with: edgecnn samples list {self.folder}"
            raise InputError(f"{self.folder} has no sample {name!r}; {why}")
        return found

    def classes(self) -> tuple[str, ...]:
        """The classes that models named, in alphabetical order."""
        return tuple(sorted({each for s in self.samples for each in (s.guess, s.nearest) if each}))


def read_samples(folder: Path, known: Mapping[str, Sample] | None = None) -> SampleFolder:
    """Read what a camera kept in a folder; InputError where there is no folder. One that is damaged is left out and named.

    What was read before is not read again where it is `known`: a sample does not change, but its picture may go.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; name the one of: edgecnn camera ... --keep FOLDER")
    names = _files(folder)
    samples, broken = [], {}
    for name in sorted({Path(file).stem for file in names}):
        has_picture = f"{name}.png" in names
        if f"{name}.json" not in names:
            broken[name] = "has a picture without its JSON"
            continue
        try:
            sample = (known or {}).get(name) or _read(folder, name, has_picture)
            samples.append(sample if (sample.picture is not None) == has_picture else _read(folder, name, has_picture))
        except (InputError, KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
            broken[name] = f"has a damaged JSON ({type(error).__name__})"
    return SampleFolder(folder, tuple(sorted(samples, key=lambda sample: (sample.at, sample.name))), broken)


def _files(folder: Path) -> set[str]:
    """Return the names of the regular files of samples: a link leads to what nobody kept here."""
    with os.scandir(folder) as entries:
        found = [each for each in entries if each.name.endswith((".png", ".json")) and NAME.fullmatch(Path(each.name).stem)]
        return {each.name for each in found if stat.S_ISREG(each.stat(follow_symlinks=False).st_mode)}


def _read(folder: Path, name: str, has_picture: bool) -> Sample:
    body = json.loads(read_bytes(folder / f"{name}.json", at_most=_MOST_JSON))
    region, model = body["regions"][0], body.get("model") or {}
    at = datetime.fromisoformat(body["captured_at"])
    if at.tzinfo is None:
        raise ValueError("a time without its zone")
    novelty = region.get("novelty")
    verdict = region.get("verdict", "label")
    guess = body.get("guess") or region["label"]
    return Sample(
        name,
        folder / f"{name}.png" if has_picture else None,
        at,
        str(body["source"]),
        tuple(reason for reason in body.get("kept", ()) if reason in REASONS),
        str(region["label"]) if verdict == "label" and region["label"] is not None else str(verdict),
        None if guess is None else str(guess),
        float(region["probability"]),
        None if novelty is None else float(novelty),
        None if region.get("nearest") is None else str(region["nearest"]),
        str(model.get("sha256", "")),
        decode_features(str(body.get("features", ""))),
        _fractions(region.get("where"), region["box"]),
    )


def _fractions(where: Sequence[float] | None, box: Sequence[float]) -> tuple[float, float, float, float] | None:
    if where is None:
        return None
    (x, y, w, h), (left, top, across, down) = map(float, where), map(float, box)
    return (x - left) / across, (y - top) / down, w / across, h / down


def group_events(samples: Sequence[Sample]) -> dict[str, str]:
    """Return the event of each sample by its name: what one source saw within EVENT_S of the sample before, and duplicates.

    `samples` are in order of time. An event is called by the name of its first sample; its pictures may show the same part,
    and must not stand on both sides of a split.
    """
    links, last, began = [], dict[str, int](), dict[str, datetime]()
    for index, sample in enumerate(samples):
        before = last.get(sample.source)
        is_near = before is not None and (sample.at - samples[before].at).total_seconds() <= EVENT_S
        if before is not None and is_near and (sample.at - began[sample.source]).total_seconds() <= LONGEST_EVENT_S:
            links.append((before, index))
        else:
            began[sample.source] = sample.at
        last[sample.source] = index
    groups = connected(len(samples), [*links, *_duplicates(samples)]).tolist()
    first: dict[int, str] = {}
    return {sample.name: first.setdefault(group, sample.name) for sample, group in zip(samples, groups, strict=True)}


def _duplicates(samples: Sequence[Sample]) -> list[tuple[int, int]]:
    spaces: dict[tuple[str, int], list[int]] = {}
    for index, sample in enumerate(samples):
        if sample.features is not None:
            spaces.setdefault((sample.model, len(sample.features)), []).append(index)
    links = []
    for own in spaces.values():
        points = np.stack([features for i in own if (features := samples[i].features) is not None])
        for place in range(1, len(own)):
            near = np.flatnonzero(distances(points[place], points[:place]) < DUPLICATE)
            links += [(own[int(i)], own[place]) for i in near]
    return links
