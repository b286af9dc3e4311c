"""Every runtime takes raw pixels and gives probabilities, and says in one line what does not fit."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.artifacts import Artifact, golden
from edgecnn.artifacts.contract import TensorSpec
from edgecnn.errors import ContractError, EdgecnnError, InferenceError, InputError, MissingDependencyError, ShapeError
from edgecnn.normalization import NORMALIZATIONS, Normalization
from edgecnn.runtimes import ENVIRONMENT_VARIABLE, RUNTIMES, open_runtime
from edgecnn.runtimes.tflite import dequantize, quantize

PIXELS = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)


def _images(count: int) -> Any:
    return golden.make_inputs(range(count), (4, 4, 1))


@given(scale=st.floats(1e-3, 1e3), zero_point=st.integers(-128, 127))
def test_every_pixel_is_quantized_by_the_formula(scale: float, zero_point: int) -> None:
    quantized = quantize(PIXELS, TensorSpec("image", "int8", (None, 16, 16, 1), scale, zero_point))

    # Jacob et al., CVPR 2018, eq. 1, solved for q; Python's round is to even, as TFLite's reference kernel on this path is.
    expected = [max(-128, min(127, round(pixel / scale) + zero_point)) for pixel in range(256)]
    assert (quantized.dtype.name, quantized.ravel().tolist()) == ("int8", expected)


def test_the_short_way_of_scale_one_equals_the_formula() -> None:
    quantized = quantize(PIXELS, TensorSpec("image", "int8", (None, 16, 16, 1), 1.0, -128))

    assert quantized.ravel().tolist() == list(range(-128, 128))


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_model_that_is_not_quantized_gets_the_pixels_as_they_are(dtype: str) -> None:
    given_pixels = quantize(PIXELS, TensorSpec("image", dtype, (None, 16, 16, 1)))

    assert (given_pixels.dtype.name, given_pixels.ravel().tolist()) == (dtype, list(range(256)))


def test_pixels_are_scaled_as_another_tools_model_wants_them() -> None:
    scaled = quantize(PIXELS, TensorSpec("image", "float32", (None, 16, 16, 1)), NORMALIZATIONS["-1..1"])

    np.testing.assert_allclose(scaled.ravel(), np.linspace(-1, 1, 256), atol=1e-6)


def test_colours_are_scaled_each_by_its_own_and_turned_round_behind_that() -> None:
    image = np.array([10, 20, 30], np.uint8).reshape(1, 1, 1, 3)

    scaled = quantize(image, TensorSpec("image", "float32", (None, 1, 1, 3)), Normalization((1, 2, 3), (0, 1, 2), bgr=True))

    assert scaled.ravel().tolist() == [92, 41, 10]


@given(scale=st.floats(1e-6, 1e3), zero_point=st.integers(-128, 127))
def test_every_int8_answer_is_dequantized_by_the_formula(scale: float, zero_point: int) -> None:
    scores = np.arange(-128, 128).astype(np.int8)[None]

    probabilities = dequantize(scores, TensorSpec("scores", "int8", (None, 256), scale, zero_point))

    expected = [(q - zero_point) * scale for q in range(-128, 128)]
    assert probabilities.dtype.name == "float32"
    np.testing.assert_allclose(probabilities[0], expected, rtol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 3, 70])
def test_any_number_of_pictures_gives_as_many_rows(tiny_artifact: Artifact, count: int) -> None:
    images = _images(count) if count else np.empty((0, 4, 4, 1), np.uint8)

    probabilities = open_runtime(tiny_artifact).run(images)

    assert (probabilities.shape, probabilities.dtype.name) == ((count, 3), "float32")
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=0.02)


def test_a_picture_has_the_same_answer_in_any_company(tiny_artifact: Artifact) -> None:
    runtime, images = open_runtime(tiny_artifact), _images(70)

    together = runtime.run(images)

    np.testing.assert_allclose(together, np.concatenate([runtime.run(images[i : i + 1]) for i in range(70)]), atol=1e-6)


def test_answers_are_the_callers_to_keep(tiny_artifact: Artifact) -> None:
    runtime = open_runtime(tiny_artifact)
    first = runtime.run(_images(2)[:1])
    kept = first.copy()

    runtime.run(_images(2)[1:])

    np.testing.assert_array_equal(first, kept)


def test_both_formats_agree_on_pictures_within_the_calibrated_range(
    tiny_tflite_artifact: Artifact, tiny_onnx_artifact: Artifact
) -> None:
    ramp = np.linspace(0, 255, 16).astype(np.uint8).reshape(4, 4, 1)
    images = np.stack([ramp, ramp[::-1], ramp[:, ::-1], ramp.transpose(1, 0, 2)])

    int8, reference = (open_runtime(artifact).run(images) for artifact in (tiny_tflite_artifact, tiny_onnx_artifact))

    np.testing.assert_allclose(int8, reference, atol=0.05)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((4, 4, 1), np.uint8),
        np.zeros((1, 4, 4), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros((1, 5, 4, 1), np.uint8),
        np.zeros((1, 4, 4, 1), np.float32),
        np.zeros((1, 4, 4, 1), np.int8),
    ],
    ids=lambda images: f"{images.shape} {images.dtype}",
)
def test_wrong_images_are_refused_with_both_shapes(tiny_artifact: Artifact, images: Any) -> None:
    with pytest.raises(ShapeError) as caught:
        open_runtime(tiny_artifact).run(images)

    assert str(caught.value) == f"expected images (n, 4, 4, 1) uint8, got {images.shape} {images.dtype}"


@pytest.mark.parametrize(("suffix", "runtime"), [("tflite", "ai-edge-litert"), ("onnx", "onnxruntime")])
def test_the_runtime_is_named_with_its_version(request: pytest.FixtureRequest, suffix: str, runtime: str) -> None:
    artifact = request.getfixturevalue(f"tiny_{suffix}_artifact")

    assert open_runtime(artifact, runtime=runtime).name.startswith(f"{runtime} ")


def test_the_environment_chooses(tiny_tflite_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "ai-edge-litert")

    assert open_runtime(tiny_tflite_artifact).name.startswith("ai-edge-litert")


def test_the_environment_speaks_for_its_own_format_only(tiny_onnx_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "tflite-runtime")

    assert open_runtime(tiny_onnx_artifact).name.startswith("onnxruntime")


def test_the_argument_wins_over_the_environment(tiny_tflite_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "nonsense")

    assert open_runtime(tiny_tflite_artifact, runtime="ai-edge-litert").name.startswith("ai-edge-litert")


def test_an_unknown_runtime_is_refused_with_the_known_ones(tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "torch")

    with pytest.raises(InputError, match=f"unknown runtime 'torch'; known runtimes: {', '.join(RUNTIMES)}"):
        open_runtime(tiny_artifact)


def test_a_runtime_of_the_other_format_is_refused(tiny_tflite_artifact: Artifact) -> None:
    with pytest.raises(InputError, match=r"onnxruntime does not run \.tflite files"):
        open_runtime(tiny_tflite_artifact, runtime="onnxruntime")


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        (
            "input",
            {"dtype": "float32", "scale": None, "zero_point": None},
            r"promises the tensor float32 .* has int8",
        ),
        ("input", {"zero_point": 0}, "zero point 0, the model has"),
        ("output", {"scale": 1 / 128}, "scale 0.0078125"),
    ],
)
def test_a_contract_at_odds_with_its_int8_tensors_is_one_clear_error(
    tiny_tflite_artifact: Artifact, field: str, change: dict[str, Any], message: str
) -> None:
    contract = tiny_tflite_artifact.contract
    altered = replace(contract, **{field: replace(getattr(contract, field), **change)})

    with pytest.raises(ContractError, match=message):
        open_runtime(replace(tiny_tflite_artifact, contract=altered))


def test_a_contract_at_odds_with_its_onnx_tensors_is_one_clear_error(tiny_onnx_artifact: Artifact) -> None:
    contract = tiny_onnx_artifact.contract
    altered = replace(contract, input=replace(contract.input, dtype="float32"))

    with pytest.raises(ContractError, match=r"tiny\.onnx: the contract promises .*float32.* the model has uint8"):
        open_runtime(replace(tiny_onnx_artifact, contract=altered))


def test_labels_of_another_model_do_not_fit_its_output(tiny_artifact: Artifact) -> None:
    with pytest.raises(ContractError, match="4 labels but its output tensor has 3 classes"):
        replace(tiny_artifact.contract, labels=("a", "b", "c", "d"))


@pytest.mark.parametrize("model", [b"", b"no model at all", b"\x08\x07" * 50])
def test_an_onnx_model_that_is_none_is_refused_in_one_line(tiny_onnx_artifact: Artifact, model: bytes) -> None:
    with pytest.raises(InferenceError, match="cannot run this model") as caught:
        open_runtime(replace(tiny_onnx_artifact, model=model))

    assert "\n" not in str(caught.value)


def _open_without(artifact: Artifact, blocked: list[str], *, environment: str = "") -> str:
    """Open an artifact in a fresh interpreter in which some packages cannot be imported; return what it prints."""
    code = f"""
import os, sys
for name in {blocked!r}:
    sys.modules[name] = None
os.environ[{ENVIRONMENT_VARIABLE!r}] = {environment!r}
from edgecnn.artifacts import Artifact
from edgecnn.errors import EdgecnnError
from edgecnn.runtimes import open_runtime
try:
    print(open_runtime(Artifact.open({str(artifact.path)!r})).name)
except EdgecnnError as error:
    print(type(error).__name__, error)
"""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120).stdout


TFLITE_PACKAGES = ["ai_edge_litert", "tflite_runtime", "tensorflow"]


def test_no_tflite_runtime_is_one_line_with_the_way_out(tiny_tflite_artifact: Artifact) -> None:
    said = _open_without(tiny_tflite_artifact, TFLITE_PACKAGES)

    assert said == "MissingDependencyError no TFLite runtime is installed. Install one with: pip install ai-edge-litert\n"


def test_a_missing_runtime_that_was_asked_for_is_one_line(tiny_tflite_artifact: Artifact) -> None:
    said = _open_without(tiny_tflite_artifact, ["tflite_runtime"], environment="tflite-runtime")

    assert said.startswith("MissingDependencyError tflite-runtime is not usable here")
    assert said.endswith("pip install 'edgecnn[tflite-runtime]'\n")


def test_no_onnx_runtime_is_one_line_with_the_way_out(tiny_onnx_artifact: Artifact) -> None:
    said = _open_without(tiny_onnx_artifact, ["onnxruntime"])

    assert said == "MissingDependencyError ONNX Runtime is not installed. Install it with: pip install onnxruntime\n"


def test_an_onnx_artifact_opens_without_the_onnx_package(tiny_onnx_artifact: Artifact) -> None:
    assert _open_without(tiny_onnx_artifact, ["onnx", "google"]).startswith("onnxruntime ")


def test_the_next_runtime_takes_over_where_the_first_is_missing(tiny_tflite_artifact: Artifact) -> None:
    said = _open_without(tiny_tflite_artifact, ["ai_edge_litert", "tflite_runtime"])

    assert said.startswith("tensorflow ")


def test_missing_dependencies_are_import_errors_of_ours() -> None:
    assert issubclass(MissingDependencyError, EdgecnnError)
    assert issubclass(MissingDependencyError, ImportError)


def test_an_answer_that_is_no_number_is_one_line_and_never_a_probability(tiny_onnx_artifact: Artifact) -> None:
    import onnx

    parsed = onnx.load_from_string(tiny_onnx_artifact.model)
    weights = onnx.numpy_helper.to_array(parsed.graph.initializer[0]).copy()
    weights[:, 1] = np.nan
    parsed.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights, "weights"))
    runtime = open_runtime(replace(tiny_onnx_artifact, model=parsed.SerializeToString()))

    with pytest.raises(InferenceError, match=r"not a number \(NaN or infinite\) for 2 of 2 on onnxruntime"):
        runtime.run(np.ones((2, *tiny_onnx_artifact.contract.preprocessing.shape), np.uint8))


@pytest.mark.parametrize(
    ("scale", "zero_point", "dtype", "reason"),
    [
        (float("nan"), 0, "int8", "above 0 and finite"),
        (float("inf"), 0, "int8", "above 0 and finite"),
        (1.0, 2**40, "int8", "does not reach"),
        (1.0, 2**31 - 1, "int8", "does not reach"),
        (1.0, -1, "uint8", "does not reach"),
        (1.0, 0, "float32", "has no scale"),
    ],
)
def test_a_tensor_whose_numbers_are_out_of_range_is_refused(scale: float, zero_point: int, dtype: str, reason: str) -> None:
    with pytest.raises(ContractError, match=reason):
        TensorSpec("t", dtype, (None, 3), scale, zero_point)
