"""Where a camera keeps what it must still know after a restart."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from edgecnn.errors import OutputError
from edgecnn.files import make_folder


def state_folder(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the folder, which is made; None where nothing can be kept, such as for a user without a home.

    It is that of the service (`StateDirectory=` in systemd.exec(5)), else that of the XDG Base Directory Specification.
    """
    given = environment.get("STATE_DIRECTORY", "").partition(":")[0]
    folder = Path(given) if given else _home_folder(environment)
    try:
        return None if folder is None else make_folder(folder)
    except OutputError:
        return None


def _home_folder(environment: Mapping[str, str]) -> Path | None:
    for variable, below in (("XDG_STATE_HOME", "edgecnn"), ("HOME", ".local/state/edgecnn")):
        if (root := environment.get(variable, "")).startswith("/"):
            return Path(root) / below
    return None
