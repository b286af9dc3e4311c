"""What the tests against real peers share: the model under test, and free ports. `make test-system` installs the peers."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import need
from selenium import webdriver

import edgecnn.shipped

_MAKE_ARTIFACTS = Path(__file__).parents[1] / "device" / "conftest.py"


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The shipped int8 model of neu; while there is none, a tiny untrained one of the same form."""
    shipped = Path(edgecnn.shipped.__file__).parent / "neu-int8.tflite"
    if shipped.exists():
        return str(shipped)
    folder = tmp_path_factory.mktemp("artifacts")
    make = f"import runpy, sys; exec(runpy.run_path({str(_MAKE_ARTIFACTS)!r})['MAKE'])"
    subprocess.run([sys.executable, "-c", make, str(folder)], check=True, capture_output=True, timeout=300)
    return str(folder / "neu.tflite")


@pytest.fixture(scope="session")
def mosquitto() -> str:
    return need("mosquitto")


@pytest.fixture(scope="session")
def chromium() -> str:
    return need("chromium")


@pytest.fixture(scope="session")
def chromedriver() -> str:
    return need("chromedriver")


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def nginx() -> str:
    return need("nginx")


@pytest.fixture(scope="session")
def browser(chromium: str, chromedriver: str) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    driver.set_page_load_timeout(30)
    yield driver
    driver.quit()
