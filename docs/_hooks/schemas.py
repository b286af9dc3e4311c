"""Show the published JSON Schemas as tables, `<!-- schema: NAME -->`, and put the files themselves into the site."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.resources import files as resources
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_SHOW = re.compile(r"^<!-- schema: (\S+) -->$", re.MULTILINE)
_SCHEMAS = resources("edgecnn") / "schemas"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the schemas to the site (mkdocs calls this)."""
    for schema in _SCHEMAS.iterdir():
        files.append(File.generated(config, f"reference/schemas/{schema.name}", content=schema.read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put in the tables (mkdocs calls this)."""
    return _SHOW.sub(lambda match: table(match[1]), markdown)


def table(name: str) -> str:
    """Return the fields of a schema as a Markdown table, with a link to the schema."""
    schema = json.loads((_SCHEMAS / f"{name}.json").read_text("utf-8"))
    rows = [f"| `{path}` | {kind} | {about} |" for path, kind, about in _fields(schema, "")]
    return "\n".join([f"[JSON Schema](schemas/{name}.json)", "", "| field | type | |", "| --- | --- | --- |", *rows])


def _fields(schema: dict[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        inner, own = field, f"{path}{name}"
        kind = _kind(field)
        while "items" in inner or isinstance(inner.get("additionalProperties"), dict):
            own += "[]" if "items" in inner else ".*"
            inner = inner.get("items") or inner["additionalProperties"]
        yield own, kind, "; ".join(part for part in (field.get("description"), name not in required and "optional") if part)
        yield from _fields(inner, f"{own}.")


def _kind(schema: dict[str, Any]) -> str:
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    kind = schema.get("type", "any")
    return kind if isinstance(kind, str) else " or ".join(kind)
