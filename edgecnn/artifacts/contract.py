"""The contract inside every artifact: all that a board must know to serve the model, as frozen dataclasses and as JSON."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import math
import reprlib
import struct
import unicodedata
from dataclasses import field
from typing import Any, Literal

from edgecnn.conformal import losable, surely_kept
from edgecnn.errors import ContractError, InputError
from edgecnn.preprocessing import Preprocessing
from edgecnn.quick_dataclass import dataclass
from edgecnn.records import read_record
from edgecnn.text import counted

FORMAT_VERSION = 2
MAX_JSON_BYTES = 2**20
MAX_GOLDEN = 64
MAX_HELD_OUT = 100_000
_INTEGERS = {"int8": (-128, 127), "int16": (-(2**15), 2**15 - 1), "uint8": (0, 255)}
_DTYPES = ("float32", *_INTEGERS)
# What a file has no need of is left out of it.
_LEFT_OUT = (
    "repair", "rejection", "float_layers", "pretrained", "features", "head", "evidence", "good_parts", "taught", "drift",
)  # fmt: skip
# What a camera can measure of a picture to notice a drift, and the bytes that a contract has for each in a row of its table.
DRIFT_STATISTICS = (
    "brightness", "contrast", "sharpness", "noise", "streaks", "across", "down", "corners", "bands", "specks", "glare",
    "sureness", "novelty",
)  # fmt: skip
_DRIFT_CELL, _MAX_DRIFT_ROWS = "<eeBB", 33


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of the model: `shape` with None for a dynamic axis; `scale` and `zero_point` when it is quantized."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    scale: float | None = None
    zero_point: int | None = None

    def __post_init__(self) -> None:
        if self.dtype not in _DTYPES:
            raise ContractError(f"the tensor {self.name!r} is {self.dtype!r}; known: {', '.join(_DTYPES)}")
        if (self.scale is None) != (self.zero_point is None):
            raise ContractError(f"the tensor {self.name!r} has scale {self.scale} and zero point {self.zero_point}")
        if self.scale is None or self.zero_point is None:
            return
        limits = _INTEGERS.get(self.dtype)
        if limits is None:
            raise ContractError(f"the tensor {self.name!r} is {self.dtype}, which has no scale")
        if not (self.scale > 0 and math.isfinite(self.scale)):
            raise ContractError(f"the tensor {self.name!r} has scale {self.scale}; it must be above 0 and finite")
        if not limits[0] <= self.zero_point <= limits[1]:
            raise ContractError(f"the tensor {self.name!r} has zero point {self.zero_point}, which {self.dtype} does not reach")


@dataclass(frozen=True)
class DataInfo:
    """The pictures that a figure was measured on: `source` and `split` in words, `count`, SHA-256 of pixels and classes.

    Where they are not `labelled`, the reference's own answers stand in for their classes.
    """

    source: str
    split: str
    count: int
    digest: str
    synthetic: bool = False
    labelled: bool = True


@dataclass(frozen=True)
class PretrainedInfo:
    """Whose weights a training started from: what they are, what they were trained on, their licence and where they are from.

    `package` holds them in its `file` of this SHA-256.
    """

    name: str
    trained_on: str
    license: str
    source: str
    package: str
    file: str
    sha256: str


@dataclass(frozen=True)
class CalibrationInfo:
    """How quantization ranges were found: on which pictures, by which seed and method; `digest` is of the ranges."""

    data: DataInfo
    seed: int
    method: str
    digest: str


@dataclass(frozen=True)
class ParityInfo:
    """The verdict of the parity check that the artifact went through, and its figures (percentage points for drops).

    `agrees` says that it answers unlabelled pictures as the reference does: `agreement` is the share, and nobody knows how
    many are right. `drop_bound` rests on the labelled pictures alone, `margin_bound` also on unlabelled ones where those
    alone could not decide.
    """

    verdict: Literal["pass", "agrees", "fail", "undecided", "not measured"]
    data: DataInfo | None = None
    agreement: float | None = None
    reference_accuracy: float | None = None
    accuracy: float | None = None
    drop: float | None = None
    drop_bound: float | None = None
    margin_bound: float | None = None
    confidence: float | None = None
    max_drop: float | None = None


@dataclass(frozen=True)
class RepairInfo:
    """How a model that lost too much as plain int8 was repaired.

    `technique` is the measure that made this file, `tried` are all that were tried up to it, in order; `float_layers` names the
    layers that compute in floats where the precision is `mixed`.
    """

    technique: str
    tried: tuple[str, ...]
    float_layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class RejectionInfo:
    """What the reject threshold stands for, measured on validation pictures and on out-of-distribution ones.

    `threshold` was chosen for the share `wanted_false_accepts` of out-of-distribution pictures; at it the share `false_accepts`
    over all `kinds` is taken for a class, and the share `kept` of the validation pictures is answered. `seed` drew the kinds.
    """

    threshold: float
    wanted_false_accepts: float
    false_accepts: float
    kept: float
    kinds: tuple[str, ...]
    seed: int


@dataclass(frozen=True)
class HeadInfo:
    """The dense layer that makes the classes' scores of the features: scores = mean of the features @ `weights` + `bias`.

    `weights` are `(channels, classes)` float32, little endian, as base64; of an int8 file they are those that it computes with.
    """

    weights: str
    bias: tuple[float, ...]


@dataclass(frozen=True)
class EvidenceInfo:
    """When an answer is a label, when it is unsure, and when the picture is like nothing that was taught.

    Probabilities are softmax(scores / `temperature`); below `unsure_below` an answer is unsure. A picture is novel when its
    novelty is above `novel_above`: the distance of its features, of unit length, to the nearest of the `centres`, plus
    `contrast_weight` times softplus(features @ `contrast`), plus `score_weight` times softplus(-its highest score), minus
    `log_weight` times the logarithm of its probability. With `roots` distance and contrast are those of the features' square
    roots, or roots of another `degree`, each with its feature's sign. `centres` are `(n, channels)` int8 as base64, each times
    `scale`; `centre_classes` says of which class each is. `contrast` are `(channels + 1,)` float32 as base64, the last for a
    feature that is always 1; its sum is positive for what is more like outliers than like training pictures.

    `places` says where a class is seen: weights of the features' square roots, `(channels, classes)` int8 as base64, those of
    each class on a scale of its own. The class is seen where a place's sum is high beside those of the picture's other places.
    A class whose weights are all 0, and every class without `places`, is located by its class map.

    Chosen on `pictures` held-out pictures to keep at least the share `keep_rate` of such pictures (split conformal prediction);
    of those themselves the share `kept` is kept, and of generated out-of-distribution pictures of the `kinds`, drawn by `seed`,
    the share `false_accepts` gets a label.
    """

    temperature: float
    unsure_below: float
    novel_above: float
    centres: str
    scale: float
    centre_classes: tuple[int, ...]
    log_weight: float
    keep_rate: float
    kept: float
    pictures: int
    false_accepts: float
    kinds: tuple[str, ...]
    seed: int
    roots: bool = False
    degree: int = 2
    contrast: str = ""
    contrast_weight: float = 0.0
    score_weight: float = 0.0
    places: str = ""

    def __post_init__(self) -> None:
        if not (0 < self.keep_rate < 1 and 0 < self.pictures <= MAX_HELD_OUT):
            raise ContractError(
                f"the evidence keeps the share {self.keep_rate} of pictures like {self.pictures} held-out ones; expected "
                f"a share between 0 and 1, and 1 to {MAX_HELD_OUT} pictures"
            )
        if self.degree not in (2, 4):
            raise ContractError(f"the evidence compares roots of degree {self.degree}; expected 2 or 4")

    @property
    def root(self) -> int:
        """The degree of the root of the features that is compared, 1 for the features themselves."""
        return self.degree if self.roots else 1

    @property
    def surely_kept(self) -> float:
        """The share of further pictures that gets a label with 95 % confidence in the draw of the held-out ones."""
        return surely_kept(self.pictures, losable(self.pictures, self.keep_rate))

    def describe(self) -> str:
        """Say which pictures get a label."""
        promised, surely, kept, strange = (
            f"{100 * share:.1f} %" for share in (self.keep_rate, self.surely_kept, self.kept, self.false_accepts)
        )
        return (
            f"labels {kept} of the {self.pictures} held-out pictures and {strange} of out-of-distribution ones; of further "
            f"pictures like the held-out ones at least {promised} on average, {surely} with 95 % confidence"
        )


@dataclass(frozen=True)
class GoodPartsInfo:
    """What good parts look like place by place, and from when on a picture is like none of them.

    `bank` are features of places of good parts, each averaged with its neighbours and of length 1, `(n, channels)` int8 as
    base64, each times `scale`. A picture's score is the mean distance of its oddest places, in the same form, to the nearest of
    these; above `novel_above` it is novel. The threshold was chosen on `pictures` held-out pictures of `parts` good parts, so
    that of further good parts at most the share `false_alarms` is expected to be called novel (split conformal prediction),
    where `wanted` was asked for.
    """

    bank: str
    scale: float
    novel_above: float
    wanted: float
    false_alarms: float
    parts: int
    pictures: int

    def __post_init__(self) -> None:
        if not all(0 < share < 1 for share in (self.wanted, self.false_alarms)) or not 0 < self.parts <= self.pictures:
            raise ContractError(
                f"the good parts promise {self.false_alarms} false alarms for {self.wanted} by {self.pictures} pictures of "
                f"{self.parts} parts; expected shares between 0 and 1, and a picture of each part"
            )

    @property
    def unsure_below(self) -> float:
        """0: of one class no answer is unsure."""
        return 0.0

    @property
    def too_few(self) -> bool:
        """True when the held-out parts cannot promise as few false alarms as were asked for."""
        return self.false_alarms > self.wanted + 1e-9

    def describe(self) -> str:
        """Say what is promised, and how many held-out parts would promise what was asked for."""
        enough = counted(math.ceil(1 / self.wanted - 1e-9) - 1, "held-out part")
        needed = f"; {self.wanted:.2%} needs {enough}" if self.too_few else ""
        return f"calls at most {self.false_alarms:.2%} of good parts novel, by {counted(self.parts, 'held-out one')}{needed}"


@dataclass(frozen=True)
class DriftInfo:
    """What pictures like the held-out ones usually look like, to notice when a camera's are no longer so; see `edgecnn.drift`.

    They were `pictures` of `data`. `table` has a row for all of them and one for those answered as each class (only the first
    where there are many classes). A row has six bytes of each column, as base64: mean and standard deviation as float16, little
    endian, and how much a picture counts at most in the mean, in 255ths, when it falls and when it rises. Columns are the
    `statistics`, and then each of them given the rest, which `mixing` makes of their differences from the first row's means: a
    matrix of float16, as base64. Without it there are none.
    """

    data: DataInfo
    pictures: int
    statistics: tuple[str, ...]
    table: str
    mixing: str = ""

    def __post_init__(self) -> None:
        unknown = set(self.statistics).difference(DRIFT_STATISTICS)
        if unknown or not 0 < len(self.statistics) == len(set(self.statistics)):
            raise ContractError(f"the drift baseline is of {list(self.statistics)}; known: {', '.join(DRIFT_STATISTICS)}")
        try:
            table, mixing = (base64.b64decode(each, validate=True) for each in (self.table, self.mixing))
        except ValueError:
            raise ContractError("the drift baseline's table or mixing is not base64") from None
        count = len(self.statistics)
        if len(mixing) not in (0, 2 * count**2) or not all(math.isfinite(each) for (each,) in struct.iter_unpack("<e", mixing)):
            raise ContractError(f"the drift baseline's mixing of {len(mixing)} bytes is no matrix of {count} statistics")
        size = struct.calcsize(_DRIFT_CELL) * (2 * count if mixing else count)
        if len(table) % size or not 0 < len(table) // size <= _MAX_DRIFT_ROWS:
            raise ContractError(f"the drift baseline's table of {len(table)} bytes has no rows of {size}")
        for mean, deviation, falling, rising in struct.iter_unpack(_DRIFT_CELL, table):
            if not (math.isfinite(mean) and 0 < deviation < math.inf and falling and rising):
                raise ContractError("the drift baseline's table has a cell that is no mean, deviation and bounds")

    def describe(self) -> str:
        """Say what is compared, and with what."""
        kind = "generated pictures of " if self.data.synthetic else ""
        return f"{len(self.statistics)} statistics of {self.pictures} {self.data.split} pictures ({kind}{self.data.source})"


@dataclass(frozen=True)
class TaughtInfo:
    """A class that was added or corrected after the export, by centres of the features of `pictures`, named by their SHA-256.

    `label` is the class, `at` when it was taught. The `centres` are as many of the evidence's, the taught ones standing last
    and in the order of teaching. A picture whose features are nearer to the centres that were taught of a class than to those
    of every other class is of that class; `softness` is the difference of distances at which that is so with odds of e to 1.
    """

    label: str
    at: str
    pictures: tuple[str, ...]
    centres: int
    softness: float

    def __post_init__(self) -> None:
        if not (self.centres > 0 and 0 < self.softness < math.inf):
            raise ContractError(f"{self.label!r} was taught by {self.centres} centres with softness {self.softness}")


@dataclass(frozen=True)
class GoldenVectors:
    """Generated inputs with the answers expected of them.

    `seeds[i]` makes input i (see `edgecnn.artifacts.golden`), `inputs_sha256` is of all inputs; `reference[i]` and
    `artifact[i]` are the class probabilities that the reference model and this artifact gave; `graph[i]` are those of its own
    softmax, its output 0, where `artifact[i]` was computed from the features; `tolerance` is how far another machine's
    probabilities may lie from either.
    """

    seeds: tuple[int, ...]
    inputs_sha256: str
    reference: tuple[tuple[float, ...], ...]
    artifact: tuple[tuple[float, ...], ...]
    tolerance: float
    graph: tuple[tuple[float, ...], ...] = ()

    def check(self, classes: int, graph_classes: int) -> None:
        """Raise ContractError unless there is one answer of `classes` probabilities for each of a few usable seeds.

        Answers of the graph's own softmax have `graph_classes`.
        """
        if not len(self.seeds) == len(self.reference) == len(self.artifact):
            counts = len(self.seeds), len(self.reference), len(self.artifact)
            raise ContractError(f"golden vectors must be as many seeds as reference and artifact answers, got {counts}")
        if not 0 < len(self.seeds) <= MAX_GOLDEN or not all(0 <= seed < 2**32 for seed in self.seeds):
            raise ContractError(f"expected 1..{MAX_GOLDEN} golden seeds of 0..2**32 - 1, got {reprlib.repr(self.seeds)}")
        if self.graph and len(self.graph) != len(self.seeds):
            raise ContractError(f"{len(self.seeds)} golden seeds have {len(self.graph)} answers of the graph's own softmax")
        rows = (*((row, classes) for row in self.reference + self.artifact), *((row, graph_classes) for row in self.graph))
        if any(len(row) != expected for row, expected in rows):
            raise ContractError(f"golden answers must have {classes} probabilities each, one per label")


@dataclass(frozen=True)
class Contract:
    """What an artifact promises; see `Artifact.open` for how it is enforced.

    `precision` is what it computes in: `int8` (a TFLite file with integers only), `int16x8` (int16 activations, int8 weights,
    integers only), `mixed` (int8 but for the layers that `float_layers` or `repair` names) or `float32`. `float_layers` are
    those of a quantized file, by their names in the reference, that its runtime has no integer operator for. `features` is the
    second output, what the last dense layer looks at, and `head` that layer: None where the network has no such end. A model
    with `good_parts` has learned good parts only: one label, and what is like none of them is novel. `taught` are classes that
    were added or corrected after the export: the labels of new ones stand behind those of the graph. `drift` says what the
    pictures of a camera usually look like.
    """

    task: str
    title: str
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    input: TensorSpec
    output: TensorSpec
    precision: Literal["float32", "int8", "int16x8", "mixed"]
    model: str
    parameters: int
    versions: dict[str, str]
    training_data: DataInfo | None
    calibration: CalibrationInfo | None
    parity: ParityInfo
    golden: GoldenVectors
    model_sha256: str
    export_id: str
    features: TensorSpec | None = None
    head: HeadInfo | None = None
    evidence: EvidenceInfo | None = None
    good_parts: GoodPartsInfo | None = None
    reject_threshold: float | None = None
    rejection: RejectionInfo | None = None
    repair: RepairInfo | None = None
    float_layers: tuple[str, ...] = ()
    pretrained: PretrainedInfo | None = None
    taught: tuple[TaughtInfo, ...] = ()
    drift: DriftInfo | None = None
    format_version: int = field(default=FORMAT_VERSION)

    def __post_init__(self) -> None:
        classes = self.output.shape[-1] if self.output.shape else None
        if (len(self.labels) == 1) != (self.good_parts is not None) or len(self.labels) != len(set(self.labels)):
            raise ContractError(
                "expected two or more different labels in the contract, or one with what good parts look like, got "
                f"{list(self.labels)}"
            )
        added, taught = set(self.labels[classes:]), {each.label for each in self.taught}
        # The graph of one class has two outputs that nobody reads: a softmax over one says nothing.
        if classes is None or not 2 <= classes <= max(2, len(self.labels)) or not added <= taught <= set(self.labels):
            raise ContractError(f"the contract has {len(self.labels)} labels but its output tensor has {classes} classes")
        if tuple(self.input.shape[1:]) != self.preprocessing.shape:
            raise ContractError(f"the contract prepares {self.preprocessing.shape} but its input is {self.input.shape}")
        if self.head is not None and (self.features is None or len(self.head.bias) != classes):
            raise ContractError("the contract has a head without features, or of other classes than its labels")
        if self.guard is not None and self.head is None:
            raise ContractError("the contract has evidence without the features that it is measured by")
        if self.good_parts is not None and (self.evidence is not None or not self.has_map):
            raise ContractError("the contract has good parts beside evidence, or without a map of features")
        if self.taught and (
            self.evidence is None or sum(each.centres for each in self.taught) >= len(self.evidence.centre_classes)
        ):
            raise ContractError("the contract has taught classes without the centres that they were taught by")
        for text in (self.task, self.title, self.model, *self.labels):
            _check_texts(text)

    @property
    def guard(self) -> EvidenceInfo | GoodPartsInfo | None:
        """What says which pictures get a label; None where all do."""
        return self.evidence if self.good_parts is None else self.good_parts

    @property
    def graph_labels(self) -> tuple[str, ...]:
        """The labels of the model's own output, which other tools' runtimes see: without those that were taught later."""
        return self.labels[: self.output.shape[-1]]

    @property
    def has_map(self) -> bool:
        """True when the features are of several places, so that the head can say where it looked."""
        sides = () if self.features is None or self.head is None else self.features.shape[1:]
        return len(sides) == 3 and sum(side != 1 for side in sides) > 1  # in ONNX the channels come first

    def differs_from(self, other: Contract) -> str | None:
        """Say why this is for another task than the `other`; None where it is for the same.

        A task is its labels and its input: its name is that of a folder, and the folder of a retraining has another one.
        """
        if self.labels != other.labels:
            if set(self.labels) == set(other.labels):
                return f"has the same classes in another order: {', '.join(self.labels)} and not {', '.join(other.labels)}"
            parts = {"new": set(self.labels) - set(other.labels), "gone": set(other.labels) - set(self.labels)}
            named = [f"{word}: {', '.join(sorted(found)[:4])}" for word, found in parts.items() if found]
            return f"has other classes ({'; '.join(named)})"
        mine, theirs = self.preprocessing, other.preprocessing
        if (mine.color, mine.fit) != (theirs.color, theirs.fit):
            return f"takes pictures as {mine.color} with fit {mine.fit}, and not as {theirs.color} with fit {theirs.fit}"
        return None

    def extends(self, other: Contract) -> bool:
        """Tell whether this is for the task of the `other` with more classes: whatever was chosen for those is still right."""
        mine, theirs = self.preprocessing, other.preprocessing
        return set(self.labels) > set(other.labels) and (mine.color, mine.fit) == (theirs.color, theirs.fit)

    def to_json(self) -> bytes:
        """Return canonical JSON with the SHA-256 of everything else under `contract_sha256`."""
        body = dataclasses.asdict(self)
        body = {name: value for name, value in body.items() if value or name not in _LEFT_OUT}
        return _canonical(body | {"contract_sha256": hashlib.sha256(_canonical(body)).hexdigest()})

    @classmethod
    def from_json(cls, data: bytes) -> Contract:
        """Read a contract; ContractError when it is malformed, altered, or of a format version this edgecnn can't read."""
        if len(data) > MAX_JSON_BYTES:
            raise ContractError(f"the contract has {len(data)} bytes; at most {MAX_JSON_BYTES} are read")
        body = _parse(data)
        version = body.get("format_version")
        if version != FORMAT_VERSION:
            raise ContractError(
                f"contract format version {version!r} is not read by this edgecnn, which reads {FORMAT_VERSION}: "
                "export the file again, or install the edgecnn that exported it"
            )
        if body.pop("contract_sha256", None) != _digest(body):
            raise ContractError("the contract was altered after export: its own SHA-256 does not match")
        _check_texts(body)
        try:
            contract = read_record(cls, body, "contract")
        except InputError as error:
            raise ContractError(f"malformed contract: {error}") from error
        contract.golden.check(len(contract.labels), len(contract.graph_labels))
        return contract


def _parse(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ContractError(f"the contract is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise ContractError("the contract is not a JSON object")
    return body


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _digest(body: dict[str, Any]) -> str:
    try:
        return hashlib.sha256(_canonical(body)).hexdigest()
    except (UnicodeEncodeError, RecursionError) as error:  # half of a surrogate pair; deeper than any contract
        raise ContractError(f"malformed contract: {type(error).__name__} in its text") from error


def _canonical(body: dict[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def _check_texts(value: Any) -> None:
    """Raise ContractError for control characters: a line break would tear labels.txt, an escape sequence act on a terminal."""
    if isinstance(value, str) and not value.isprintable() and any(unicodedata.category(letter) == "Cc" for letter in value):
        raise ContractError(f"the contract's text {reprlib.repr(value)} has control characters")
    if isinstance(value, dict | list):
        for item in value.items() if isinstance(value, dict) else value:
            _check_texts(list(item) if isinstance(item, tuple) else item)
