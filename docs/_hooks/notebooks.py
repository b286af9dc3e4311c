"""Execute the notebooks of the tutorials and show each as a page, with a link to the notebook itself.

With NOTEBOOKS=unexecuted they are shown without outputs: where the tests have run them a minute before.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from pathlib import Path
from unittest import mock

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

_log = logging.getLogger("mkdocs.plugins.notebooks")
_EXECUTED = os.environ.get("NOTEBOOKS") != "unexecuted"
_DOWNLOAD = (
    "[Download this notebook]({name}) and run it yourself: every cell below was{not_} executed when this page was built.\n\n"
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page beside each notebook (mkdocs calls this)."""
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        text, pictures = _shown(Path(config.docs_dir) / notebook.src_uri)
        page = notebook.src_uri.removesuffix(".ipynb") + ".md"
        files.append(File.generated(config, page, content=text))
        for name, data in pictures.items():
            files.append(File.generated(config, f"{Path(page).parent.as_posix()}/{name}", content=data))
    return files


def _shown(path: Path) -> tuple[str, dict[str, bytes]]:
    """Run a notebook; return it as Markdown, and its pictures by name."""
    notebook = nbformat.read(path, as_version=4)
    if _EXECUTED:
        _execute(notebook, path.name)
    resources = {"unique_key": path.stem, "output_files_dir": f"{path.stem}_files"}
    text, made = MarkdownExporter().from_notebook_node(notebook, resources=resources)
    head, _, rest = text.partition("\n\n")
    download = _DOWNLOAD.format(name=path.name, not_="" if _EXECUTED else " not")
    return f"{head}\n\n{download}{rest}", made["outputs"]


def _execute(notebook: nbformat.NotebookNode, name: str) -> None:
    """Run a notebook in an empty folder."""
    commands = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # the environment need not be activated
    surroundings = mock.patch.dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3", PATH=commands)
    with tempfile.TemporaryDirectory() as folder, surroundings:
        client = NotebookClient(
            notebook, timeout=1200, resources={"metadata": {"path": folder}}, extra_arguments=["--log-level=ERROR"]
        )
        client.on_cell_execute = lambda cell, cell_index: _log.info(
            "%s: cell %d of %d", name, cell_index + 1, len(notebook.cells)
        )
        client.execute()
