"""What a camera keeps between two starts: of each model file the last content that was verified on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

from edgecnn.artifacts.artifact import SUFFIXES
from edgecnn.errors import InputError
from edgecnn.files import make_folder, read_bytes, write_bytes, write_json
from edgecnn.quick_dataclass import dataclass

_MAX_RECORD_BYTES = 2**16
_NAME = re.compile("[0-9a-f]{16}")


@dataclass(frozen=True)
class LastGood:
    """Copies of models, in `folder`, each by the path of the file that it was read from: the `most` that were kept last."""

    folder: Path
    most: int = 32

    def path(self, model: Path) -> Path:
        """Return where the copy of a model file is kept."""
        name = hashlib.sha256(os.fsencode(model.absolute())).hexdigest()[:16]
        return self.folder / "models" / f"{name}{model.suffix}"

    def keep(self, model: Path, data: bytes, runtime: str) -> None:
        """Keep `data`, which was read from the file `model` and verified on `runtime`; OutputError when that is not possible.

        What is there already is not written again: an SD card endures a limited number of writes.
        """
        if self.knows(model, data, runtime):
            return
        copy = self.path(model)
        make_folder(copy.parent)
        write_bytes(copy, data)
        record = {"model": str(model.absolute()), "sha256": hashlib.sha256(data).hexdigest(), "runtime": runtime}
        write_json(self._record(model), record)
        self._forget_oldest()

    def knows(self, model: Path, data: bytes, runtime: str) -> bool:
        """Tell whether this very content of the file `model` was verified on this machine before, on the same `runtime`."""
        try:
            record = json.loads(read_bytes(self._record(model), at_most=_MAX_RECORD_BYTES))
            known = record["sha256"], record["runtime"]
        except (InputError, ValueError, KeyError, TypeError):
            return False
        return known == (hashlib.sha256(data).hexdigest(), runtime) and self.path(model).is_file()

    def _forget_oldest(self) -> None:
        """Remove the copies of models that were kept longest ago, and nothing else."""
        records = [path for path in (self.folder / "models").glob("*.json") if _NAME.fullmatch(path.stem)]
        for record in sorted(records, key=lambda path: path.stat().st_mtime)[: -self.most]:
            for path in (record, *(record.with_suffix(suffix) for suffix in SUFFIXES)):
                path.unlink(missing_ok=True)

    def _record(self, model: Path) -> Path:
        return self.path(model).with_suffix(".json")
