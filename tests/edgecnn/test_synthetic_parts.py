"""Drawn washers: the same ones for the same seed, in colour, and different from each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgecnn.cli.main import cli
from edgecnn.datasets.layout import find_layout
from edgecnn.datasets.synthetic.parts import LABELS, SIDE, draw_part, generate_parts
from edgecnn.errors import InputError


def test_the_same_seed_draws_the_same_washers() -> None:
    assert generate_parts(2, 3).digest() == generate_parts(2, 3).digest() != generate_parts(2, 4).digest()


def test_washers_are_pictures_in_color_of_all_classes() -> None:
    drawn = generate_parts(2, 0)

    assert drawn.images.shape == (2 * len(LABELS), SIDE, SIDE, 3)
    assert np.bincount(drawn.class_ids).tolist() == [2] * len(LABELS)


@pytest.mark.parametrize("label", [label for label in LABELS if label != "good"])
def test_a_damage_changes_the_washer_that_is_drawn(label: str) -> None:
    good, damaged = (draw_part(each, np.random.default_rng(5)) for each in ("good", label))

    assert (good != damaged).mean() > 0.01


def test_an_unknown_washer_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="unknown washer 'bent'; known: dent, good, missing_hole, scratch"):
        draw_part("bent", np.random.default_rng(0))


def test_generated_washers_are_a_folder_of_classes(tmp_path: Path) -> None:
    ran = CliRunner().invoke(cli, ["data", "generate", "parts", str(tmp_path / "parts"), "--count", "2"])

    assert ran.exit_code == 0
    assert find_layout(tmp_path / "parts").labels == LABELS
