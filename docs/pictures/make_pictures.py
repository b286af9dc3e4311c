"""Make the pictures of the documentation: `make pictures`. Needs Chromium with its driver, and selenium (extra `system`).

The camera's page and the parity report are screenshots of the real thing; the plots about int8 are drawn from the shipped
steel model. The files are palette PNGs, small enough for a repository.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

import edgecnn as ec
from edgecnn.datasets.load import find_data

FOLDER = Path(__file__).parent
EDGECNN = Path(sys.executable).parent / "edgecnn"
LAYER = "block2_conv_1/convolution"
INK, WRONG = "#1565c0", "#c62828"
_MAX_BYTES, _WIDTH = 150_000, 960


def main() -> None:
    """Make all pictures again in the folder of this file."""
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        drawn = () if find_data("neu") else ("--data", "synthetic")
        _run("export", "neu", "--int8", "--out", str(work / "neu"), *drawn)
        _run("data", "generate", "neu", str(work / "steel"), "--count", "50", "--seed", "7")
        with _browser() as browser:
            _camera_page(browser, work)
            _parity_report(browser, work / "neu" / "parity.html")
        float32, int8 = work / "neu" / "neu-float32.tflite", work / "neu" / "neu-int8.tflite"
        pictures = [cv2.imread(str(path)) for path in sorted((work / "steel").rglob("*.png"))]
        _save(_weights(float32, int8), "int8-weights")
        _save(_ranges(float32, pictures[0]), "int8-range")
        _save(_answers(float32, int8, pictures), "int8-answers")


def _run(*arguments: str) -> None:
    subprocess.run([EDGECNN, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def _browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = _need("chromium")
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--force-prefers-reduced-motion",
        "--window-size=1320,1080",
    ):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(_need("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def _need(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        sys.exit(f"{program} is not installed: sudo apt-get install --no-install-recommends chromium chromium-driver")
    return found


def _camera_page(browser: webdriver.Chrome, work: Path) -> None:
    """The page of a camera that has been shown drawn steel with one defect after the other, the last of them scratches."""
    line = work / "line-1"
    line.mkdir()
    for number, path in enumerate(sorted((work / "steel").rglob("*_[1-4].png"), key=lambda path: (path.stem[-1], path.stem))):
        shutil.copy(path, line / f"{number:02d}.png")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as state:
        camera = [EDGECNN, "camera", "neu", "--web", str(port), "--no-terminal", "--state-dir", state]
        camera += ["--source", line.name, "--realtime", "--fps", "2", "--loop", "--smooth", "1"]
        process = subprocess.Popen(camera, cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_for_port(port)
            browser.get(f"http://127.0.0.1:{port}/")
            WebDriverWait(browser, 60).until(lambda b: b.find_element(By.TAG_NAME, "body").get_attribute("data-state") == "ok")
            time.sleep(15)  # some history for the chart, some defects for today's list
            WebDriverWait(browser, 60, 0.1).until(
                lambda b: b.find_element(By.ID, "answer").text.lower().startswith("scratches")
            )
            _save_png(browser.get_screenshot_as_png(), "page")
        finally:
            process.terminate()
            process.wait(20)


def _wait_for_port(port: int) -> None:
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    sys.exit("the camera's page did not come up")


def _parity_report(browser: webdriver.Chrome, page: Path) -> None:
    browser.get(page.as_uri())
    _save_png(browser.get_screenshot_as_png(), "parity")


def _weights(float32: Path, int8: Path) -> Figure:
    """One 3 x 3 kernel as floats and as the integers that stand for them."""
    floats = _constant(float32, LAYER)[0][0, :, :, 0]
    whole, scales = _constant(int8, LAYER)
    figure = Figure(figsize=(7, 3), layout="constrained")
    for axes, values, title, form in zip(
        figure.subplots(1, 2),
        (floats, whole[0, :, :, 0]),
        ("float32: 4 bytes each", f"int8: 1 byte each, scale {scales[0]:.4f}"),
        ("{:.4f}", "{:d}"),
        strict=True,
    ):
        largest = np.abs(values.astype(float)).max()
        axes.imshow(values, cmap="RdBu", vmin=-largest, vmax=largest)
        for y, x in np.ndindex(values.shape):
            dark = abs(float(values[y, x])) > 0.6 * largest
            axes.text(x, y, form.format(values[y, x]), ha="center", va="center", color="white" if dark else "black")
        axes.set(title=title, xticks=[], yticks=[])
    return figure


def _ranges(float32: Path, picture_bgr: NDArray[np.uint8]) -> Figure:
    """Activations of one layer, rounded by a range that fits, and by one that an outlier has stretched twentyfold."""
    values = _activations(float32, picture_bgr)
    fitting = float(values.max())
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    ranges = {"a range that fits": fitting, "stretched by one outlier": 20 * fitting}
    for axes, (title, reach) in zip(figure.subplots(1, 2, sharey=True), ranges.items(), strict=True):
        step = reach / 255
        levels = np.round(values / step)
        used, counts = np.unique(levels, return_counts=True)
        axes.bar(used * step, counts, width=step, color=INK)
        axes.set(title=f"{title}: {len(used)} of 256 steps used", xlabel="activation", xlim=(-step, fitting), yscale="log")
    figure.axes[0].set_ylabel("how often")
    return figure


def _answers(float32: Path, int8: Path, pictures: list[NDArray[np.uint8]]) -> Figure:
    """Probabilities of all classes of drawn pictures, from both files; red where the best class differs."""
    both = [ec.open(path, verify=False) for path in (float32, int8)]
    x, y = (np.array([list(model(picture).probabilities.values()) for picture in pictures]) for model in both)
    flipped = x.argmax(1) != y.argmax(1)
    figure = Figure(figsize=(4.2, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#b0bec5", linewidth=1)
    axes.scatter(x[~flipped], y[~flipped], s=5, color=INK, label=f"{(~flipped).sum()} pictures with the same answer")
    axes.scatter(x[flipped], y[flipped], s=12, color=WRONG, label=f"{flipped.sum()} with another")
    axes.set(xlabel="probability, float32", ylabel="probability, int8", aspect="equal")
    axes.legend(loc="upper left", fontsize=8)
    return figure


def _constant(path: Path, name: str) -> tuple[NDArray[Any], NDArray[np.float32]]:
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    tensor = next(
        each for each in interpreter.get_tensor_details() if each["name"].startswith(name) and len(each["shape"]) == 4
    )
    return interpreter.get_tensor(tensor["index"]), tensor["quantization_parameters"]["scales"]


def _activations(path: Path, picture_bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what the layer gives for a picture, without zeros."""
    with warnings.catch_warnings(action="ignore"):  # that it takes memory
        interpreter = Interpreter(str(path), experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    given = ec.Artifact.open(path).contract.preprocessing(picture_bgr)[None]
    takes = interpreter.get_input_details()[0]
    interpreter.set_tensor(takes["index"], given.astype(takes["dtype"]))
    interpreter.invoke()
    for tensor in interpreter.get_tensor_details():
        if "block2" in tensor["name"] and len(tensor["shape"]) == 4 and tensor["shape"][1] > 8:
            values = interpreter.get_tensor(tensor["index"]).ravel()
            if values.min() >= 0:
                return np.asarray(values[values > 0])
    sys.exit("no rectified activations of block2 in the float file")


def _save(figure: Figure, name: str) -> None:
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=110)
    _save_png(held.getvalue(), name)


def _save_png(data: bytes, name: str) -> None:
    """Write a palette PNG; what is too large for the repository gets fewer colors."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    if image.width > _WIDTH:
        image = image.resize((_WIDTH, round(image.height * _WIDTH / image.width)), Image.Resampling.LANCZOS)
    for colors in (256, 128, 64, 32, 16):
        held = io.BytesIO()
        image.quantize(colors, dither=Image.Dither.NONE).save(held, format="png", optimize=True)
        if held.tell() <= _MAX_BYTES:
            break
    path = FOLDER / f"{name}.png"
    path.write_bytes(held.getvalue())
    print(f"{path}: {held.tell() / 1000:.0f} kB, {colors} colors")


if __name__ == "__main__":
    main()
