"""What pages answer with: JSON, and files of their folder."""

from __future__ import annotations

from importlib import resources

from starlette.responses import Response

from edgecnn_device.web.views import dump


def json_answer(body: object, status: int = 200) -> Response:
    """Return a body as JSON."""
    return Response(dump(body).encode("utf-8", "replace"), status, media_type="application/json")


def page_file(name: str, package: str = "edgecnn_device.web") -> bytes:
    """Return one of the files of a page; they lie in the folder `page` of its package."""
    return (resources.files(package) / "page" / name).read_bytes()
