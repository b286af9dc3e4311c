"""Label files in the forms in which people and tools write them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.errors import InputError
from edgecnn.labels import parse_labels, read_labels

NAMES = ("Straße", "ring")
FILES = {
    "lines": "Straße\nring\n".encode(),
    "Windows": "Straße\r\nring\r\n".encode(),
    "a mark": "\ufeffStraße\r\nring\r\n".encode(),
    "UTF-16": "Straße\nring\n".encode("utf-16"),
    "UTF-16 the other way": b"\xfe\xff" + "Straße\nring\n".encode("utf-16-be"),
    "UTF-16 without a mark": "Straße\r\nring".encode("utf-16-le"),
    "UTF-32": "Straße\nring\n".encode("utf-32"),
    "Latin-1": "Straße\nring\n".encode("latin-1"),
    "empty lines": "Straße\n\nring\n\n\n".encode(),
    "spaces": "  Straße \n\tring\n".encode(),
    "numbers": "0 Straße\n1 ring\n".encode(),
    "numbers from 1": "1: Straße\n2: ring\n".encode(),
    "numbers in another order": "1 ring\n0 Straße\n".encode(),
    "numbers and a point": "0. Straße\n1. ring\n".encode(),
    "JSON": '["Straße", "ring"]'.encode(),
    "escaped JSON": b'["Stra\\u00dfe", "ring"]',
    "a Python list": "['Straße', 'ring']".encode(),
    "a Python tuple of lines": "['Straße',\n 'ring',\n]".encode(),
    "numbers to names": '{"0": "Straße", "1": "ring"}'.encode(),
    "names to numbers": '{"ring": 1, "Straße": 0}'.encode(),
    "numbers to codes and names": '{"0": ["n01", "Straße"], "1": ["n02", "ring"]}'.encode(),
    "a Python map": "{0: 'Straße', 1: 'ring'}".encode(),
}


@pytest.mark.parametrize("name", FILES)
def test_labels_are_read_whatever_their_form(tmp_path: Path, name: str) -> None:
    (tmp_path / "labels.txt").write_bytes(FILES[name])

    assert read_labels(str(tmp_path / "labels.txt")) == NAMES


@pytest.mark.parametrize(
    "labels",
    [("0.5 mm", "1.5 mm"), ("2 euro", "1 euro"), ("10", "20"), ("disc, red", "ring, blue"), ("3 legs", "4 legs")],
    ids=" | ".join,
)
def test_numbers_that_are_part_of_names_stay(labels: tuple[str, ...]) -> None:
    assert parse_labels("\n".join(labels).encode(), "labels.txt") == labels


@pytest.mark.parametrize(
    ("text", "labels"),
    [("a,b, c", ("a", "b", "c")), ("['a', 'b']", ("a", "b")), ('["a, x","b"]', ("a, x", "b")), ("日本,Öl", ("日本", "Öl"))],
)
def test_labels_may_stand_on_the_command_line(text: str, labels: tuple[str, ...]) -> None:
    assert read_labels(text) == labels


def test_a_file_whose_name_has_a_comma_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a,b.txt").write_text("disc\nring\n")

    assert read_labels(str(tmp_path / "a,b.txt")) == ("disc", "ring")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("only", "neither a list such as a,b,c nor a file"),
        ("disc square", "neither a list such as a,b,c nor a file"),
        ("a,a", "at least two different classes"),
        ("a,", "at least two different classes"),
        ("['a', 'b'", "begins like a list of labels in JSON or Python, but is neither"),
        ("[['a'], 'b']", "neither a list of labels nor a map"),
        ('{"0": "a", "2": "b"}', "neither a list of labels nor a map"),
        ("x" * 5000, "neither a list"),
    ],
)
def test_what_names_no_classes_is_one_line(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read_labels(text)

    assert "\n" not in str(caught.value)


@given(content=st.binary(max_size=300))
def test_any_bytes_are_labels_or_one_error(content: bytes) -> None:
    try:
        parse_labels(content, "labels.txt")
    except InputError as error:
        assert "labels.txt" in str(error)
