"""Two cameras behind one real nginx, at sub-paths: every address holds, for browsers and for what is no browser."""

from __future__ import annotations

import base64
import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from pages import LIMIT_S, is_shown, open_page, read_log, state, text, wait_for_answer
from running import CameraProcess, find_port, wait_until
from selenium import webdriver
from selenium.webdriver.common.by import By

TOKENS = {"line-1": "a-token-for-the-first-line-0123", "line-2": "another-token-for-the-second-45"}


@pytest.fixture(scope="module")
def proxy(nginx: str, model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an nginx that serves two cameras at /line-1/ and /line-2/."""
    folder, port, cameras, places = tmp_path_factory.mktemp("proxy"), find_port(), [], ""
    for name, token in TOKENS.items():
        own = folder / name
        own.mkdir()
        (own / "token").write_text(token + "\n")
        (own / "token").chmod(0o600)
        behind = find_port()
        options = ("--source", "synthetic", "--web", str(behind), "--web-token-file", str(own / "token"))
        cameras.append(CameraProcess(own, model, *options))
        places += f"location /{name}/ {{ proxy_pass http://127.0.0.1:{behind}/; proxy_buffering off; }}\n"
    paths = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/errors; events {{}}\n"
        f"http {{ access_log off; {paths} server {{ listen 127.0.0.1:{port};\n{places}}} }}\n"
    )
    process = subprocess.Popen([nginx, "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: all(status(port, f"/{name}/healthz") == 200 for name in TOKENS), LIMIT_S, "cameras behind nginx")
        yield port
    finally:
        process.terminate()
        process.wait()
        for camera in cameras:
            camera.close()


def ask(port: int, path: str, headers: dict[str, str] | None = None, method: str = "GET") -> tuple[int, bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read(100_000)
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


def status(port: int, path: str, headers: dict[str, str] | None = None) -> int:
    return ask(port, path, headers)[0]


def basic(token: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"x:{token}".encode()).decode()}


def test_both_lines_are_live_side_by_side_each_with_its_own_token(proxy: int, browser: webdriver.Chrome) -> None:
    addresses = {}
    for name, token in TOKENS.items():
        open_page(browser, proxy, f"{name}/?token={token}")
        wait_for_answer(browser)
        wait_until(lambda: is_shown(browser, "picture"), LIMIT_S, "picture")
        addresses[name] = browser.current_url
    for name in TOKENS:  # the cookie of the second has not taken the first one's place
        browser.get(f"http://127.0.0.1:{proxy}/{name}/")
        wait_for_answer(browser)

    assert addresses == {name: f"http://127.0.0.1:{proxy}/{name}/" for name in TOKENS}


def test_everything_that_the_page_asks_for_is_there(proxy: int, browser: webdriver.Chrome) -> None:
    name, token = next(iter(TOKENS.items()))
    browser.delete_all_cookies()
    read_log(browser, "performance")
    open_page(browser, proxy, f"{name}/?token={token}")
    wait_for_answer(browser)
    wait_until(lambda: text(browser, "verdict").startswith("Parity "), LIMIT_S, "model card")
    links = [link.get_attribute("href") or "" for link in browser.find_elements(By.TAG_NAME, "a")]
    events = [json.loads(entry["message"])["message"] for entry in read_log(browser, "performance")]
    answers = [event["params"]["response"] for event in events if event["method"] == "Network.responseReceived"]

    asked = [answer for answer in answers if not answer["url"].startswith("data:")]
    assert {answer["status"] for answer in asked} == {200}
    assert all(answer["url"].startswith(f"http://127.0.0.1:{proxy}/{name}/") for answer in asked)
    assert len(links) >= 5 and all(link.startswith(f"http://127.0.0.1:{proxy}/{name}/") for link in links)


def test_an_alarm_is_acknowledged_through_the_proxy(proxy: int) -> None:
    name, token = next(iter(TOKENS.items()))
    wait_until(lambda: json.loads(ask(proxy, f"/{name}/api/today", basic(token))[1])["alarm"] is not None, 120, "alarm")
    number = json.loads(ask(proxy, f"/{name}/api/today", basic(token))[1])["alarm"]["number"]

    answer = ask(proxy, f"/{name}/api/acknowledge?number={number}", basic(token) | {"X-Edgecnn-Action": "1"}, "POST")

    assert answer == (200, b'{"acknowledged":true}')


@pytest.mark.parametrize("path", ["snapshot.jpg", "api/stats", "api/today", "metrics"])
def test_what_keeps_no_cookies_shows_the_token_in_a_header(proxy: int, path: str) -> None:
    (first, token), (second, other) = TOKENS.items()

    assert status(proxy, f"/{first}/{path}", {"Authorization": f"Bearer {token}"}) == 200
    assert status(proxy, f"/{first}/{path}", basic(token)) == 200
    assert status(proxy, f"/{first}/{path}", basic(other)) == 401
    assert status(proxy, f"/{second}/{path}", basic(other)) == 200


def test_a_browser_takes_the_token_as_a_password(proxy: int, browser: webdriver.Chrome) -> None:
    name, token = next(iter(TOKENS.items()))
    browser.delete_all_cookies()
    browser.get(f"http://anybody:{token}@127.0.0.1:{proxy}/{name}/login")

    wait_for_answer(browser)

    assert [cookie["path"] for cookie in browser.get_cookies()] == [f"/{name}"]
    assert state(browser) == "ok"


def test_without_a_token_a_stranger_is_refused_in_the_pages_own_clothes(proxy: int, browser: webdriver.Chrome) -> None:
    code, body = ask(proxy, "/line-1/api/stats")

    assert code == 401
    assert b"A token is needed" in body and b'href="../style.css"' in body
    assert status(proxy, "/line-1/style.css") == 200
