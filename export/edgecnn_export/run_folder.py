"""The folder of a run: what a training leaves there, and whether one can begin or go on there. None of it needs Keras."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecnn.datasets import split_table
from edgecnn.errors import InputError
from edgecnn.files import exists, is_made_here, read_bytes
from edgecnn_export.reference import MODEL_FILE, is_ours

RUN_FILE = "training.json"
CHECKPOINT_FILE = "checkpoint.npz"
CURVES = "curves.png"
SHEET = "pictures.png"
STUDENT, TEACHER = "compact", "lite"  # folders in that of a run


def usual_folder(task: str, kind: str) -> Path:
    """Return where a training of `kind`, a network or only-good, is put by default: auto's is called after its task alone."""
    return Path("runs") / (task if kind == "auto" else f"{task}-{kind}")


@dataclass(frozen=True)
class RunFolders:
    """Where a training into `out` keeps its network (`student`), and the one that is trained first to teach it."""

    out: Path
    student: Path
    teacher: Path | None = None

    @classmethod
    def of(cls, out: Path, network: str, *, teacher: bool) -> RunFolders:
        """Return the folders of a training of `network`, with or without a teacher; auto always has one."""
        if network == "auto":
            return cls(out, out / STUDENT, out / TEACHER)
        return cls(out, out, out / TEACHER if teacher else None)

    @property
    def unfinished(self) -> Path | None:
        """The folder with the checkpoint of a training that was interrupted."""
        folders = (self.out, self.student, self.teacher)
        return next((folder for folder in folders if folder is not None and is_unfinished(folder)), None)

    @property
    def is_between(self) -> bool:
        """True when the teacher is complete and what follows is not: there is nothing to go on from but the teacher."""
        return self.teacher is not None and is_complete(self.teacher) and not (self.out / MODEL_FILE).exists()

    def check(self, *, resume: bool) -> None:
        """Raise InputError where a training would replace what it must not, and where there is nothing to `resume`."""
        if not resume and self.unfinished is not None:
            raise InputError(
                f"{self.out} holds an unfinished training; go on with --resume, or choose another folder with --out"
            )
        for folder in dict.fromkeys((self.out, self.student, self.teacher or self.out)):
            _check_files(folder)
        if not resume or self.unfinished is not None or self.is_between:
            return
        if (self.student / MODEL_FILE).exists():
            ended = "a training that is complete or was ended within its first epoch"
            raise InputError(
                f"nothing to resume in {self.out}, it holds {ended}; choose another folder with --out, or replace it without "
                "--resume"
            )
        raise InputError(f"no checkpoint in {self.out}; leave --resume out to start there")

    def kept(self) -> str | None:
        """Return what a training that was interrupted has kept, and how to go on; None where it kept nothing."""
        if (folder := self.unfinished) is not None:
            whose = "the teacher's" if folder == self.teacher else "the"
            return f"{whose} best weights so far are kept in {folder}; continue with --resume"
        return f"what was trained is kept in {self.out}; continue with --resume" if self.is_between else None


def is_unfinished(folder: Path) -> bool:
    """Tell whether a folder has the checkpoint of a training that was interrupted."""
    return (folder / CHECKPOINT_FILE).exists()


def is_finished(folder: Path) -> bool:
    """Tell whether a folder holds a model that no training goes on from."""
    return (folder / MODEL_FILE).exists() and not is_unfinished(folder)


def is_complete(folder: Path) -> bool:
    """Tell whether a folder holds the model of a training that came to its end."""
    return is_finished(folder) and not _record(folder).get("interrupted")


def unfinished_in(folder: Path) -> Path | None:
    """Return where the checkpoint is of a training into `folder`, whatever its network."""
    return RunFolders.of(folder, "auto", teacher=True).unfinished


def next_folder(run: Path) -> Path:
    """Return where a training that goes on from `run` is put: RUN-2, RUN-3 and so on, the first that holds no finished run."""
    run = run.resolve() if run.name in ("", "..") else run
    numbered = re.fullmatch(r"(.+)-(\d{1,6})", run.name)
    name = numbered[1] if numbered is not None and "continued" in _record(run) else run.name
    number = 2
    while is_finished(beside := run.with_name(f"{name}-{number}")):
        number += 1
    return beside


def check_apart(run: Path, out: Path, *, resume: bool) -> None:
    """Raise InputError where a training that goes on from `run` cannot be put into `out`."""
    if out.resolve() == run.resolve() or is_finished(out):
        raise InputError(f"{out} holds a run, which is left as it is; choose another folder with --out")
    RunFolders(out, out).check(resume=resume)


def _record(folder: Path) -> dict[str, Any]:
    """Return what a run says of its training, nothing where it says nothing that can be read."""
    try:
        record = json.loads(read_bytes(folder / RUN_FILE))
    except (InputError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _check_files(folder: Path) -> None:
    """Raise InputError for a folder with files that no training wrote."""
    model, table, sheet = folder / MODEL_FILE, folder / split_table.FILE_NAME, folder / SHEET
    if is_ours(model) or is_unfinished(folder):
        return  # what stands beside it was written with it
    # A training that was killed before its first checkpoint leaves the sheet, and a table where it was killed at its end.
    left = [path for path, is_ours_too in ((sheet, is_made_here), (table, split_table.is_table)) if not is_ours_too(path)]
    written = [model, folder / RUN_FILE, folder / CURVES, *left]
    if (foreign := next(filter(exists, written), None)) is not None:
        raise InputError(f"{foreign} was not written by edgecnn train; choose another folder with --out, or move it away")
