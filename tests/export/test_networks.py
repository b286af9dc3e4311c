"""The structure of the course's networks and of ours."""

import keras
import numpy as np
import pytest

from edgecnn.errors import InputError
from edgecnn.preprocessing import Preprocessing
from edgecnn.shipped import find_task
from edgecnn.tasks import Task
from edgecnn_export.networks import build
from edgecnn_export.networks.sizes import NETWORKS


def folder_task(height: int, width: int, color: str = "gray") -> Task:
    return Task("parts", "parts", ("good", "bad", "worn"), Preprocessing(height, width, color))  # type: ignore[arg-type]


def layer_kinds(model: keras.Model) -> list[str]:
    return [type(layer).__name__ for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]


@pytest.mark.parametrize(("name", "parameters"), [("mnist", 421_642), ("neu", 10_333_574)])
def test_the_courses_networks_have_the_courses_parameters(name: str, parameters: int) -> None:
    model = build("course", find_task(name))

    assert model.count_params() == parameters


@pytest.mark.parametrize(("name", "filters"), [("mnist", [32, 64]), ("neu", [32, 64, 128])])
def test_the_courses_networks_have_the_courses_layers(name: str, filters: list[int]) -> None:
    model = build("course", find_task(name))

    assert layer_kinds(model) == ["Rescaling", *["Conv2D", "MaxPooling2D"] * len(filters), "Flatten", "Dense", "Dense"]
    assert [layer.filters for layer in model.layers if isinstance(layer, keras.layers.Conv2D)] == filters


@pytest.mark.parametrize(("name", "most"), [("mnist", 30_000), ("neu", 60_000)])
def test_the_compact_networks_stay_small(name: str, most: int) -> None:
    model = build("compact", find_task(name))

    assert model.count_params() <= most


@pytest.mark.parametrize("model_name", ["compact", "course"])
@pytest.mark.parametrize("task", [folder_task(24, 32), folder_task(64, 96, "rgb")], ids=["small", "large"])
def test_any_task_gets_a_network_of_its_shape_and_classes(model_name: str, task: Task) -> None:
    images = np.zeros((2, *task.preprocessing.shape), np.uint8)

    probabilities = np.asarray(build(model_name, task)(images))

    assert probabilities.shape == (2, 3)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_networks_to_compare_with_differ_from_ours_and_stay_small(network: str) -> None:
    parameters = build(f"compact-{network}", find_task("neu")).count_params()

    assert parameters != build("compact", find_task("neu")).count_params()
    assert parameters <= 60_000


def test_a_network_to_compare_with_is_unknown_where_pictures_are_small() -> None:
    with pytest.raises(InputError, match="unknown model 'compact-deep'"):
        build("compact-deep", find_task("mnist"))


@pytest.mark.parametrize("model_name", ["compact", "course"])
def test_scaling_without_offset_is_the_first_layer(model_name: str) -> None:
    model = build(model_name, find_task("mnist"))

    first = next(layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer))

    assert (first.name, first.scale, first.offset) == ("rescaling", 1 / 255, 0.0)


def test_each_convolution_of_the_compact_network_is_followed_by_a_norm_of_its_name() -> None:
    model = build("compact", find_task("neu"))

    names = [layer.name for layer in model.layers]
    convolutions = [name for name in names if name.endswith(("_conv", "_depthwise", "_pointwise"))]

    assert convolutions
    assert all(names[names.index(name) + 1] == f"{name}_norm" for name in convolutions)


def test_layer_names_do_not_depend_on_what_was_built_before() -> None:
    first = [layer.name for layer in build("compact", find_task("mnist")).layers]

    second = [layer.name for layer in build("compact", find_task("mnist")).layers]

    assert first == second


def test_the_softmax_stays_in_float32_under_mixed_precision() -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build("compact", find_task("mnist"))
    finally:
        keras.config.set_dtype_policy("float32")

    assert model.get_layer("probabilities").compute_dtype == "float32"


def test_an_unknown_model_is_one_line_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="unknown model 'resnet'; known models: compact, lite, course"):
        build("resnet", find_task("mnist"))


@pytest.mark.parametrize("model_name", ["compact", "course"])
def test_pictures_too_small_for_the_network_are_refused(model_name: str) -> None:
    with pytest.raises(InputError, match="pixels per side"):
        build(model_name, folder_task(3, 3))


def test_mobilenet_is_the_one_that_keras_ships_with_a_quarter_of_the_channels() -> None:
    model = build("mobilenet", folder_task(64, 96))

    shipped = keras.applications.MobileNet((64, 96, 1), alpha=0.25, weights=None, classes=3)
    assert model.count_params() == shipped.count_params()
    assert np.allclose(np.asarray(model(np.zeros((2, 64, 96, 1), np.uint8))).sum(axis=1), 1, atol=1e-5)


def test_mobilenet_refuses_pictures_that_it_would_shrink_to_nothing() -> None:
    with pytest.raises(InputError, match="at least 32 pixels per side, got 24"):
        build("mobilenet", folder_task(24, 32))
