"""Refuse a page that would load anything from elsewhere: the site is read on boards and in plants without a network."""

from __future__ import annotations

import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.pages import Page

_LOADED = re.compile(r"""<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=["']?(?:https?:)?//[^"'\s>]+""")


def on_post_page(output: str, *, page: Page, config: MkDocsConfig) -> str:
    """Look at a finished page (mkdocs calls this)."""
    if loaded := _LOADED.search(output):
        raise PluginError(f"{page.file.src_uri} loads something from elsewhere: {loaded[0]}")
    return output
