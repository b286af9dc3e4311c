"""What there is to show at one moment: each form is made when the first viewer asks for it, and all others share it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from edgecnn_device.frames import Observation, RegionPrediction, State
from edgecnn_device.web.pictures import encode_frame, encode_input, encode_placard

BOUNDARY = "edgecnn-frame"
STREAM_START = f"--{BOUNDARY}\r\n".encode()
_MOST_INPUTS = 12
_PLACARD_WH = (640, 480)


@dataclass(frozen=True, eq=False)
class Moment:
    """The newest observation, with a `number` of its own; nothing is seen in it unless its state is ok."""

    number: int
    observation: Observation

    @property
    def state(self) -> State:
        """The state of the camera."""
        return self.observation.state

    @cached_property
    def picture(self) -> bytes | None:
        """The annotated frame as JPEG; None unless the state is ok."""
        return encode_frame(self.observation) if self.state.name == "ok" else None

    @cached_property
    def part(self) -> bytes:
        """One part of the stream: the picture, or a placard with the reason why there is none.

        It ends with the boundary of the next part, since browsers show a picture only when they have seen that.
        """
        picture = self.picture or encode_placard(self.state, self._size_wh())
        head = f"Content-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
        return head.encode() + picture + f"\r\n--{BOUNDARY}\r\n".encode()

    @cached_property
    def event(self) -> bytes:
        """The observation as a server-sent event, in the form of JSON Lines."""
        return server_event("prediction", self.observation.to_json(), self.number)

    @cached_property
    def view(self) -> bytes:
        """The same with all probabilities and with the inputs of the first regions as pictures, for the page."""
        body = self.observation.to_json()
        for i, prediction in enumerate(self.observation.predictions):
            body["regions"][i] |= _detail(prediction, with_input=i < _MOST_INPUTS)
        return server_event("view", body, self.number)

    def _size_wh(self) -> tuple[int, int]:
        frame = self.observation.frame
        return _PLACARD_WH if frame is None else (frame.image_bgr.shape[1], frame.image_bgr.shape[0])


def server_event(kind: str, body: Any, number: int | None = None) -> bytes:
    """Return a server-sent event (HTML Living Standard, 9.2) with a JSON body."""
    identity = "" if number is None else f"id: {number}\n"
    return f"event: {kind}\n{identity}data: {dump(body)}\n\n".encode("utf-8", "replace")


def dump(body: Any) -> str:
    """Return compact JSON on one line."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _detail(prediction: RegionPrediction, *, with_input: bool) -> dict[str, Any]:
    probabilities = [round(float(p), 4) for p in prediction.smoothed.probabilities]
    return {"probabilities": probabilities, "input": encode_input(prediction.input) if with_input else None}
