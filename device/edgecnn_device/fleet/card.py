"""A running camera's report of itself for the fleet, made when it is due; and its last picture, small, for who asks."""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import cv2
import numpy as np

from edgecnn import __version__
from edgecnn.errors import InputError
from edgecnn.metrics import Share
from edgecnn.text import printable
from edgecnn_device.annotate import annotate, draw_placard
from edgecnn_device.clock import kernel_says
from edgecnn_device.distinct import DistinctAnswers
from edgecnn_device.fleet.report import Counted, Latency, Promise, Report, RunningModel
from edgecnn_device.sinks.timeline import Timeline
from edgecnn_device.web.jpeg import encode
from edgecnn_device.web.options import is_loopback

if TYPE_CHECKING:
    from edgecnn.artifacts import Contract
    from edgecnn_device.frames import Observation
    from edgecnn_device.loop import Statistics
    from edgecnn_device.model import Model

MOST_PICTURE_BYTES = 48 * 1024
EVERY_S = 60.0
_PICTURE_SIDES = (480, 320, 240, 160)
_WORK = ("find", "preprocess", "invoke")
_SLOWEST_FPS = 1 / 20
_MOST_LETTERS = 200


@dataclass(frozen=True)
class CardOptions:
    """The group that a board belongs to, and whether it answers requests for its last picture."""

    group: str | None = None
    pictures: bool = False

    def __post_init__(self) -> None:
        if self.group is not None:
            check_group(self.group)


def check_group(group: str) -> str:
    """Return the name of a group; InputError unless it can be shown, typed and listed with commas."""
    if not 0 < len(group) <= 64 or not group.isprintable() or group != group.strip() or "," in group:
        raise InputError(f"--group {group[:80]!r}: give 1 to 64 visible characters without a comma, such as line-1")
    return group


@dataclass(frozen=True, eq=False)
class Running:
    """What a camera's report looks at: its counters, its model, and why another model runs.

    `page` is the address where its page is served, `fps` the rate that its source is meant to have, and `distinct` tells which
    answers count.
    """

    statistics: Statistics
    model: Callable[[], Model]
    refused: Callable[[], str] = lambda: ""
    page: Callable[[], str | None] = lambda: None
    fps: float = 30.0
    distinct: DistinctAnswers = field(default_factory=lambda: DistinctAnswers(Timeline(live=True, fps=30.0)))


class Card:
    """Counts a camera's answers of today to different pictures, and makes its report.

    `add` is called by the loop, the rest by any thread.
    """

    every_s = EVERY_S

    def __init__(
        self,
        options: CardOptions,
        running: Running,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        root: Path = Path("/"),
    ) -> None:
        """Begin today with no answers; `root` is where /proc lies."""
        self._options, self._running = options, running
        self._clock, self._wall_clock, self._root = clock, wall_clock, root
        self._lock = threading.Lock()
        self._started_s = self._counted_s = clock()
        self._frames = 0
        self._fps: float | None = None
        self._today = _Day(wall_clock())
        self._said: str | None = None

    @property
    def answers_pictures(self) -> bool:
        """Whether a request for the last picture is answered."""
        return self._options.pictures

    def add(self, observation: Observation) -> None:
        """Count the answers of an observation before smoothing, those that were given to another picture than the last."""
        counts = self._running.distinct.counts(observation)
        verdicts = [each.raw.verdict for each, is_counted in zip(observation.predictions, counts, strict=True) if is_counted]
        with self._lock:
            self._today = self._today.at(self._wall_clock())
            self._today.count(verdicts)

    def has_news(self) -> bool:
        """Tell whether another model runs than in the last report: that is not to wait."""
        return self._said is not None and self._said != self._export_id()

    def report(self, own_address: str | None) -> Report:
        """Return the report of now; `own_address` is the board's IP address as the broker's connection has it."""
        running, now_s = self._running, self._clock()
        self._said = self._export_id()
        with self._lock:
            self._today = self._today.at(self._wall_clock())
            today = self._today.counted()
        return Report(
            at=_iso(self._wall_clock()),
            every_s=self.every_s,
            group=self._options.group,
            host=_plain(platform.node()),
            edgecnn=__version__,
            address=own_address,
            page=_reachable(running.page(), own_address),
            pictures=self._options.pictures,
            clock_synchronised=kernel_says(),
            boot_id=_first_word(self._root / "proc/sys/kernel/random/boot_id"),
            up_s=_number(_first_word(self._root / "proc/uptime")),
            running_s=round(now_s - self._started_s, 1),
            model=_model(running.model(), bool(running.refused())),
            promise=promise(running.model().artifact.contract),
            today=today,
            fps=self._rate(now_s),
            latency_ms=_latency(running.statistics),
        )

    def to_json(self, own_address: str | None) -> dict[str, Any]:
        """Return the report of now as it is published."""
        return self.report(own_address).to_json()

    def picture(self, observation: Observation) -> bytes:
        """Return what `observation` shows as a JPEG of at most MOST_PICTURE_BYTES: boxes, labels, and the state."""
        return small_picture(observation)

    def _export_id(self) -> str:
        return self._running.model().artifact.contract.export_id

    def _rate(self, now_s: float) -> float | None:
        """Return the frames per second since the last regular report; between two the last rate holds."""
        passed_s = now_s - self._counted_s
        if self._running.fps < _SLOWEST_FPS:
            return None
        if passed_s >= self.every_s / 2:
            frames, self._frames, self._counted_s = self._frames, self._running.statistics.frames, now_s
            self._fps = round((self._frames - frames) / passed_s, 2)
        return self._fps


class _Day:
    """Answers since local midnight, or since the camera began."""

    def __init__(self, now: float) -> None:
        self.day = datetime.fromtimestamp(now).date().isoformat()
        self._since = now
        self._counts = {"label": 0, "unsure": 0, "novel": 0}

    def at(self, now: float) -> _Day:
        """Return itself, or a new day where the clock has passed midnight, or was set to another day."""
        return self if datetime.fromtimestamp(now).date().isoformat() == self.day else _Day(now)

    def count(self, verdicts: Iterable[str]) -> None:
        for verdict in verdicts:
            self._counts[verdict] += 1

    def counted(self) -> Counted:
        counts = self._counts
        return Counted(self.day, _iso(self._since), sum(counts.values()), counts["unsure"], counts["novel"])


def promise(contract: Contract) -> Promise | None:
    """Return the accuracy that a contract measured on held-out labelled pictures, None where nobody has."""
    parity = contract.parity
    if parity.accuracy is None or parity.data is None or not parity.data.labelled or parity.data.count < 1:
        return None
    count = parity.data.count
    low, high = Share(parity.accuracy * count, count).interval
    accuracy = min(max(parity.accuracy, low), high)
    return Promise(
        round(accuracy, 6),
        round(min(low, accuracy), 6),
        round(max(high, accuracy), 6),
        count,
        _plain(parity.data.split),
        _plain(parity.data.source),
        parity.data.synthetic,
    )


def small_picture(observation: Observation) -> bytes:
    """Return what an observation shows, or its state where it has no frame, as a JPEG of at most MOST_PICTURE_BYTES."""
    image = annotate(observation)
    image = draw_placard(observation.state, (480, 360)) if image is None else image
    for side in _PICTURE_SIDES:
        scale = min(1.0, side / max(image.shape[:2]))
        size_wh = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        jpeg = encode(np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA), np.uint8), ".jpg")
        if len(jpeg) <= MOST_PICTURE_BYTES:
            return jpeg
    raise InputError(f"no JPEG of {_PICTURE_SIDES[-1]} pixels stays below {MOST_PICTURE_BYTES} bytes")  # 160 x 160 x 3 do


def _model(model: Model, refused: bool) -> RunningModel:
    contract = model.artifact.contract
    return RunningModel(
        task=_plain(contract.task),
        network=_plain(contract.model),
        precision=contract.precision,
        file=_plain(model.artifact.path.name),
        export_id=_plain(contract.export_id),
        sha256=contract.model_sha256,
        runtime=_plain(model.classifier.runtime.name),
        verified=model.verified,
        refused=refused,
    )


def _latency(statistics: Statistics) -> Latency | None:
    """Return percentiles of the time from a frame to its answers, of the last frames."""
    stages = [list(statistics.latency_ms[stage]) for stage in _WORK]
    count = min(map(len, stages))
    if not count:
        return None
    p50, p95 = np.percentile(np.sum([stage[-count:] for stage in stages], axis=0), (50, 95)).tolist()
    return Latency(round(p50, 2), round(p95, 2))


def _reachable(page: str | None, own_address: str | None) -> str | None:
    """Return the page's address as others see it; None for one of this machine alone, or without an address of its own."""
    if page is None:
        return None
    parts = urlsplit(page)
    host = parts.hostname or ""
    if host in ("0.0.0.0", "::"):
        host = own_address or ""
    if not host or is_loopback(host):
        return None
    return f"http://{f'[{host}]' if ':' in host else host}:{parts.port}/"


def _plain(text: str) -> str:
    return printable(text)[:_MOST_LETTERS]


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _first_word(path: Path) -> str | None:
    try:
        return next(iter(path.read_text("ascii").split()), None)
    except (OSError, UnicodeDecodeError):
        return None


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
