"""The ladder, on a net that collapses in int8: rescaled so that channels of one tensor differ by orders of magnitude."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from edgecnn.artifacts import Artifact, Contract
from edgecnn.artifacts.contract import DataInfo, RepairInfo
from edgecnn.artifacts.operators import read_graph as read_file
from edgecnn.cli.main import cli
from edgecnn.datasets.dataset import Splits
from edgecnn.errors import ConversionError, InputError
from edgecnn.preprocessing import Preprocessing
from edgecnn.runtimes import open_runtime
from edgecnn.runtimes.select import open_tflite
from edgecnn.tasks import Task
from edgecnn_export.frameworks import require_keras

require_keras()
import keras  # noqa: E402  # only after its start-up messages are held back
from keras import layers  # noqa: E402

from edgecnn_export.contract_writer import ContractWriter  # noqa: E402
from edgecnn_export.conversion.calibration import METHOD, Calibration, choose_calibration, measure  # noqa: E402
from edgecnn_export.conversion.convert import Format, Quantization, convert_quantized  # noqa: E402
from edgecnn_export.conversion.fold import fold  # noqa: E402
from edgecnn_export.conversion.folded import Folded  # noqa: E402
from edgecnn_export.conversion.simulation import RoundedModel  # noqa: E402
from edgecnn_export.exporter import ExportResult, export  # noqa: E402
from edgecnn_export.parity.figures import ParityReport  # noqa: E402
from edgecnn_export.reference import Reference, save_reference  # noqa: E402
from edgecnn_export.repair import ladder  # noqa: E402
from edgecnn_export.repair.bias_correction import correct_biases  # noqa: E402
from edgecnn_export.repair.context import RepairContext, SkippedError  # noqa: E402
from edgecnn_export.repair.equalization import equalized_copy, find_links  # noqa: E402
from edgecnn_export.repair.fine_tuning import fine_tune  # noqa: E402
from edgecnn_export.repair.ladder import (  # noqa: E402
    Attempt,
    Technique,
    choose,
    time_side_by_side,
)
from edgecnn_export.repair.precision import (  # noqa: E402
    leave_both_float,
    leave_last_float,
    widen_activations,
)
from edgecnn_export.repair.ranges import (  # noqa: E402
    BINS,
    Histogram,
    calibrate_on_more,
    least_squares,
    percentile,
)
from export.tools.repair_proof import rescaled  # noqa: E402

BARS = Task("bars", "drawn bars", ("dark", "upright", "lying"), Preprocessing(16, 16, "gray"), max_drop=5.0)


def build(splits: Splits, relu_ceiling: float | None = None) -> Reference:
    """A depthwise-separable net of random features that knows the bars: its last layer is fitted by least squares."""
    keras.utils.set_random_seed(5)
    image = keras.Input((16, 16, 1), name="image")
    x = layers.Rescaling(1 / 255)(image)
    x = layers.ReLU(relu_ceiling)(layers.Conv2D(8, 3, strides=2, padding="same", name="first")(x))
    for i, channels in enumerate((12, 16)):
        x = layers.ReLU(relu_ceiling)(layers.DepthwiseConv2D(3, padding="same", name=f"depthwise{i}")(x))
        x = layers.ReLU(relu_ceiling)(layers.Conv2D(channels, 1, name=f"pointwise{i}")(x))
    x = layers.GlobalAveragePooling2D()(x)
    answer = layers.Dense(3, activation="softmax", name="answer")
    model = keras.Model(image, answer(x), name="random")
    features = np.asarray(keras.Model(image, x)(splits.train.images.astype(np.float32)))
    targets = 20.0 * np.eye(3)[splits.train.class_ids]
    bordered = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    solution = np.linalg.lstsq(bordered, targets, rcond=1e-6)[0]
    answer.set_weights([solution[:-1].astype(np.float32), solution[-1].astype(np.float32)])
    return Reference(model, BARS, "random")


@pytest.fixture(scope="module")
def collapsing(bar_splits: Splits) -> Reference:
    return rescaled(build(bar_splits), seed=0, spread=2.0)


@pytest.fixture(scope="module")
def repaired(collapsing: Reference, bar_splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    out = tmp_path_factory.mktemp("repaired")
    (out / "bars-mixed.tflite").write_text("of an earlier export, with its edgecnn.json")
    return export(collapsing, out=out, int8=True, repair=True, splits=bar_splits)


@pytest.fixture(scope="module")
def plain(collapsing: Reference, bar_splits: Splits) -> tuple[Folded, Calibration]:
    folded, chosen = fold(collapsing.model), choose_calibration(bar_splits.train, 60)
    data = DataInfo("drawn bars", "train", len(chosen), chosen.digest())
    return folded, Calibration(measure(folded, chosen.images), data, 0)


@pytest.fixture
def context(plain: tuple[Folded, Calibration], bar_splits: Splits) -> RepairContext:
    return RepairContext(*plain, bar_splits, 0)


@pytest.fixture(scope="module")
def mild_context(bar_splits: Splits) -> RepairContext:
    """A net that int8 harms without breaking it."""
    folded, chosen = fold(rescaled(build(bar_splits), seed=0, spread=0.8).model), bar_splits.train
    data = DataInfo("drawn bars", "train", len(chosen), chosen.digest())
    return RepairContext(folded, Calibration(measure(folded, chosen.images), data, 0), bar_splits, 0)


def figures(**changes: Any) -> Attempt:
    return dataclasses.replace(Attempt(0, "a technique", "tflite", verdict="fail", drop_bound=9.0), **changes)


def techniques(repaired: ExportResult, file_format: Format) -> dict[str, Attempt]:
    return {each.technique: each for each in repaired.attempts if each.format == file_format}


def test_rescaling_changes_no_answer_in_floats(bar_splits: Splits, collapsing: Reference) -> None:
    images = bar_splits.validation.images

    difference = np.abs(build(bar_splits).runtime().run(images) - collapsing.runtime().run(images)).max()

    assert difference < 1e-4


@pytest.mark.parametrize("file_format", ["tflite", "onnx"])
def test_a_net_that_collapses_is_repaired_by_the_first_rung_that_passes(repaired: ExportResult, file_format: Format) -> None:
    attempts = techniques(repaired, file_format)

    assert attempts["plain calibration"].verdict == attempts["clipped ranges"].verdict == "fail"
    assert attempts["plain calibration"].accuracy is not None
    assert attempts["plain calibration"].accuracy < 0.7
    assert attempts["equalized layers"].verdict == "pass"
    assert attempts["equalized layers"].chosen
    assert "16-bit activations" not in attempts


def test_the_files_of_a_repaired_export_are_those_of_the_passing_rung(repaired: ExportResult) -> None:
    contract = Artifact.open(repaired.folder / "bars-int8.tflite").contract

    assert contract.repair is not None
    assert contract.repair.technique == "equalized layers"
    before = ("more calibration pictures", "clipped ranges", "weights rounded by effect")
    assert contract.repair.tried == (*before, "equalized layers")
    assert contract.calibration is not None
    assert "equalized" in contract.calibration.method
    assert (contract.precision, contract.parity.verdict) == ("int8", "pass")


def test_no_rejected_file_remains_and_one_of_another_precision_is_set_aside(repaired: ExportResult) -> None:
    names = {path.name for path in repaired.folder.iterdir()}

    floats = {"bars-float32.tflite", "bars-float32.onnx"}
    proof = {"parity.json", "parity.html"}
    assert names == {*floats, "bars-int8.tflite", "bars-int8.onnx", "bars-mixed.tflite.previous", *proof}


def test_the_files_of_a_repaired_export_share_an_id(repaired: ExportResult) -> None:
    ids = {Artifact.open(file.path).contract.export_id for file in repaired.files}

    assert len(ids) == 1


def test_the_parity_record_holds_every_rung_and_can_be_read_back(repaired: ExportResult) -> None:
    record = json.loads((repaired.folder / "parity.json").read_text())

    assert [(row["number"], row["format"]) for row in record["repair"]] == [
        (each.number, each.format) for each in repaired.attempts
    ]
    assert ParityReport.from_json(record) == repaired.parity


def test_every_rung_that_was_tried_has_its_figures(repaired: ExportResult) -> None:
    tried = [each for each in repaired.attempts if each.skipped is None]

    assert all(each.size_bytes and each.latency_ms and each.latency_ratio and each.interval for each in tried)
    assert all(each.latency_ratio == 1.0 for each in tried if each.number == 0)


def test_the_page_shows_every_rung(repaired: ExportResult) -> None:
    page = (repaired.folder / "parity.html").read_text()

    assert all(each.technique in page for each in repaired.attempts)


def test_a_contract_without_repair_is_written_as_before_there_was_any(repaired: ExportResult) -> None:
    contract = Artifact.open(repaired.folder / "bars-float32.tflite").contract

    body = json.loads(contract.to_json())

    assert "repair" not in body
    assert Contract.from_json(contract.to_json()) == contract


def test_pictures_that_were_all_seen_are_not_called_more(context: RepairContext, bar_splits: Splits) -> None:
    everything = choose_calibration(bar_splits.train, 4000)
    context.plain = dataclasses.replace(context.plain, data=dataclasses.replace(context.plain.data, digest=everything.digest()))

    with pytest.raises(SkippedError, match="has seen all 120 training pictures"):
        calibrate_on_more(context)


def test_a_rung_that_needs_training_pictures_says_so(context: RepairContext, bar_splits: Splits) -> None:
    none = bar_splits.train.take(np.empty(0, np.int64))
    without = RepairContext(context.folded, context.plain, dataclasses.replace(bar_splits, train=none), 0)

    with pytest.raises(SkippedError, match="needs training pictures and there are none"):
        calibrate_on_more(without)


def test_percentiles_leave_out_the_share_they_name() -> None:
    counts = np.ones(BINS, np.int64)

    low, high = percentile(Histogram(0.0, 1.0, counts, zeros=0), 99.0)

    assert low == 0.0
    assert high == pytest.approx(0.99, abs=2 / BINS)


def test_the_least_squared_error_leaves_one_outlier_out() -> None:
    counts = np.zeros(BINS, np.int64)
    counts[: BINS // 100], counts[-1] = 1_000_000, 1

    low, high = least_squares(Histogram(0.0, 100.0, counts, zeros=0))

    assert low == 0.0
    assert 1.0 <= high < 50.0


@pytest.mark.parametrize("ceiling", [None, 6.0])
def test_equalized_layers_compute_the_same_function(bar_splits: Splits, ceiling: float | None) -> None:
    folded = fold(build(bar_splits, ceiling).model)
    images = bar_splits.train.images

    equalized = equalized_copy(folded, images)

    assert len(find_links(folded.annotated()[0])) == 5
    assert any((new != old).any() for new, old in zip(equalized.model.get_weights(), folded.model.get_weights(), strict=True))
    pixels = images.astype(np.float32)
    assert np.abs(np.asarray(equalized.model(pixels)) - np.asarray(folded.model(pixels))).max() < 1e-4


def test_corrected_biases_bring_a_rounded_net_closer_to_the_float_one(mild_context: RepairContext) -> None:
    folded, ranges = mild_context.folded, mild_context.plain.ranges

    corrected = correct_biases(folded, ranges, mild_context.sample)

    assert mild_context.distance(corrected, ranges) < 0.8 * mild_context.distance(folded, ranges)


def test_the_simulation_answers_as_the_int8_file(context: RepairContext, bar_splits: Splits) -> None:
    folded = equalized_copy(context.folded, bar_splits.train.images)
    calibration = context.calibration(measure(folded, bar_splits.train.images), METHOD)
    images = bar_splits.validation.images

    file = open_tflite(convert_quantized(Quantization(folded, calibration), "tflite").model, with_features=True)

    assert np.abs(RoundedModel(folded, calibration.ranges).run(images) - file.run(images)).max() <= 1 / 256


def test_16_bit_activations_stay_integers_and_answer_as_the_float_net(context: RepairContext, bar_splits: Splits) -> None:
    conversion = convert_quantized(widen_activations(context), "tflite")
    images = bar_splits.validation.images

    answers = open_tflite(conversion.model, with_features=conversion.features is not None).run(images)

    assert conversion.suffix == "int16x8.tflite"
    assert not read_file(conversion.model, "tflite").float_operators()
    assert (answers.argmax(axis=1) == context.answers(images).argmax(axis=1)).mean() > 0.95


def test_onnx_has_no_16_bit_activations(context: RepairContext) -> None:
    with pytest.raises(ConversionError, match="no integer kernels for 16-bit"):
        convert_quantized(widen_activations(context), "onnx")


def test_only_the_layers_that_a_mixed_file_names_compute_in_floats(context: RepairContext) -> None:
    last, both = leave_last_float(context), leave_both_float(context)

    files = {name: convert_quantized(each, "tflite") for name, each in {"last": last, "both": both}.items()}

    assert last.float_layers() == ("answer_linear", "answer")
    assert both.float_layers() == ("first", "answer_linear", "answer")
    floats = {name: [o.name for o in read_file(file.model, "tflite").float_operators()] for name, file in files.items()}
    assert floats == {
        "last": ["DEQUANTIZE", "FULLY_CONNECTED", "SOFTMAX"],
        "both": ["CAST", "CONV_2D", "QUANTIZE", "DEQUANTIZE", "FULLY_CONNECTED", "SOFTMAX"],
    }


@pytest.mark.parametrize("file_format", ["tflite", "onnx"])
def test_a_mixed_artifact_says_what_it_is_and_runs(
    collapsing: Reference, context: RepairContext, bar_splits: Splits, tmp_path: Path, file_format: Format
) -> None:
    quantization = leave_last_float(context)
    conversion = convert_quantized(quantization, file_format)
    repair = RepairInfo("last layer in floats", ("last layer in floats",), quantization.float_layers())
    writer = ContractWriter(collapsing, 1, None, "test")

    artifact = writer.write_repaired(
        conversion, tmp_path / f"bars-{conversion.suffix}", quantization.calibration.info(), repair
    )
    artifact.save(artifact.path)

    opened = Artifact.open(artifact.path)
    assert (opened.contract.precision, opened.contract.repair) == ("mixed", repair)
    assert open_runtime(opened).run(bar_splits.validation.images).shape == (60, 3)


def test_fine_tuning_brings_a_rounded_net_closer_to_the_float_one(mild_context: RepairContext) -> None:
    tuned = fine_tune(mild_context)

    before = mild_context.distance(mild_context.folded, mild_context.plain.ranges)
    assert mild_context.distance(tuned.folded, tuned.calibration.ranges) < 0.8 * before


def test_the_first_pass_is_chosen() -> None:
    attempts = [
        figures(),
        figures(number=1, verdict="undecided", drop_bound=0.1),
        figures(number=2, verdict="pass", drop_bound=1.0),
    ]

    assert choose(attempts, "tflite") == 2


def test_without_a_pass_the_undecided_rung_of_the_smallest_bound_is_chosen() -> None:
    attempts = [
        figures(),
        *(figures(number=i, verdict="undecided", drop_bound=bound) for i, bound in enumerate((3.0, 2.0, 4.0), 1)),
    ]

    assert choose(attempts, "tflite") == 2


def test_nothing_is_chosen_where_all_failed() -> None:
    assert choose([figures(), figures(number=1)], "tflite") is None


def test_files_are_timed_in_turns() -> None:
    times = iter(np.cumsum([1.0] * 1000).tolist())
    order: list[str] = []

    class Noted:
        def __init__(self, name: str) -> None:
            self.name = name

        def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            order.append(self.name)
            return np.zeros((len(images), 2), np.float32)

    latencies = time_side_by_side({"a": Noted("a"), "b": Noted("b")}, np.zeros((2, 4, 4, 1), np.uint8), lambda: next(times))

    assert order[:4] == ["a", "b", "a", "b"]
    assert latencies == {"a": 500.0, "b": 500.0}


def test_a_repair_without_pictures_to_judge_by_is_one_line(collapsing: Reference, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="pictures to judge them by"):
        export(collapsing, out=tmp_path, int8=True, repair=True)


def test_when_nothing_helps_the_plain_file_is_rejected_and_the_table_shown(
    collapsing: Reference, bar_splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def useless(_: RepairContext) -> Quantization:
        raise SkippedError("it is of no use")

    save_reference(collapsing, tmp_path / "bad.keras")
    monkeypatch.setattr(ladder, "TECHNIQUES", (Technique("a useless technique", useless),))
    monkeypatch.setattr("edgecnn_export.calibration_data.find_splits", lambda *_, **__: bar_splits)
    options = ["--int8", "--repair", "--format", "tflite", "--out", str(tmp_path / "out")]

    result = CliRunner().invoke(cli, ["export", str(tmp_path / "bad.keras"), *options], catch_exceptions=False)

    assert result.exit_code == 1
    assert "1 a useless technique" in result.stdout
    assert "not tried: it is of no use" in result.stdout
    assert (tmp_path / "out" / "bars-int8.tflite.rejected").exists()


@pytest.mark.parametrize(
    ("trained_here", "asked", "climbed"), [(True, None, True), (True, False, False), (False, None, False), (False, True, True)]
)
def test_a_model_that_was_trained_here_is_repaired_unless_the_user_refuses(
    collapsing: Reference,
    bar_splits: Splits,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trained_here: bool,
    asked: bool | None,
    climbed: bool,
) -> None:
    def useless(_: RepairContext) -> Quantization:
        raise SkippedError("it is of no use")

    monkeypatch.setattr(ladder, "TECHNIQUES", (Technique("a useless technique", useless),))
    reference = dataclasses.replace(collapsing, training={} if trained_here else None)

    result = export(reference, out=tmp_path, formats=["tflite"], int8=True, repair=asked, splits=bar_splits)

    assert bool(result.attempts) == climbed


def test_no_technique_is_begun_when_the_time_is_over(
    collapsing: Reference, bar_splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreached(_: RepairContext) -> Quantization:
        raise AssertionError

    monkeypatch.setattr(ladder, "TECHNIQUES", (Technique("a technique", unreached),))
    monkeypatch.setattr(ladder, "SECONDS", 0)

    result = export(collapsing, out=tmp_path, formats=["tflite"], int8=True, repair=True, splits=bar_splits)

    assert [each.skipped for each in result.attempts if each.number] == ["0 minutes are over"]


def test_a_repair_that_is_interrupted_leaves_the_old_export_whole(
    collapsing: Reference, bar_splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: RepairContext) -> Quantization:
        raise KeyboardInterrupt

    (tmp_path / "bars-int8.tflite").write_text("old, with its edgecnn.json")
    monkeypatch.setattr(ladder, "TECHNIQUES", (Technique("a technique", interrupted),))
    with pytest.raises(KeyboardInterrupt):
        export(collapsing, out=tmp_path, formats=["tflite"], int8=True, repair=True, splits=bar_splits)

    left = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert left == {"bars-int8.tflite": "old, with its edgecnn.json"}
