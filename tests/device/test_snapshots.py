from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest
from device_fakes import a_second
from mjpeg_server import read_time
from snapshot_server import PASSWORD, USER, SnapshotServer, as_jpeg

from edgecnn.errors import CameraError
from edgecnn_device.frames import Frame, Missing
from edgecnn_device.sources import SourceOptions, open_source
from edgecnn_device.sources.http_login import Login
from edgecnn_device.sources.live import Idle, Picture
from edgecnn_device.sources.process import ProcessCamera, Request
from edgecnn_device.sources.snapshot import Snapshots, try_snapshots

Serve = Callable[..., SnapshotServer]
LOGIN = f"{USER}:{quote(PASSWORD, safe='')}@"


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers, which end with the test."""
    servers: list[SnapshotServer] = []

    def begin(*arguments: object, **options: object) -> SnapshotServer:
        servers.append(SnapshotServer(*arguments, **options))  # type: ignore[arg-type]
        return servers[-1]

    yield begin
    for server in servers:
        server.close()


Ask = Callable[..., Snapshots]


@pytest.fixture
def ask() -> Iterator[Ask]:
    """Begin to poll an address; the connections are closed with the test."""
    polled: list[Snapshots] = []

    def begin(address: str, *, fps: float | None = 50.0, read_timeout_s: float = 5.0) -> Snapshots:
        found = try_snapshots(Request("stream", address, fps=fps, read_timeout_s=read_timeout_s))
        assert found is not None
        polled.append(found)
        return found

    yield begin
    for snapshots in polled:
        snapshots.close()


@pytest.mark.parametrize("path", ["/snap.jpg", "/cgi-bin/snapshot.cgi?channel=1", "/moved.jpg"])
def test_an_address_that_gives_a_picture_is_polled_over_one_connection(serve: Serve, ask: Ask, path: str) -> None:
    server = serve()
    read = ask(server.address(path))

    seen_s = [read_time(image) for image in (read() for _ in range(5)) if image is not None]

    assert len(seen_s) == 5
    assert seen_s == sorted(set(seen_s))
    assert server.connections == 1


def test_it_is_polled_at_the_rate_that_was_asked_for(serve: Serve, ask: Ask) -> None:
    server = serve()
    read = ask(server.address(), fps=10.0)

    for _ in range(6):
        read()

    took_s = server.asked_s[-1] - server.asked_s[0]
    assert 0.45 < took_s < 1.0 * a_second()


def test_without_a_rate_it_is_polled_once_a_second(serve: Serve, ask: Ask) -> None:
    server = serve()
    read = ask(server.address(), fps=None, read_timeout_s=10.0)

    for _ in range(2):
        read()

    assert 0.9 < server.asked_s[1] - server.asked_s[0] < 3


@pytest.mark.parametrize("mark", ["none", "etag", "last-modified"])
def test_a_picture_that_has_not_changed_is_no_new_frame(serve: Serve, ask: Ask, mark: str) -> None:
    server = serve("none", mark, changes=False)
    read = ask(server.address())

    seen = [read() for _ in range(4)]

    assert seen[0] is not None
    assert seen[1:] == [None] * 3
    assert read.idle_reason == "the camera still gives the same picture"
    assert server.not_modified == (0 if mark == "none" else 3)


@pytest.mark.parametrize("login", ["basic", "digest", "digest without qop", "digest sha-256"])
def test_it_logs_in_as_the_server_wants_it_and_only_once(serve: Serve, ask: Ask, login: str) -> None:
    server = serve(login)
    read = ask(server.address(login=LOGIN))

    assert all(read() is not None for _ in range(3))

    assert sum("Authorization" not in headers for headers in server.asked) == 1
    assert len(server.asked) == 4


@pytest.mark.parametrize("login", ["basic", "digest"])
@pytest.mark.parametrize("given", ["", "admin:wrong@"])
def test_a_wrong_login_is_one_clear_error_without_the_password(serve: Serve, ask: Ask, login: str, given: str) -> None:
    server = serve(login)

    with pytest.raises(CameraError, match="refuses the login") as raised:
        ask(server.address(login=given))

    assert "wrong" not in str(raised.value)
    assert len(server.asked) <= 2


def test_a_login_with_line_ends_is_refused_before_anything_is_sent(serve: Serve, ask: Ask) -> None:
    server = serve("digest")

    with pytest.raises(CameraError, match="cannot be sent"):
        ask(server.address(login="admin%0d%0aX:1@"))

    assert server.connections == 0


def test_a_login_that_is_not_known_is_named(serve: Serve, ask: Ask) -> None:
    with pytest.raises(CameraError, match="a login that is not supported here: Negotiate"):
        ask(serve("other").address(login=LOGIN))


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_digests_are_those_of_the_example_in_rfc_7616(algorithm: str, response: str) -> None:
    login = Login("Mufasa", "Circle of Life", lambda: "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ")
    login.hear(
        [
            f'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={algorithm}, '
            'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
        ]
    )

    header = login.header("GET", "/dir/index.html") or ""

    assert f'response="{response}"' in header
    assert f"qop=auth, nc=00000001, algorithm={algorithm}" in header


def test_a_server_that_closes_each_connection_is_connected_to_again(serve: Serve, ask: Ask) -> None:
    server = serve(keeps_alive=False)
    read = ask(server.address())

    assert all(read() is not None for _ in range(3))
    assert server.connections == 3


def test_a_damaged_picture_is_passed_over_and_said(serve: Serve, ask: Ask) -> None:
    server = serve()
    read = ask(server.address())
    read()
    server.body = as_jpeg(1.0)[:2000]

    assert read() is None
    assert "damaged" in read.idle_reason
    server.body = None
    assert read() is not None


def test_an_error_page_instead_of_a_picture_ends_the_connection_with_the_reason(serve: Serve, ask: Ask) -> None:
    server = serve()
    read = ask(server.address())
    read()
    server.kind, server.body = "text/html", b"<h1>please log in</h1>"

    with pytest.raises(CameraError, match="no longer answers with a picture: text/html"):
        read()


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [("/snap.jpg", 404, "answers 404 Not Found"), ("/round.jpg", 200, "redirects endlessly")],
)
def test_an_address_without_a_picture_says_what_it_answers(serve: Serve, ask: Ask, path: str, status: int, reason: str) -> None:
    server = serve()
    server.status = status

    with pytest.raises(CameraError, match=reason):
        ask(server.address(path))


@pytest.mark.parametrize(
    "location",
    [
        "http://[::1/?pwd=pa55",
        "http://127.0.0.1:pa55/",
        "http://127.0.0.1:99999/pa55",
        "rtsp://me:pa55@127.0.0.1/",
    ],
)
def test_an_address_that_leads_to_nowhere_is_one_clear_error_without_what_it_says(
    serve: Serve, ask: Ask, location: str
) -> None:
    server = serve()
    server.location = location

    with pytest.raises(CameraError, match=r"http://127\.0\.0\.1:[0-9]+ leads elsewhere") as raised:
        ask(server.address("/moved.jpg"))

    assert "pa55" not in str(raised.value)


@pytest.mark.parametrize(
    ("path", "asked"),
    [("/Bühne/snap.jpg?pwd=ö", "/B%C3%BChne/snap.jpg?pwd=%C3%B6"), ("/a%20b.jpg?x=[1]&y=~", "/a%20b.jpg?x=[1]&y=~")],
)
def test_letters_that_http_does_not_know_are_encoded_and_nothing_else(serve: Serve, ask: Ask, path: str, asked: str) -> None:
    server = serve("digest")

    assert ask(server.address(path, LOGIN))() is not None
    assert server.paths[-1] == asked


def test_a_redirection_with_a_space_in_it_is_followed(serve: Serve, ask: Ask) -> None:
    server = serve()
    server.location = "/snap shot.jpg?pwd=pa55 w0rd"

    assert ask(server.address("/moved.jpg"))() is not None
    assert server.paths[-1] == "/snap%20shot.jpg?pwd=pa55%20w0rd"


def test_an_answer_that_is_no_http_is_an_error_that_does_not_repeat_it(serve: Serve, ask: Ask) -> None:
    server = serve()
    read = ask(server.address("/moved.jpg?pwd=pa55"))
    read()
    server.location = "GET /no-http.jpg?pwd=pa55"

    read._connection._parts = read._connection._parts._replace(path="/no-http.jpg")
    with pytest.raises(CameraError, match="invalid HTTP response: BadStatusLine") as raised:
        read()

    assert "pa55" not in str(raised.value)


def test_a_host_that_no_name_server_could_be_asked_for_is_one_clear_error(ask: Ask) -> None:
    with pytest.raises(CameraError, match="host name is not valid"):
        ask(f"http://{'a' * 70}.local/snap.jpg")


def test_nobody_at_the_address_is_one_clear_error(serve: Serve, ask: Ask) -> None:
    server = serve()
    server.close()

    with pytest.raises(CameraError, match=r"cannot open http://127\.0\.0\.1:[0-9]+.*refused"):
        ask(server.address())


def test_a_stream_is_left_to_ffmpeg_whatever_its_name(serve: Serve) -> None:
    server = serve()

    assert try_snapshots(Request("stream", server.address("/stream.jpg"))) is None


def test_an_address_that_is_named_like_a_stream_is_not_asked_first(serve: Serve) -> None:
    server = serve()

    assert try_snapshots(Request("stream", server.address("/stream.mjpg"))) is None
    assert server.connections == 0


def test_while_it_waits_it_says_that_it_is_there(serve: Serve, ask: Ask) -> None:
    read = ask(serve().address(), fps=0.01, read_timeout_s=0.2)
    read()

    started_s = time.monotonic()
    assert read() is None
    assert time.monotonic() - started_s < 2


def test_no_process_is_started_for_a_picture(serve: Serve) -> None:
    server = serve()
    camera = ProcessCamera("snapshots", Request("stream", server.address(), fps=20.0))
    pids = set()
    for item, _ in zip(camera.pictures(), range(8), strict=False):
        assert isinstance(item, Picture)
        assert camera._process is not None
        pids.add(camera._process.pid)

    assert len(pids) == 1
    assert server.connections == 1


def test_a_slower_rate_than_the_time_limit_for_reading_is_no_loss(serve: Serve) -> None:
    server = serve()
    camera = ProcessCamera("snapshots", Request("stream", server.address(), fps=0.5, read_timeout_s=0.5))

    kinds = [type(item) for item, _ in zip(camera.pictures(), range(20), strict=False)]

    assert kinds.count(Picture) >= 2
    assert kinds.count(Idle) >= 3


def test_the_loop_hears_why_no_frame_comes(serve: Serve) -> None:
    server = serve("none", "etag", changes=False)
    reasons, frames = set(), 0
    with open_source(SourceOptions(server.address(), fps=20.0)) as source:
        deadline_s = time.monotonic() + 30
        for item in source:
            frames += isinstance(item, Frame)
            if isinstance(item, Missing):
                reasons.add(item.reason)
            if "the camera still gives the same picture" in reasons or time.monotonic() > deadline_s:
                break

    assert (frames, source.losses) == (1, 0)
    assert "the camera still gives the same picture" in reasons
    assert open_source(SourceOptions(server.address())).fps == 1.0
