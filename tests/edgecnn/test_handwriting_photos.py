from pathlib import Path

import pytest
from drawn_sheet import draw_sheet

from edgecnn.handwriting import find_digits
from edgecnn.handwriting.evaluation import TrueBox, read_labels
from edgecnn.pictures import read_picture


def photographs(folder: Path | None) -> list[tuple[list[TrueBox], list[tuple[int, int, int, int]]]]:
    """True boxes and found boxes of every photograph; of synthetic sheets where there are no photographs."""
    if folder is None:
        sheets = [draw_sheet(seed) for seed in range(4)]
        labels = [
            [TrueBox(*box, str(class_id), "digit") for box, class_id in zip(sheet.boxes, sheet.class_ids, strict=True)]
            for sheet in sheets
        ]
        images = [sheet.image_bgr for sheet in sheets]
    else:
        by_name = read_labels(folder)
        labels, images = list(by_name.values()), [read_picture(folder / name) for name in by_name]
    return [(boxes, [region.box for region in find_digits(image)]) for boxes, image in zip(labels, images, strict=True)]


@pytest.fixture(scope="module")
def found(photos_folder: Path | None) -> list[tuple[list[TrueBox], list[tuple[int, int, int, int]]]]:
    return photographs(photos_folder)


@pytest.mark.parametrize("kind", ["digit", "handwritten_cell"])
def test_nearly_all_single_digits_of_photographs_are_found(
    kind: str, found: list[tuple[list[TrueBox], list[tuple[int, int, int, int]]]]
) -> None:
    hits = [any(box.holds(place) for place in places) for boxes, places in found for box in boxes if box.kind == kind]

    assert sum(hits) >= 0.93 * len(hits)


def test_hardly_anything_else_is_found_on_plain_sheets(
    found: list[tuple[list[TrueBox], list[tuple[int, int, int, int]]]],
) -> None:
    plain = [(boxes, places) for boxes, places in found if all(box.kind == "digit" for box in boxes)]

    strays = sum(not any(box.holds(place) for box in boxes) for boxes, places in plain for place in places)
    assert strays <= 0.12 * sum(len(boxes) for boxes, _ in plain)
