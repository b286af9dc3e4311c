"""The web page of the camera: an observer that never makes the loop wait. Needs the extra `web`, and only when it is asked for."""

from edgecnn_device.web.options import WebOptions
from edgecnn_device.web.sink import Watched, WebSink

__all__ = ["Watched", "WebOptions", "WebSink"]
