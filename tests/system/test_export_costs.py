"""What export and parity may cost: measured against the bare converters in the same run, and against the clock."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecnn_export.frameworks import require_keras

require_keras()
import tensorflow as tf  # noqa: E402

from edgecnn import Artifact, find_task, open_runtime  # noqa: E402
from edgecnn.datasets.dataset import Dataset, Splits  # noqa: E402
from edgecnn.datasets.load import synthesize_splits  # noqa: E402
from edgecnn.datasets.synthetic import generate_digits  # noqa: E402
from edgecnn.quiet import quiet  # noqa: E402
from edgecnn_export.conversion.calibration import choose_calibration  # noqa: E402
from edgecnn_export.exporter import export  # noqa: E402
from edgecnn_export.models import open_reference  # noqa: E402
from edgecnn_export.parity.compare import compare  # noqa: E402
from edgecnn_export.reference import Reference  # noqa: E402

ALLOWED = 1.5  # times the bare converter calls
PARITY_S = 120


@pytest.fixture(scope="module")
def steel() -> Reference:
    return open_reference("neu")


@pytest.fixture(scope="module")
def splits() -> Splits:
    """Synthetic steel to calibrate on, and nothing to measure parity on: the cost of export alone."""
    made = synthesize_splits(find_task("neu"), 0)
    return dataclasses.replace(made, validation=made.validation.take(np.arange(0)))


@pytest.fixture(scope="module")
def bare_s(steel: Reference, splits: Splits) -> float:
    """CPU seconds of the bare converters for the same four files, calibrated on the same pictures."""
    images = choose_calibration(splits.train).images
    _bare_converters(steel.model, images[:2])  # imports and first traces

    return _cpu_s(lambda: _bare_converters(steel.model, images))


def test_export_that_measures_ranges_costs_little_more_than_the_converters(
    steel: Reference, splits: Splits, bare_s: float, tmp_path: Path
) -> None:
    without_record = dataclasses.replace(steel, calibration=None)

    ours_s = _cpu_s(lambda: export(without_record, out=tmp_path / "out", int8=True, splits=splits))

    assert ours_s <= ALLOWED * bare_s


def test_export_by_recorded_ranges_costs_little_more_than_the_converters(
    steel: Reference, bare_s: float, tmp_path: Path
) -> None:
    ours_s = _cpu_s(lambda: export(steel, out=tmp_path / "out", int8=True))

    assert ours_s <= ALLOWED * bare_s


def test_ten_thousand_digits_over_five_models_are_compared_in_time(tmp_path: Path) -> None:
    reference = open_reference("mnist")
    files = export(reference, out=tmp_path / "out", int8=True).files
    candidates = {file.path.name: open_runtime(Artifact.open(file.path)) for file in files}
    digits = generate_digits(100, 0)
    dataset = Dataset(np.tile(digits.images, (10, 1, 1, 1)), np.tile(digits.class_ids, 10), digits.names * 10)

    started_s = time.monotonic()
    report = compare(reference.runtime(), candidates, dataset, labels=reference.task.labels)
    taken_s = time.monotonic() - started_s

    assert (report.count, len(report.candidates)) == (10_000, 4)
    assert taken_s < PARITY_S


def _cpu_s(work: Callable[[], Any]) -> float:
    started_s = time.process_time()
    with quiet():
        work()
    return time.process_time() - started_s


class _Serving(tf.Module):  # type: ignore[misc]  # TensorFlow ships no types
    """A module that owns the model's variables, without which the converter writes a file without weights."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.owned = model, [variable.value for variable in model.variables]

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def serve(self, image: Any) -> dict[str, Any]:
        return {"scores": self.model(image, training=False)}


def _bare_converters(model: Any, images: NDArray[np.uint8]) -> None:
    """Make float and int8 TFLite and ONNX as each tool's manual says, calibrating picture by picture."""
    import onnx
    import tf2onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quant_pre_process, quantize_static

    class Pictures(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest: Iterator[NDArray[np.uint8]] = iter(images)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            image = next(self.rest, None)
            return None if image is None else {"image": image[None].astype(np.float32)}

    shape = model.input_shape[1:]
    with quiet():
        module = _Serving(model)
        concrete = module.serve.get_concrete_function(tf.TensorSpec((1, *shape), tf.float32, name="image"))
        tf.lite.TFLiteConverter.from_concrete_functions([concrete], module).convert()
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None].astype(np.float32)] for image in images)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        converter.convert()
        function = tf.function(lambda image: {"scores": model(image, training=False)})
        spec = tf.TensorSpec((None, *shape), tf.float32, name="image")
        proto, _ = tf2onnx.convert.from_function(function, [spec], opset=18)
        with tempfile.TemporaryDirectory() as folder:
            plain, prepared, quantized = (f"{folder}/{name}.onnx" for name in ("plain", "prepared", "quantized"))
            onnx.save(proto, plain)
            quant_pre_process(plain, prepared, skip_symbolic_shape=True)
            int8 = QuantType.QInt8
            quantize_static(
                prepared, quantized, Pictures(), quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=int8, weight_type=int8,
            )  # fmt: skip
