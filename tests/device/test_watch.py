"""`edgecnn.open` and `edgecnn.watch`: a model and a camera in a notebook or a script."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import edgecnn as ec
from edgecnn import Artifact
from edgecnn.errors import ArtifactError, InputError, PictureError
from edgecnn.runtimes import probe


def test_a_model_is_called_with_a_file_or_an_array(artifacts: Path, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 200, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "part.png"), image)
    model = ec.open(artifacts / "neu.tflite")

    answer = model(tmp_path / "part.png")

    assert answer.probabilities == model(image).probabilities
    assert tuple(answer.probabilities) == model.labels
    assert answer.probabilities[answer.best] == answer.probability == max(answer.probabilities.values())
    np.testing.assert_array_equal(answer.image_bgr, image)


def test_a_picture_like_nothing_that_was_taught_is_novel_and_has_no_label() -> None:
    answer = ec.open("neu")(np.full((200, 200), 128, np.uint8))

    assert (answer.label, answer.verdict) == (None, "novel")
    assert answer.novelty is not None and answer.novelty > 1
    assert repr(answer).startswith("Answer(novel, ")


def test_an_answer_says_where_when_it_is_asked() -> None:
    answer = ec.open("neu")(np.tile(np.arange(200, dtype=np.uint8), (200, 1)), where=True)

    assert answer.where is not None and answer.where.shape == (200, 200)
    assert answer._repr_html_().count("data:image/png;base64,") == 3


def test_an_answer_shows_itself_with_every_name_escaped(artifacts: Path) -> None:
    answer = ec.Answer("<b>", "<b>", 0.75, {"<b>": 0.75, "a & b": 0.25}, np.zeros((4, 4, 3), np.uint8))

    shown = answer._repr_html_()

    assert "<b>" not in shown and "&lt;b&gt; 75.0%" in shown and "a &amp; b" in shown
    assert shown.count("<circle") == 2 and "data:image/png;base64," in shown


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.png").write_text("no picture")

    with pytest.raises(PictureError, match=r"note\.png"):
        ec.open("neu")(tmp_path / "note.png")


def test_a_model_that_answers_otherwise_here_is_not_opened(artifacts: Path, tmp_path: Path) -> None:
    artifact, altered = Artifact.open(artifacts / "neu.tflite"), tmp_path / "altered.tflite"
    golden = artifact.contract.golden
    answers = tuple(tuple(reversed(row)) for row in golden.artifact)
    contract = dataclasses.replace(artifact.contract, golden=dataclasses.replace(golden, artifact=answers, tolerance=1e-6))
    dataclasses.replace(artifact, contract=contract).save(altered)

    with pytest.raises(ArtifactError, match=r"something else|contradicts"):
        ec.open(altered)

    assert ec.open(altered, verify=False).labels


def test_what_was_verified_is_what_runs(artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes((artifacts / "neu.tflite").read_bytes())
    verify = probe.verify

    def verify_while_it_is_exchanged(artifact: Artifact, **options: Any) -> probe.Verified:
        path.write_bytes((artifacts / "mnist.tflite").read_bytes())
        return verify(artifact, **options)

    monkeypatch.setattr(probe, "verify", verify_while_it_is_exchanged)

    assert ec.open(path).labels == Artifact.open(artifacts / "neu.tflite").contract.labels


def test_a_video_is_watched_frame_by_frame(artifacts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "belt"
    folder.mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), np.random.default_rng(number).integers(0, 256, (240, 320)))

    seen = list(ec.watch(ec.open(artifacts / "neu.tflite"), folder, roi=(40, 20, 200, 200), smooth=1))

    assert [each.frame for each in seen] == [0, 1, 2]
    assert {each.state for each in seen} == {"ok"}
    assert seen[0].observation.frame is not None and seen[0].observation.frame.image_bgr.shape == (200, 200, 3)
    assert "<figure" in seen[0]._repr_html_()


def test_a_camera_ends_when_nobody_looks_any_more() -> None:
    frames = ec.watch("neu", "synthetic", fps=100)

    seen = list(itertools.islice(frames, 3))
    frames.close()  # type: ignore[attr-defined]  # a generator

    assert len(seen) == 3 and all(each.state == "ok" for each in seen)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"roi": (0, 0, -1, 5)}, "above 0"), ({"tiles": "0x2"}, "tiles"), ({"good": ["fine"]}, "no such class")],
)
def test_bad_options_are_refused_in_one_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        ec.watch("neu", "synthetic", **options)  # type: ignore[arg-type]

    assert "\n" not in str(caught.value)


def test_opening_and_watching_need_no_framework() -> None:
    code = (
        "import sys, edgecnn as ec\n"
        "next(ec.watch(ec.open('neu'), 'synthetic'))\n"
        "print(sorted({'tensorflow', 'keras', 'onnx', 'matplotlib', 'jinja2'} & set(sys.modules)))"
    )

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)

    assert ran.stdout.strip() == "[]"
