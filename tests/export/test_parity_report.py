import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecnn.artifacts.contract import DataInfo
from edgecnn.datasets.dataset import Dataset
from edgecnn_export.parity.compare import compare
from edgecnn_export.parity.figures import ParityReport
from edgecnn_export.parity.text import format_report, format_size, write_json


class Fixed:
    """A runtime that gives the first rows of fixed answers."""

    name = "fixed"

    def __init__(self, class_ids: NDArray[np.int64]) -> None:
        self.probabilities = np.full((len(class_ids), 3), 0.1, np.float32)
        self.probabilities[np.arange(len(class_ids)), class_ids] = 0.8

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.probabilities[: len(images)]


def make_report(flips: int, synthetic: bool = False, name: str = "int8", picture: str = "p.png") -> ParityReport:
    class_ids = np.arange(300, dtype=np.int64) % 3
    flipped = class_ids.copy()
    flipped[:flips] = (flipped[:flips] + 1) % 3
    dataset = Dataset(np.zeros((300, 1, 1, 1), np.uint8), class_ids, (picture,) * 300)
    data = DataInfo("fake parts", "validation", 300, "0" * 64, synthetic)
    return compare(Fixed(class_ids), {name: Fixed(flipped)}, dataset, labels=("a", "b", "c"), data=data)


def test_the_reference_is_named_with_its_accuracy_before_any_verdict() -> None:
    first, second = format_report(make_report(0)).splitlines()[:2]

    assert first == "reference: 300 of 300 pictures right, 100.0 % (95 % interval 98.7 to 100.0)"
    assert second == "PASS int8: the drop is at most 0.89 points at 95 %, 1 are allowed"


def test_a_report_of_good_parts_says_what_half_of_its_pictures_are() -> None:
    first = format_report(dataclasses.replace(make_report(0), labels=("good", "novel"))).splitlines()[0]

    assert first.endswith("; half of these are good parts, half copies with damage drawn in")


def test_advice_stands_below_its_verdict() -> None:
    lines = format_report(make_report(30), {"int8": ["try harder"]}).splitlines()

    assert lines[2] == "  - try harder"


def test_the_table_is_aligned() -> None:
    lines = format_report(make_report(0)).splitlines()
    table = lines[lines.index("") :]

    assert len({len(line) for line in table[-3:]}) == 1


def test_flips_are_listed_with_their_names_and_the_rest_counted() -> None:
    text = format_report(make_report(30))

    assert text.count("lost   p.png: true") == 10
    assert text.endswith("and 20 more\n")


def test_synthetic_pictures_are_said_loudly() -> None:
    assert "SYNTHETIC" in format_report(make_report(0, synthetic=True))


@pytest.mark.parametrize("hostile", ["\x1b[2J", "a\nPASS b", "\r"])
def test_names_cannot_steer_the_terminal(hostile: str) -> None:
    text = format_report(make_report(1, name=f"x{hostile}", picture=f"y{hostile}"))

    assert hostile not in text


def test_the_json_file_restores_the_report(tmp_path: Path) -> None:
    report = make_report(3)

    write_json(report, tmp_path / "parity.json")

    assert ParityReport.from_json(json.loads((tmp_path / "parity.json").read_text())) == report


@pytest.mark.parametrize(("size", "text"), [(None, "-"), (87_256, "87.3 kB"), (41_338_452, "41.3 MB")])
def test_sizes_read_well(size: int | None, text: str) -> None:
    assert format_size(size) == text
