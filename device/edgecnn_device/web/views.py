"""What viewers see at one time: each form is made when the first viewer asks for it, and shared by all others."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from edgecnn_device.classes import NO_CLASSES, Classes
from edgecnn_device.frames import Observation, State
from edgecnn_device.web.explain import explain_region
from edgecnn_device.web.jpeg import encode_frame, encode_input, encode_placard, encode_plain

BOUNDARY = "edgecnn-frame"
STREAM_START = f"--{BOUNDARY}\r\n".encode()
_PLACARD_WH = (640, 480)


@dataclass(frozen=True, eq=False)
class View:
    """The newest observation, with a `number` of its own; nothing is seen in it unless its state is ok."""

    number: int
    observation: Observation
    classes: Classes = NO_CLASSES
    _explained: dict[int, dict[str, Any]] = field(default_factory=dict, repr=False)

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
    def page_event(self) -> bytes:
        """The same with all probabilities, the worst region, and what the network saw of that, for the page."""
        body = self.observation.to_json()
        worst = self.classes.worst(self.observation.predictions)
        for region, prediction in zip(body["regions"], self.observation.predictions, strict=True):
            region["probabilities"] = [round(float(p), 4) for p in prediction.smoothed.probabilities]
            region["input"] = encode_input(prediction.input) if prediction is worst else None
        body["worst"] = None if worst is None else worst.region_id
        return server_event("view", body, self.number)

    @cached_property
    def picture_event(self) -> bytes:
        """The frame without anything drawn on it, as a server-sent event, with what is to be drawn; b"" unless the state is ok.

        The page draws by itself: letters in a picture are too small on a phone.
        """
        frame = self.observation.frame
        if frame is None or self.state.name != "ok":
            return b""
        worst = self.classes.worst(self.observation.predictions)
        body: dict[str, Any] = {
            "jpeg": encode_plain(frame),
            "size": [frame.image_bgr.shape[1], frame.image_bgr.shape[0]],
            "captured_at": frame.captured_at.isoformat(timespec="milliseconds"),
            "worst": None if worst is None else worst.region_id,
            "regions": [
                [p.region_id, *p.region.box, p.smoothed.class_id if p.smoothed.label is not None else -1]
                for p in self.observation.predictions
            ],
        }
        if any(p.where is not None for p in self.observation.predictions):
            body["where"] = [p.where and [*p.where, p.where_map] for p in self.observation.predictions]
        return server_event("picture", body)

    def explain(self, region_id: int) -> dict[str, Any] | None:
        """Return what stands behind the answer to a region; None when there is no such region."""
        if region_id not in self._explained:
            found = next((each for each in self.observation.predictions if each.region_id == region_id), None)
            if found is None:
                return None
            self._explained[region_id] = explain_region(found)
        return self._explained[region_id]

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
