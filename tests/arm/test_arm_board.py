"""The wheel, installed by pip in an emulated ARM64 Debian, as a board's user would have it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from arm_figures import Page
from arm_userland import PROCESSORS, Userland

pytestmark = pytest.mark.timeout(3600)


@pytest.fixture(params=PROCESSORS)
def processor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_packages_are_those_of_the_registry_for_arm(board: Userland, page: Page) -> None:
    installed = board.versions()

    names = ("ai-edge-litert", "numpy", "opencv-python-headless", "click")
    tags = [(board.site_packages / f"{name.replace('-', '_')}-{installed[name]}.dist-info" / "WHEEL") for name in names]
    for name, tag in zip(names, tags, strict=True):
        kind = next(line.split()[1] for line in tag.read_text().splitlines() if line.startswith("Tag:"))
        page.add("packages", ("package", "version", "wheel"), name, installed[name], kind)
        assert "aarch64" in kind or kind == "py3-none-any", f"{name}: {kind}"


def test_the_doctor_finds_nothing_amiss_and_xnnpack_at_work(board: Userland, page: Page, processor: str) -> None:
    done = board.run("edgecnn", "doctor", "--json", processor=processor)

    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    found = [checks[f"model {task}"]["detail"] for task in ("neu", "mnist")]
    page.add("doctor", ("processor", "as in", "runtime"), processor, PROCESSORS[processor], checks["runtime"]["detail"])
    assert done.returncode == 0, done.stdout
    assert "aarch64" in checks["python"]["detail"]
    assert all("(XNNPACK delegate)" in detail for detail in found), found


def test_all_shipped_artifacts_verify(board: Userland, page: Page, processor: str) -> None:
    done = board.run("edgecnn", "verify", "neu", "mnist", "--json", processor=processor)

    rows = json.loads(done.stdout)["files"]
    for row in rows:
        header = ("processor", "file", "runtime", "golden vectors", "same answers", "largest difference")
        name = row["file"].rpartition("/")[2]
        page.add(
            "verify", header, processor, name, row["runtime"], row["vectors"], row["same_answers"], row["largest_difference"]
        )
    assert done.returncode == 0, done.stderr
    assert [row["passed"] for row in rows] == [True, True]


def test_a_picture_gets_the_answer_that_it_gets_here(board: Userland, pictures: dict[str, str], processor: str) -> None:
    name = "neu/pictures/neu_1280x720.jpg"
    here = [sys.executable, "-m", "edgecnn", "classify", "neu", str(board.exchange / name), "--json"]

    there = json.loads(board.must("edgecnn", "classify", "neu", f"/exchange/{name}", "--json", processor=processor))

    expected = json.loads(subprocess.run(here, check=True, capture_output=True, text=True).stdout)
    (there,), (expected,) = there["pictures"], expected["pictures"]
    assert there["label"] == expected["label"]
    assert there["probabilities"] == pytest.approx(expected["probabilities"], abs=1 / 256 + 1e-6)


def test_the_camera_runs_sixty_frames(board: Userland, processor: str) -> None:
    options = ("--source", "synthetic", "--no-realtime", "--frames", "60", "--no-terminal", "--jsonl", "/exchange/out.jsonl")
    out = board.exchange / "out.jsonl"
    out.unlink(missing_ok=True)

    done = board.run("edgecnn", "camera", "neu", *options, processor=processor)

    lines = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert done.returncode == 0, done.stderr
    assert len(lines) == 60
    assert all(line["state"] == "ok" and len(line["regions"]) == 1 for line in lines)


def test_the_older_runtime_verifies_them_too(old_board: Userland, page: Page) -> None:
    done = old_board.run("edgecnn", "verify", "neu", "mnist", "--runtime", "tflite-runtime", "--json")

    rows = json.loads(done.stdout)["files"]
    for row in rows:
        header = ("processor", "file", "runtime", "golden vectors", "same answers", "largest difference")
        name = row["file"].rpartition("/")[2]
        page.add(
            "verify", header, "cortex-a72", name, row["runtime"], row["vectors"], row["same_answers"], row["largest_difference"]
        )
    assert [row["passed"] for row in rows] == [True, True], done.stderr
    assert {row["runtime"] for row in rows} == {"tflite-runtime 2.14.0"}
    assert old_board.versions()["numpy"].startswith("1.")
