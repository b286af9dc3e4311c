"""Debian's Chromium before a real camera process: the picture moves, an answer can be read, strangers are refused."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from running import CameraProcess, CameraServer, find_port, wait_until
from selenium import webdriver
from selenium.webdriver.common.by import By

from edgecnn.artifacts import Artifact

TOKEN = "a-token-for-the-browser-0123456789"
_LIMIT_S = 30.0


@pytest.fixture(scope="session")
def browser(chromium: str, chromedriver: str) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    driver.set_page_load_timeout(_LIMIT_S)
    yield driver
    driver.quit()


def text(browser: webdriver.Chrome, element: str) -> str:
    return browser.find_element(By.ID, element).text


def state(browser: webdriver.Chrome) -> str:
    return browser.find_element(By.TAG_NAME, "body").get_attribute("data-state") or ""


def is_shown(browser: webdriver.Chrome, element: str) -> bool:
    return browser.find_element(By.ID, element).is_displayed()


def picture(browser: webdriver.Chrome) -> NDArray[np.uint8]:
    """Return what the browser shows of the live picture, in gray."""
    data = browser.find_element(By.ID, "picture").screenshot_as_png
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE), np.uint8)


def read_log(browser: webdriver.Chrome, kind: str) -> list[dict[str, Any]]:
    """Return what the browser has logged since it was last asked."""
    return list(browser.get_log(kind))  # type: ignore[no-untyped-call]


def open_page(browser: webdriver.Chrome, port: int, query: str = "") -> None:
    """Open the page when the camera is there."""

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(answers, _LIMIT_S, "page")
    browser.get(f"http://127.0.0.1:{port}/{query}")


@pytest.fixture(scope="module")
def watched(
    browser: webdriver.Chrome, model: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[webdriver.Chrome, int]]:
    """Return the browser that has opened the page of a synthetic camera."""
    port = find_port()
    camera = CameraProcess(tmp_path_factory.mktemp("page"), model, "--source", "synthetic", "--web", str(port))
    try:
        open_page(browser, port)
        wait_until(lambda: state(browser) == "ok", _LIMIT_S, "live page")
        yield browser, port
    finally:
        camera.close()


def test_the_picture_moves(watched: tuple[webdriver.Chrome, int]) -> None:
    browser, _ = watched
    wait_until(lambda: is_shown(browser, "picture") and float(picture(browser).std()) > 5, _LIMIT_S, "picture")
    first = picture(browser)

    wait_until(lambda: float(cv2.absdiff(first, picture(browser)).mean()) > 2, 10.0, "other picture")


def test_an_answer_can_be_read(watched: tuple[webdriver.Chrome, int], model: str) -> None:
    browser, _ = watched
    labels = Artifact.open(Path(model)).contract.labels

    wait_until(lambda: text(browser, "label") in (*labels, "unknown"), _LIMIT_S, "answer")

    assert "%" in text(browser, "probability")
    assert len(browser.find_elements(By.CSS_SELECTOR, "#bars li")) == len(labels)
    assert is_shown(browser, "input")


def test_the_model_card_tells_the_parity(watched: tuple[webdriver.Chrome, int]) -> None:
    browser, _ = watched

    wait_until(lambda: text(browser, "verdict").startswith("Parity "), _LIMIT_S, "model card")


def test_the_page_asks_nobody_else_and_breaks_no_policy(watched: tuple[webdriver.Chrome, int]) -> None:
    browser, port = watched
    time.sleep(2.0)

    events = [json.loads(entry["message"])["message"] for entry in read_log(browser, "performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]

    assert asked
    assert [url for url in asked if not url.startswith((f"http://127.0.0.1:{port}/", "data:image/"))] == []
    assert [entry for entry in read_log(browser, "browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def test_a_phone_needs_no_sideways_scrolling(watched: tuple[webdriver.Chrome, int]) -> None:
    browser, _ = watched
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        width = browser.execute_script("return document.documentElement.scrollWidth")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    assert width == 390


def test_without_the_token_the_browser_is_refused(browser: webdriver.Chrome, model: str, tmp_path: Path) -> None:
    port, file = find_port(), tmp_path / "token"
    file.write_text(TOKEN + "\n")
    options = ("--source", "synthetic", "--web", f"0.0.0.0:{port}", "--token-file", str(file))
    camera = CameraProcess(tmp_path, model, *options)
    try:
        open_page(browser, port)
        refused = browser.find_element(By.TAG_NAME, "h1").text
        browser.get(f"http://127.0.0.1:{port}/?token={TOKEN}")
        wait_until(lambda: state(browser) == "ok", _LIMIT_S, "live page")
        address = browser.current_url
        browser.get(f"http://127.0.0.1:{port}/")
        wait_until(lambda: state(browser) == "ok", _LIMIT_S, "live page by the cookie")
    finally:
        camera.close()

    assert refused == "A token is needed"
    assert address == f"http://127.0.0.1:{port}/"


def test_beyond_this_machine_the_camera_does_not_start_without_a_token(model: str, tmp_path: Path) -> None:
    camera = CameraProcess(tmp_path, model, "--source", "synthetic", "--web", f"0.0.0.0:{find_port()}")
    try:
        wait_until(lambda: not camera.alive, _LIMIT_S, "end")
    finally:
        camera.close()

    assert camera.returncode == 2
    assert "needs --token-file" in camera.said and "Traceback" not in camera.said


def test_a_camera_that_is_lost_takes_picture_and_answer_from_the_page(
    browser: webdriver.Chrome, model: str, tmp_path: Path
) -> None:
    server, port = CameraServer("mjpeg"), find_port()
    camera = CameraProcess(tmp_path, model, "--source", server.address, "--web", str(port))
    try:
        open_page(browser, port)
        wait_until(lambda: state(browser) == "ok" and is_shown(browser, "answer"), _LIMIT_S, "live page")
        server.trouble("die")
        took_s = wait_until(lambda: state(browser) == "stale", _LIMIT_S, "stale page")
        shown = [name for name in ("picture", "answer") if is_shown(browser, name)]
        reason = text(browser, "curtain-reason")
        server.recover("die")
        wait_until(lambda: state(browser) == "ok" and is_shown(browser, "answer"), _LIMIT_S, "live page again")
    finally:
        camera.close()
        server.close()

    assert took_s < 3.0
    assert shown == []
    assert reason.startswith("lost: ")


def test_a_process_that_hangs_takes_picture_and_answer_from_the_page(
    browser: webdriver.Chrome, model: str, tmp_path: Path
) -> None:
    port = find_port()
    camera = CameraProcess(tmp_path, model, "--source", "synthetic", "--web", str(port))
    try:
        open_page(browser, port)
        wait_until(lambda: state(browser) == "ok" and is_shown(browser, "answer"), _LIMIT_S, "live page")
        os.kill(camera.pid, signal.SIGSTOP)
        wait_until(lambda: state(browser) == "gone", 6.0, "page without a connection")
        shown = [name for name in ("picture", "answer") if is_shown(browser, name)]
        os.kill(camera.pid, signal.SIGCONT)
        wait_until(lambda: state(browser) == "ok" and is_shown(browser, "answer"), _LIMIT_S, "live page again")
    finally:
        camera.close()

    assert shown == []


def test_when_the_camera_has_ended_the_page_says_that_nobody_answers(
    browser: webdriver.Chrome, model: str, tmp_path: Path
) -> None:
    port = find_port()
    camera = CameraProcess(tmp_path, model, "--source", "synthetic", "--web", str(port))
    try:
        open_page(browser, port)
        wait_until(lambda: state(browser) == "ok" and is_shown(browser, "answer"), _LIMIT_S, "live page")
        camera.end()
        wait_until(lambda: state(browser) == "gone", 10.0, "page without a connection")
    finally:
        camera.close()

    assert camera.returncode == 0
    assert not is_shown(browser, "picture") and not is_shown(browser, "answer")
