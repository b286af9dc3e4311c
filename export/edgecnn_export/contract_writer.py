"""Writing the contract of a converted model: what it was made of, its tensors, and its golden vectors."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edgecnn
from edgecnn.artifacts import Artifact, Contract
from edgecnn.artifacts.contract import (
    CalibrationInfo,
    DataInfo,
    GoldenVectors,
    ParityInfo,
    PretrainedInfo,
    RepairInfo,
    TensorSpec,
)
from edgecnn.artifacts.golden import FLOAT_TOLERANCE, choose_seeds, inputs_digest, make_inputs
from edgecnn.datasets.dataset import Dataset
from edgecnn.errors import ConversionError, InputError
from edgecnn.quiet import quiet
from edgecnn.records import read_record
from edgecnn.rejection.good_parts import with_threshold
from edgecnn.runtimes import open_runtime
from edgecnn.runtimes.good_parts import GoodPartsRuntime
from edgecnn.runtimes.runtime import Answers, answer
from edgecnn.runtimes.select import answering, open_tflite
from edgecnn.runtimes.tflite import TfliteRuntime
from edgecnn_export.conversion.convert import Conversion
from edgecnn_export.conversion.serving import INPUT_NAME, OUTPUT_NAME
from edgecnn_export.reference import Reference

# How far another machine may be off. Floats: sums in another order. TFLite int8: one level of 1/256 behind the softmax, see
# also `tolerance`. ONNX int8: a runtime that does not fuse a part rounds it in floats, and a hidden value moves by a level
# (measured: 0.004 at most between ONNX Runtime with and without its fusions; five times that is allowed).
_FLOAT, _TFLITE_INT, _ONNX_INT = 1e-4, 1.5 / 256, 0.02
_CONVERTERS = {"tflite": ("tensorflow", "tensorflow-cpu"), "onnx": ("tf2onnx",)}
# Both files were run by tflite-runtime 2.14; opset 18 came with ONNX Runtime 1.14.
_OLDEST_RUNTIMES = {"tflite": "tflite-runtime 2.14", "onnx": "onnxruntime 1.14"}


class ContractWriter:
    """What the contracts of one export have in common."""

    def __init__(
        self,
        reference: Reference,
        parameters: int,
        calibration: CalibrationInfo | None,
        export_id: str,
        held_out: Dataset | None = None,
    ) -> None:
        """Run the reference model on the golden inputs, once for all files.

        A quantized file that knows good parts only gets its threshold on `held_out` ones, where there are some.
        """
        self._held_out = held_out
        self._reference, self._parameters = reference, parameters
        self._calibration, self._export_id = calibration, export_id
        shape, run = reference.task.preprocessing.shape, reference.runtime().run
        self._seeds = choose_seeds(run, shape)
        self._inputs = make_inputs(self._seeds, shape)
        self._answers = run(self._inputs)

    @property
    def task_name(self) -> str:
        """The task that the files are of."""
        return self._reference.task.name

    def write(self, conversion: Conversion, path: Path) -> Artifact:
        """Give a converted model its contract, for a file at `path`; its parity is not measured yet.

        Raises ConversionError when it gives answers that are no numbers, which the reference does not, and when its own
        softmax and its features give different ones.
        """
        draft = self._with_threshold(conversion, self._contract(conversion), path)
        with quiet():
            answers = answer(open_runtime(Artifact(path, conversion.model, draft)), self._inputs)
        given = answers.probabilities
        if flawed := int((~np.isfinite(given)).any(axis=1).sum()):
            raise ConversionError(f"to {flawed} of {len(given)} generated inputs it gives answers that are not numbers (NaN)")
        if conversion.precision == "float32":
            check_features(answers)
        golden = dataclasses.replace(
            draft.golden,
            artifact=_rows(given),
            tolerance=tolerance(conversion, self._inputs, answers, draft),
            graph=() if answers.graph is None else _rows(answers.graph),
        )
        return Artifact(path, conversion.model, dataclasses.replace(draft, golden=golden))

    def _with_threshold(self, conversion: Conversion, draft: Contract, path: Path) -> Contract:
        """Return the contract with the threshold of its own features, since rounding moves all distances.

        It is no lower than the reference's: the oddest held-out part sets that, and rounding happens to move one picture.
        """
        held_out, good = self._held_out, draft.good_parts
        if good is None or held_out is None or not len(held_out) or conversion.precision == "float32":
            return draft
        with quiet():
            runtime = open_runtime(Artifact(path, conversion.model, draft))
            assert isinstance(runtime, GoodPartsRuntime)
            chosen = with_threshold(good, runtime.scores(held_out.images), held_out.groups)
        chosen = dataclasses.replace(chosen, novel_above=max(chosen.novel_above, good.novel_above))
        return dataclasses.replace(draft, good_parts=chosen)

    def write_repaired(self, conversion: Conversion, path: Path, calibration: CalibrationInfo, repair: RepairInfo) -> Artifact:
        """Give a model that was quantized in another way than plainly its contract."""
        artifact = self.write(conversion, path)
        contract = dataclasses.replace(artifact.contract, calibration=calibration, repair=repair)
        return dataclasses.replace(artifact, contract=contract)

    def _contract(self, conversion: Conversion) -> Contract:
        task, quantized = self._reference.task, conversion.precision != "float32"
        input_spec, output_spec, features = tensor_specs(conversion, task.preprocessing.shape, task.outputs)
        if self._reference.good_parts is not None and (features is None or len(features.shape) != 4):
            raise ConversionError("its file gives no map of features, by which good parts are told from others")
        return Contract(
            task=task.name,
            title=task.title,
            labels=task.labels,
            preprocessing=task.preprocessing,
            input=input_spec,
            output=output_spec,
            precision=conversion.precision,
            model=self._reference.name,
            parameters=self._parameters,
            versions=versions(conversion.format),
            training_data=training_data(self._reference),
            calibration=self._calibration if quantized else None,
            parity=ParityInfo("not measured"),
            golden=GoldenVectors(
                seeds=self._seeds,
                inputs_sha256=inputs_digest(self._inputs),
                reference=_rows(self._answers),
                artifact=(),
                tolerance=0.0,
            ),
            model_sha256=conversion.sha256,
            export_id=self._export_id,
            features=features,
            head=conversion.head,
            evidence=self._reference.evidence if conversion.head is not None else None,
            good_parts=self._reference.good_parts,
            drift=self._reference.drift,
            reject_threshold=self._reference.reject_threshold,
            rejection=self._reference.rejection,
            float_layers=conversion.float_layers,
            pretrained=pretrained(self._reference),
        )


def export_id(digests: Sequence[str]) -> str:
    """Return what the files of one export, given by their models' SHA-256, have in common and others have not."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]


def check_features(answers: Answers) -> None:
    """Raise ConversionError unless a float model's own softmax and its features with the head give the same answers.

    Those of a quantized one differ by its rounding, much where it lost its accuracy: parity is to say so.
    """
    if answers.graph is None:
        return
    found = float(np.abs(answers.graph - answers.probabilities).max())
    if not found <= FLOAT_TOLERANCE:
        raise ConversionError(
            f"its softmax and its features give probabilities that differ by {found:.2g}, {FLOAT_TOLERANCE:g} allowed"
        )


def tolerance(conversion: Conversion, inputs: NDArray[np.uint8], answers: Answers, contract: Contract) -> float:
    """Return how far another runtime's probabilities for the golden inputs may lie from `answers`.

    LiteRT's XNNPACK kernels and the older ones round differently between layers. tflite-runtime has the older ones only
    (LiteRT without XNNPACK gave bit-identical answers), so what they differ by on these inputs is added.
    """
    if conversion.precision == "float32":
        return _FLOAT
    if conversion.format == "onnx":
        return _ONNX_INT
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    older = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=conversion.model, experimental_op_resolver_type=older)
    graph = TfliteRuntime(interpreter, "without XNNPACK", with_features=conversion.features is not None)
    found = answer(answering(graph, contract, conversion.format), inputs)
    differences = [np.abs(found.probabilities - answers.probabilities)]
    if found.graph is not None and answers.graph is not None:
        differences.append(np.abs(found.graph - answers.graph))
    return _TFLITE_INT + max(float(each.max()) for each in differences)


def tensor_specs(
    conversion: Conversion, shape: tuple[int, int, int], classes: int
) -> tuple[TensorSpec, TensorSpec, TensorSpec | None]:
    """Return the model's input, its output and its features as its runtime names them."""
    if conversion.format == "onnx":
        given = TensorSpec(INPUT_NAME, "uint8", (None, *shape)), TensorSpec(OUTPUT_NAME, "float32", (None, classes))
        return *given, conversion.features
    with quiet():
        runtime = open_tflite(conversion.model, with_features=conversion.features is not None)
    return runtime.input, runtime.output, runtime.features


def versions(file_format: str) -> dict[str, str]:
    """Return what made the file, and the oldest runtime that is known to run it."""
    converter = next(name for name in _CONVERTERS[file_format] if _version(name))
    return {
        "edgecnn": edgecnn.__version__,
        "keras": _version("keras"),
        "converter": f"{converter} {_version(converter)}",
        "minimum_runtime": _OLDEST_RUNTIMES[file_format],
    }


def training_data(reference: Reference) -> DataInfo | None:
    """Return what the reference model was trained on, None where it does not say."""
    described: Any = (reference.training or {}).get("data", {}).get("train")
    if described is None:
        return None
    try:
        return DataInfo(**described)
    except TypeError as error:
        raise InputError(f"model {reference.name!r} has a malformed training record: {error}; train it again") from error


def pretrained(reference: Reference) -> PretrainedInfo | None:
    """Return whose weights the training started from, None where it started from random ones or does not say."""
    described = (reference.training or {}).get("pretrained")
    try:
        return None if described is None else read_record(PretrainedInfo, described, "pretrained")
    except InputError as error:
        raise InputError(f"model {reference.name!r} has a malformed training record: {error}; train it again") from error


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _rows(probabilities: NDArray[np.float32]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(value) for value in row) for row in probabilities)
