"""Who is let in, and where the page may be served."""

from __future__ import annotations

import base64
import re
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
from web_page import TOKEN, Page, seen, serve

from edgecnn.cli.main import main
from edgecnn.errors import InputError, MissingDependencyError, OutputError
from edgecnn_device.web.options import WebOptions, parse_address, read_token, read_web_options
from edgecnn_device.web.server import bind


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with serve(TOKEN) as opened:
        opened.show(seen())
        yield opened


GUARDED = ["/", "/app.js", "/api/stats", "/api/model", "/api/live", "/api/predictions", "/api/history"]
GUARDED += ["/api/history.csv", "/api/today", "/api/region?id=1", "/metrics", "/snapshot.jpg", "/stream.mjpg", "/nowhere"]


@pytest.mark.parametrize("path", GUARDED)
def test_without_the_token_nothing_is_told(page: Page, path: str) -> None:
    status, headers, body = page.ask(path)

    assert (status, headers["www-authenticate"]) == (401, 'Basic realm="edgecnn", Bearer realm="edgecnn"')
    assert b"A token is needed" in body and b"gray" not in body


def test_without_the_token_health_is_the_state_alone(page: Page) -> None:
    assert page.json("/healthz") == {"state": "ok"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer \xff\xfe"},
        {"Cookie": f"edgecnn-0={TOKEN}"},
        {"Cookie": f"edgecnn={TOKEN}"},
        {"Cookie": ";;=;\x7f=="},
    ],
)
def test_a_wrong_proof_is_refused(page: Page, headers: dict[str, str]) -> None:
    assert page.status("/api/stats", headers=headers) == 401


@pytest.mark.parametrize("query", ["token=", "token=wrong", f"Token={TOKEN}", f"token=%20{TOKEN}", f"token=x&token={TOKEN}"])
def test_a_wrong_token_in_the_address_is_refused(page: Page, query: str) -> None:
    status, headers, _ = page.ask(f"/?{query}")

    assert status == 401
    assert "set-cookie" not in headers


def test_a_machine_shows_the_token_as_bearer(page: Page) -> None:
    assert page.status("/api/stats", headers={"Authorization": f"Bearer {TOKEN}"}) == 200


def test_the_first_visit_leads_to_the_address_without_the_token(page: Page) -> None:
    status, headers, _ = page.ask(f"/?a=1&token={TOKEN}")

    assert (status, headers["location"]) == (303, "./?a=1")


def test_the_cookie_of_the_first_visit_opens_everything(page: Page) -> None:
    cookie = page.ask(f"/?token={TOKEN}")[1]["set-cookie"].partition(";")[0]

    assert page.status("/api/stats", headers={"Cookie": f"other=1; {cookie}"}) == 200


def test_no_script_and_no_other_site_gets_the_cookie_and_it_does_not_tell_the_token(page: Page) -> None:
    cookie = page.ask(f"/?token={TOKEN}")[1]["set-cookie"]

    assert {"HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))
    assert "Path" not in cookie  # it belongs to the folder in which the browser sees the page, whatever a proxy makes of it
    assert TOKEN not in cookie


@pytest.mark.parametrize(
    "path", ["//evil.example/", "/\\evil.example/", "///evil.example", "/a//evil.example", "/..//evil.example"]
)
def test_the_first_visit_leads_nowhere_else(page: Page, path: str) -> None:
    _, headers, _ = page.ask(f"{path}?token={TOKEN}")

    assert urlsplit(urljoin(f"http://board{path}", headers["location"])).netloc == "board"


@pytest.mark.parametrize(("seen", "lands"), [("/line-1/", "/line-1/?a=1"), ("/a/b/snapshot.jpg", "/a/b/snapshot.jpg?a=1")])
def test_the_first_visit_behind_a_proxy_stays_behind_it(page: Page, seen: str, lands: str) -> None:
    asked = "/" + seen.rpartition("/")[2]  # what a proxy at a sub-path makes of it

    _, headers, _ = page.ask(f"{asked}?a=1&token={TOKEN}")

    assert urljoin(f"http://proxy{seen}", headers["location"]) == f"http://proxy{lands}"


def test_behind_tls_the_cookie_stays_there(page: Page) -> None:
    cookie = page.ask(f"/?token={TOKEN}", headers={"X-Forwarded-Proto": "https"})[1]["set-cookie"]

    assert "Secure" in cookie.split("; ")


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize("user", ["", "anybody", "öffentlich"])
def test_the_token_is_the_password_of_any_user(page: Page, user: str) -> None:
    assert page.status("/api/stats", headers=basic(user, TOKEN)) == 200


@pytest.mark.parametrize(
    "headers",
    [basic(TOKEN, ""), basic("a", TOKEN + "x"), basic("a", ""), {"Authorization": "Basic"}, {"Authorization": "Basic !!"},
     {"Authorization": "Basic " + base64.b64encode(b"\xff\xfe").decode()}, {"Authorization": f"Digest {TOKEN}"}],
)  # fmt: skip
def test_a_wrong_password_is_refused(page: Page, headers: dict[str, str]) -> None:
    assert page.status("/api/stats", headers=headers) == 401


def test_of_two_cookies_of_one_name_either_may_be_the_right_one(page: Page) -> None:
    name, _, value = page.ask(f"/?token={TOKEN}")[1]["set-cookie"].partition(";")[0].partition("=")

    for cookie in (f"{name}=other; {name}={value}", f"{name}={value}; {name}=other"):
        assert page.status("/api/stats", headers={"Cookie": cookie}) == 200


@pytest.mark.parametrize("path", ["/", "/api/stats", "/a/b/c"])
def test_who_is_refused_finds_the_way_from_wherever_that_was(page: Page, path: str) -> None:
    body = page.ask(path)[2].decode()

    links = re.findall(r'href="([^"]*)"', body)
    assert [urljoin(f"http://proxy/line-1{path}", link) for link in links] == [
        "http://proxy/line-1/style.css",
        "http://proxy/line-1/login",
    ]
    assert [urljoin(f"http://proxy/line-1{path}", to) for to in re.findall(r'action="([^"]*)"', body)] == [
        "http://proxy/line-1/"
    ]


def test_a_person_gets_a_form_and_no_dialog_and_a_program_a_challenge(page: Page) -> None:
    challenges = [page.ask("/", headers={"Accept": kind})[1]["www-authenticate"] for kind in ("text/html,*/*;q=0.8", "*/*")]

    assert challenges == ['Bearer realm="edgecnn"', 'Basic realm="edgecnn", Bearer realm="edgecnn"']


def test_who_signs_in_is_asked_by_the_browser_and_led_to_the_page(page: Page) -> None:
    refused = page.ask("/login", headers={"Accept": "text/html"})
    status, headers, _ = page.ask("/login", headers=basic("me", TOKEN) | {"Accept": "text/html"})

    assert (refused[0], refused[1]["www-authenticate"].partition(" ")[0]) == (401, "Basic")
    cookie = headers["set-cookie"].partition(";")[0]
    assert (status, headers["location"]) == (303, "./")
    assert page.status("/", headers={"Cookie": cookie}) == 200


def test_no_address_leads_to_where_the_host_header_says(page: Page) -> None:
    proof = {"Authorization": f"Bearer {TOKEN}", "Host": "evil.example"}

    status, headers, _ = page.ask("/app.js/", headers=proof)

    assert (status, headers.get("location")) == (404, None)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::1].evil:1", "10.0.0.7"])
def test_without_a_token_another_name_for_this_machine_is_refused(host: str) -> None:
    with serve() as page:
        assert page.status("/api/stats", headers={"Host": host}) == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9", "127.0.0.1:8080", "[::1]:8080", "127.0.0.2"])
def test_without_a_token_the_names_of_loopback_are_served(host: str) -> None:
    with serve() as page:
        assert page.status("/api/stats", headers={"Host": host}) == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "board.local", "localhost.example"])
def test_beyond_loopback_a_token_is_demanded(host: str) -> None:
    with pytest.raises(InputError, match="needs --web-token-file"):
        WebOptions(host, 8080)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_on_loopback_no_token_is_demanded(host: str) -> None:
    assert WebOptions(host, 8080).token is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8080", ("127.0.0.1", 8080)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::1]:0", ("::1", 0)),
        ("board.local:9", ("board.local", 9)),
    ],
)
def test_an_address_is_read(text: str, expected: tuple[str, int]) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize("text", ["", ":8080", "8080:", "a:b", "-1", "65536", "1:2:3", "::1:80", "[]:80", "٣", "1 "])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"give \[HOST:\]PORT"):
        parse_address(text)


@pytest.mark.parametrize("content", [b"", b"short", b"two words of a token", "mit-Umlaut-äöü-und-mehr".encode(), b"x" * 300])
def test_a_poor_token_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)

    with pytest.raises(InputError, match=r"a token is one line|must hold one line"):
        read_token(file)


def test_the_token_is_the_line_of_its_file_and_stands_in_no_text(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(stat.S_IRUSR)

    options = read_web_options("0.0.0.0:8080", file)

    assert options.token == TOKEN
    assert TOKEN not in repr(options)


def test_without_the_extra_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(MissingDependencyError, match=r"starlette and uvicorn .* pip install 'edgecnn\[web\]'"):
        read_web_options("8080", None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--web-token-file", "t"], "--web-token-file needs --web"),
        (["--web", "0.0.0.0:0"], "needs --web-token-file FILE"),
        (["--web", "nowhere"], "give [HOST:]PORT"),
    ],
)
def test_what_cannot_be_served_is_one_line(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["camera", "neu", *options])

    said = capsys.readouterr().err
    assert (end.value.code, said.count("\n")) == (2, 1)
    assert message in said


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(OutputError, match=f"cannot serve the page on 127.0.0.1:{port}: Address already in use"):
            bind(WebOptions("127.0.0.1", port))
