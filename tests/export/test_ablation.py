import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from published_schemas import check

from edgecnn.datasets.dataset import SplitInfo, Splits
from edgecnn.datasets.synthetic.digits import generate_digits
from edgecnn.errors import InputError
from edgecnn.robustness.corruptions import corruptions_for
from edgecnn.shipped import find_task
from edgecnn_export.networks.sizes import NETWORKS
from edgecnn_export.studies.ablation import VARIANTS, Doubt, Row, _accuracies, _choose, ablate, format_table
from edgecnn_export.training.recipes import find_recipe

MNIST = find_task("mnist")


class _SeesOnlyBright:
    """Right for every picture whose mean is at least that of the first one it was shown, wrong for the others."""

    name = "fake"

    def __init__(self, class_id: int) -> None:
        self._class_id, self._least = class_id, None

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        means = images.mean(axis=(1, 2, 3))
        self._least = means if self._least is None else self._least
        probabilities = np.zeros((len(images), 10), np.float32)
        probabilities[np.arange(len(images)), np.where(means >= self._least, self._class_id, (self._class_id + 1) % 10)] = 1
        return probabilities


def test_each_variant_has_a_name_of_its_own() -> None:
    names = [variant.name for variant in VARIANTS]

    assert len(set(names)) == len(names)


@pytest.mark.parametrize("task", ["mnist", "neu"])
def test_variants_that_change_nothing_are_left_out(task: str) -> None:
    recipe = find_recipe("compact", find_task(task))

    chosen = _choose(recipe, find_task(task), ())

    changed = [each.change(recipe) != recipe or each.model != "compact" for each in chosen if each.name != "recipe"]
    assert changed
    assert all(changed)


def test_an_unknown_variant_is_named_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"no-such.*known: recipe, no-augmentation"):
        _choose(find_recipe("compact", MNIST), MNIST, ["no-such"])


def test_other_networks_are_compared_where_there_are_any() -> None:
    chosen = {task: _choose(find_recipe("compact", find_task(task)), find_task(task), ()) for task in ("mnist", "neu")}

    networks = {task: {each.model for each in variants} - {"compact"} for task, variants in chosen.items()}
    assert networks == {"mnist": set(), "neu": {f"compact-{name}" for name in NETWORKS}}


def test_the_worst_corruption_is_named() -> None:
    pictures = generate_digits(3, seed=0)
    pictures = pictures.take(np.flatnonzero(pictures.class_ids == 4))

    found = _accuracies({"int8": _SeesOnlyBright(4)}, pictures, MNIST)["int8"]

    assert found.clean == 1
    assert found.worst == 0
    assert found.worst_corruption in [corruption.name for corruption in corruptions_for(MNIST)]
    assert found.worst < found.mean < 1


@pytest.mark.usefixtures("in_this_process")
def test_a_variant_is_trained_exported_measured_and_kept(tmp_path: Path) -> None:
    digits = generate_digits(6, seed=0)
    odd = np.arange(len(digits)) % 2 == 1
    splits = Splits(
        digits.take(np.flatnonzero(odd)),
        digits.take(np.flatnonzero(~odd)),
        digits.take(np.arange(0)),
        SplitInfo("digits", "by hand", synthetic=True),
    )

    rows = ablate(MNIST, splits, out=tmp_path, names=["no-simulation"], epochs=1)

    again = ablate(MNIST, splits, out=tmp_path, names=["no-simulation"], epochs=1)
    assert rows == again
    check("study-ablation", {"schema": 1} | json.loads((tmp_path / "ablation.json").read_text()))


def test_the_table_has_a_line_a_variant() -> None:
    pictures = generate_digits(1, seed=0)
    found = _accuracies({"int8": _SeesOnlyBright(0)}, pictures, MNIST)["int8"]
    row = Row("recipe", 28834, found, dataclasses.replace(found, clean=0.5), Doubt(0.975, 0.9))

    lines = format_table([row, dataclasses.replace(row, name="no-light")]).splitlines()

    assert len(lines) == 4
    assert lines[2].startswith("| recipe | 50.0 |")
    assert "| 0.975 | 90.0 |" in lines[2]
