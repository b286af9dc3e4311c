"""Of an address only scheme, host and port are ever shown, and what cannot be read is refused without repeating it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.addresses import UNREADABLE, hide, holds_secret, looks_like_address, may_hold_secret, origin, split_address
from edgecnn.errors import InputError


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://me:pa55@cam:554/s?a=b", "rtsp://cam:554"),
        ("rtsp://me:pa@55@192.168.1.9/stream1", "rtsp://192.168.1.9"),
        ("http://cam/videostream.cgi?user=me&pwd=pa55", "http://cam"),
        ("http://cam:88/CGIStream.cgi?cmd=GetMJStream&usr=me&pwd=pa55", "http://cam:88"),
        ("rtsp://cam:554/user=me_password=pa55_channel=1.sdp", "rtsp://cam:554"),
        ("http://octopi.local/webcam/?apikey=pa55#pa55", "http://octopi.local"),
        ("https://[fe80::1]:8443/x?token=pa55", "https://[fe80::1]:8443"),
        ("RTSP://me:pa55@Cam/s", "rtsp://cam"),
        ("rtsp://pa55%40@cam/s", "rtsp://cam"),
        ("udp://@239.0.0.1:1234", "udp://239.0.0.1:1234"),
        ("udp://:1234", "udp://:1234"),
        ("http://größe.example/s", "http://größe.example"),
    ],
)
def test_only_scheme_host_and_port_are_shown(address: str, shown: str) -> None:
    assert origin(address) == shown


DOUBTFUL = [
    "rtsp://me:pa55#x@cam/s",
    "rtsp://me:pa55/x@cam/s",
    "rtsp://me:pa55?x@cam/s",
    "rtsp://me:55/pa55@cam/s",
    "rtsp://me:55#pa55@cam/s",
    "rtsp://me:pa55@[::1/s",
    "rtsp://me:pa55\u2100@cam/s",
    "rtsp:/me:pa55@cam/s",
    "rtsp:me:pa55@cam/s",
    "rtsp://me:pa55@/s",
    "rtsp://me:pa55@cam:0/s",
    "rtsp://me:pa55@cam:99999/s",
    "rtsp://me:pa55@ca\x1b[2Jm/s",
    "rtsp://me:pa55 @cam/s",
    " rtsp://me:pa55@cam/s",
    "rtsp://me:pa55@cam\n/s",
    "rtsp://me:pa55@\udcff/s",
    "me:pa55@cam",
    "cam/video.cgi?pwd=pa55",
]


@pytest.mark.parametrize("address", DOUBTFUL)
def test_what_cannot_be_read_without_doubt_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(InputError) as caught:
        split_address(address)

    assert "pa55" not in str(caught.value)
    assert str(caught.value).isprintable()
    assert origin(address) == UNREADABLE
    assert may_hold_secret(address)


def test_a_scheme_that_nobody_here_speaks_is_refused_with_those_that_are_spoken() -> None:
    with pytest.raises(InputError, match=r"does not begin with rtsp:// or http://") as caught:
        split_address("rtspt://me:pa55@cam/s", schemes=("rtsp", "http"))

    assert "pa55" not in str(caught.value)


@pytest.mark.parametrize("path", ["videos/a.mp4", "a b.avi", "/dev/video9", "neu", "~/x.png"])
def test_a_path_is_no_address(path: str) -> None:
    assert not looks_like_address(path)
    assert not may_hold_secret(path)


@given(st.text(), st.sampled_from(["rtsp://", "http://me:", "mqtt:/", ""]))
def test_any_text_is_shown_without_what_stands_behind_host_and_port(text: str, beginning: str) -> None:
    shown = origin(beginning + text)

    assert shown == UNREADABLE or (shown.isprintable() and not set(shown) & set("@?#&= ") and shown.count("/") == 2)


def test_an_error_of_a_library_is_shown_without_the_secrets_of_the_address() -> None:
    address = "rtsp://me:pa55@cam:554/live?token=pa66"
    text = f"cannot open {address}: 401 for me:pa55, GET /live?token=pa66 on cam"

    assert hide(text, address) == "cannot open rtsp://cam:554: 401 for ***, GET ***?*** on cam"


@pytest.mark.parametrize(
    ("address", "holds"),
    [("rtsp://me:pa55@cam/s", True), ("http://cam/x?pwd=pa55", True), ("rtsp://cam/user=me_password=pa55", True),
     ("rtsp://cam/s", False), ("photos/a=b.png", False)],
)  # fmt: skip
def test_an_address_that_has_room_for_a_password_is_known(address: str, holds: bool) -> None:
    assert holds_secret(address) is holds
