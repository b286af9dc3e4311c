"""Choosing the runtime that is installed, or the one that was asked for."""

from __future__ import annotations

import contextlib
import importlib
import os
from types import ModuleType

from edgecnn.artifacts import Artifact
from edgecnn.artifacts.contract import Contract, TensorSpec
from edgecnn.errors import ContractError, InferenceError, InputError, MissingDependencyError
from edgecnn.quiet import quiet_start
from edgecnn.runtimes.good_parts import GoodPartsRuntime
from edgecnn.runtimes.head import HeadRuntime
from edgecnn.runtimes.runtime import FeatureRuntime, Runtime
from edgecnn.runtimes.taught import TaughtRuntime
from edgecnn.runtimes.tflite import TfliteRuntime, check_tensors, first_line

ENVIRONMENT_VARIABLE = "EDGECNN_RUNTIME"
TFLITE_RUNTIMES = {
    "ai-edge-litert": ("edgecnn.runtimes.litert", "pip install ai-edge-litert"),
    "tflite-runtime": ("edgecnn.runtimes.tflite_runtime", "pip install 'edgecnn[tflite-runtime]'"),
    "tensorflow": ("edgecnn.runtimes.tensorflow", "pip install 'edgecnn[train]'"),
}
RUNTIMES = (*TFLITE_RUNTIMES, "onnxruntime")


def open_runtime(artifact: Artifact, *, runtime: str | None = None, threads: int = 1) -> Runtime:
    """Open an artifact on the first installed runtime of its format, or on the one that `runtime` or EDGECNN_RUNTIME names.

    The environment variable speaks for the format that its runtime can run; the argument must fit. One thread is the default:
    for compact models a second costs more than it brings.
    Raises MissingDependencyError when none is installed, InferenceError when it refuses the model, ContractError when the
    model's tensors are not those of the contract.
    """
    opened = open_graph(artifact, runtime=runtime, threads=threads)
    try:
        return answering(opened, artifact.contract, artifact.format)
    except ContractError as error:
        raise ContractError(f"{artifact.path}: {error}") from error


def answering(graph: FeatureRuntime, contract: Contract, file_format: str) -> Runtime:
    """Return what answers by the features of a graph, as its contract says; the graph itself where nothing does."""
    if contract.head is None or contract.features is None:
        return graph
    found = channels(contract.features, file_format)
    if contract.good_parts is not None:
        return GoodPartsRuntime(graph, contract.good_parts, found)
    head = HeadRuntime(graph, contract.head, found)
    return TaughtRuntime(head, contract) if contract.taught else head


def open_graph(artifact: Artifact, *, runtime: str | None = None, threads: int = 1) -> FeatureRuntime:
    """Open an artifact as `open_runtime` does, for the probabilities that the model's own softmax gives: its output 0."""
    wanted, contract = wanted_runtime(artifact.format, runtime), artifact.contract
    try:
        if artifact.format == "onnx":
            return _open_onnx(artifact, threads)
        has_features = contract.features is not None
        tflite = open_tflite(artifact.model, runtime=wanted, threads=threads, with_features=has_features)
        check_tensors(contract, tflite.input, tflite.output, tflite.features)
        return tflite
    except (ContractError, InferenceError) as error:
        raise type(error)(f"{artifact.path}: {error}") from error


def channels(features: TensorSpec, file_format: str) -> int | None:
    """Return how many channels features have: ONNX keeps those of a map before its places."""
    shape = features.shape
    return None if len(shape) < 2 else shape[1 if file_format == "onnx" and len(shape) == 4 else -1]


def import_runtime(file_format: str, runtime: str | None = None) -> str:
    """Import what `open_runtime` would use, without opening a model; return its name, empty where none is installed.

    InputError for a runtime that does not run the format.
    """
    wanted = wanted_runtime(file_format, runtime)
    names = ["edgecnn.runtimes.onnx"] if file_format == "onnx" else [TFLITE_RUNTIMES[n][0] for n in _candidates(wanted)]
    for name in names:
        with contextlib.suppress(ImportError):
            return str(importlib.import_module(name).NAME)
    return ""


def _candidates(wanted: str | None) -> list[str]:
    return [wanted] if wanted else list(TFLITE_RUNTIMES)


def wanted_runtime(file_format: str, argument: str | None) -> str | None:
    """Return the runtime that an argument or EDGECNN_RUNTIME names for a format, None where neither does.

    InputError for an unknown one, and for an argument that does not run the format.
    """
    wanted = argument or os.environ.get(ENVIRONMENT_VARIABLE) or None
    if wanted is None:
        return None
    if wanted not in RUNTIMES:
        raise InputError(f"unknown runtime {wanted!r}; known runtimes: {', '.join(RUNTIMES)}")
    if (wanted == "onnxruntime") != (file_format == "onnx"):
        if argument:
            raise InputError(f"{wanted} does not run .{file_format} files")
        return None
    return wanted


def missing_runtime(file_format: str, runtime: str | None = None) -> MissingDependencyError:
    """Return the error where `runtime`, or every runtime of a format, is not installed."""
    if file_format == "onnx":
        return MissingDependencyError("ONNX Runtime is not installed. Install it with: pip install onnxruntime")
    _, install = TFLITE_RUNTIMES[_candidates(runtime)[0]]
    if runtime is None:
        return MissingDependencyError(f"no TFLite runtime is installed. Install one with: {install}")
    return MissingDependencyError(f"{runtime} is not usable here. Install it with: {install}")


def open_tflite(
    model: bytes,
    *,
    runtime: str | None = None,
    threads: int = 1,
    output: str | None = None,
    size_hw: tuple[int, int] | None = None,
    with_features: bool = False,
) -> TfliteRuntime:
    """Open a `.tflite`'s bytes on the first installed runtime, or on `runtime`; nothing is checked against a contract.

    `output`, `size_hw` and `with_features` are as for TfliteRuntime.
    """
    for name in _candidates(runtime):
        # ImportError comes at construction too: tflite-runtime imports under numpy 2 and fails at its first interpreter.
        with contextlib.suppress(ImportError):
            module = importlib.import_module(TFLITE_RUNTIMES[name][0])
            with quiet_start():
                interpreter = _interpreter(module, model, threads)
                return TfliteRuntime(interpreter, module.NAME, output=output, size_hw=size_hw, with_features=with_features)
    raise missing_runtime("tflite", runtime)


def _interpreter(module: ModuleType, model: bytes, threads: int):  # type: ignore[no-untyped-def]  # three untyped classes
    try:
        return module.open_interpreter(model, threads)
    except SystemError as error:  # tflite-runtime under numpy 2
        raise ImportError(str(error)) from error
    except (ValueError, RuntimeError) as error:
        raise InferenceError(f"{module.NAME} cannot load this model: {first_line(error)}") from error


def _open_onnx(artifact: Artifact, threads: int) -> FeatureRuntime:
    try:
        from edgecnn.runtimes.onnx import OnnxRuntime
    except ImportError as error:
        raise missing_runtime("onnx") from error
    return OnnxRuntime(artifact.model, artifact.contract, threads)
