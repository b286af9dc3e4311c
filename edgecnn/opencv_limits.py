"""OpenCV's own limits, which it reads from the environment when it is loaded: a second wall behind `edgecnn.pictures`.

Each of our packages imports this one before any of its modules runs, so that no way into them loads OpenCV first. Who has
loaded it before, or has set the limit, keeps what there is.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

from edgecnn.memory import limit_bytes

MAX_PIXELS = 2**26  # 67 megapixels: above every board camera; decoded, already 200 MB
MAX_SIDE = 2**20  # OpenCV's own
_BYTES_A_PIXEL = 7  # while a usual picture is decoded (edgecnn.picture_headers)


def set_limits(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let OpenCV decode no more pixels than fit into half of the memory that this process may have."""
    most = min(MAX_PIXELS, limit_bytes() // 2 // _BYTES_A_PIXEL)
    environment.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(most))
