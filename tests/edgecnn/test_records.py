"""What was written as JSON comes back as the same dataclass, or one line names the place that does not fit."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from edgecnn.errors import InputError
from edgecnn.records import read_record


@dataclass(frozen=True)
class Inner:
    interval: tuple[float, float]
    rows: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Outer:
    name: str
    kind: Literal["a", "b"]
    inner: Inner
    others: dict[str, Inner | None] = field(default_factory=dict)
    size: int | None = None


def outer() -> dict[str, Any]:
    return {"name": "one", "kind": "a", "inner": {"interval": [0.5, 1]}}


def test_a_record_survives_json_and_tuples_alike() -> None:
    record = Outer("one", "b", Inner((0.0, 1.5), ((1, 2), (3,))), {"left": None, "right": Inner((1.0, 2.0))}, 3)

    assert read_record(Outer, json.loads(json.dumps(dataclasses.asdict(record))), "outer") == record
    assert read_record(Outer, dataclasses.asdict(record), "outer") == record


def test_a_whole_number_is_a_float_where_one_is_wanted() -> None:
    assert read_record(Outer, outer(), "outer").inner.interval == (0.5, 1.0)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"kind": "c"}, r"outer\.kind is 'c', expected one of"),
        ({"inner": {"interval": [1.0]}}, r"outer\.inner\.interval is \[1\.0\], expected 2 values"),
        ({"inner": {"interval": [1.0, "x"]}}, r"outer\.inner\.interval\[1\] is 'x', expected float"),
        ({"inner": {"interval": [1.0, 1e999]}}, "expected a finite number"),
        ({"inner": {"interval": [0, True]}}, r"interval\[1\] is True, expected float"),
        ({"size": 2**70}, "at most 64 bits"),
        ({"size": True}, "outer.size is True, expected int"),
        ({"others": {"left": 1}}, r"outer\.others\.left is 1, expected an object"),
        ({"extra": 1}, r"outer lacks or does not know \['extra'\]"),
    ],
)
def test_the_place_of_a_misfit_is_named(change: dict[str, Any], place: str) -> None:
    with pytest.raises(InputError, match=place):
        read_record(Outer, outer() | change, "outer")
