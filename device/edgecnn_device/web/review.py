"""Reviewing samples on a page: groups of what looks alike, labelled by one key or tap. On the camera's page, or by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from edgecnn.errors import EdgecnnError, InputError
from edgecnn.files import read_bytes
from edgecnn.pictures import decode_picture
from edgecnn.samples.folder import NAME, Sample, read_samples
from edgecnn.samples.labels import LabelLog, Labels
from edgecnn.samples.likeness import group_alike
from edgecnn_device.web.answers import json_answer, page_file
from edgecnn_device.web.neighbours import TrainingPictures

MOST_SHOWN = 600  # samples in one answer: a phone has to draw them
_MOST_PICTURE = 64 * 2**20
_SORTS: dict[str, Callable[[Sample], Any]] = {
    "doubt": lambda sample: sample.probability,
    "novelty": lambda sample: -(sample.novelty or 0.0),
    "newest": lambda sample: -sample.at.timestamp(),
}
_SHOWS: dict[str, Callable[[str, Labels], bool]] = {
    "unlabelled": lambda name, labels: name not in labels.of,
    "labelled": lambda name, labels: name in labels.of,
    "contradicted": lambda name, labels: name in labels.of and bool(labels.of[name].others),
    "all": lambda name, labels: True,
}
_FILES = {"/review.js": "text/javascript", "/review.css": "text/css"}


@dataclass(frozen=True)
class Access:
    """What a visitor may: whether to change labels, and the token that changes have to come with."""

    may_edit: Callable[[Request], bool]
    csrf_token: Callable[[Request], str]


class Review:
    """The samples of a folder and their labels, read again for each question: a camera and other people change them."""

    def __init__(
        self, folder: Path, labels: Callable[[], Sequence[str]] = tuple, training: TrainingPictures | None = None
    ) -> None:
        """Look at `folder`; `labels` gives the classes of the model that runs, first of those to choose from.

        `training` finds the training pictures that are nearest to a sample, where they are on this machine.
        """
        self._folder, self._model_labels, self._training = folder, labels, training
        self._near: dict[str, list[dict[str, Any]]] = {}
        self._log, self._lock = LabelLog(folder), threading.Lock()
        self._known: dict[str, Sample] = {}

    def to_json(self, sort: str, show: str) -> dict[str, Any]:
        """Return groups of samples, sorted by `doubt`, `novelty` or `newest`; a group stands where its first one does."""
        with self._lock:
            found = read_samples(self._folder, self._known)
            self._known = {sample.name: sample for sample in found.samples}
        labels = self._log.read()
        wanted = [sample for sample in found.samples if _SHOWS[show](sample.name, labels)]
        shown = sorted(wanted, key=_SORTS[sort])[:MOST_SHOWN]
        groups = group_alike([sample.features for sample in shown], [sample.model for sample in shown])
        named = {said.label for said in labels.of.values() if not said.label.startswith("_")}
        return {
            "folder": self._folder.name,
            "classes": list(dict.fromkeys([*self._model_labels(), *found.classes(), *sorted(named)])),
            "samples": len(found.samples),
            "labelled": sum(sample.name in labels.of for sample in found.samples),
            "left": len(wanted) - len(shown),
            "broken": len(found.broken),
            "damaged_lines": labels.damaged,
            "has_training": self._training is not None,
            "groups": [[_body(shown[i], labels) for i in group] for group in groups],
        }

    def picture(self, name: str) -> bytes | None:
        """Return the PNG of a sample, None where there is none: no other name ever meets the file system."""
        path = self._folder / f"{name}.png"
        if not NAME.fullmatch(name) or path.is_symlink():
            return None
        try:
            return read_bytes(path, at_most=_MOST_PICTURE)
        except InputError:
            return None

    def nearest(self, name: str) -> list[dict[str, Any]]:
        """Return the training pictures that are most like a sample; none where there are none, or its picture is gone."""
        if self._training is None or (data := self.picture(name)) is None:
            return []
        if name not in self._near:
            self._near[name] = [each.to_json() for each in self._training.nearest(decode_picture(data, name=name))]
        return self._near[name]

    def training_picture(self, number: str) -> bytes | None:
        """Return a training picture as PNG, by its number among them."""
        return self._training.picture(int(number)) if self._training is not None and number.isdecimal() else None

    def label(self, names: Sequence[str], label: str, by: str) -> dict[str, Any]:
        """Say that samples are of a class, and return the act with whom it contradicts."""
        act = self._log.label(names, label, by=by)
        of = self._log.read().of
        others = {name: of[name].contradiction for name in names if name in of and of[name].others}
        return {"act": act.act, "label": act.label, "contradicts": others}

    def undo(self, act: str | None, by: str) -> dict[str, Any]:
        """Take back an act, or the person's last one."""
        return {"undone": self._log.undo(act, by=by).undo}


def review_routes(review: Review, access: Access, *, at: str = "/review", has_camera: bool = True) -> list[Route]:
    """Return the routes of the page, which stands at `at`; they answer in threads, for they wait for the disk."""

    def samples(request: Request) -> Response:
        sort, show = _choice(request, "sort", _SORTS), _choice(request, "show", _SHOWS)
        body = review.to_json(sort, show)
        return json_answer(
            body | {"may_edit": access.may_edit(request), "csrf": access.csrf_token(request), "has_camera": has_camera}
        )

    def picture(request: Request) -> Response:
        data = review.picture(request.query_params.get("sample", ""))
        return PlainTextResponse("the picture is gone\n", 404) if data is None else Response(data, media_type="image/png")

    def nearest(request: Request) -> Response:
        return json_answer({"nearest": review.nearest(request.query_params.get("sample", ""))})

    def training(request: Request) -> Response:
        data = review.training_picture(request.query_params.get("number", "")[:9])
        return PlainTextResponse("there is no such picture\n", 404) if data is None else Response(data, media_type="image/png")

    def label(request: Request) -> Response:
        query = request.query_params
        return json_answer(review.label(query.getlist("sample"), query.get("label", ""), query.get("by", "")))

    def undo(request: Request) -> Response:
        return json_answer(review.undo(request.query_params.get("act"), request.query_params.get("by", "")))

    page = [Route(at, _file("review.html", "text/html"))]
    files = [Route(path, _file(path[1:], kind)) for path, kind in _FILES.items()]
    answers = {"/api/review": samples, "/api/review/picture": picture}
    answers |= {"/api/review/nearest": nearest, "/api/review/training": training}
    changes = {"/api/review/label": label, "/api/review/undo": undo}
    return [
        *page,
        *files,
        *(Route(path, _in_one_line(answer)) for path, answer in answers.items()),
        *(Route(path, _in_one_line(change), methods=["POST"]) for path, change in changes.items()),
    ]


def _file(name: str, kind: str) -> Callable[[Request], Response]:
    body = page_file(name)
    return lambda request: Response(body, media_type=kind)


def _in_one_line(answer: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """Say in one line what a visitor or a full disk makes impossible."""

    def answered(request: Request) -> Response:
        try:
            return answer(request)
        except EdgecnnError as error:
            return json_answer({"error": str(error)}, 409 if isinstance(error, InputError) else 507)

    return answered


def _choice(request: Request, name: str, known: Mapping[str, object]) -> str:
    given = request.query_params.get(name, next(iter(known)))
    if given not in known:
        raise InputError(f"{name} {given[:40]!r}: known are {', '.join(known)}")
    return given


def _body(sample: Sample, labels: Labels) -> dict[str, Any]:
    said = labels.of.get(sample.name)
    where = None if sample.where is None else [round(each, 4) for each in sample.where]
    label = {} if said is None else {"label": said.label, "by": said.act.by, "contradiction": said.contradiction}
    return sample.to_json() | {"nearest": sample.nearest, "where": where} | label
