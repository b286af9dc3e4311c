"""What `import edgecnn` offers: the names are true, documented, and found by dir()."""

from __future__ import annotations

import inspect

import pytest

import edgecnn

VERBS = ("load_folder", "train", "export", "compare", "open", "watch")


def test_dir_lists_what_is_offered_and_nothing_else() -> None:
    assert sorted(name for name in dir(edgecnn) if not name.startswith("_")) == sorted(edgecnn.__all__)


def test_the_six_verbs_are_at_the_top() -> None:
    assert set(VERBS) <= set(edgecnn.__all__)


@pytest.mark.parametrize("name", edgecnn.__all__)
def test_every_public_name_is_there_and_says_what_it_is(name: str) -> None:
    assert inspect.getdoc(getattr(edgecnn, name))


@pytest.mark.parametrize("name", VERBS)
def test_every_parameter_of_a_verb_has_a_type(name: str) -> None:
    signature = inspect.signature(getattr(edgecnn, name))

    untyped = [each.name for each in signature.parameters.values() if each.annotation is inspect.Parameter.empty]
    assert (untyped, signature.return_annotation is inspect.Signature.empty) == ([], False)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'load_foldr'"):
        edgecnn.load_foldr  # noqa: B018
