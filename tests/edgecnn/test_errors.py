"""The tree in the docstring is the tree of the classes."""

from __future__ import annotations

import inspect
import re

import pytest

from edgecnn import errors

_LINE = re.compile(r"^ {4}(?P<indent>[│ ]*)[├└]── (?P<name>\w+)(?: \((?P<builtin>\w+)\))? ")


def _drawn() -> dict[str, tuple[str, str | None]]:
    """Return name -> (drawn parent, drawn builtin) of each class in the docstring's tree."""
    above, drawn = {-1: "EdgecnnError"}, {}
    for line in (errors.__doc__ or "").splitlines():
        if found := _LINE.match(line):
            depth = len(found["indent"]) // 4
            drawn[found["name"]] = above[depth - 1], found["builtin"]
            above[depth] = found["name"]
    return drawn


CLASSES = {name: kind for name, kind in inspect.getmembers(errors, inspect.isclass) if kind is not errors.EdgecnnError}


def test_every_class_is_drawn_and_every_drawn_class_exists() -> None:
    assert _drawn().keys() == CLASSES.keys()


@pytest.mark.parametrize("name", CLASSES)
def test_the_bases_are_those_drawn(name: str) -> None:
    parent, builtin = _drawn()[name]

    assert [base.__name__ for base in CLASSES[name].__bases__] == [parent, *([builtin] if builtin else [])]


@pytest.mark.parametrize("name", CLASSES)
def test_each_class_says_in_one_sentence_what_went_wrong(name: str) -> None:
    assert re.fullmatch(r"[A-Z][^\n]+\.", CLASSES[name].__doc__ or "")
