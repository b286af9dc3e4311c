"""The second output of exported files: what the last dense layer looks at, and that the answer can be computed from it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from edgecnn.artifacts import Artifact
from edgecnn.artifacts.contract import DataInfo, HeadInfo
from edgecnn.artifacts.golden import compare, recorded_inputs
from edgecnn.artifacts.operators import read_graph
from edgecnn.classifier import Classifier, read_evidence
from edgecnn.datasets.dataset import Splits
from edgecnn.errors import ContractError, ConversionError, InputError
from edgecnn.evaluation import evaluate
from edgecnn.runtimes import open_runtime
from edgecnn.runtimes.head import HeadRuntime, read_weights
from edgecnn.runtimes.runtime import Answers, answer
from edgecnn.runtimes.select import open_tflite
from edgecnn.shipped import find_task, int8_path
from edgecnn.where import class_maps
from edgecnn_export.contract_writer import check_features, tensor_specs
from edgecnn_export.conversion.calibration import calibrate
from edgecnn_export.conversion.convert import Conversion, Precision, Quantization, convert, convert_quantized
from edgecnn_export.conversion.features import name_features
from edgecnn_export.conversion.fold import fold
from edgecnn_export.conversion.tflite import to_tflite
from edgecnn_export.evidence import EvidenceOptions
from edgecnn_export.exporter import ExportResult, export
from edgecnn_export.reference import Reference

DATA = DataInfo("drawn bars", "train", 120, "0" * 64)
SIDE, SMALLEST = 20, 1e-4


@pytest.fixture(scope="module")
def mapped(bar_splits: Splits) -> dict[str, Conversion]:
    """A network that ends in a mean over all places, in all forms, by their suffixes."""
    keras.utils.set_random_seed(0)
    shape = bar_splits.train.images.shape[1:]
    image = keras.Input(shape)
    x = layers.Conv2D(6, 3, strides=2, activation="relu")(layers.Rescaling(1 / 255)(image))
    x = layers.Conv2D(8, 3, activation="relu")(x)
    out = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    folded = fold(keras.Model(image, out))
    calibration = calibrate(folded, bar_splits.train.images, DATA, 0)
    return {each.suffix: each for each in convert(folded, ("tflite", "onnx"), calibration).made}


@pytest.fixture(scope="module")
def exported(bar_reference: Reference, bar_splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    return export(bar_reference, out=tmp_path_factory.mktemp("exported") / "e", int8=True, splits=bar_splits)


@pytest.mark.parametrize("suffix", ["float32.tflite", "int8.tflite", "float32.onnx", "int8.onnx"])
def test_every_form_names_the_map_before_the_mean_and_computes_nothing_more(mapped: dict[str, Conversion], suffix: str) -> None:
    conversion = mapped[suffix]
    assert conversion.features is not None
    assert conversion.head is not None

    assert conversion.features.shape == ((None, 8, 5, 5) if suffix.endswith("onnx") else (None, 5, 5, 8))
    assert conversion.features.dtype == suffix.partition(".")[0]
    assert read_weights(conversion.head).shape == (8, 3)


def test_naming_the_features_adds_no_operator(bar_reference: Reference) -> None:
    model = to_tflite(fold(bar_reference.model))
    named = name_features(model, "tflite")
    assert named is not None

    before, after = (read_graph(each, "tflite") for each in (model, named.model))

    assert [each.name for each in after.operators] == [each.name for each in before.operators]
    assert len(named.model) < len(model) + 200


def test_all_files_answer_by_their_features_as_the_reference_does(
    exported: ExportResult, bar_reference: Reference, bar_splits: Splits
) -> None:
    expected = bar_reference.runtime().run(bar_splits.validation.images)

    for file in exported.files:
        runtime = open_runtime(Artifact.open(file.path))
        assert isinstance(runtime, HeadRuntime)
        off = np.abs(runtime.run(bar_splits.validation.images) - expected).max()
        assert off < (SMALLEST if file.precision == "float32" else 0.05), file.path.name


def test_a_shipped_models_class_map_adds_up_to_its_scores() -> None:
    artifact = Artifact.open(int8_path("neu"))
    runtime = open_runtime(artifact)
    images = np.random.default_rng(0).integers(0, 256, (2, *artifact.contract.preprocessing.shape)).astype(np.uint8)
    answers = answer(runtime, images)
    assert answers.pooled is not None
    assert artifact.contract.head is not None

    weights = read_weights(artifact.contract.head)
    scores = answers.pooled @ weights
    for class_id in range(6):
        maps = class_maps(runtime, answers, [class_id] * 2)
        means = [float(each.mean()) for each in maps]
        np.testing.assert_allclose(means, scores[:, class_id] - scores.mean(axis=1), rtol=1e-4, atol=1e-4)


def test_a_model_without_places_says_that_nothing_says_where() -> None:
    with pytest.raises(InputError, match="no map of features"):
        Classifier.open("mnist").classify([np.zeros((28, 28), np.uint8)], where=True)


def test_a_head_of_other_channels_than_the_features_is_refused() -> None:
    artifact = Artifact.open(int8_path("mnist"))
    head = Artifact.open(int8_path("neu")).contract.head
    assert head is not None
    bad = dataclasses.replace(artifact.contract, head=dataclasses.replace(head, bias=(0.0,) * 10, weights=head.weights[:160]))

    with pytest.raises(ContractError, match="channels"):
        open_runtime(Artifact(artifact.path, artifact.model, bad))


def test_a_network_without_a_dense_layer_at_its_end_has_no_features(bar_splits: Splits) -> None:
    image = keras.Input(bar_splits.train.images.shape[1:])
    x = layers.Conv2D(3, 3)(image)
    model = keras.Model(image, layers.Softmax()(layers.GlobalAveragePooling2D()(x)))

    (conversion,) = convert(fold(model), ("tflite",)).made

    assert conversion.features is None
    assert conversion.head is None


def _end(bar_splits: Splits, name: str) -> keras.Model:
    """A small network with one of the ends that people give theirs."""
    keras.utils.set_random_seed(1)
    image = keras.Input(bar_splits.train.images.shape[1:])
    x = layers.Conv2D(8, 3, strides=2, activation="relu")(layers.Rescaling(1 / 255)(image))
    pooled = layers.GlobalAveragePooling2D()(x)
    ends = {
        "flattened": lambda: layers.Flatten()(x),
        "largest": lambda: layers.GlobalMaxPooling2D()(x),
        "one window": lambda: layers.Flatten()(layers.AveragePooling2D(x.shape[1])(x)),
        "normalized": lambda: layers.BatchNormalization()(pooled),
        "hidden layer": lambda: layers.Dense(5, activation="relu")(pooled),
        "two branches": lambda: layers.Concatenate()([pooled, layers.GlobalMaxPooling2D()(x)]),
        "rows": lambda: layers.GlobalAveragePooling1D()(layers.Reshape((-1, 8))(x)),
    }
    out = layers.Dropout(0.5)(ends[name]())
    return keras.Model(image, layers.Softmax()(layers.Dense(3)(out)))


@pytest.mark.parametrize("name", ["flattened", "largest", "one window", "normalized", "hidden layer", "two branches", "rows"])
def test_whatever_a_dense_layer_looks_at_gives_the_answer(
    bar_reference: Reference, bar_splits: Splits, tmp_path: Path, name: str
) -> None:
    reference = dataclasses.replace(bar_reference, model=_end(bar_splits, name))
    expected = reference.runtime().run(bar_splits.validation.images)

    result = export(reference, out=tmp_path / "e", int8=True, splits=bar_splits)

    assert not result.failures
    for file in result.files:
        artifact = Artifact.open(file.path)
        answers = answer(open_runtime(artifact), bar_splits.validation.images)
        assert artifact.contract.evidence is not None
        assert answers.graph is not None
        for given in (answers.probabilities, answers.graph):
            assert np.abs(given - expected).max() < (SMALLEST if file.precision == "float32" else 0.1), file.path.name


def test_a_network_with_very_many_features_gets_fewer_centres_and_still_a_contract(
    bar_reference: Reference, bar_splits: Splits, tmp_path: Path
) -> None:
    keras.utils.set_random_seed(0)
    image = keras.Input(bar_splits.train.images.shape[1:])
    x = layers.Flatten()(layers.Conv2D(80, 3, activation="relu")(layers.Rescaling(1 / 255)(image)))
    reference = dataclasses.replace(bar_reference, model=keras.Model(image, layers.Dense(3, activation="softmax")(x)))

    result = export(reference, out=tmp_path / "e", formats=["tflite"], splits=bar_splits)

    contract = Artifact.open(result.files[0].path).contract
    assert contract.evidence is not None
    assert x.shape[1] > 10_000
    assert 3 <= len(contract.evidence.centre_classes) < 24
    assert Classifier.open(result.files[0].path).classify([bar_splits.train.images[0]])[0].novelty is not None


@pytest.mark.parametrize(("precision", "dtype"), [("int16x8", "int16"), ("mixed", "float32")])
def test_other_precisions_give_their_features_too(
    bar_reference: Reference, bar_splits: Splits, precision: Precision, dtype: str
) -> None:
    folded, images = fold(bar_reference.model), bar_splits.train.images
    calibration = calibrate(folded, images, DATA, 0)
    float_ends = "last" if precision == "mixed" else "none"

    conversion = convert_quantized(Quantization(folded, calibration, precision, images[:50], float_ends), "tflite")

    assert conversion.features is not None
    assert conversion.features.dtype == dtype
    _, _, features = tensor_specs(conversion, images.shape[1:], 3)
    assert features is not None
    assert (features.scale, features.shape) == (conversion.features.scale, conversion.features.shape)
    graph = open_tflite(conversion.model, with_features=True)
    assert conversion.head is not None
    host = HeadRuntime(graph, conversion.head, conversion.features.shape[-1]).answer(images[:50])
    assert host.graph is not None
    assert np.abs(host.graph - host.probabilities).max() < 0.02


def test_golden_vectors_hold_both_outputs(exported: ExportResult) -> None:
    for file in exported.files:
        artifact = Artifact.open(file.path)
        golden = artifact.contract.golden

        assert len(golden.graph) == len(golden.seeds)
        found = answer(open_runtime(artifact), recorded_inputs(artifact.contract))
        assert found.graph is not None
        assert compare(artifact.contract, found.probabilities, found.graph).passed
        assert not compare(artifact.contract, found.probabilities, found.graph[:, ::-1]).passed


def test_a_head_that_is_not_the_graphs_is_noticed_when_a_contract_is_written() -> None:
    answers = Answers(np.full((4, 2), 0.5, np.float32), graph=np.array([[1, 0]] * 4, np.float32))

    with pytest.raises(ConversionError, match=r"differ by 0\.5"):
        check_features(answers)


def test_parity_says_how_often_other_tools_are_told_the_same(exported: ExportResult) -> None:
    assert exported.parity is not None
    for candidate in exported.parity.candidates:
        assert candidate.graph_agreement is not None
        assert candidate.graph_agreement > 0.98


def test_the_order_of_outputs_is_the_same_by_position_and_by_signature(exported: ExportResult) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=Artifact.open(exported.folder / "bars-int8.tflite").model)
    interpreter.allocate_tensors()
    first, second = interpreter.get_output_details()

    assert first["shape"].tolist() == [1, 3]
    for signature in interpreter.get_signature_list().values():
        assert len(signature["outputs"]) == 2
        assert "features" in signature["outputs"]
    assert second["shape"][-1] == len(read_weights(head_of(exported)))


def head_of(exported: ExportResult) -> HeadInfo:
    head = Artifact.open(exported.folder / "bars-int8.tflite").contract.head
    assert head is not None
    return head


def test_an_export_says_which_pictures_get_a_label(exported: ExportResult) -> None:
    assert exported.unguarded is None
    for file in exported.files:
        evidence = Artifact.open(file.path).contract.evidence
        assert evidence is not None
        assert evidence.kept >= evidence.keep_rate - 0.05
        assert file.guard == evidence.describe()


def test_an_export_without_pictures_says_loudly_that_every_picture_gets_a_label(
    bar_reference: Reference, tmp_path: Path
) -> None:
    result = export(bar_reference, out=tmp_path / "e", formats=["tflite"])

    assert result.unguarded == "there were no pictures to choose them on"
    assert Artifact.open(result.files[0].path).contract.evidence is None


def test_pictures_of_others_of_ones_own_take_part(tmp_path: Path, bar_reference: Reference, bar_splits: Splits) -> None:
    import cv2

    (tmp_path / "gloves").mkdir()
    for i in range(3):
        cv2.imwrite(str(tmp_path / "gloves" / f"{i}.png"), np.full((30, 30), 20 * i, np.uint8))

    result = export(
        bar_reference,
        out=tmp_path / "e",
        formats=["tflite"],
        splits=bar_splits,
        evidence=EvidenceOptions(others=tmp_path / "gloves"),
    )
    evidence = Artifact.open(result.files[0].path).contract.evidence
    assert evidence is not None
    assert "gloves" in evidence.kinds


def test_pictures_in_other_beside_the_class_folders_take_part(
    tmp_path: Path, bar_reference: Reference, bar_splits: Splits
) -> None:
    import cv2

    (tmp_path / "_other" / "gloves").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "_other" / "gloves" / "a.png"), np.full((30, 30), 20, np.uint8))

    splits = dataclasses.replace(bar_splits, folder=tmp_path)
    result = export(bar_reference, out=tmp_path / "e", formats=["tflite"], splits=splits)

    evidence = Artifact.open(result.files[0].path).contract.evidence
    assert evidence is not None
    assert "_other/gloves" in evidence.kinds


def test_a_folder_of_others_that_is_not_there_is_told_before_anything_is_converted(
    tmp_path: Path, bar_reference: Reference, bar_splits: Splits
) -> None:
    said: list[str] = []

    with pytest.raises(InputError, match="no such picture"):
        export(
            bar_reference,
            out=tmp_path / "e",
            formats=["tflite"],
            splits=bar_splits,
            evidence=EvidenceOptions(others=tmp_path / "missing"),
            progress=said.append,
        )

    assert not said
    assert not (tmp_path / "e").exists()


def test_an_evaluation_says_what_gets_a_label_and_measures_tempered_probabilities() -> None:
    artifact, task = Artifact.open(int8_path("neu")), find_task("neu")
    assert task.synthesize is not None
    pictures, evidence = task.synthesize(4, 9), read_evidence(artifact.contract)

    plain = evaluate(open_runtime(artifact), pictures, task.labels)
    found = evaluate(open_runtime(artifact), pictures, task.labels, evidence=evidence)

    assert plain.named is None and "named" not in plain.to_json()
    assert found.named is not None and found.named_right is not None
    assert found.named_right.count == found.named.hits <= len(pictures)
    assert found.calibration_error != plain.calibration_error
    assert found.accuracy == plain.accuracy
