"""What tests ask of a browser that shows the page."""

from __future__ import annotations

import socket
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from running import wait_until
from selenium import webdriver
from selenium.webdriver.common.by import By

LIMIT_S = 30.0


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

    wait_until(answers, LIMIT_S, "page")
    browser.get(f"http://127.0.0.1:{port}/{query}")


def wait_for_answer(browser: webdriver.Chrome) -> None:
    """Wait until the page is live and shows an answer."""
    wait_until(lambda: state(browser) == "ok" and is_shown(browser, "answer"), LIMIT_S, "live page")
