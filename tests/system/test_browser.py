"""Debian's Chromium before a real camera process: the picture moves, an answer can be read, strangers are refused."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
from pages import LIMIT_S, is_shown, open_page, picture, read_log, state, text, wait_for_answer
from running import CameraProcess, CameraServer, find_port, wait_until
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from edgecnn.artifacts import Artifact

TOKEN = "a-token-for-the-browser-0123456789"


@pytest.fixture(scope="module")
def watched(
    browser: webdriver.Chrome, model: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[webdriver.Chrome, int]]:
    """Return the browser that has opened the page of a synthetic camera."""
    port = find_port()
    camera = CameraProcess(tmp_path_factory.mktemp("page"), model, "--source", "synthetic", "--web", str(port))
    try:
        open_page(browser, port)
        wait_until(lambda: state(browser) == "ok", LIMIT_S, "live page")
        yield browser, port
    finally:
        camera.close()


def test_the_picture_moves(watched: tuple[webdriver.Chrome, int]) -> None:
    browser, _ = watched
    wait_until(lambda: is_shown(browser, "picture") and float(picture(browser).std()) > 5, LIMIT_S, "picture")
    first = picture(browser)

    wait_until(lambda: float(cv2.absdiff(first, picture(browser)).mean()) > 2, 10.0, "other picture")


def test_an_answer_can_be_read(watched: tuple[webdriver.Chrome, int], model: str) -> None:
    browser, _ = watched
    labels = Artifact.open(Path(model)).contract.labels

    words = [label.replace("_", " ") for label in labels]
    wait_until(lambda: text(browser, "label").lower() in (*words, "none of these"), LIMIT_S, "answer")

    assert "%" in text(browser, "probability")
    assert len(browser.find_elements(By.CSS_SELECTOR, "#bars li")) == len(labels)
    assert is_shown(browser, "input")


def test_the_parity_can_be_seen_and_the_technical_part_is_below_a_fold(watched: tuple[webdriver.Chrome, int]) -> None:
    browser, _ = watched
    wait_until(lambda: text(browser, "verdict") == "Parity pass", LIMIT_S, "model card")
    folded = [is_shown(browser, name) for name in ("latency", "verdict-words", "model")]

    browser.find_element(By.TAG_NAME, "summary").click()
    unfolded = [is_shown(browser, name) for name in ("latency", "verdict-words", "model")]
    words = text(browser, "verdict-words")
    browser.find_element(By.TAG_NAME, "summary").click()

    assert (folded, unfolded) == ([False] * 3, [True] * 3)
    assert words.startswith("On labelled pictures this file is as right as the trained model")


def test_the_time_of_day_goes_on(watched: tuple[webdriver.Chrome, int]) -> None:
    browser, _ = watched
    first = text(browser, "clock")

    wait_until(lambda: text(browser, "clock") != first, 5.0, "other second")

    assert re.fullmatch(r"[0-2]\d:[0-5]\d:[0-5]\d", first)


def test_a_hidden_window_leaves_its_connection_to_others(watched: tuple[webdriver.Chrome, int]) -> None:
    browser, port = watched
    own = browser.current_window_handle
    browser.switch_to.new_window("tab")  # the page's tab is hidden behind it
    try:
        wait_until(lambda: viewers(port) == 0, LIMIT_S, "page without a connection")
    finally:
        browser.close()
        browser.switch_to.window(own)
    wait_until(lambda: viewers(port) == 1 and state(browser) == "ok", LIMIT_S, "live page again")


def viewers(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/stats") as answer:
        return sum(json.load(answer)["viewers"].values())


def test_four_windows_are_all_live_at_the_same_time(watched: tuple[webdriver.Chrome, int]) -> None:
    browser, port = watched
    own = browser.current_window_handle
    try:
        for _ in range(3):
            browser.switch_to.new_window("window")
            browser.get(f"http://127.0.0.1:{port}/")
        for handle in browser.window_handles:
            browser.switch_to.window(handle)
            wait_for_answer(browser)
            wait_until(lambda: is_shown(browser, "picture"), LIMIT_S, "picture")
        watching = viewers(port)
        for handle in browser.window_handles:
            browser.switch_to.window(handle)
            first = picture(browser)
            wait_until(lambda first=first: float(cv2.absdiff(first, picture(browser)).mean()) > 2, 10, "motion")  # type: ignore[misc]
    finally:
        for handle in browser.window_handles:
            browser.switch_to.window(handle)
            if handle != own:
                browser.close()
        browser.switch_to.window(own)

    assert watching == 4


def test_the_page_asks_nobody_else_and_breaks_no_policy(watched: tuple[webdriver.Chrome, int]) -> None:
    browser, port = watched
    time.sleep(2.0)

    events = [json.loads(entry["message"])["message"] for entry in read_log(browser, "performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]

    assert asked
    assert [url for url in asked if not url.startswith((f"http://127.0.0.1:{port}/", "data:image/"))] == []
    assert [entry for entry in read_log(browser, "browser") if entry["level"] in ("SEVERE", "WARNING")] == []


@contextlib.contextmanager
def phone(browser: webdriver.Chrome) -> Iterator[None]:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        yield
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_phone_needs_no_sideways_scrolling(watched: tuple[webdriver.Chrome, int]) -> None:
    browser, _ = watched
    with phone(browser):
        width = browser.execute_script("return document.documentElement.scrollWidth")

    assert width == 390


@pytest.fixture
def tiled(browser: webdriver.Chrome, model: str, tmp_path: Path) -> Iterator[tuple[webdriver.Chrome, int]]:
    """A camera that looks at six tiles and calls everything something, so that there is always a defect."""
    port = find_port()
    options = ("--source", "synthetic", "--tiles", "6x1", "--reject", "0", "--novelty", "100", "--web", str(port))
    camera = CameraProcess(tmp_path, model, *options)
    try:
        open_page(browser, port)
        wait_for_answer(browser)
        yield browser, port
    finally:
        camera.close()


# Read in one go: the page changes many times a second.
_SHOWN = """
const buttons = [...document.querySelectorAll("#regions button")].map((button) => button.lastChild.textContent);
return [document.getElementById("label").textContent, document.getElementById("where").textContent, buttons];
"""


def test_the_headline_is_the_worst_tile(tiled: tuple[webdriver.Chrome, int]) -> None:
    browser, _ = tiled
    places = set()
    for _ in range(60):
        label, where, buttons = browser.execute_script(_SHOWN)
        place = int(where.removeprefix("Worst: position ").removesuffix(" of 6"))
        # A defect that is named is worse than what is like nothing known, however sure the model is of its best guess.
        named = [not words.startswith(("never seen", "unsure")) for words in buttons]
        sureness = [
            (is_named, float(words.rpartition(" ")[2].split("\u202f")[0]))
            for is_named, words in zip(named, buttons, strict=True)
        ]
        assert sureness[place - 1] == max(sureness)
        assert buttons[place - 1].startswith(label)
        places.add(place)
        time.sleep(0.1)

    assert len(places) > 1


def test_labels_on_the_picture_can_be_read_on_a_phone(tiled: tuple[webdriver.Chrome, int]) -> None:
    browser, _ = tiled
    with phone(browser):
        wait_until(lambda: bool(browser.find_elements(By.CSS_SELECTOR, ".box.worst span")), LIMIT_S, "box")
        size, inside = browser.execute_script("""
            const label = document.querySelector(".box.worst span").getBoundingClientRect();
            const picture = document.getElementById("screen").getBoundingClientRect();
            return [parseFloat(getComputedStyle(document.querySelector(".box.worst span")).fontSize),
                    label.left >= picture.left - 1 && label.right <= picture.right + 1];
        """)

    assert size >= 14
    assert inside


def test_a_tap_on_a_tile_explains_its_answer(tiled: tuple[webdriver.Chrome, int]) -> None:
    browser, _ = tiled
    with phone(browser):
        screen = browser.find_element(By.ID, "screen")
        aside = -screen.size["width"] // 2 + 5  # into the first of six tiles; a click is meant from the middle
        ActionChains(browser).move_to_element_with_offset(screen, aside, 0).click().perform()
        wait_until(lambda: is_shown(browser, "why-input"), LIMIT_S, "explanation")
        words, bars = text(browser, "why-when"), browser.find_elements(By.CSS_SELECTOR, "#why-bars li")
        width = browser.execute_script("return document.getElementById('why').scrollWidth")
        aged = wait_until(lambda: text(browser, "why-when").endswith("3 s ago."), LIMIT_S, "age")

    assert words.startswith("Position 1. Picture of ")
    assert len(bars) == 6
    assert text(browser, "why-likeness").startswith("Novelty ")
    assert width <= 390
    assert aged > 0.5


def test_an_answer_is_explained_by_keyboard_alone(tiled: tuple[webdriver.Chrome, int]) -> None:
    browser, _ = tiled
    shown = []
    browser.find_element(By.ID, "explain").send_keys(Keys.ENTER)
    wait_until(lambda: is_shown(browser, "why-input"), LIMIT_S, "explanation")
    for name in ("class", "novelty"):
        before = is_shown(browser, f"why-{name}")
        browser.find_element(By.ID, f"show-{name}").send_keys(Keys.SPACE)
        shown.append(sorted((before, is_shown(browser, f"why-{name}"))))
    browser.find_element(By.ID, "why-again").send_keys(Keys.ENTER)
    wait_until(lambda: "0 s ago" in text(browser, "why-when"), LIMIT_S, "newer explanation")
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)

    assert shown == [[False, True]] * 2
    wait_until(lambda: not is_shown(browser, "why"), LIMIT_S, "closed explanation")


def test_a_tile_that_was_chosen_stays_until_it_is_let_go(tiled: tuple[webdriver.Chrome, int]) -> None:
    browser, _ = tiled
    browser.find_elements(By.CSS_SELECTOR, "#regions button")[2].click()
    chosen = {browser.execute_script(_SHOWN)[1] for _ in range(20) if not time.sleep(0.1)}
    browser.find_element(By.ID, "unpin").click()

    assert chosen == {"Position 3 of 6"}
    assert browser.execute_script(_SHOWN)[1].startswith("Worst: position ")


def test_an_alarm_is_seen_in_all_windows_until_it_is_acknowledged_in_one(tiled: tuple[webdriver.Chrome, int]) -> None:
    browser, port = tiled
    own = browser.current_window_handle
    wait_until(lambda: is_shown(browser, "alarm"), LIMIT_S, "alarm")
    browser.switch_to.new_window("window")
    try:
        browser.get(f"http://127.0.0.1:{port}/")
        wait_until(lambda: is_shown(browser, "alarm"), LIMIT_S, "alarm in the other window")
        number = today(port)["alarm"]["number"]
        browser.find_element(By.ID, "acknowledge").click()
        wait_until(lambda: today(port)["alarm"]["number"] > number or not is_shown(browser, "alarm"), 5, "acknowledgement")
        acknowledged = today(port)["alarm"]
    finally:
        browser.close()
        browser.switch_to.window(own)

    # On a strip that moves the next defect is not far: then it has the next number, and an alarm of its own.
    assert acknowledged["acknowledged_at"] is not None or acknowledged["number"] == number + 1
    alarm = today(port)["alarm"]
    wait_until(lambda: is_shown(browser, "alarm") == (today(port)["alarm"]["acknowledged_at"] is None), 5, "same window")
    assert alarm["number"] >= number


def test_an_alarm_says_when_and_where_a_defect_came(tiled: tuple[webdriver.Chrome, int]) -> None:
    browser, _ = tiled
    wait_until(lambda: is_shown(browser, "alarm"), LIMIT_S, "alarm")

    words = text(browser, "alarm-words")

    assert re.match(r"(In view since|Seen at) \d\d:\d\d:\d\d, first at position [1-6]( · |$)", words), words


def test_a_camera_that_runs_the_last_good_model_says_so_above_the_picture(
    browser: webdriver.Chrome, model: str, tmp_path: Path
) -> None:
    port, file = find_port(), Path(shutil.copy(model, tmp_path / "m.tflite"))
    options = ("--source", "synthetic", "--state-dir", str(tmp_path / "state"), "--web", str(port))
    first = CameraProcess(tmp_path, str(file), *options)
    open_page(browser, port)
    wait_for_answer(browser)
    first.close()
    file.unlink()
    camera = CameraProcess(tmp_path, str(file), *options)
    try:
        open_page(browser, port)
        wait_until(lambda: is_shown(browser, "warning"), LIMIT_S, "warning")
        words = text(browser, "warning")
        gap = browser.execute_script("""
            const [warning, main] = ["#warning", "main"].map((name) => document.querySelector(name).getBoundingClientRect());
            return main.top - warning.bottom;
        """)
    finally:
        camera.close()

    assert words.lower().startswith("running the last good model, of 2") and "m.tflite" in words
    assert gap >= 8


def today(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/today") as answer:
        body: dict[str, Any] = json.load(answer)
        return body


_THUMBS = "#today .thumb button:not([hidden])"


def test_the_day_counts_classes_and_shows_the_last_picture_of_each_defect(tiled: tuple[webdriver.Chrome, int]) -> None:
    browser, port = tiled
    wait_until(lambda: bool(browser.find_elements(By.CSS_SELECTOR, _THUMBS)), LIMIT_S, "last picture")

    browser.find_elements(By.CSS_SELECTOR, _THUMBS)[0].click()
    large = is_shown(browser, "large-picture")
    browser.find_element(By.CSS_SELECTOR, "#large button").click()

    counted = [count for count in today(port)["counts"] if count["count"]]
    assert large and counted
    assert len(browser.find_elements(By.CSS_SELECTOR, "#today tr")) == 6


def test_without_the_token_the_browser_is_refused(browser: webdriver.Chrome, model: str, tmp_path: Path) -> None:
    port, file = find_port(), tmp_path / "token"
    file.write_text(TOKEN + "\n")
    options = ("--source", "synthetic", "--web", f"0.0.0.0:{port}", "--web-token-file", str(file))
    camera = CameraProcess(tmp_path, model, *options)
    try:
        open_page(browser, port)
        refused = browser.find_element(By.TAG_NAME, "h1").text
        browser.find_element(By.ID, "token").send_keys(TOKEN + "\n")
        wait_until(lambda: state(browser) == "ok", LIMIT_S, "live page by the form")
        browser.delete_all_cookies()
        browser.get(f"http://127.0.0.1:{port}/?token={TOKEN}")
        wait_until(lambda: state(browser) == "ok", LIMIT_S, "live page")
        address = browser.current_url
        browser.get(f"http://127.0.0.1:{port}/")
        wait_until(lambda: state(browser) == "ok", LIMIT_S, "live page by the cookie")
    finally:
        camera.close()

    assert refused == "A token is needed"
    assert address == f"http://127.0.0.1:{port}/"


def test_beyond_this_machine_the_camera_does_not_start_without_a_token(model: str, tmp_path: Path) -> None:
    camera = CameraProcess(tmp_path, model, "--source", "synthetic", "--web", f"0.0.0.0:{find_port()}")
    try:
        wait_until(lambda: not camera.alive, LIMIT_S, "end")
    finally:
        camera.close()

    assert camera.returncode == 2
    assert "needs --web-token-file" in camera.said and "Traceback" not in camera.said


def test_a_camera_that_is_lost_takes_picture_and_answer_from_the_page(
    browser: webdriver.Chrome, model: str, tmp_path: Path
) -> None:
    server, port = CameraServer("mjpeg"), find_port()
    camera = CameraProcess(tmp_path, model, "--source", server.address, "--web", str(port))
    try:
        open_page(browser, port)
        wait_until(lambda: state(browser) == "ok" and is_shown(browser, "answer"), LIMIT_S, "live page")
        server.trouble("die")
        took_s = wait_until(lambda: state(browser) == "stale", LIMIT_S, "stale page")
        shown = [name for name in ("picture", "answer") if is_shown(browser, name)]
        reason = text(browser, "curtain-reason").lower()
        wait_until(lambda: text(browser, "curtain-retry").startswith("Next try in "), LIMIT_S, "next try")
        whole = browser.find_element(By.TAG_NAME, "body").text
        server.recover("die")
        wait_until(lambda: state(browser) == "ok" and is_shown(browser, "answer"), LIMIT_S, "live page again")
    finally:
        camera.close()
        server.close()

    assert took_s < 3.0
    assert shown == []
    assert reason.startswith("lost: ")
    assert whole.count("127.0.0.1") == 1
    assert "Last picture at " in whole


def test_a_process_that_hangs_takes_picture_and_answer_from_the_page(
    browser: webdriver.Chrome, model: str, tmp_path: Path
) -> None:
    port = find_port()
    camera = CameraProcess(tmp_path, model, "--source", "synthetic", "--web", str(port))
    try:
        open_page(browser, port)
        wait_until(lambda: state(browser) == "ok" and is_shown(browser, "answer"), LIMIT_S, "live page")
        os.kill(camera.pid, signal.SIGSTOP)
        wait_until(lambda: state(browser) == "gone", 6.0, "page without a connection")
        shown = [name for name in ("picture", "answer") if is_shown(browser, name)]
        os.kill(camera.pid, signal.SIGCONT)
        wait_until(lambda: state(browser) == "ok" and is_shown(browser, "answer"), LIMIT_S, "live page again")
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
        wait_until(lambda: state(browser) == "ok" and is_shown(browser, "answer"), LIMIT_S, "live page")
        camera.end()
        wait_until(lambda: state(browser) == "gone", 10.0, "page without a connection")
    finally:
        camera.close()

    assert camera.returncode == 0
    assert not is_shown(browser, "picture") and not is_shown(browser, "answer")
