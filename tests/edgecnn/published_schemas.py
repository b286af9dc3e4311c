"""What commands and cameras write against the JSON Schemas that the wheel carries."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator

_FOLDER = files("edgecnn") / "schemas"
PUBLISHED = {each.name.removesuffix(".json") for each in _FOLDER.iterdir()}


def check(name: str, body: Any) -> None:
    """Raise ValidationError unless `body` is as the schema says, with no field that the schema leaves out."""
    Draft202012Validator(_strict(json.loads((_FOLDER / f"{name}.json").read_text("utf-8")))).validate(body)


def _strict(schema: Any) -> Any:
    """Refuse unknown fields: a published schema allows them, since later versions may add some."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _strict(value) for key, value in schema.items()}
    is_object = isinstance(schema.get("properties"), dict) and "type" in schema
    return {"additionalProperties": False} | found if is_object else found
