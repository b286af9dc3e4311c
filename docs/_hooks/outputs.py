"""Run the commands that a page names, and show what they print, so that no output in the documentation is typed by hand.

    <!-- run: edgecnn classify neu pictures/scratches/scratches_1.png -->

becomes the command with its output. All commands of a page run in turn in a folder of its own; one that fails fails the build.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

_RUN = re.compile(r"^<!-- run( json)?( silently)?: (.+?) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put in the outputs (mkdocs calls this)."""
    with tempfile.TemporaryDirectory() as folder:
        return _RUN.sub(lambda match: _shown(match, Path(folder), page.file.src_uri), markdown)


def _shown(match: re.Match[str], folder: Path, page: str) -> str:
    as_json, silently, command = match.groups()
    # Nothing here may depend on data that only some machines have.
    surroundings = {name: value for name, value in os.environ.items() if name != "EDGECNN_DATA"} | {"COLUMNS": "100"}
    surroundings["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{surroundings['PATH']}"
    ran = subprocess.run(command, shell=True, cwd=folder, env=surroundings, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise PluginError(f"{page}: `{command}` exits with {ran.returncode}: {ran.stderr.strip()}")
    if silently:
        return ""
    if not ran.stdout.strip():
        raise PluginError(f"{page}: `{command}` prints nothing")
    if as_json:
        pretty = "\n\n".join(json.dumps(each, indent=2, ensure_ascii=False) for each in _objects(ran.stdout))
        return f"```console\n$ {command}\n```\n\n```json\n{pretty}\n```"
    return f"```console\n$ {command}\n{ran.stdout.rstrip()}\n```"


def _objects(text: str) -> list[object]:
    """Read one JSON value, or JSON Lines."""
    try:
        return [json.loads(text)]
    except ValueError:
        return [json.loads(line) for line in text.splitlines()]
