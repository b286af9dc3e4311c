"""Lets the reference know the fields of `edgecnn.quick_dataclass`, which are those of the standard library's dataclass."""

from __future__ import annotations

from typing import Any

import griffe

OURS = "edgecnn.quick_dataclass.dataclass"


class QuickDataclasses(griffe.Extension):
    """Calls our decorator by the standard library's name, before Griffe looks for dataclasses."""

    def on_class_instance(self, *, cls: griffe.Class, **_: Any) -> None:
        """Rename the decorator of one class."""
        for decorator in cls.decorators:
            if decorator.callable_path == OURS:
                given = decorator.value.arguments if isinstance(decorator.value, griffe.ExprCall) else []
                decorator.value = griffe.ExprCall(griffe.ExprName("dataclasses.dataclass"), given)
