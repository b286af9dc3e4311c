"""Training a pretrained network: the last layer first, then the last stages, and classes of very different sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from edgecnn.artifacts import Artifact
from edgecnn.cli.main import main
from edgecnn.datasets.dataset import Dataset, SplitInfo, Splits
from edgecnn.errors import InputError
from edgecnn.preprocessing import Preprocessing
from edgecnn.progress import listening
from edgecnn.tasks import Task
from edgecnn_export.exporter import export
from edgecnn_export.networks import build
from edgecnn_export.reference import Reference
from edgecnn_export.training import TrainingRun, train
from edgecnn_export.training.epoch_pictures import TrainingPictures
from edgecnn_export.training.features import BATCH, fit_last_layer, freeze
from edgecnn_export.training.recipes import find_recipe

TASK = Task("surfaces", "drawn surfaces", ("dotted", "scratched", "plain"), Preprocessing(48, 48, "gray"))


def surfaces(counts: tuple[int, int, int], seed: int) -> Dataset:
    """Draw rough surfaces with dots, with a scratch, or with nothing, 48 x 48."""
    random = np.random.default_rng(seed)
    class_ids = np.repeat(np.arange(3), counts)
    images = random.normal(120, 12, (len(class_ids), 48, 48))
    for image, class_id in zip(images, class_ids, strict=True):
        if class_id == 0:
            for y, x in random.integers(2, 44, (12, 2)):
                image[y : y + 3, x : x + 3] -= 60
        elif class_id == 1:
            at = random.integers(6, 40)
            image[:, at : at + 2] += 70
    pixels = np.clip(images, 0, 255).astype(np.uint8)[..., None]
    return Dataset(pixels, class_ids.astype(np.int64), tuple(f"surface[{seed}, {i}]" for i in range(len(class_ids))))


def splits(counts: tuple[int, int, int] = (24, 24, 24)) -> Splits:
    info = SplitInfo("surfaces", "each split from its own seed", 0, synthetic=True)
    return Splits(surfaces(counts, 1), surfaces((20, 20, 20), 2), surfaces((1, 1, 1), 3), info)


# The weights as they were trained: rounding them, which takes longer, comes behind the last epoch (`test_rounding.py`).
UNROUNDED = dataclasses.replace(find_recipe("lite", TASK), on_levels=False)


def run(out: Path, **options: object) -> TrainingRun:
    return train(TASK, splits(), out=out, model="lite", **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def head_only(tmp_path_factory: pytest.TempPathFactory) -> TrainingRun:
    return run(tmp_path_factory.mktemp("head"), epochs=0)


@pytest.fixture(scope="module")
def stages() -> set[str]:
    """Of what `fine_tuned` reported its progress."""
    return set()


@pytest.fixture(scope="module")
def fine_tuned(tmp_path_factory: pytest.TempPathFactory, stages: set[str]) -> TrainingRun:
    with listening(lambda stage, done, total: stages.add(stage)):
        return run(tmp_path_factory.mktemp("tuned"), epochs=1, recipe=UNROUNDED)


def test_the_fitted_last_layer_alone_knows_the_surfaces(head_only: TrainingRun) -> None:
    assert head_only.validation_accuracy > 0.9
    assert head_only.record["best_epoch"] == 0
    assert not (head_only.folder / "checkpoint.npz").exists()


def test_the_last_layer_is_fitted_to_what_was_seen_when_the_time_is_over() -> None:
    parts, image = splits(), keras.Input((48, 48, 1))
    network = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(keras.layers.AveragePooling2D(8)(image))))

    fitted = fit_last_layer(
        network, parts.train, parts.validation, views=3, augmentation=None, smoothing=0.0, seed=0, stop=lambda: True
    )

    assert fitted.views == BATCH < len(parts.train)


def test_minutes_that_are_over_end_the_views_of_the_last_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fitted(*_: object, stop: Callable[[], bool], **__: object) -> None:
        raise StopIteration(stop())

    monkeypatch.setattr("edgecnn_export.training.session.fit_last_layer", fitted)

    with pytest.raises(StopIteration) as told:
        run(tmp_path, minutes=1e-6)

    assert told.value.value is True


def test_only_the_last_layer_changes_before_the_first_epoch(tmp_path: Path) -> None:
    before, after = build("lite", TASK), run(tmp_path, epochs=0, recipe=UNROUNDED).reference.model

    for layer in before.layers[:-1]:
        for old, new in zip(layer.get_weights(), after.get_layer(layer.name).get_weights(), strict=True):
            assert np.array_equal(old, new), layer.name


def test_fine_tuning_leaves_the_first_stages_and_all_statistics_alone(fine_tuned: TrainingRun) -> None:
    network = build("lite", TASK)
    freeze(network, find_recipe("lite", TASK).frozen)
    trained = [layer.name for layer in network.layers if layer.trainable and layer.weights]

    assert trained[0].startswith("block6") and trained[-1] == "probabilities"
    assert not [name for name in trained if name.endswith("_norm")]
    assert [entry["epoch"] for entry in fine_tuned.record["history"]] == [0, 1]


def test_a_run_records_whose_weights_it_started_from(head_only: TrainingRun) -> None:
    origin = head_only.record["pretrained"]

    assert (origin["name"], origin["license"]) == ("EfficientNet-Lite0", "Apache-2.0")


def test_an_exported_file_says_whose_weights_it_started_from(
    head_only: TrainingRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(head_only.reference, out=tmp_path, formats=["tflite"], splits=splits())

    with pytest.raises(SystemExit):
        main(["inspect", str(next(tmp_path.glob("*.tflite")))])
    assert "EfficientNet-Lite0 on ImageNet (ILSVRC 2012), Apache-2.0, https://" in capsys.readouterr().out


def test_a_file_of_random_beginnings_names_no_origin(bar_reference: Reference, bar_splits: Splits, tmp_path: Path) -> None:
    exported = export(bar_reference, out=tmp_path, formats=["tflite"], splits=bar_splits)

    contract = Artifact.open(exported.files[0].path).contract
    assert contract.pretrained is None and b"pretrained" not in contract.to_json()


def test_the_same_seed_gives_the_same_fine_tuning(fine_tuned: TrainingRun, tmp_path: Path) -> None:
    again = run(tmp_path, epochs=1, recipe=UNROUNDED)

    for ours, theirs in zip(again.record["history"], fine_tuned.record["history"], strict=True):
        assert ours["validation_loss"] == pytest.approx(theirs["validation_loss"], rel=1e-3)


@pytest.mark.usefixtures("fine_tuned")
def test_a_pass_over_the_pictures_reports_how_far_it_is(stages: set[str]) -> None:
    assert {"features of the training pictures", "epoch 1"} <= stages


def test_other_networks_have_no_last_layer_to_fit_alone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--epochs must be at least 1, got 0"):
        train(TASK, splits(), out=tmp_path, model="compact", epochs=0)


def test_a_small_class_is_recognised_as_often_as_the_large_ones(tmp_path: Path) -> None:
    uneven = train(TASK, splits((90, 6, 90)), out=tmp_path, model="lite", epochs=0, recipe=UNROUNDED)

    confusion = np.array(uneven.record["validation"]["confusion"])
    assert confusion[1, 1] / confusion[1].sum() > 0.8
    assert uneven.record["validation"]["macro_recall"] == pytest.approx((confusion.diagonal() / confusion.sum(axis=1)).mean())


def test_an_epoch_of_an_uneven_folder_shows_each_class_equally_often() -> None:
    recipe = find_recipe("lite", TASK)

    _, targets = TrainingPictures(surfaces((60, 30, 60), 1), TASK, recipe, seed=0).of_epoch(0)

    assert targets[:].sum(axis=0).tolist() == [50, 50, 50]


def test_an_epoch_of_a_large_folder_is_bounded() -> None:
    recipe = dataclasses.replace(find_recipe("lite", TASK), most_pictures=40)
    pictures = TrainingPictures(surfaces((30, 30, 30), 1), TASK, recipe, seed=0)

    first, second = pictures.of_epoch(0)[0][:], pictures.of_epoch(1)[0][:]

    assert len(first) == len(second) == 40
    assert not np.array_equal(first, second)
