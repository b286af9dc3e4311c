"""Configurations that Keras 2 wrote, as Keras 3 reads them: what only has another name or place is put right, nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

# Settings that Keras 3 no longer has, and the values at which it does the same without them.
_GONE: dict[str, tuple[Any, ...]] = {"groups": (1,), "rng_type": ("stateful", "stateless", "legacy_stateful", None)}
# Settings that say nothing of what the layer computes once it is trained.
_IDLE = {"SeparableConv2D": ("kernel_initializer", "kernel_regularizer", "kernel_constraint")}
_RENAMED = {"LeakyReLU": {"alpha": "negative_slope"}}
_MODELS = ("Functional", "Model", "Sequential")
_FUNCTIONAL = re.compile(r"(tf_)?keras(\.src)?(\.engine)?\.functional")
_TF_KERAS = re.compile(r"^tf_keras(\.src)?")
# Functions of TensorFlow between layers, as (scale, offset) of what they do to x, given their other argument.
_ARITHMETIC: dict[str, Callable[[float], tuple[float, float]]] = {
    "math.truediv": lambda y: (1 / y, 0.0),
    "math.divide": lambda y: (1 / y, 0.0),
    "math.multiply": lambda y: (y, 0.0),
    "math.subtract": lambda y: (1.0, -y),
    "math.add": lambda y: (1.0, y),
    "__operators__.add": lambda y: (1.0, y),
}
_ACTIVATIONS = {
    "nn.relu": "relu",
    "nn.relu6": "relu6",
    "nn.softmax": "softmax",
    "math.sigmoid": "sigmoid",
    "sigmoid": "sigmoid",
    "math.tanh": "tanh",
    "tanh": "tanh",
}


def renewed(config: Any) -> Any:
    """Return a configuration, or a part of one, as Keras 3 reads it."""
    if isinstance(config, list):
        return [renewed(value) for value in config]
    if not isinstance(config, dict):
        return config
    made = {key: renewed(value) for key, value in config.items()}
    settings = made.get("config")
    if not isinstance(settings, dict):
        return made
    kind = str(made.get("class_name"))
    if kind == "Policy":
        return settings.get("name")
    if isinstance(made.get("module"), str):
        functional = _FUNCTIONAL.fullmatch(made["module"])
        made["module"] = "keras.src.models.functional" if functional else _TF_KERAS.sub("keras", made["module"])
    if kind == "TFOpLambda":
        return _as_layer(made)
    names = _RENAMED.get(kind, {})
    kept = {key: value for key, value in settings.items() if value not in _GONE.get(key, ()) and key not in _IDLE.get(kind, ())}
    settings = {names.get(key, key): value for key, value in kept.items()}
    if kind == "BatchNormalization" and isinstance(settings.get("axis"), list) and len(settings["axis"]) == 1:
        settings["axis"] = settings["axis"][0]
    if isinstance(settings.get("layers"), list):
        settings = _counted_from_0(settings)
    return made | {"config": settings}


def _counted_from_0(model: dict[str, Any]) -> dict[str, Any]:
    """Count the calls of each nested model from 0: Keras 2 counted the one that it was made of as well."""
    nested = {each["config"].get("name") for each in model["layers"] if each.get("class_name") in _MODELS}
    first: dict[str, int] = {}

    def visit(value: Any, change: bool) -> Any:
        if isinstance(value, list):
            is_call = len(value) in (3, 4) and isinstance(value[0], str) and isinstance(value[1], int)
            if is_call and value[0] in nested:
                first[value[0]] = min(value[1], first.get(value[0], value[1]))
                return [value[0], value[1] - first[value[0]], *value[2:]] if change else value
            return [visit(each, change) for each in value]
        return value

    calls = [each.get("inbound_nodes") for each in model["layers"]]
    ends = {key: model[key] for key in ("input_layers", "output_layers") if key in model}
    visit([calls, list(ends.values())], change=False)
    layers = [
        each | ({"inbound_nodes": visit(call, change=True)} if call is not None else {})
        for each, call in zip(model["layers"], calls, strict=True)
    ]
    # A list of one end would be taken for a model that gives a list.
    ends = {key: visit(value[0] if len(value) == 1 else value, change=True) for key, value in ends.items()}
    return model | {"layers": layers} | ends


def _as_layer(layer: dict[str, Any]) -> dict[str, Any]:
    """Turn `x / 127.5` and its like, which preprocess_input leaves behind, into the layer that does the same."""
    settings, calls = layer["config"], layer.get("inbound_nodes")
    function = str(settings.get("function"))
    common = {"name": settings["name"], "trainable": True, "dtype": settings.get("dtype")}
    try:
        ((source, node, tensor, given),) = calls  # type: ignore[misc]  # checked by unpacking
        if function in _ACTIVATIONS:
            kind, made = "Activation", dict[str, Any](activation=_ACTIVATIONS[function])
        else:
            kind, (scale, offset) = "Rescaling", _ARITHMETIC[function](float(given["y"]))
            made = {"scale": scale, "offset": offset}
    except (TypeError, ValueError, KeyError, ZeroDivisionError):
        return layer
    inbound = [[[source, node, tensor, {}]]]
    return {"class_name": kind, "config": common | made, "name": layer.get("name"), "inbound_nodes": inbound}
