"""Whether pictures are still like those that a model was proven on: what is measured of each, and a test that runs for years.

Of every picture a few numbers are taken (how bright, sharp, noisy it is, how sure and how novel its answer). Held-out pictures
say what is usual of each, class by class, since the classes of a plant come in shares of their own. A picture counts by how far
it lies beyond that, from 0 to 1; the mean of this is bounded as long as nothing has changed, and a bet against that bound grows
when something has: an e-detector (Shin, Ramdas and Rinaldo, "E-detectors", arXiv:2203.03532), whose bets are those on the mean
of a bounded value (Waudby-Smith and Ramdas, arXiv:2010.09686). A CUSUM of such bets that alarms at c does so once in c pictures
at most on average, however the pictures depend on each other, as long as the bound holds given the past.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts.contract import DRIFT_STATISTICS, DataInfo, DriftInfo
from edgecnn.classifier import Classifier, Prediction
from edgecnn.errors import DatasetError
from edgecnn.preprocessing import Preprocessing
from edgecnn.quick_dataclass import dataclass

ALARM_EVERY = 1_000_000  # pictures between two false alarms, at least and on average
RECOVERY_EVERY = 10_000  # the same for a false all-clear while the drift goes on
MIN_PICTURES = 30
# Above so many classes a baseline is of all of them together: it has to stay small.
MAX_CLASSES = 32
_BETS = np.array([0.2, 0.5, 0.9])  # parts of the stake: small ones for small changes
# A picture counts from half a standard deviation beyond the usual on, fully from two and a half.
_FREE, _RANGE = 0.5, 2.0
# The bound lies this many standard errors above what held-out pictures gave, and a margin: a little worse is no drift.
_ERRORS, _MARGIN = 4.0, 0.03
_LEAST_PARTS = 5  # a class that was hardly seen is judged by what is usual of all
_PRIOR = 4.0  # as if every class had that many pictures of the usual kind besides its own

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Statistic:
    """A number taken of a picture: what it says when it rises or falls (None: nobody has to know) and how its size is said.

    `least` is the smallest standard deviation that is taken for real: a change far below it is none that anybody sees.
    """

    name: str
    rises: str | None
    falls: str | None
    least: float
    unit: str = ""

    def describe(self, shift: float) -> str:
        """Say what a change by `shift` means."""
        word = (self.rises if shift > 0 else self.falls) or self.name
        if self.unit == "stops":
            return f"{word} by {abs(shift):.1f} stops"
        return f"{word} ({2**shift:.2g} times)" if self.unit == "times" else word


STATISTICS = (
    Statistic("brightness", "brighter", "darker", 0.1, "stops"),
    Statistic("contrast", "more contrast", "less contrast", 0.15, "times"),
    Statistic("sharpness", "more fine detail", "blurred", 0.1),
    Statistic("noise", "noisier", "smoothed", 0.15, "times"),
    Statistic("streaks", "smeared up and down", "smeared sideways", 0.15),
    Statistic("across", "lit from the right", "lit from the left", 0.05),
    Statistic("down", "lit from below", "lit from above", 0.05),
    Statistic("corners", "brighter towards the corners", "darker towards the corners", 0.05),
    Statistic("bands", "bands of light", None, 0.25),
    Statistic("glare", "more glare", None, 0.5),
    Statistic("sureness", None, "less sure", 0.5),
    Statistic("novelty", "more novel", None, 0.1),
)
_BY_NAME = {statistic.name: statistic for statistic in STATISTICS}
_LAPLACE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
_GRID = 8


def _light_fit() -> Floats:
    """Return what fits a slope across, one down and a bowl to the logarithms of an 8 x 8 grid of levels, `(3, 64)`."""
    down, across = np.mgrid[:_GRID, :_GRID].reshape(2, -1) / (_GRID - 1) * 2 - 1
    bowl = across**2 + down**2
    return np.asarray(np.linalg.pinv(np.stack([np.ones_like(across), across, down, bowl - bowl.mean()], axis=1))[1:])


_LIGHT = _light_fit()


def statistics_for(preprocessing: Preprocessing) -> tuple[Statistic, ...]:
    """Return what is measured of a task's pictures: of digits nothing of the light, since their form is made without it."""
    return STATISTICS if preprocessing.fit != "digit" else (_BY_NAME["sureness"],)


def has_usual(preprocessing: Preprocessing) -> bool:
    """Tell whether held-out pictures say what is usual before a camera: not single digits of what a reader finds there."""
    return preprocessing.fit != "digit"


def measure(image: NDArray[np.uint8], prediction: Prediction, novel_above: float = 1.0) -> Floats:
    """Return all STATISTICS of an input `(height, width, channels)` uint8 and its answer; NaN where a model does not say.

    All are logarithms of base 2: 1 is a stop, or twice as much. Brightness is the level that a tenth of the pixels exceeds,
    contrast is relative to the mean, noise is the mean absolute response to a difference of Laplacians (Immerkaer, Computer
    Vision and Image Understanding 64, 1996). `novel_above` is the threshold that the answer's novelty was divided by.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.shape[2] == 3 else image[:, :, 0]
    levels = gray.astype(np.float32)
    side = min(gray.shape)
    fine, middle, coarse = (cv2.GaussianBlur(levels, (0, 0), share * side) for share in (0.005, 0.01, 0.02))
    smooth = cv2.blur(levels, (3, 3))
    noise = cv2.norm(cv2.filter2D(levels, -1, _LAPLACE), cv2.NORM_L1) / levels.size * np.sqrt(np.pi / 2) / 6
    counts = np.cumsum(cv2.calcHist([gray], [0], None, [256], [0, 256]).ravel()) / gray.size
    (mean,), (deviation,) = (each.ravel() for each in cv2.meanStdDev(levels))
    rows = cv2.reduce(levels, 1, cv2.REDUCE_AVG)
    across, down, outwards = _LIGHT @ np.log2(cv2.resize(levels, (_GRID, _GRID), interpolation=cv2.INTER_AREA) + 8).ravel()
    probability = min(max(prediction.probability, 1e-4), 1 - 1e-4)
    found = {
        "brightness": np.searchsorted(counts, 0.9) + 1,
        "contrast": (deviation + 0.5) / (mean + 1),
        "sharpness": (_deviation(fine - middle) + 0.1) / (_deviation(middle - coarse) + 0.1),
        "noise": noise + 0.5,
        "streaks": (_deviation(smooth[:, 1:] - smooth[:, :-1]) + 0.2) / (_deviation(smooth[1:] - smooth[:-1]) + 0.2),
        "across": 2.0**across,
        "down": 2.0**down,
        "corners": 2.0**outwards,
        "bands": _deviation(rows - cv2.blur(rows, (1, max(3, len(rows) // 8)))) + 0.5,
        "glare": 1 - counts[249] + 1e-3,
        "sureness": probability / (1 - probability),
        "novelty": np.nan if prediction.novelty is None else prediction.novelty * novel_above + 1e-3,
    }
    return np.asarray(np.log2([found[name] for name in DRIFT_STATISTICS], dtype=np.float64))


def _deviation(levels: NDArray[Any]) -> float:
    return float(cv2.meanStdDev(levels)[1][0, 0])


def measure_all(classifier: Classifier, images: NDArray[np.uint8]) -> tuple[Floats, NDArray[np.int64]]:
    """Return all STATISTICS of inputs `(n, height, width, channels)`, `(n, statistics)`, and the classes answered, `(n,)`."""
    from edgecnn.runtimes.runtime import answer_slices

    predictions = [each for found in answer_slices(classifier.runtime, images) for each in classifier.interpret_all(found)]
    above = novel_above(classifier)
    values = [measure(image, prediction, above) for image, prediction in zip(images, predictions, strict=True)]
    return np.array(values).reshape(-1, len(STATISTICS)), np.array([each.class_id for each in predictions], np.int64)


def novel_above(classifier: Classifier) -> float:
    """Return what a classifier divides its novelties by, so that another threshold is no drift."""
    return 1.0 if classifier.evidence is None else classifier.evidence.info.novel_above


@dataclass(frozen=True, eq=False)
class Bets:
    """What one look at pictures is worth, by stream `(streams,)`.

    `e_values` have a mean of 1 at most while nothing has changed; they are `most` at most. `shifts` is by how much the pictures
    differ, in the statistic's own unit.
    """

    e_values: Floats
    most: Floats
    shifts: Floats


@dataclass(frozen=True, eq=False)
class Baseline:
    """What is usual: of all pictures (row 0) and of those answered as each class, by statistic.

    `means` and `deviations` are `(1 + classes, statistics)`; `bounds` `(1 + classes, statistics, 2)` is how much a picture
    counts at most in the mean, in (0, 1), when the statistic falls and when it rises.
    """

    statistics: tuple[Statistic, ...]
    means: Floats
    deviations: Floats
    bounds: Floats

    @classmethod
    def fit(
        cls,
        statistics: Sequence[Statistic],
        values: Floats,
        class_ids: NDArray[np.int64],
        classes: int,
        groups: NDArray[np.int64] | None = None,
    ) -> Baseline:
        """Return the baseline of pictures by all their STATISTICS `(n, statistics)` and the classes answered, `(n,)`.

        Pictures of one group, `(n,)`, show the same part, and tell no more than one. DatasetError for less than MIN_PICTURES.
        """
        chosen = [STATISTICS.index(each) for each in statistics if np.isfinite(values[:, STATISTICS.index(each)]).all()]
        own = groups if groups is not None and len(groups) else np.arange(len(values))
        if len(np.unique(own)) < MIN_PICTURES:
            raise DatasetError(f"{len(np.unique(own))} different pictures say too little about what is usual: {MIN_PICTURES}")
        values = values[:, chosen]
        least = np.array([STATISTICS[at].least for at in chosen])
        every = class_ids >= 0
        rows = [every] + [class_ids == each for each in range(classes if classes <= MAX_CLASSES else 0)]
        rows = [row if len(np.unique(own[row])) >= _LEAST_PARTS else every for row in rows]
        whole = values.mean(axis=0), np.maximum(values.std(axis=0), least)
        counts = [int(row.sum()) for row in rows]
        means = np.array([_shrunk(values[row].sum(axis=0), n, whole[0]) for row, n in zip(rows, counts, strict=True)])
        squares = [((values[row] - mean) ** 2).sum(axis=0) for row, mean in zip(rows, means, strict=True)]
        spread = np.sqrt([_shrunk(each, n, whole[1] ** 2) for each, n in zip(squares, counts, strict=True)])
        deviations = np.maximum(spread, least)
        bounds = np.empty((len(rows), len(chosen), 2))
        for at, row in enumerate(rows):
            weights = _weights((values[row] - means[at]) / deviations[at])
            bounds[at] = _bound(weights, len(np.unique(own[row])))
        return cls(tuple(STATISTICS[at] for at in chosen), means, deviations, bounds)

    @classmethod
    def read(cls, info: DriftInfo) -> Baseline:
        """Return the baseline that a contract holds."""
        rows = np.frombuffer(base64.b64decode(info.table), _CELL).reshape(-1, len(info.statistics))
        bounds = np.stack([rows["falling"], rows["rising"]], axis=-1) / 255.0
        statistics = tuple(_BY_NAME[name] for name in info.statistics)
        return cls(statistics, rows["mean"].astype(np.float64), rows["deviation"].astype(np.float64), bounds)

    def to_info(self, data: DataInfo, pictures: int) -> DriftInfo:
        """Return what a contract holds of it, which `pictures` of `data` have told."""
        table = np.empty(self.means.shape, _CELL)
        table["mean"], table["deviation"] = self.means, self.deviations
        table["falling"], table["rising"] = np.moveaxis(np.ceil(255 * self.bounds), -1, 0)
        names = tuple(each.name for each in self.statistics)
        return DriftInfo(data, pictures, names, base64.b64encode(table.tobytes()).decode())

    def bets(self, values: Floats, class_ids: NDArray[np.int64]) -> Bets:
        """Return what pictures `(n, STATISTICS)`, seen at once, are worth; what a model does not say is worth nothing."""
        row = np.where((class_ids >= 0) & (class_ids + 1 < len(self.means)), class_ids + 1, 0)
        own = values[:, [STATISTICS.index(each) for each in self.statistics]]
        residuals = own - self.means[row]
        weights, bounds = _weights(residuals / self.deviations[row]), self.bounds[row]
        known = np.isfinite(own)[:, :, None]
        found = np.where(known, weights / bounds, 1.0), np.where(known, 1 / bounds, 1.0)
        e_values, most = (each.mean(axis=0)[tuple(np.transpose(self.streams))] for each in found)
        shifts = np.where(np.isfinite(own), residuals, 0.0).mean(axis=0)
        return Bets(e_values, most, shifts[[statistic for statistic, _ in self.streams]])

    def words(self, stream: int) -> str:
        """Say what a stream says, without its size."""
        at, way = self.streams[stream]
        return (self.statistics[at].rises if way else self.statistics[at].falls) or self.statistics[at].name

    @property
    def streams(self) -> list[tuple[int, int]]:
        """The statistics by number, and the directions (0 falls, 1 rises), that say something."""
        return [
            (at, way)
            for at, statistic in enumerate(self.statistics)
            for way, words in enumerate((statistic.falls, statistic.rises))
            if words is not None
        ]


_CELL = np.dtype([("mean", "<f2"), ("deviation", "<f2"), ("falling", "u1"), ("rising", "u1")])


def _shrunk(total: Floats, count: int, usual: Floats) -> Floats:
    return np.asarray((total + _PRIOR * usual) / (count + _PRIOR))


def _weights(standardized: Floats) -> Floats:
    """Return how much each picture counts, `(n, statistics, 2)` of 0 to 1, for falling and for rising."""
    both = np.stack([-standardized, standardized], axis=-1)
    return np.asarray(np.clip((both - _FREE) / _RANGE, 0, 1))


def _bound(weights: Floats, independent: int) -> Floats:
    """Return how large the mean of weights `(n, statistics, 2)` may be, in (0, 1), by so many independent pictures."""
    deviation = np.maximum(weights.std(axis=0), 0.2)  # that of a normal value is .24
    return np.asarray(np.minimum(weights.mean(axis=0) + _ERRORS * deviation / np.sqrt(independent) + _MARGIN, 1.0))


def grown(growth: Floats, e_values: Floats) -> Floats:
    """Return the logarithms of CUSUMs `(..., streams, bets)` after bets on `e_values` `(..., streams)`."""
    return np.asarray(np.maximum(0.0, growth) + np.log1p(_BETS * (e_values[..., None] - 1)))


def alarm_level(streams: int) -> float:
    """Return the logarithm at which a CUSUM alarms: of all together there is one false alarm in ALARM_EVERY at most."""
    return float(np.log(ALARM_EVERY * streams * len(_BETS)))


class Detector:
    """CUSUMs of bets against the bound of each of `streams`, and against each drift that goes on.

    `growth` `(streams, bets)` is the logarithm of each CUSUM, `since` the time at which it began to grow; `shift`, `worth` and
    `count` are sums of what has been seen since. `drifting` `(streams,)` tells which have alarmed. `relief` is the logarithm of
    a CUSUM of bets that the e-values have fallen below the middle between the usual and what the alarm came by, `doubt`.
    """

    def __init__(self, streams: int) -> None:
        """Begin with nothing seen."""
        shape = streams, len(_BETS)
        self.growth: Floats = np.zeros(shape)
        self.since, self.shift, self.worth, self.count = (np.zeros(shape) for _ in range(4))
        self.drifting = np.zeros(streams, bool)
        self.relief: Floats = np.zeros(streams)
        self.doubt: Floats = np.ones(streams)

    def add(self, bets: Bets, at: float) -> bool:
        """Bet on what is seen at the time `at`; True when a drift began or ended."""
        begins = (self.growth <= 0) & ~self.drifting[:, None]
        self.since[begins] = at
        for total, own in ((self.shift, bets.shifts[:, None]), (self.worth, bets.e_values[:, None]), (self.count, 1.0)):
            total[begins] = 0.0
            total[...] = total + own
        level = alarm_level(len(self.drifting))
        self.growth = np.minimum(grown(self.growth, bets.e_values), level + 1)
        begun = ~self.drifting & (self.growth.max(axis=1, initial=0.0) >= level)
        ended = self.drifting & (self._relieved(bets) >= np.log(RECOVERY_EVERY))
        for stream in np.flatnonzero(begun):
            self._begin(int(stream))
        self.drifting = (self.drifting | begun) & ~ended
        self.growth[ended] = 0.0
        return bool((begun | ended).any())

    def began(self, stream: int) -> tuple[float, float]:
        """Return since when a stream has drifted, and by how much in the mean since then."""
        return float(self.since[stream, 0]), float(self.shift[stream, 0] / self.count[stream, 0])

    def _begin(self, stream: int) -> None:
        """Keep what the bet that alarmed has counted."""
        bet = self.growth[stream].argmax()
        for each in (self.since, self.shift, self.worth, self.count):
            each[stream] = each[stream, bet]
        self.relief[stream] = 0.0
        self.doubt[stream] = (1 + self.worth[stream, bet] / self.count[stream, bet]) / 2

    def _relieved(self, bets: Bets) -> Floats:
        doubt = np.minimum(self.doubt, 1 + 0.9 * (bets.most - 1))  # below what a picture can be worth
        room = np.maximum(bets.most - doubt, 1e-9)
        gain = np.log1p(0.5 * ((bets.most - bets.e_values) / room - 1))
        self.relief = np.where(self.drifting & (bets.most > 1), np.maximum(0.0, self.relief) + gain, self.relief)
        return self.relief
