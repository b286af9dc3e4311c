"""The study of drift: which corruptions a camera notices, how soon, and what it says of pictures that are as usual."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

from edgecnn.cli.main import cli
from edgecnn.datasets.dataset import Dataset
from edgecnn.errors import DatasetError, InputError
from edgecnn.robustness.corruptions import CORRUPTIONS
from edgecnn.testing import fake_classifier
from edgecnn_export.studies.drift import DriftStudy, Noticed, format_table, study_drift, verdict


def parts(count: int, side: int = 20, per_part: int = 1) -> Dataset:
    """Return pictures of parts in three grays, some of each part."""
    random = np.random.default_rng(0)
    class_ids = np.arange(count) % 3
    levels = (60, 128, 200)
    coarse = random.uniform(-20, 20, (count, 5, 5)).repeat(side // 5, axis=1).repeat(side // 5, axis=2)
    images = np.clip(np.array(levels)[class_ids][:, None, None] + coarse + random.normal(0, 3, (count, side, side)), 0, 255)
    names = tuple(map(str, range(count)))
    return Dataset(images[..., None].astype(np.uint8), class_ids, names, np.arange(count) // per_part)


def chosen(*names: str) -> list[object]:
    return [each for each in CORRUPTIONS if each.name in names]


def test_less_light_and_noise_are_noticed_and_nothing_else_is() -> None:
    found = study_drift(fake_classifier(), parts(150), chosen("noise", "underexposure"), frames=5000)  # type: ignore[arg-type]

    assert {each.name: each.worst is not None for each in found.noticed} == {"noise": True, "underexposure": True}
    assert "noisier" in next(each for each in found.noticed if each.name == "noise").words
    assert (found.false_alarms, found.frames, found.unseen) == (0, 5000, [])


def test_pictures_of_few_parts_cannot_be_studied() -> None:
    with pytest.raises(DatasetError, match="60 parts, and has 50"):
        study_drift(fake_classifier(), parts(150, per_part=3), [])


def test_what_some_runs_did_not_notice_has_no_worst() -> None:
    often, seldom = Noticed("dust", 4, (10, 20, 30), ()), Noticed("gamma", 4, (10,), ())

    assert (often.median, often.worst) == (30, None)
    assert (seldom.median, seldom.worst) == (None, None)


def test_the_verdict_names_what_comes_late_and_what_is_not_seen() -> None:
    noticed = (
        Noticed("noise", 2, (10, 12), ("noisier",)),
        Noticed("banding", 2, (90, 240), ("bands of light",)),
        Noticed("gamma", 2, (), ()),
    )
    study = DriftStudy(300, 164, 3, noticed, 0, 2, 1_000_000)

    assert verdict(study) == [
        "1 of 3 corruptions are noticed within 200 frames in every run",
        "later: banding",
        "not in every run within 1000 frames: gamma",
        "0 false alarms in 1,000,000 clean frames; 2 where halves of the parts judge each other, which is harder",
    ]
    assert [line.split() for line in format_table(study)[1:]] == [
        ["noise", "12", "12", "2", "of", "2", "noisier"],
        ["banding", "240", "240", "2", "of", "2", "bands", "of", "light"],
        ["gamma", "-", "-", "0", "of", "2", "-"],
    ]


def test_a_reader_of_digits_has_no_baseline_to_study() -> None:
    with pytest.raises(InputError, match="--drift-baseline"):
        CliRunner().invoke(cli, ["study", "drift", "mnist", "--data", "synthetic"], catch_exceptions=False)
