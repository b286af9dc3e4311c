"""Layers taken apart and rebuilt: class, configuration, weights, and whatever else a layer holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import ConversionError

LINEAR = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
_TRAINING = ("_initializer", "_regularizer", "_constraint")
_LOW_PRECISION = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")


@dataclass(eq=False)
class Part:
    """A layer before it is built: its class, configuration and weights, all free to be changed.

    `whole` is False once they are no longer those of the `original` layer.
    """

    kind: Any
    config: dict[str, Any]
    weights: list[NDArray[Any]]
    original: Any = field(repr=False)
    whole: bool = False

    @classmethod
    def of(cls, layer: keras.Layer) -> Part:
        """Copy a layer; its precision becomes float32, what a LoRA adapter adds becomes part of the kernel.

        Raises ConversionError for a layer that `keras` itself has quantized.
        """
        check_not_quantized(layer)
        config = in_float32(layer.get_config()) | {"dtype": "float32", "name": layer.name}
        # Of training only, and an initializer of a user's own may be impossible to rebuild.
        config = {key: value for key, value in config.items() if not (isinstance(layer, LINEAR) and key.endswith(_TRAINING))}
        if getattr(layer, "lora_enabled", False):
            config.pop("lora_rank"), config.pop("lora_alpha", None)
            weights = [np.asarray(layer.kernel), *([np.asarray(layer.bias)] if layer.use_bias else [])]
            return cls(type(layer), config, weights, layer)
        return cls(type(layer), config, layer.get_weights(), layer, whole=True)

    @property
    def name(self) -> str:
        """The layer's name."""
        return str(self.config["name"])

    def is_linear(self) -> bool:
        """True for convolutions and dense layers without an activation."""
        plain = self.kind in LINEAR and self.config["activation"] == "linear"
        return plain and self.config.get("data_format", "channels_last") == "channels_last"

    def layer(self) -> keras.Layer:
        """Make the layer, still without its weights; one that cannot be made from its configuration is used as it is."""
        try:
            return self.kind.from_config(self.config)
        except (TypeError, ValueError, NotImplementedError):
            return self.original

    def fill(self, layer: keras.Layer) -> None:
        """Give the layer that was made, and is built now, all that this part holds."""
        if layer is self.original:
            return
        if self.kind in LINEAR:
            layer.set_weights([_told_apart(array) for array in self.weights])
            return
        layer.set_weights(self.weights)
        if self.whole:
            carry_state(self.original, layer)


def _told_apart(array: NDArray[Any]) -> NDArray[Any]:
    """Return a bias whose numbers are all the same with the last bit of the first one changed.

    TensorFlow 2.21's TFLite converter quantizes a constant of equal numbers by the scale of the first channel alone.
    """
    if array.ndim != 1 or array.size < 2 or not array[0] or (array != array[0]).any():
        return array
    return np.concatenate([np.nextafter(array[:1], np.float32(np.inf)), array[1:]])


def carry_state(source: keras.Layer, target: keras.Layer) -> None:
    """Let a layer take over what another of its kind would find again in a saved file beyond configuration and weights.

    A Normalization, for one, computes with constants that it derives from its weights when they are loaded.
    """
    for theirs, ours in zip(source._flatten_layers(), target._flatten_layers(), strict=True):
        store: dict[str, Any] = {}
        theirs.save_own_variables(store)
        if store:
            ours.load_own_variables({name: np.asarray(value) for name, value in store.items()})


def check_not_quantized(model: keras.Layer) -> None:
    """Raise ConversionError that names a layer which `keras` itself has quantized."""
    for layer in model._flatten_layers():
        if (mode := getattr(layer, "quantization_mode", None)) is not None:
            raise ConversionError(
                f"layer {layer.name!r} was quantized by Keras' own quantize({mode!r}), which no exported file can "
                "hold; export the model as it was before (edgecnn quantizes by itself: --int8)"
            )


def in_float32(config: Any) -> Any:
    """Return a layer's or model's configuration with every reduced precision, however deep, made float32."""
    if isinstance(config, dict):
        if str(config.get("class_name")).endswith("DTypePolicy") and config.get("config", {}).get("name") in _LOW_PRECISION:
            return "float32"
        return {key: "float32" if _is_low(key, value) else in_float32(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(in_float32(value) for value in config)
    return config


def _is_low(key: str, value: Any) -> bool:
    return key == "dtype" and isinstance(value, str) and value in _LOW_PRECISION


def low_precision_layers(model: keras.Model) -> Iterator[str]:
    """Name the layers that compute in less than float32."""
    for layer in model._flatten_layers(include_self=False):
        if layer.compute_dtype in ("float16", "bfloat16"):
            yield layer.name
