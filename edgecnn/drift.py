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
import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts.contract import DRIFT_STATISTICS, DataInfo, DriftInfo
from edgecnn.classifier import Classifier, Prediction
from edgecnn.errors import DatasetError
from edgecnn.preprocessing import Preprocessing
from edgecnn.quick_dataclass import dataclass
from edgecnn.text import counted

ALARM_EVERY = 1_000_000  # pictures between two false alarms, at least and on average
RECOVERY_EVERY = 10_000  # the same for a false all-clear while the drift goes on
MIN_PICTURES = 30
# Above so many classes a baseline is of all of them together: it has to stay small.
MAX_CLASSES = 32
_BETS = np.array([0.2, 0.5, 0.9])  # parts of the stake: small ones for small changes
# A picture counts from half a standard deviation beyond the usual on, fully from two and a half.
_FREE, _RANGE = 0.5, 2.0
# The bound lies this many standard errors above what held-out pictures gave, and a margin: a little worse is no drift.
_ERRORS, _MARGIN = 3.0, 0.02
_PRIOR = 4.0  # as if every class had that many parts of the usual kind besides its own, at most
GIVEN = " given the rest"  # how the name of such a statistic ends
_LEAST_GIVEN = 0.3  # of a statistic given the rest, whose deviation is about 1
_FOLDS = 10  # how much pictures count is measured by what is usual of the other nine tenths of the parts

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

    def given_the_rest(self) -> Statistic:
        """Return the same beside what the other statistics let expect."""
        rises, falls = (word and word + GIVEN for word in (self.rises, self.falls))
        return Statistic(self.name + GIVEN, rises, falls, _LEAST_GIVEN)


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
    Statistic("specks", None, "dark specks", 0.25),
    Statistic("glare", "more glare", None, 0.5),
    Statistic("sureness", None, "less sure", 0.5),
    Statistic("novelty", "more novel", None, 0.1),
)
_BY_NAME = {statistic.name: statistic for statistic in STATISTICS}
_LAPLACE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
_GRID, _VIEW, _VIEW_BLUR = 8, 32, 7
_DARK = 8  # levels are never so dark that their logarithm is noise
_MOST_BANDS = 8  # of light over a picture; fewer than two are a slope or a bowl


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

    All but specks are logarithms of base 2: 1 is a stop, or twice as much. Brightness is the level that a tenth of the pixels
    exceeds, contrast is relative to the mean, noise is the mean absolute response to a difference of Laplacians (Immerkaer,
    Computer Vision and Image Understanding 64, 1996). Bands are the largest amplitude of two to eight periods in the rows'
    light, specks the skewness of what is smaller than a fifth of the picture. `novel_above` is the threshold that the answer's
    novelty was divided by.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.shape[2] == 3 else image[:, :, 0]
    levels = gray.astype(np.float32)
    side = min(gray.shape)
    fine, middle, coarse = (cv2.GaussianBlur(levels, (0, 0), share * side) for share in (0.005, 0.01, 0.02))
    smooth = cv2.blur(levels, (3, 3))
    noise = cv2.norm(cv2.filter2D(levels, -1, _LAPLACE), cv2.NORM_L1) / levels.size * np.sqrt(np.pi / 2) / 6
    counts = np.cumsum(cv2.calcHist([gray], [0], None, [256], [0, 256]).ravel()) / gray.size
    (mean,), (deviation,) = (each.ravel() for each in cv2.meanStdDev(levels))
    across, down, outwards = _LIGHT @ np.log2(cv2.resize(levels, (_GRID, _GRID), interpolation=cv2.INTER_AREA) + _DARK).ravel()
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
        "bands": _bands(levels) + 0.01,
        "specks": 2.0 ** _speckle(levels),
        "glare": 1 - counts[249] + 1e-3,
        "sureness": probability / (1 - probability),
        "novelty": np.nan if prediction.novelty is None else prediction.novelty * novel_above + 1e-3,
    }
    return np.asarray(np.log2([found[name] for name in DRIFT_STATISTICS], dtype=np.float64))


def _deviation(levels: NDArray[Any]) -> float:
    return float(cv2.meanStdDev(levels)[1][0, 0])


def _bands(levels: NDArray[np.float32]) -> float:
    """Return the amplitude in stops of the strongest bands of light across `(height, width)`, without slope and bowl."""
    rows = np.log2(cv2.reduce(levels, 1, cv2.REDUCE_AVG).ravel() + _DARK)
    return float(np.abs(rows @ _band_waves(len(rows))).max(initial=0.0))


@functools.cache
def _band_waves(rows: int) -> NDArray[np.complex128]:
    """Return what tells the amplitudes of two to eight periods in the light of so many rows, `(rows, waves)`.

    Slope and bowl are taken out, and a Hann window laid over the rest. As matrices, since a camera's first answer would wait
    for NumPy's polynomials and Fourier transforms to be imported.
    """
    places = np.linspace(-1, 1, rows)
    smooth, _ = np.linalg.qr(np.vander(places, min(3, rows)))
    window = np.hanning(rows)
    periods = np.arange(2, min(_MOST_BANDS, rows // 2) + 1)
    waves = window[:, None] * np.exp(-2j * np.pi * np.outer(np.arange(rows), periods) / rows)
    return np.asarray(2 * (waves - smooth @ (smooth.T @ waves)) / max(window.sum(), 1e-9))


def _speckle(levels: NDArray[np.float32]) -> float:
    """Return how skewed the small details of `(height, width)` are: below 0 where they are dark spots on bright ground."""
    view = np.log2(cv2.resize(levels, (_VIEW, _VIEW), interpolation=cv2.INTER_AREA) + _DARK)
    details = view - cv2.blur(view, (_VIEW_BLUR, _VIEW_BLUR))
    return float((details**3).mean() / (float((details**2).mean()) + 1e-6) ** 1.5)


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
    """What is usual: of all pictures (row 0) and of those answered as each class, by column.

    Columns are the `statistics`, and each again given the rest: what is left of it when the others have said what to expect. A
    change of the lens moves several that usually move together in another way, such as noise and brightness, and is seen there
    first. `mixing` `(statistics, statistics)` makes them of how far a picture lies from the mean of all; without columns,
    `(statistics, 0)`, there are none.

    `means` and `deviations` are `(1 + classes, columns)`; `bounds` `(1 + classes, columns, 2)` is how much a picture
    counts at most in the mean, in (0, 1], when the statistic falls and when it rises.
    """

    statistics: tuple[Statistic, ...]
    mixing: Floats
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
        chosen = tuple(each for each in statistics if np.isfinite(values[:, STATISTICS.index(each)]).all())
        own = groups if groups is not None and len(groups) else np.arange(len(values))
        _, parts, counts = np.unique(own, return_inverse=True, return_counts=True)
        if len(counts) < MIN_PICTURES:
            found = f"{counted(len(counts), 'different picture')} {'says' if len(counts) == 1 else 'say'}"
            raise DatasetError(f"{found} too little about what is usual: at least {MIN_PICTURES} are needed")
        known = classes if classes <= MAX_CLASSES else 0
        row = np.where((class_ids >= 0) & (class_ids < known), class_ids + 1, 0)
        numbers = [STATISTICS.index(each) for each in chosen]
        seen = _Seen(np.array([each.least for each in chosen]), values[:, numbers], row, 1 + known, parts, 1 / counts[parts])
        mixing, means, deviations = seen.usual()
        return cls(chosen, mixing, means, deviations, seen.bounds())

    @classmethod
    def read(cls, info: DriftInfo) -> Baseline:
        """Return the baseline that a contract holds."""
        statistics = tuple(_BY_NAME[name] for name in info.statistics)
        mixing = np.frombuffer(base64.b64decode(info.mixing), "<f2").reshape(len(statistics), -1).astype(np.float64)
        rows = np.frombuffer(base64.b64decode(info.table), _CELL).reshape(-1, sum(mixing.shape))
        bounds = np.stack([rows["falling"], rows["rising"]], axis=-1) / 255.0
        return cls(statistics, mixing, rows["mean"].astype(np.float64), rows["deviation"].astype(np.float64), bounds)

    def to_info(self, data: DataInfo, pictures: int) -> DriftInfo:
        """Return what a contract holds of it, which `pictures` of `data` have told."""
        table = np.empty(self.means.shape, _CELL)
        table["mean"], table["deviation"] = self.means, self.deviations
        table["falling"], table["rising"] = np.moveaxis(np.ceil(255 * self.bounds), -1, 0)
        names = tuple(each.name for each in self.statistics)
        packed = (base64.b64encode(each.tobytes()).decode() for each in (table, self.mixing.astype("<f2")))
        return DriftInfo(data, pictures, names, *packed)

    @property
    def columns(self) -> tuple[Statistic, ...]:
        """What the columns are."""
        return self.statistics + tuple(each.given_the_rest() for each in self.statistics[: self.mixing.shape[1]])

    def bets(self, values: Floats, class_ids: NDArray[np.int64]) -> Bets:
        """Return what pictures `(n, STATISTICS)`, seen at once, are worth; what a model does not say is worth nothing."""
        row = np.where((class_ids >= 0) & (class_ids + 1 < len(self.means)), class_ids + 1, 0)
        own = _columns(values[:, [STATISTICS.index(each) for each in self.statistics]], self.means[0], self.mixing)
        residuals = own - self.means[row]
        weights, bounds = _weights(residuals / self.deviations[row]), self.bounds[row]
        known = np.isfinite(own)[:, :, None]
        found = np.where(known, weights / bounds, 1.0), np.where(known, 1 / bounds, 1.0)
        e_values, most = (each.mean(axis=0)[tuple(np.transpose(self.streams))] for each in found)
        shifts = np.where(np.isfinite(own), residuals, 0.0).mean(axis=0)
        return Bets(e_values, most, shifts[[column for column, _ in self.streams]])

    def words(self, stream: int) -> str:
        """Say what a stream says, without its size."""
        at, way = self.streams[stream]
        column = self.columns[at]
        return (column.rises if way else column.falls) or column.name

    @property
    def streams(self) -> list[tuple[int, int]]:
        """The columns by number, and the directions (0 falls, 1 rises), that say something."""
        return [
            (at, way)
            for at, statistic in enumerate(self.columns)
            for way, words in enumerate((statistic.falls, statistic.rises))
            if words is not None
        ]


_CELL = np.dtype([("mean", "<f2"), ("deviation", "<f2"), ("falling", "u1"), ("rising", "u1")])


@dataclass(frozen=True, eq=False)
class _Seen:
    """Pictures by their `values` `(n, statistics)`, whose standard deviations are taken to be `least` `(statistics,)` or more.

    `row` `(n,)` is 1 + the class of each, or 0, of `known` rows; `parts` `(n,)` what it shows, and `share` `(n,)` its share in
    what that part counts.
    """

    least: Floats
    values: Floats
    row: NDArray[np.int64]
    known: int
    parts: NDArray[np.int64]
    share: Floats

    @property
    def rows(self) -> Floats:
        """What each picture counts in each row, `(rows, n)`; in the first all do."""
        every = np.arange(self.known)[:, None]
        return np.asarray(((self.row == every) | (every == 0)) * self.share)

    def usual(self) -> tuple[Floats, Floats, Floats]:
        """Return the mixing, and the means and standard deviations of all columns."""
        means, _, within = _usual(self.values, self.rows, self.least)
        mixing = _mixing(self.values - means[self.row], within, self.share)
        columns = _columns(self.values, means[0], mixing)
        means, deviations, _ = _usual(columns, self.rows, np.append(self.least, np.full(mixing.shape[1], _LEAST_GIVEN)))
        return mixing, means, deviations

    def bounds(self) -> Floats:
        """Return how large the mean of weights may be, `(rows, columns, 2)`, in (0, 1]."""
        of_all, of_own = self._weights()
        whole, pooled = (_moments(each, self.share) for each in (of_all, of_own))
        found = [_bound(*whole, len(np.unique(self.parts)))]
        for row in self.rows[1:]:
            if parts := len(np.unique(self.parts[row > 0])):
                mean, variance = (
                    (parts * a + _PRIOR * b) / (parts + _PRIOR) for a, b in zip(_moments(of_own, row), pooled, strict=True)
                )
                found.append(_bound(mean, variance, parts))
            else:
                found.append(found[0])
        return np.array(found)

    def _weights(self) -> tuple[Floats, Floats]:
        """Return how much each picture counts, `(n, columns, 2)`, beside what is usual of all, and of its own class.

        What is usual is that of other parts, as it is for a camera's pictures.
        """
        folds = np.random.default_rng(0).permutation(self.parts.max() + 1)[self.parts] % _FOLDS
        of_all, of_own = ([np.empty(0)] * len(self.values) for _ in range(2))
        for fold in range(_FOLDS):
            inside = np.flatnonzero(folds == fold)
            mixing, means, deviations = self._of(folds != fold).usual()
            columns = _columns(self.values[inside], means[0], mixing)
            for found, row in ((of_all, 0 * self.row[inside]), (of_own, self.row[inside])):
                for at, weights in zip(inside, _weights((columns - means[row]) / deviations[row]), strict=True):
                    found[at] = weights
        return np.array(of_all), np.array(of_own)

    def _of(self, chosen: NDArray[np.bool_]) -> _Seen:
        parts, share = self.parts[chosen], self.share[chosen]
        return replace(self, values=self.values[chosen], row=self.row[chosen], parts=parts, share=share)


def _usual(values: Floats, rows: Floats, least: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the means and standard deviations of values `(n, columns)` by row, and the deviation within classes `(columns,)`.

    A class of few parts is drawn towards all: its mean the more, the less classes differ beside what they vary (empirical
    Bayes), its variance towards that of the classes. One without pictures is like all.
    """
    counts, sums = rows.sum(axis=1), rows @ values
    whole = sums[0] / counts[0]
    values = values - whole  # so that no digits are lost in squares
    sums, squares = rows @ values, rows @ values**2
    own = sums / np.maximum(counts, 1e-9)[:, None]
    around = squares - own * sums
    total, freedom = around[0] / counts[0], np.maximum(counts[1:] - 1, 0)
    within = around[1:][freedom > 0].sum(axis=0) / freedom.sum() if freedom.any() else total
    within = np.maximum(np.minimum(within, total), least**2)
    total = np.maximum(total, least**2)
    prior = np.minimum(within / np.maximum(total - within, 1e-3 * total), _PRIOR)
    means = sums / (counts[:, None] + prior)
    variances = (squares - 2 * means * sums + counts[:, None] * means**2 + _PRIOR * within) / (counts[:, None] + _PRIOR - 1)
    means[0], variances[0] = 0.0, total
    variances[counts == 0] = total
    return means + whole, np.sqrt(np.maximum(variances, least**2)), np.sqrt(within)


def _mixing(residuals: Floats, deviations: Floats, weights: Floats) -> Floats:
    """Return what makes of residuals `(n, statistics)` each statistic given the rest, with a deviation of about 1.

    Rows of the inverse of the correlations, which are shrunk towards none by as many parts as there are statistics.
    """
    count = len(deviations)
    if count < 2:
        return np.empty((count, 0))
    standard = residuals / deviations
    correlations = (weights[:, None] * standard).T @ standard / weights.sum() + count / weights.sum() * np.eye(count)
    inverse = np.linalg.inv(correlations)
    return np.asarray(inverse / np.sqrt(np.diag(inverse)) / deviations[:, None])


def _columns(values: Floats, means: Floats, mixing: Floats) -> Floats:
    """Return statistics `(n, statistics)` and each of them given the rest, `(n, columns)`."""
    return np.concatenate([values, (values - means[: values.shape[1]]) @ mixing], axis=1)


def _weights(standardized: Floats) -> Floats:
    """Return how much each picture counts, `(n, columns, 2)` of 0 to 1, for falling and for rising."""
    both = np.stack([-standardized, standardized], axis=-1)
    return np.asarray(np.clip((both - _FREE) / _RANGE, 0, 1))


def _moments(weights: Floats, row: Floats) -> tuple[Floats, Floats]:
    """Return the mean and variance of weights `(n, columns, 2)`, where a picture counts `row` `(n,)`."""
    shares = row / row.sum()
    mean = np.tensordot(shares, weights, 1)
    return mean, np.tensordot(shares, (weights - mean) ** 2, 1)


def _bound(mean: Floats, variance: Floats, parts: int) -> Floats:
    """Return how large a mean of weights may be, by so many parts: 1 by one, which says nothing of others."""
    if parts < 2:
        return np.ones_like(mean)
    deviation = np.maximum(np.sqrt(variance), 0.2)  # that of a normal value is .24
    return np.asarray(np.minimum(mean + _ERRORS * deviation / np.sqrt(parts - 1) + _MARGIN, 1.0))


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
