"""Another tool's `.tflite` as it is: what it says about itself, what the user states, and the two put together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts import Artifact, Contract, golden
from edgecnn.artifacts.artifact import file_format, read_file, split_bytes, without_contract
from edgecnn.artifacts.contract import GoldenVectors, ParityInfo, TensorSpec
from edgecnn.artifacts.tflite_metadata import Described, describe
from edgecnn.endings import find_ending
from edgecnn.errors import ContractError, InputError
from edgecnn.labels import parse_labels
from edgecnn.normalization import NORMALIZATIONS, RAW, UNSTATED, InputConvention, Normalization
from edgecnn.preprocessing import Fit, Preprocessing
from edgecnn.runtimes.child import TIMEOUT_S
from edgecnn.runtimes.select import open_tflite
from edgecnn.runtimes.tflite import TfliteRuntime

# Smallest and largest values that a model takes under the usual conventions, and how far a calibrated range may be off: it need
# not have seen black and white.
_USUAL = {
    "0..255": ((-5.0, 5.0), (150.0, 265.0)),
    "0..1": ((-0.02, 0.02), (0.6, 1.05)),
    "-1..1": ((-1.1, -0.6), (0.6, 1.1)),
    "imagenet": ((-2.4, -1.7), (1.8, 3.0)),
    "caffe": ((-140.0, -90.0), (100.0, 165.0)),
}
_TINY_WEIGHTS = 0.05  # of inputs of about 1 the first weights are about 1; a division by 255 that was folded into them shows


@dataclass(frozen=True)
class ForeignModel:
    """What a user states of another tool's `.tflite`: labels in class order, how it wants its pictures, which output is meant.

    What is None is taken from the file where that says it, `otherwise` is how its pixels are where neither says it. `options`
    names in messages what states it.
    """

    labels: tuple[str, ...] | None = None
    convention: InputConvention = UNSTATED
    fit: Fit = "squash"
    output: str | None = None
    otherwise: Normalization | None = None
    options: str = "--labels and the like"


@dataclass(frozen=True, eq=False)
class OpenedModel:
    """Another tool's model, ready to run, in the form of an artifact; `notes` say what was deduced or assumed about it."""

    artifact: Artifact
    runtime: TfliteRuntime
    notes: tuple[str, ...]


class ForeignTrial:
    """Another tool's `.tflite` that was read, while a child process tries it."""

    def __init__(
        self,
        path: Path,
        data: bytes,
        stated: ForeignModel,
        *,
        runtime: str | None = None,
        threads: int = 1,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Start with the bytes that were read from `path`; the child has `timeout_s` seconds.

        InputError for a file that has a contract, ContractError for an `.onnx` that has none.
        """
        self.model, contract_json = split_bytes(data, path)
        if contract_json is None and file_format(path) != "tflite":
            raise ContractError(f"{path} {without_contract(file_format(path), path)}")
        if contract_json is not None:
            raise InputError(f"{path} carries its own labels and preprocessing; omit {stated.options}")
        from edgecnn.runtimes.probe import Trial  # with it comes what starts processes

        self._path, self._stated, self._runtime, self._threads = path, stated, runtime, threads
        size_hw = stated.convention.size_hw
        self._trial = Trial(self.model, path, runtime, output=stated.output, size_hw=size_hw, timeout_s=timeout_s)
        self._is_tried = False

    def poll(self) -> bool:
        """Tell whether `open` need not wait for the child; InferenceError when a runtime refuses the model."""
        self._is_tried = self._is_tried or self._trial.poll()
        return self._is_tried

    def open(self) -> OpenedModel:
        """Wait for the child and open the model in this process; raises what `open_foreign` raises."""
        if not self._is_tried:
            self._trial.wait()
            self._is_tried = True
        stated, size_hw = self._stated, self._stated.convention.size_hw
        opened = open_tflite(self.model, runtime=self._runtime, threads=self._threads, output=stated.output, size_hw=size_hw)
        try:
            return _adapted(self._path, self.model, opened, describe(self.model), stated)
        except InputError as error:
            raise InputError(f"{self._path}: {error}") from error

    def stop(self) -> None:
        """Give up."""
        if not self._is_tried:
            self._trial.stop()


def open_foreign(
    path: Path, stated: ForeignModel, *, runtime: str | None = None, threads: int = 1, timeout_s: float = TIMEOUT_S
) -> OpenedModel:
    """Open another tool's `.tflite`; it is tried in a child process first, which has `timeout_s` seconds.

    Raises InputError when neither file nor user say what must be known: the labels, or the range of its pixels. ContractError
    when its tensors are no picture in and no classes out, InferenceError when a runtime refuses it.
    """
    return ForeignTrial(path, read_file(path), stated, runtime=runtime, threads=threads, timeout_s=timeout_s).open()


def _adapted(path: Path, model: bytes, runtime: TfliteRuntime, about: Described, stated: ForeignModel) -> OpenedModel:
    preprocessing = _preprocessing(path, runtime.input, stated.fit)
    labels, notes = _labels(about, stated)
    found = deduce_pixels(about, runtime.input, preprocessing.channels)
    if found is None and stated.otherwise is not None:
        found = stated.otherwise, "as the reference does, for it does not say"
    if stated.convention.pixels is None and found is None:
        raise InputError(
            "neither the file nor you say what range its pixels have, and a wrong one is answered all the same; "
            "state it with --pixel-range (0..1, -1..1, 0..255, imagenet, caffe)"
        )
    if stated.convention.pixels is None and found is not None:
        notes.append(f"it takes pixels as {found[0].name}, {found[1]}")
    runtime.pixels = stated.convention.normalization(preprocessing.channels, RAW if found is None else found[0])
    rounded = np.dtype(runtime.output.dtype).itemsize == 1
    runtime.ending = find_ending(runtime.run(_generated(preprocessing.shape)), about.last, labels, rounded=rounded)
    notes += [] if runtime.ending.note is None else [runtime.ending.note]
    contract = _contract(path, model, runtime, preprocessing, labels)
    return OpenedModel(Artifact(path, model, contract), runtime, tuple(notes))


def deduce_pixels(about: Described, spec: TensorSpec, channels: int) -> tuple[Normalization, str] | None:
    """Return how a model wants its pixels and what says so, None where nothing does.

    TFLite Metadata says it for an input of floats, scale and zero point for one of integers; a scaling that the graph begins
    with says that raw pixels are meant, and so do first weights that are a hundred times too small for anything else.
    """
    described = _of_metadata(about, channels)
    if spec.scale is not None:
        return _of_integers(spec.dtype, spec.scale, spec.zero_point or 0, described, channels)
    if described is not None:
        return described, "as its metadata says"
    if spec.dtype == "uint8":
        return RAW, "since it takes bytes"
    if about.rounding is not None and (found := _of_integers("int8", *about.rounding, None, channels)) is not None:
        return found
    if about.arithmetic is not None:
        return _of_arithmetic(about.arithmetic)
    if about.first_weights is not None and about.first_weights < _TINY_WEIGHTS:
        return RAW, "since its first weights are that small"
    return None


def _of_metadata(about: Described, channels: int) -> Normalization | None:
    mean, deviation = about.mean, about.deviation
    if not mean or len(mean) != len(deviation) or len(mean) not in {1, channels} or 0 in deviation:
        return None
    scale = tuple(1 / each for each in deviation)
    offset = tuple(-each / by for each, by in zip(mean, deviation, strict=True))
    try:
        return _named(Normalization(scale, offset))
    except InputError:  # numbers that are none
        return None


def _of_integers(
    dtype: str, scale: float, zero_point: int, described: Normalization | None, channels: int
) -> tuple[Normalization, str] | None:
    """Deduce from the range of values that an integer input can hold."""
    limits = np.iinfo(dtype)
    low, high = (float((limit - zero_point) * scale) for limit in (limits.min, limits.max))
    if described is not None:
        table = described.table(channels)
        slack = 0.1 * (high - low)
        if low - slack <= table.min() and table.max() <= high + slack:
            return described, "as its metadata says"
    if dtype == "int16":  # symmetric: where it begins says nothing
        return (RAW, f"since its input holds {low:g} to {high:g}") if high > 150 else None
    name = _usual(low, high)
    if name is None or (channels == 1 and len(NORMALIZATIONS[name].offset) > 1):
        return None
    return NORMALIZATIONS[name], f"since its input holds {low:.3g} to {high:.3g} (scale {scale:.3g}, zero point {zero_point})"


def _of_arithmetic(arithmetic: tuple[tuple[float, ...], tuple[float, ...]]) -> tuple[Normalization, str] | None:
    """Deduce from what the graph does to its input first: it makes a usual range of raw pixels, or of 0..1."""
    scale, offset = (np.asarray(values) for values in arithmetic)
    for name, highest in (("0..255", 255.0), ("0..1", 1.0)):
        ends = np.sort(
            [np.broadcast_to(offset, scale.shape if scale.size > 1 else offset.shape), scale * highest + offset], axis=0
        )
        made = _usual(float(ends.min()), float(ends.max()))
        if made is not None and made != name:
            return NORMALIZATIONS[name], f"since it begins by making {made} of them itself"
    return None


def _usual(low: float, high: float) -> str | None:
    for name, (lows, highs) in _USUAL.items():
        if lows[0] <= low <= lows[1] and highs[0] <= high <= highs[1]:
            return name
    return None


def _named(normalization: Normalization) -> Normalization:
    """Return the usual normalization that one is, up to rounding."""
    for usual in NORMALIZATIONS.values():
        if np.allclose(usual.table(3), normalization.table(3), rtol=0, atol=0.02 * np.ptp(usual.table(3))) and not usual.bgr:
            return usual
    return normalization


def _labels(about: Described, stated: ForeignModel) -> tuple[tuple[str, ...], list[str]]:
    """Return the stated labels, else those of the file; and what is worth saying about them."""
    try:
        own = () if about.labels is None else parse_labels(about.labels, "its label file")
    except InputError:
        own = ()
    own = own if len(own) > 1 and len(set(own)) == len(own) else ()
    if stated.labels is not None:
        differ = f"its own label file says otherwise: {', '.join(own)}" if own and own != stated.labels else ""
        return stated.labels, [differ] if differ else []
    if not own:
        raise InputError("it does not name its classes; name them in order with --labels a,b,c or a file with one per line")
    return own, [f"its {len(own)} labels are those of its label file"]


def _preprocessing(path: Path, spec: TensorSpec, fit: Fit) -> Preprocessing:
    sides = spec.shape[1:]
    if len(sides) != 3 or sides[2] not in (1, 3):
        raise ContractError(f"{path}: its input {list(spec.shape)} is not a picture (1, h, w, 1 or 3)")
    height, width, channels = (side or 0 for side in sides)
    return Preprocessing(height, width, "gray" if channels == 1 else "rgb", fit)


def _generated(shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Make a few pictures to see what a model gives: noise, dark noise, black and white."""
    random = np.random.default_rng(0)
    images = [random.integers(0, high, shape) for high in (256, 256, 64)]
    return np.stack([*images, np.zeros(shape), np.full(shape, 255)]).astype(np.uint8)


def _contract(
    path: Path, model: bytes, runtime: TfliteRuntime, preprocessing: Preprocessing, labels: Sequence[str]
) -> Contract:
    """Write down what is known, for those who show it: nothing was compared with a reference."""
    seeds, digest = (0,), hashlib.sha256(model).hexdigest()
    inputs = golden.make_inputs(seeds, preprocessing.shape)
    answers = tuple(tuple(float(value) for value in row) for row in runtime.run(inputs))
    output = TensorSpec(runtime.output.name, runtime.output.dtype, (None, len(labels)))
    return Contract(
        task=path.stem,
        title=f"{path.name}, another tool's model",
        labels=tuple(labels),
        preprocessing=preprocessing,
        input=runtime.input,
        output=output,
        precision="int8" if np.dtype(runtime.input.dtype).itemsize == 1 else "float32",
        model=path.stem,
        parameters=0,
        versions={},
        training_data=None,
        calibration=None,
        parity=ParityInfo("not measured"),
        golden=GoldenVectors(seeds, golden.inputs_digest(inputs), answers, answers, 1e-3),
        model_sha256=digest,
        export_id=digest[:16],
    )
