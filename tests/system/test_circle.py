"""The circle: a part that is unknown passes, and in the end the camera knows it, taught on the board or trained beside it."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pages import LIMIT_S, is_shown, open_page, text
from running import CameraProcess, find_port, wait_until
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from edgecnn.samples.folder import read_samples
from edgecnn.samples.labels import LabelLog

SAYS_WHAT_IT_LOADS = """
import sys
from edgecnn.cli.main import main
try:
    main(sys.argv[1:])
finally:
    assert not {"tensorflow", "keras"} & sys.modules.keys()
"""


def woven(seed: int) -> NDArray[np.uint8]:
    """Return a picture of crossing threads, which is no steel."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:200, :200]
    angle, pitch = random.uniform(0.6, 0.9), random.uniform(6, 10)
    across = np.sin((rows * np.cos(angle) + columns * np.sin(angle)) * 2 * np.pi / pitch)
    along = np.sin((rows * np.sin(angle) - columns * np.cos(angle)) * 2 * np.pi / pitch)
    return np.clip(120 + 45 * np.sign(across * along) + random.normal(0, 6, (200, 200)), 0, 255).astype(np.uint8)


def run(*arguments: str | Path, codes: tuple[int, ...] = (0,)) -> str:
    """Run a command as a board does, which has no framework, and return what it prints."""
    command = [sys.executable, "-c", SAYS_WHAT_IT_LOADS, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in codes, done.stderr
    return done.stdout


def draw(folder: Path, seeds: range) -> Path:
    folder.mkdir(parents=True)
    for seed in seeds:
        cv2.imwrite(str(folder / f"{seed:03}.png"), woven(seed))
    return folder


def set_aside(folder: Path, seed: int) -> Path:
    """Draw pictures of steel and of the new class that no model has seen, and return their folder."""
    aside = folder / "aside"
    run("data", "generate", "neu", aside, "--count", "20", "--seed", str(seed))
    draw(aside / "weave", range(100, 160))
    return aside


def train_run(*arguments: str | Path) -> str:
    """Run a command as a workstation does, with TensorFlow, and return what it prints."""
    command = [sys.executable, "-m", "edgecnn", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def label_all_as(browser: webdriver.Chrome, port: int, name: str) -> float:
    """Label each group on the page as a new class, by keyboard alone, and return when that began."""
    open_page(browser, port, "review")
    wait_until(lambda: is_shown(browser, "palette"), LIMIT_S, "review")
    started_s = time.monotonic()
    ActionChains(browser).send_keys("n").perform()
    wait_until(lambda: is_shown(browser, "naming"), 5, "dialog")
    ActionChains(browser).send_keys(name, Keys.ENTER).perform()
    wait_until(lambda: name in text(browser, "classes"), LIMIT_S, "new class")
    new_key = str(len(browser.find_elements(By.CSS_SELECTOR, "#classes button")))  # the new class stands last
    shown = browser.execute_script("return document.querySelectorAll('.group:not(.labelled)').length")
    for _ in range(shown):
        ActionChains(browser).send_keys(new_key).perform()
    return started_s


def _page_knows(port: int, label: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/api/model", timeout=5) as answer:
        return label in json.load(answer)["labels"]
    return False


def last_labels(camera: CameraProcess, count: int) -> list[str | None]:
    return [region["label"] for line in camera.lines[-count:] for region in line.body["regions"]]


@pytest.mark.timeout(600)
def test_an_unknown_part_is_kept_labelled_taught_compared_and_recognised(
    browser: webdriver.Chrome, model: str, tmp_path: Path
) -> None:
    belt, samples, port = draw(tmp_path / "belt", range(40)), tmp_path / "samples", find_port()
    live = Path(shutil.copy(model, tmp_path / "live.tflite"))
    camera = CameraProcess(tmp_path, str(live), *looped(belt), "--keep", str(samples), "--web", str(port))
    try:
        wait_until(lambda: len(list(samples.glob("*Z-*.png"))) >= 12, 120, "samples of what is novel")
        assert all("novel" in sample.reasons for sample in read_samples(samples).samples)

        started_s = label_all_as(browser, port, "weave")
        wait_until(lambda: len(LabelLog(samples).read().of) >= 12, LIMIT_S, "labels")
        run("samples", "export", samples, tmp_path / "out", "--with-random")
        taught = tmp_path / "taught.tflite"
        run("teach", model, "--class", "weave", tmp_path / "out" / "weave", "--out", taught)
        run("verify", taught)
        verdict = run("compare", model, taught, "--data", set_aside(tmp_path, seed=3))
        assert "the new model is better" in verdict, verdict

        taught.replace(live)  # the camera has the old classes: it starts again by itself, as the same process
        wait_until(lambda: "weave" in last_labels(camera, 1), 60, "answer of the taught model")
        seconds, seen = time.monotonic() - started_s, len(camera.lines)
        wait_until(lambda: len(camera.lines) >= seen + 40, 60, "answers of the taught model")
        assert last_labels(camera, 40).count("weave") >= 30
        wait_until(lambda: _page_knows(port, "weave"), LIMIT_S, "page with the new class")
    finally:
        camera.close()
    print(f"from the first label to the live model: {seconds:.0f} s")


def looped(belt: Path) -> tuple[str, ...]:
    return ("--source", str(belt), "--loop", "--realtime", "--fps", "10", "--smooth", "1")


def kept_for(samples: Path, reason: str) -> list[str]:
    """Return the names of the samples that were kept for a reason."""
    found = read_samples(samples).samples if samples.is_dir() else ()
    return [sample.name for sample in found if reason in sample.reasons]


def measure_in_the_field(model: str, samples: Path, folder: Path) -> None:
    """Keep pictures of another belt at random, some each second where a real one has an hour, and label them."""
    (folder / "field").mkdir()
    belt = draw(folder / "other belt", range(50, 60))
    camera = CameraProcess(folder / "field", model, *looped(belt), "--keep", str(samples), "--keep-every", "0.5")
    try:
        wait_until(lambda: len(kept_for(samples, "random")) >= 4, 120, "random samples")
    finally:
        camera.close()
    run("samples", "label", samples, *kept_for(samples, "random"), "--as", "weave")


@pytest.fixture(scope="module")
def steel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of lite on drawn steel, its last layer fitted, and the int8 file of it."""
    folder = tmp_path_factory.mktemp("steel")
    run("data", "generate", "neu", folder / "pictures", "--count", "40", "--seed", "5")
    network = ("--network", "lite", "--size", "96", "--epochs", "0", "--no-report")
    train_run("train", folder / "pictures", *network, "--out", folder / "runs" / "steel")
    train_run("export", folder / "runs" / "steel", "--int8", "--format", "tflite", "--out", folder / "old")
    return folder


@pytest.mark.timeout(3600)
def test_an_unknown_part_is_kept_labelled_trained_compared_and_recognised(
    browser: webdriver.Chrome, steel: Path, tmp_path: Path
) -> None:
    belt, samples, port = draw(tmp_path / "belt", range(40)), tmp_path / "samples", find_port()
    old = str(steel / "old" / "pictures-int8.tflite")
    camera = CameraProcess(tmp_path, old, *looped(belt), "--keep", str(samples), "--web", str(port))
    try:
        wait_until(lambda: len(kept_for(samples, "novel")) >= 12, 240, "samples of what is novel")
        started_s = label_all_as(browser, port, "weave")
        wait_until(lambda: len(LabelLog(samples).read().of) >= 12, LIMIT_S, "labels")
    finally:
        camera.close()
    measure_in_the_field(old, samples, tmp_path)

    new_run = tmp_path / "steel-2"
    said = train_run(
        "train", "--from", steel / "runs" / "steel", "--add", samples, "--new-class", "weave", "--epochs", "1", "--out", new_run
    )
    assert "the new model is" in said and "field test, kept at random and never trained on" in said, said
    train_run("export", new_run, "--int8", "--format", "tflite", "--out", tmp_path / "new")
    new = tmp_path / "new" / "pictures-int8.tflite"
    verdict = run("compare", old, new, "--data", set_aside(tmp_path, seed=6))
    assert "the new model is better" in verdict, verdict

    (tmp_path / "after").mkdir()
    camera = CameraProcess(tmp_path / "after", str(new), *looped(belt))
    try:
        wait_until(lambda: len(camera.lines) >= 40, 60, "answers of the new model")
        seconds = time.monotonic() - started_s
        assert last_labels(camera, 40).count("weave") >= 30
    finally:
        camera.close()
    print(f"from the first label to the live model, with training: {seconds:.0f} s")
