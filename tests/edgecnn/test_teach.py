"""A class that is taught without training: what it changes, what it leaves, and what it says of itself."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from edgecnn.artifacts import Artifact, Contract
from edgecnn.classifier import Classifier
from edgecnn.cli.teach import teach as command
from edgecnn.errors import ContractError, InputError, OutputError
from edgecnn.pictures import read_picture
from edgecnn.runtimes.probe import verify
from edgecnn.shipped import find_task, int8_path
from edgecnn.teach import Taught, teach


def woven(seed: int) -> NDArray[np.uint8]:
    """Return a picture of a weave, which is no steel: crossing threads, turned and lit a little differently each time."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:200, :200]
    angle, pitch = random.uniform(0.6, 0.9), random.uniform(7, 9)
    across = np.sin((rows * np.cos(angle) + columns * np.sin(angle)) * 2 * np.pi / pitch)
    along = np.sin((rows * np.sin(angle) - columns * np.cos(angle)) * 2 * np.pi / pitch)
    image = 120 + 45 * np.sign(across * along) + random.normal(0, 6, (200, 200))
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Forty pictures of a weave: twenty to teach, twenty to ask."""
    folder = tmp_path_factory.mktemp("weave")
    paths = [folder / f"{number:02}.png" for number in range(40)]
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), woven(number))
    return paths


@pytest.fixture(scope="module")
def taught(pictures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Taught]:
    path = tmp_path_factory.mktemp("taught") / "taught.tflite"
    done = teach(Artifact.open(int8_path("neu")), "weave", pictures[:20], path=path)
    done.artifact.save(path)
    yield done


def named(model: Path, pictures: list[Path]) -> list[str | None]:
    classifier = Classifier.open(model)
    return [classifier.classify([read_picture(path)])[0].label for path in pictures]


def test_the_new_class_is_recognised(taught: Taught, pictures: list[Path]) -> None:
    assert "weave" not in named(int8_path("neu"), pictures[20:])
    assert named(taught.artifact.path, pictures[20:]).count("weave") >= 15
    assert (taught.is_new, taught.before.hits) == (True, 0)
    assert taught.recognised.hits >= 18


def test_what_was_known_is_known_as_before(taught: Taught) -> None:
    task = find_task("neu")
    assert task.synthesize is not None
    images = task.synthesize(10, 3).images
    before, after = (Classifier.open(path).runtime.run(images) for path in (int8_path("neu"), taught.artifact.path))

    assert after.shape == (len(images), 7)
    assert (before.argmax(axis=1) == after.argmax(axis=1)).mean() > 0.95
    assert np.allclose(after.sum(axis=1), 1, atol=1e-4)


def test_the_file_says_that_it_was_taught_when_and_by_which_pictures(taught: Taught, pictures: list[Path]) -> None:
    contract = Artifact.open(taught.artifact.path).contract
    before = Artifact.open(int8_path("neu")).contract

    said = contract.taught[0]
    assert (said.label, contract.labels) == ("weave", (*before.labels, "weave"))
    assert said.pictures == tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in pictures[:20])
    assert said.at.startswith("20") and contract.export_id != before.export_id
    assert contract.parity.verdict == "not measured"
    assert contract.graph_labels == before.labels


def test_its_golden_vectors_are_its_own_and_pass(taught: Taught) -> None:
    artifact = Artifact.open(taught.artifact.path)

    verify(artifact).demand()

    assert {len(row) for row in artifact.contract.golden.artifact} == {7}
    assert artifact.model == Artifact.open(int8_path("neu")).model


def test_a_second_class_does_not_undo_the_first(taught: Taught, pictures: list[Path], tmp_path: Path) -> None:
    spotted = []
    for number in range(30):
        image = np.full((200, 200), 90, np.uint8)
        random = np.random.default_rng(number)
        for x, y in random.integers(0, 200, (60, 2)).tolist():
            cv2.circle(image, (x, y), 6, 220, -1)
        spotted.append(tmp_path / f"{number}.png")
        cv2.imwrite(str(spotted[-1]), image)

    done = teach(taught.artifact, "spots", spotted[:20], path=tmp_path / "two.tflite")
    done.artifact.save(tmp_path / "two.tflite")

    assert named(tmp_path / "two.tflite", spotted[20:]).count("spots") >= 9
    assert named(tmp_path / "two.tflite", pictures[20:]).count("weave") >= 15
    assert [each.label for each in Artifact.open(tmp_path / "two.tflite").contract.taught] == ["weave", "spots"]


def test_a_class_is_corrected(pictures: list[Path], tmp_path: Path) -> None:
    done = teach(Artifact.open(int8_path("neu")), "patches", pictures[:20], path=tmp_path / "c.tflite")
    done.artifact.save(tmp_path / "c.tflite")

    assert not done.is_new
    assert done.artifact.contract.labels == Artifact.open(int8_path("neu")).contract.labels
    assert named(tmp_path / "c.tflite", pictures[20:]).count("patches") >= 15


def test_maps_say_where_a_taught_class_is(taught: Taught, pictures: list[Path]) -> None:
    where = Classifier.open(taught.artifact.path).classify([read_picture(pictures[30])], where=True)[0].where

    assert where is not None and where.shape == (200, 200) and float(where.max()) > 0


def test_few_pictures_teach_nothing_and_copies_do_not_count(pictures: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too few different pictures to teach weave: 4; at least 5 are needed"):
        teach(Artifact.open(int8_path("neu")), "weave", pictures[:4] * 3, path=tmp_path / "x.tflite")


@pytest.mark.parametrize(
    ("change", "words"), [({"head": None, "evidence": None}, "features"), ({"evidence": None}, "thresholds")]
)
def test_a_model_without_features_or_thresholds_is_refused_in_one_line(
    pictures: list[Path], tmp_path: Path, change: dict[str, None], words: str
) -> None:
    artifact = Artifact.open(int8_path("neu"))
    bare = replace(artifact, contract=replace(artifact.contract, **change))  # type: ignore[arg-type]

    with pytest.raises(InputError, match=f"has no {words} to teach by; export it again"):
        teach(bare, "weave", pictures, path=tmp_path / "x.tflite")


@pytest.mark.parametrize(
    "change",
    [
        {"taught": ()},
        {"labels": ("a", "b")},
        {"evidence": None},
    ],
)
def test_a_contract_that_contradicts_what_was_taught_is_refused(taught: Taught, change: dict[str, object]) -> None:
    with pytest.raises(ContractError):
        replace(taught.artifact.contract, **change)  # type: ignore[arg-type]


def test_taught_centres_of_another_class_are_refused(taught: Taught) -> None:
    contract = taught.artifact.contract
    assert contract.evidence is not None
    owners = (*contract.evidence.centre_classes[:-1], 0)
    lying = replace(contract, evidence=replace(contract.evidence, centre_classes=owners))

    with pytest.raises(ContractError, match="are of another class"):
        Classifier.of(replace(taught.artifact, contract=lying))


def test_the_contract_comes_back_as_it_was(taught: Taught) -> None:
    assert Contract.from_json(taught.artifact.contract.to_json()) == taught.artifact.contract


def test_the_command_writes_beside_and_replaces_nothing(
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["neu", "--class", "weave", *map(str, pictures[:10])]

    shown = CliRunner().invoke(command, words, catch_exceptions=False)

    assert "neu-int8-taught.tflite: weave added by 10 pictures" in shown.output
    assert [path.name for path in tmp_path.iterdir()] == ["neu-int8-taught.tflite"]
    with pytest.raises(OutputError, match="is not overwritten"):
        CliRunner().invoke(command, words, catch_exceptions=False)


@pytest.mark.parametrize("label", ["_other", "_bad", "a/b", "test"])
def test_a_label_that_is_none_is_refused(pictures: list[Path], label: str) -> None:
    with pytest.raises(InputError):
        CliRunner().invoke(command, ["neu", "--class", label, str(pictures[0])], catch_exceptions=False)


def test_teaching_loads_no_framework(pictures: list[Path], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom edgecnn.cli.main import main\n"
        f"try: main(['teach', 'neu', '--class', 'x', '--out', {str(tmp_path / 'o.tflite')!r}, {str(pictures[0].parent)!r}])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'tensorflow', 'keras', 'onnx', 'matplotlib'} & sys.modules.keys()\n"
    )

    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120)
