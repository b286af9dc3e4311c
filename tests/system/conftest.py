"""What the tests against real peers share: the model under test, and free ports. `make test-system` installs the peers."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from brokers import Mosquitto
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


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A CA of one's own, a certificate of it for localhost, and another CA that nobody trusts."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=tmp_path, check=True, capture_output=True)

    for name in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                "-subj", f"/CN=test {name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")  # fmt: skip
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost",
            "-keyout", "server.key", "-out", "server.csr")  # fmt: skip
    (tmp_path / "names").write_text("subjectAltName=DNS:localhost\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", "names", "-out", "server.pem")  # fmt: skip
    return tmp_path


@pytest.fixture
def guarded(mosquitto: str, certificates: Path) -> Iterator[Mosquitto]:
    """A broker that wants TLS and a password."""
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(certificates / "users"), "edge", "hunter2"], check=True)
    process = Mosquitto(
        mosquitto, certificates, "allow_anonymous false", f"password_file {certificates / 'users'}",
        f"cafile {certificates / 'ca.pem'}", f"certfile {certificates / 'server.pem'}",
        f"keyfile {certificates / 'server.key'}",
    )  # fmt: skip
    yield process
    process.kill()


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
