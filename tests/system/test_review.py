"""Chromium before the page on which samples are labelled: by keyboard alone, on a phone, and while things go wrong."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pages import LIMIT_S, is_shown, open_page, read_log, text
from running import find_port, wait_until
from sample_files import keep
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from edgecnn.samples.labels import FILE, LabelLog, Labels

SAMPLES, LOOK_S, MOST_S = 100, 1.0, 180.0  # a second to look at each is a person's part


class ReviewProcess:
    """`edgecnn review` as a process of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = find_port()
        self._errors = folder.with_suffix(".stderr")
        command = [sys.executable, "-m", "edgecnn", "review", str(folder), "--web", str(self.port), *options]
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> tuple[int, str]:
        """End as Ctrl-C does; return the exit code and what was written."""
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(LIMIT_S), self._errors.read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A hundred samples that look like nothing else, so that each has to be labelled by itself."""
    random = np.random.default_rng(0)
    for number in range(SAMPLES):
        features = random.normal(size=64).tolist()
        guess = f"class {number % 4}"
        keep(tmp_path, number, after_s=60.0 * number, features=features, label=guess, nearest=guess)
    return tmp_path


@pytest.fixture
def page(browser: webdriver.Chrome, folder: Path) -> Iterator[ReviewProcess]:
    process = ReviewProcess(folder)
    try:
        open_page(browser, process.port)
        wait_until(lambda: is_shown(browser, "palette"), LIMIT_S, "list of samples")
        yield process
    finally:
        process.kill()


def press(browser: webdriver.Chrome, *keys: str) -> None:
    ActionChains(browser).send_keys(*keys).perform()


def labels(folder: Path) -> Labels:
    return LabelLog(folder).read()


def test_a_hundred_samples_are_labelled_by_keyboard_within_three_minutes(
    browser: webdriver.Chrome, page: ReviewProcess, folder: Path
) -> None:
    started_s = time.monotonic()
    for number in range(SAMPLES):
        wait_until(
            lambda: browser.execute_script("return document.querySelector('.current img')?.naturalWidth > 0"), 5, "picture"
        )
        press(browser, "123"[number % 3])
    wait_until(lambda: len(labels(folder).of) == SAMPLES, LIMIT_S, "log of all labels")
    seconds = time.monotonic() - started_s

    print(f"{SAMPLES} samples in {seconds:.0f} s without the time to look")
    assert seconds + SAMPLES * LOOK_S < MOST_S
    wait_until(lambda: text(browser, "counts") == f"{SAMPLES} of {SAMPLES} labelled", 5, "count")
    counts = [said.label for said in labels(folder).of.values()]
    assert [counts.count(label) for label in sorted(set(counts))] == [34, 33, 33]


def test_everything_is_done_by_keyboard(browser: webdriver.Chrome, page: ReviewProcess, folder: Path) -> None:
    press(browser, "n")
    wait_until(lambda: is_shown(browser, "naming"), 5, "dialog")
    press(browser, "new kind", Keys.ENTER)
    press(browser, "o", "b", Keys.ARROW_DOWN, "1", "u")
    wait_until(lambda: text(browser, "counts") == "3 of 100 labelled", LIMIT_S, "answers")

    assert sorted(said.label for said in labels(folder).of.values()) == ["_bad", "_other", "new kind"]
    assert "new kind" in text(browser, "classes")


def test_a_class_that_is_called_by_a_digit_has_that_key(browser: webdriver.Chrome, page: ReviewProcess, folder: Path) -> None:
    press(browser, "n")
    wait_until(lambda: is_shown(browser, "naming"), 5, "dialog")
    press(browser, "2", Keys.ENTER)
    wait_until(lambda: len(browser.find_elements(By.CSS_SELECTOR, "#classes button")) == 6, LIMIT_S, "new class")
    press(browser, "2", "3")
    wait_until(lambda: text(browser, "counts") == "3 of 100 labelled", LIMIT_S, "answers")

    assert [act.label for act in labels(folder).acts] == ["2", "2", "class 1"]


def test_a_label_that_was_answered_survives_a_kill_and_the_page_says_when_one_was_not(
    browser: webdriver.Chrome, page: ReviewProcess, folder: Path
) -> None:
    press(browser, "1")
    wait_until(lambda: text(browser, "counts") == "1 of 100 labelled", LIMIT_S, "answer")
    page.kill()
    press(browser, "2")
    wait_until(lambda: is_shown(browser, "notice"), LIMIT_S, "notice")

    assert text(browser, "notice").startswith("Not labelled")
    assert text(browser, "counts").startswith("1 of 100")
    assert len(labels(folder).of) == 1


def test_a_phone_needs_no_sideways_scrolling_and_its_buttons_can_be_hit(
    browser: webdriver.Chrome, page: ReviewProcess, folder: Path
) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        browser.refresh()
        wait_until(lambda: is_shown(browser, "palette"), LIMIT_S, "list")
        width = browser.execute_script("return document.documentElement.scrollWidth")
        heights = [button.size["height"] for button in browser.find_elements(By.CSS_SELECTOR, "#palette button")]
        browser.find_elements(By.CSS_SELECTOR, "#classes button")[1].click()
        wait_until(lambda: len(labels(folder).of) == 1, LIMIT_S, "label")
        below = browser.execute_script(
            "return [document.querySelector('.current').getBoundingClientRect().bottom,"
            " document.getElementById('palette').getBoundingClientRect().top]"
        )
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    assert width == 390
    assert min(heights) >= 44
    assert below[0] <= below[1]  # what is to be labelled is not behind the buttons


def test_a_sample_whose_picture_goes_is_said_in_its_place(browser: webdriver.Chrome, page: ReviewProcess, folder: Path) -> None:
    for path in folder.glob("*.png"):
        path.unlink()
    browser.refresh()
    wait_until(lambda: is_shown(browser, "palette"), LIMIT_S, "list")

    assert browser.find_element(By.CSS_SELECTOR, ".current .gone").text == "the picture is gone"


def test_the_page_breaks_no_policy_and_ends_at_ctrl_c(browser: webdriver.Chrome, page: ReviewProcess, folder: Path) -> None:
    read_log(browser, "browser")
    press(browser, "1")
    wait_until((folder / FILE).exists, LIMIT_S, "label")

    assert [entry for entry in read_log(browser, "browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    code, said = page.close()
    assert code == 0 and "Traceback" not in said
