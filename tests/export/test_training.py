"""Training: determinism, resuming, interruption, several devices, and the files that remain."""

import ast
import dataclasses
import itertools
import json
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

import edgecnn_export.training
from edgecnn.datasets.dataset import Dataset, SplitInfo, Splits
from edgecnn.errors import DatasetError, InputError
from edgecnn.preprocessing import Preprocessing
from edgecnn.tasks import Task
from edgecnn_export.models import open_reference
from edgecnn_export.training import TrainingRun, train
from edgecnn_export.training.budget import startup_seconds, still_rising
from edgecnn_export.training.checkpoints import Checkpoint, optimizer_state
from edgecnn_export.training.recipes import find_recipe
from edgecnn_export.training.session import choose_epoch

TASK = Task("stripes", "stripes", ("flat", "upright", "sloping"), Preprocessing(16, 16), flips=False)
# The same data in a program of its own, for what must not happen inside the tests' process.
PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
from test_training import TASK, stripes
from edgecnn_export.training import train
"""


def stripes(count: int = 96, seed: int = 0) -> Splits:
    """Make pictures with horizontal, vertical and diagonal stripes in noise: learnt in a few steps."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:16, :16]
    class_ids = np.arange(count) % 3
    phase = random.uniform(0, 6, count)[:, None, None]
    waves = np.stack([rows, columns, rows + columns])[class_ids] * 1.2 + phase
    images = np.clip(128 + 90 * np.sin(waves) + random.normal(0, 10, waves.shape), 0, 255).astype(np.uint8)[..., None]
    whole = Dataset(images, class_ids.astype(np.int64), tuple(f"stripes[{i}]" for i in range(count)))
    part = count * 2 // 3
    train_ids, validation_ids = np.arange(part), np.arange(part, count)
    info = SplitInfo("stripes", "two thirds, one third", 0, {}, synthetic=True)
    return Splits(whole.take(train_ids), whole.take(validation_ids), whole.take(np.arange(0)), info)


def run(out: Path, **options: object) -> TrainingRun:
    return train(TASK, stripes(), out=out, **({"epochs": 3, "batch_size": 16} | options))  # type: ignore[arg-type]


def losses(training: TrainingRun) -> list[dict[str, float]]:
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in training.record["history"]]


class PowerCutError(Exception):
    """Ends a training between two epochs, as a power cut would."""


def break_after(epoch: int) -> object:
    def progress(line: str) -> None:
        if line.startswith(f"epoch {epoch}/"):
            raise PowerCutError

    return progress


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> TrainingRun:
    return run(tmp_path_factory.mktemp("uninterrupted"))


@pytest.fixture(scope="module")
def first_epoch_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("broken-off")
    with pytest.raises(PowerCutError):
        run(folder, progress=break_after(1))
    return folder


@pytest.fixture
def broken_off(first_epoch_only: Path, tmp_path: Path) -> Path:
    """The folder of a training that was ended after the first of its three epochs."""
    return shutil.copytree(first_epoch_only, tmp_path / "run")


def test_the_same_seed_gives_the_same_training(uninterrupted: TrainingRun, tmp_path: Path) -> None:
    again = run(tmp_path)

    for ours, theirs in zip(losses(again), losses(uninterrupted), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_a_resumed_training_ends_like_an_uninterrupted_one(uninterrupted: TrainingRun, broken_off: Path) -> None:
    resumed = run(broken_off, resume=True)

    assert len(losses(resumed)) == 3
    for ours, theirs in zip(losses(resumed), losses(uninterrupted), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    for ours, theirs in zip(resumed.reference.model.get_weights(), uninterrupted.reference.model.get_weights(), strict=True):
        assert np.allclose(ours, theirs, atol=1e-4)


def test_resuming_takes_epochs_and_batch_size_from_the_checkpoint(broken_off: Path) -> None:
    resumed = run(broken_off, epochs=None, batch_size=None, resume=True)

    assert (resumed.record["epochs"], resumed.record["batch_size"]) == (3, 16)


def test_a_complete_training_leaves_model_record_and_curves_only(uninterrupted: TrainingRun) -> None:
    names = sorted(path.name for path in uninterrupted.folder.iterdir())

    assert names == ["curves.png", "model.keras", "training.json"]


def test_the_record_says_what_it_was_trained_on(uninterrupted: TrainingRun) -> None:
    record = json.loads((uninterrupted.folder / "training.json").read_text())

    assert record["data"]["train"]["digest"] == stripes().train.digest()
    assert record["data"]["train"]["synthetic"] is True
    assert record["device"] and record["versions"]["keras"] and record["seconds_per_epoch"] > 0


def test_the_record_holds_the_interval_of_the_accuracy(uninterrupted: TrainingRun) -> None:
    low, high = uninterrupted.validation_interval

    assert low <= uninterrupted.validation_accuracy <= high
    assert uninterrupted.record["validation"]["interval"] == [low, high]


def test_the_saved_model_is_the_one_that_was_measured(uninterrupted: TrainingRun) -> None:
    opened = open_reference(uninterrupted.folder)

    images = stripes().validation.images
    assert opened.task == TASK
    assert np.array_equal(opened.runtime().run(images), uninterrupted.reference.runtime().run(images))


def test_the_weights_that_are_kept_are_averages_over_epochs(tmp_path: Path) -> None:
    saved: list[Checkpoint] = []

    def look(line: str) -> None:
        if line.startswith("epoch"):
            saved.append(Checkpoint.open(tmp_path / "run" / "checkpoint.npz"))

    recipe = dataclasses.replace(find_recipe("compact", TASK), averaging=0.5)
    run(tmp_path / "run", recipe=recipe, progress=look)

    for latest, average in zip(saved[0].weights, saved[0].average, strict=True):
        np.testing.assert_array_equal(average, latest)
    for before, latest, average in zip(saved[0].average, saved[1].weights, saved[1].average, strict=True):
        np.testing.assert_allclose(average, (before + latest) / 2, rtol=1e-5, atol=1e-7)  # over 2 epochs at least
    assert all(np.array_equal(*pair) for pair in zip(saved[0].best_weights, saved[0].average, strict=True))


def test_a_resumed_training_goes_on_with_its_averages(tmp_path: Path) -> None:
    options = {"recipe": dataclasses.replace(find_recipe("compact", TASK), averaging=0.5)}
    whole = run(tmp_path / "whole", **options)

    def power_cut(line: str) -> None:
        if line.startswith("epoch 2/"):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        run(tmp_path / "run", progress=power_cut, **options)
    resumed = run(tmp_path / "run", resume=True, **options)

    for ours, theirs in zip(losses(resumed), losses(whole), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


def epochs(*recalls_and_losses: tuple[float, float]) -> list[dict[str, float]]:
    return [
        {"epoch": i, "validation_recall": recall, "camera_recall": recall, "validation_loss": loss, "camera_loss": loss}
        for i, (recall, loss) in enumerate(recalls_and_losses, start=1)
    ]


@pytest.mark.parametrize(
    ("history", "best"),
    [
        pytest.param(epochs((0.2, 1.0), (0.7, 1.4), (0.72, 1.6)), 2, id="a constant network has the lowest loss"),
        pytest.param(epochs((0.993, 0.4), (1.0, 0.6), (0.993, 0.3)), 3, id="one picture is chance, a lower loss is not"),
        pytest.param(epochs((0.9, 0.9), (0.88, 0.8), (0.86, 0.7), (0.84, 0.6)), 2, id="recall does not slip bit by bit"),
        pytest.param(epochs((0.2, 0.1), (0.5, 0.9), (0.9, 0.9)), 3, id="a leap of the recall takes over"),
    ],
)
def test_the_best_epoch_is_that_of_the_lowest_loss_among_those_of_the_best_recall(
    history: list[dict[str, float]], best: int
) -> None:
    assert choose_epoch(history, np.array([50, 50, 50]))["epoch"] == best


def test_few_pictures_of_a_class_make_its_recall_uncertain() -> None:
    history = epochs((0.8, 0.9), (0.73, 0.3))

    assert choose_epoch(history, np.array([300, 300, 300]))["epoch"] == 1
    assert choose_epoch(history, np.array([300, 300, 3]))["epoch"] == 2


@pytest.mark.parametrize(
    ("confusion", "guesses"),
    [
        pytest.param([[4, 0, 0], [4, 0, 0], [4, 0, 0]], True, id="one class for all"),
        pytest.param([[9, 0, 0], [1, 0, 1], [0, 1, 0]], True, id="the commonest class alone"),
        pytest.param([[8, 1, 1], [0, 1, 0], [0, 0, 1]], False, id="no more right than that, but of every class"),
        pytest.param([[4, 0, 0], [4, 0, 0], [0, 0, 4]], False, id="two of three classes"),
    ],
)
def test_a_training_that_learned_nothing_guesses(uninterrupted: TrainingRun, confusion: list[list[int]], guesses: bool) -> None:
    right, count = int(np.trace(confusion)), int(np.sum(confusion))
    record = {"validation": {"confusion": confusion}}

    assert dataclasses.replace(uninterrupted, record=record, correct=right, count=count).guesses == guesses


def test_the_record_names_the_best_epoch_and_the_weights_are_its(uninterrupted: TrainingRun) -> None:
    history, confusion = uninterrupted.record["history"], np.array(uninterrupted.record["validation"]["confusion"])

    best = choose_epoch(history, confusion.sum(axis=1))

    assert uninterrupted.record["best_epoch"] == best["epoch"]
    assert uninterrupted.record["validation"]["macro_recall"] == pytest.approx(best["validation_recall"], abs=1e-6)


def test_minutes_decide_the_epochs_and_nothing_else(tmp_path: Path) -> None:
    ticks, said = itertools.count(step=10), list[str]()  # each look at the clock costs 10 s

    timed = run(tmp_path / "timed", epochs=None, minutes=4, clock=lambda: float(next(ticks)), progress=said.append)

    recipe = dataclasses.replace(find_recipe("compact", TASK), batch_size=16, by_epoch=True)
    counted = run(tmp_path / "counted", epochs=timed.record["epochs"], recipe=recipe)
    assert 1 < timed.record["epochs"] < 12
    assert [{**entry, "seconds": 0} for entry in losses(timed)] == [
        {**entry, "seconds": 0} for entry in losses(counted)[: len(losses(timed))]
    ]
    assert any(line.startswith("epoch 1/") and " left" in line for line in said)


def test_more_minutes_than_the_recipe_needs_are_not_spent(tmp_path: Path) -> None:
    recipe = dataclasses.replace(find_recipe("compact", TASK), epochs=2)

    assert run(tmp_path, epochs=None, minutes=1000, recipe=recipe).record["epochs"] == 2


def test_the_shortest_time_still_gives_an_answer(tmp_path: Path) -> None:
    timed = run(tmp_path, epochs=None, minutes=1e-6)

    assert (timed.record["epochs"], timed.count) == (1, 32)


def test_minutes_beside_epochs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--minutes decides the number of epochs; give it or --epochs"):
        run(tmp_path, epochs=3, minutes=1.0)


def test_a_training_to_resume_keeps_the_time_that_it_was_given(broken_off: Path) -> None:
    with pytest.raises(InputError, match="the training to resume was given a number of epochs; leave --minutes out"):
        run(broken_off, epochs=None, minutes=1.0, resume=True)


@pytest.mark.parametrize(
    ("losses_by_epoch", "rising"),
    [([2.0, 1.5, 1.2, 0.9], True), ([2.0, 1.0, 0.99, 0.985], False), ([1.0], False), ([1.0, 0.5, 0.6, 0.7], False)],
)
def test_a_training_is_still_rising_while_its_last_epochs_bring_much(losses_by_epoch: list[float], rising: bool) -> None:
    assert still_rising(losses_by_epoch) is rising


def test_what_only_the_first_batch_has_to_do_counts_once() -> None:
    assert startup_seconds(began=100.0, first_end=107.0, ended=116.0, batches=10) == 6.0
    assert startup_seconds(began=100.0, first_end=100.5, ended=116.0, batches=10) == 0.0
    assert startup_seconds(began=100.0, first_end=107.0, ended=107.0, batches=1) == 0.0


def test_a_training_says_at_its_end_whether_more_would_help(tmp_path: Path) -> None:
    said = list[str]()

    ended = run(tmp_path, progress=said.append)

    assert said[-1].startswith("still rising after epoch 3" if ended.record["still_rising"] else "done: the last of 3 epochs")


def test_an_unfinished_training_is_not_overwritten_by_accident(broken_off: Path) -> None:
    with pytest.raises(InputError, match="holds an unfinished training; go on with --resume"):
        run(broken_off)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch_size": 8}, "its batch size is 16, this training's is 8"),
        ({"model": "course"}, "its model is 'compact', this training's is 'course'"),
        ({"seed": 7}, "its seed is 0, this training's is 7"),
    ],
)
def test_another_trainings_checkpoint_is_refused(broken_off: Path, changed: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(broken_off, resume=True, **changed)


def test_resuming_needs_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no checkpoint in .*; leave --resume out to start there"):
        run(tmp_path, resume=True)


def test_a_complete_training_has_nothing_to_resume(uninterrupted: TrainingRun) -> None:
    with pytest.raises(InputError, match=r"nothing to resume in .*, it holds a training that is complete"):
        run(uninterrupted.folder, resume=True)


def test_a_checkpoint_whose_directory_lost_an_entry_is_damaged(tmp_path: Path) -> None:
    arrays = [np.ones((3, 4), np.float32)] * 2
    path = tmp_path / "checkpoint.npz"
    Checkpoint({}, [], arrays, arrays, arrays).save(path)
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist()[:-1]}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in kept.items():
            archive.writestr(name, content)

    with pytest.raises(InputError, match="its arrays are not those that were written"):
        Checkpoint.open(path)


def test_a_checkpoint_from_before_the_first_step_is_taken_up(tmp_path: Path) -> None:
    def compiled() -> keras.Model:
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("adam", "mse")
        return model

    model = compiled()
    path = tmp_path / "checkpoint.npz"
    Checkpoint({}, [], model.get_weights(), model.get_weights(), optimizer_state(model)).save(path)

    other = compiled()
    Checkpoint.open(path).restore(other)

    assert all((one == two).all() for one, two in zip(other.get_weights(), model.get_weights(), strict=True))
    assert other.optimizer.built


def test_a_damaged_checkpoint_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.npz").write_bytes(b"PK\x03\x04 cut short")

    with pytest.raises(InputError, match=r"the checkpoint .* is damaged"):
        run(tmp_path, resume=True)


def test_more_devices_than_there_are_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="99 devices were asked for"):
        run(tmp_path, devices=99)


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    whole = stripes()
    splits = Splits(whole.train, whole.test, whole.test, whole.info)

    with pytest.raises(DatasetError, match="the validation split of stripes is empty"):
        train(TASK, splits, out=tmp_path)


def test_sigint_ends_the_training_with_the_best_weights_written(tmp_path: Path) -> None:
    program = PROGRAM.format(folder=str(Path(__file__).parent)) + (
        "from pathlib import Path\n"
        f"run = train(TASK, stripes(), out=Path({str(tmp_path)!r}), epochs=5000, batch_size=16,"
        " progress=lambda line: print(line, flush=True))\n"
        "print('interrupted', run.interrupted, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            break

    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=120)

    record = json.loads((tmp_path / "training.json").read_text())
    assert "interrupted True" in rest
    assert record["interrupted"] is True
    assert (tmp_path / "checkpoint.npz").exists()
    assert open_reference(tmp_path).task == TASK


def test_two_devices_learn_along_the_same_curve_as_one(tmp_path: Path) -> None:
    program = PROGRAM.format(folder=str(Path(__file__).parent)) + (
        "import json, pathlib, tensorflow as tf\n"
        "cpu = tf.config.list_physical_devices('CPU')[0]\n"
        "tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)\n"
        f"out = pathlib.Path({str(tmp_path)!r})\n"
        "runs = [train(TASK, stripes(), out=out / str(n), epochs=2, batch_size=16, devices=n) for n in (1, 2)]\n"
        "print(json.dumps([run.record for run in runs]))\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)

    one, two = json.loads(done.stdout.splitlines()[-1])
    assert two["device"] == "2 x CPU"
    assert [e["loss"] for e in two["history"]] == pytest.approx([e["loss"] for e in one["history"]], rel=0.02)


def test_training_code_is_plain_keras_but_for_what_runs_on_tensorflow_alone() -> None:
    folder = Path(edgecnn_export.training.__file__).parent
    sources = [path for path in folder.glob("*.py") if path.name not in {"devices.py", "fused_batchnorm.py", "workers.py"}]

    imported = {
        name.split(".")[0]
        for path in sources
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }

    assert "keras" in imported
    assert imported.isdisjoint({"tensorflow", "jax", "torch"})
