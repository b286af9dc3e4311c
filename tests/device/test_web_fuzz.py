"""Whatever is asked of the page, the answer is no error of the server; `make test-faults` asks more."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from visitors import random_request, talk
from web_page import TOKEN, Page, seen, serve


@pytest.fixture(scope="module", params=[None, TOKEN], ids=["open", "token"])
def page(request: pytest.FixtureRequest) -> Iterator[Page]:
    with serve(request.param) as opened:
        opened.show(seen())
        yield opened


def test_no_request_is_an_error_of_the_server(page: Page) -> None:
    rng = random.Random(0)

    answers = [talk(page, random_request(rng)) for _ in range(150)]

    statuses = {answer[9:12] for answer in answers if answer.startswith(b"HTTP/1.1 ")}
    assert {b"400", b"405"} <= statuses
    assert not [status for status in statuses if status.startswith(b"5") and status != b"503"]
