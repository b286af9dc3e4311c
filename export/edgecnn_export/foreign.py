"""Models that other tools saved: each gets a task of its own, and is made to take raw pixels and to give probabilities."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.endings import find_ending
from edgecnn.errors import EdgecnnError, InputError
from edgecnn.foreign import ForeignModel
from edgecnn.normalization import RAW, UNSTATED, InputConvention, Normalization
from edgecnn.preprocessing import Preprocessing
from edgecnn.runtimes.tflite import first_line
from edgecnn.tasks import Task
from edgecnn_export.heads import ended, last_activation
from edgecnn_export.reference import KerasRuntime, Reference

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class ForeignOptions:
    """What a user states of another tool's model.

    `labels` name its classes in order; with `unnamed` they are numbered. `convention` says how it wants its pictures,
    `output` which of several outputs is meant, `trust` lets a SavedModel run operations that are not known to be harmless.
    """

    labels: tuple[str, ...] | None = None
    convention: InputConvention = UNSTATED
    output: str | None = None
    trust: bool = False
    unnamed: bool = False

    @property
    def stated(self) -> bool:
        """True when something was stated that a model of our own knows by itself."""
        return self.labels is not None or self.beside_labels

    @property
    def beside_labels(self) -> bool:
        """True when more was stated than the labels."""
        return self.convention.stated or self.output is not None or self.trust

    @property
    def of_file(self) -> ForeignModel:
        """What of it is for a `.tflite`."""
        return ForeignModel(self.labels, self.convention, output=self.output)


UNSTATED_OPTIONS = ForeignOptions()


def foreign_reference(model: keras.Model, path: Path, options: ForeignOptions) -> Reference:
    """Give another tool's model a task of its own, named after its file, and put what it lacks in front and behind."""
    try:
        return _adapted(model, path, options)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except EdgecnnError:
        raise
    except Exception as error:  # whatever a stranger's model does when it is rebuilt or run
        raise InputError(f"{path} cannot be used: {type(error).__name__}: {first_line(error)}") from error


def _adapted(model: keras.Model, path: Path, options: ForeignOptions) -> Reference:
    model, notes = _chosen_output(_renewed(model, options.convention.size_hw), options), []
    if low := _low_precision(model):
        notes.append(f"computed in float32: as saved, {low} computes in less, and less exactly than the exported files")
        model = _renewed(model, options.convention.size_hw, in_float32=True)
    model = _of_pictures(model, options.convention.size_hw)
    height, width, channels = model.input_shape[1:]
    preprocessing = Preprocessing(height, width, "gray" if channels == 1 else "rgb")
    normalization = options.convention.normalization(channels)
    scores = _scores(normalized(model, normalization, preprocessing.shape), preprocessing.shape)
    labels = _labels(options, scores.shape[1])
    ending = find_ending(scores, last_activation(model), labels)
    notes += [ending.note] if ending.note else []
    model = ended(model, ending)
    task = Task(path.stem, path.stem, labels, preprocessing)
    reference = Reference(model, task, model.name, raw=model, notes=tuple(notes))
    reference = renormalized(reference, normalization)
    check_model(reference.model, task, path)
    return reference


def renormalized(reference: Reference, normalization: Normalization) -> Reference:
    """Return another tool's model with another normalization in front.

    Raises InputError for a model of our own, and when the normalization does not fit the model's channels.
    """
    if reference.raw is None:
        raise InputError(f"model {reference.name!r} is edgecnn's own and takes raw pixels")
    model = normalized(reference.raw, normalization, reference.task.preprocessing.shape)
    return dataclasses.replace(reference, model=model, normalization=normalization)


def normalized(model: keras.Model, normalization: Normalization, shape: tuple[int, int, int]) -> keras.Model:
    """Return a model that takes raw 0..255 RGB pixels `(n, *shape)` and hands `model` what it wants; weights are shared.

    Folding puts these steps into the first convolution. InputError when the normalization does not fit the channels.
    """
    import keras

    normalization.check(shape[-1])
    if normalization == RAW:
        return model
    pixels = image = keras.Input(shape, name="image")
    if (normalization.scale, normalization.offset) != (RAW.scale, RAW.offset):
        scale, offset = (np.squeeze(values).tolist() for values in (normalization.scale, normalization.offset))
        pixels = keras.layers.Rescaling(scale, offset, name="normalization")(pixels)
    if normalization.bgr:
        pixels = pixels[..., ::-1]
    return keras.Model(image, model(pixels), name=model.name)


def check_model(model: keras.Model, task: Task, path: Path) -> None:
    """Raise InputError unless the model maps the task's pictures to probabilities."""
    shape = task.preprocessing.shape
    if tuple(getattr(model, "input_shape", ())[1:]) != shape:
        raise InputError(f"{path} takes {getattr(model, 'input_shape', None)}, its task prepares {shape}")
    given = getattr(model, "output_shape", None)
    if not isinstance(given, tuple) or len(given) != 2:
        raise InputError(f"expected a model with one output (n, classes), {path} gives {given}")
    if given[1] != task.outputs:
        raise InputError(f"{path} has {given[1]} classes, but {len(task.labels)} labels: {', '.join(task.labels)}")
    probabilities = _scores(model, shape)
    if not np.isfinite(probabilities).all():
        raise InputError(f"{path} gives answers that are not numbers (NaN or infinite); train it again")
    if not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3) or probabilities.min() < -1e-6:
        raise InputError(f"{path} does not give probabilities (its outputs do not add up to 1); end the model in a softmax")


def _renewed(model: keras.Model, size_hw: tuple[int, int] | None, *, in_float32: bool = False) -> keras.Model:
    """Rebuild a model for any number of pictures, of a stated size and in float32 where that is asked for.

    A model that needs none of it, or whose layers cannot be seen, is returned as it is.
    """
    from edgecnn_export.conversion.graph import has_graph
    from edgecnn_export.conversion.parts import in_float32 as with_policy

    if not has_graph(model) or not isinstance(getattr(model, "inputs", None), list):
        return model
    shapes = [tuple(tensor.shape) for tensor in model.inputs]
    fixed = any(shape[:1] != (None,) for shape in shapes)
    sized = size_hw is not None and len(shapes) == 1 and shapes[0][1:3] != size_hw and None in shapes[0][1:]
    if not (fixed or sized or in_float32):
        return model
    config = model.get_config()
    for layer in _input_layers(config):
        _, *sides = layer["batch_shape"]
        layer["batch_shape"] = (None, *(_sized(sides, size_hw) if sized and size_hw is not None else sides))
    renewed = type(model).from_config(with_policy(config) if in_float32 else config)
    renewed.set_weights(model.get_weights())
    _carry_state(model, renewed)
    return renewed


def _carry_state(source: keras.Model, target: keras.Model) -> None:
    from edgecnn_export.conversion.parts import carry_state

    for theirs, ours in zip(source.layers, target.layers, strict=True):
        carry_state(theirs, ours)


def _input_layers(config: Any) -> list[dict[str, Any]]:
    """Find the settings of all input layers in a model's configuration, those of nested models too."""
    if isinstance(config, dict):
        found = [config["config"]] if config.get("class_name") == "InputLayer" and "batch_shape" in config["config"] else []
        return found + [each for value in config.values() for each in _input_layers(value)]
    return [each for value in config for each in _input_layers(value)] if isinstance(config, list | tuple) else []


def _sized(sides: list[int | None], size_hw: tuple[int, int]) -> list[int | None]:
    """Fill in a picture's size where it is open: (None, None, 3) or (3, None, None)."""
    at = 1 if len(sides) == 3 and sides[0] in (1, 3) and sides[2] is None else 0
    return [*sides[:at], *size_hw, *sides[at + 2 :]] if len(sides) >= 2 and None in sides[at : at + 2] else sides


def _low_precision(model: keras.Model) -> str | None:
    """Name the first layer that computes in less than float32, None when all do."""
    from edgecnn_export.conversion.graph import has_graph
    from edgecnn_export.conversion.parts import low_precision_layers

    name = next(low_precision_layers(model), None) if has_graph(model) else None
    return None if name is None else f"layer {name!r}"


def _chosen_output(model: keras.Model, options: ForeignOptions) -> keras.Model:
    """Keep one output: the one that is named, or the only one."""
    import keras

    if not isinstance(getattr(model, "outputs", None), list):
        raise InputError("its inputs and outputs cannot be seen: it was never built; call it on a picture and save it again")
    if len(model.inputs) != 1:
        inputs = ", ".join(str(tensor.name) for tensor in model.inputs)
        raise InputError(f"it has {len(model.inputs)} inputs ({inputs}); a classifier takes one, the picture")
    outputs = _outputs_by_name(model)
    if len(outputs) == 1 and options.output in (None, *outputs):
        ends = (getattr(model, name, None) for name in ("_inputs_struct", "_outputs_struct"))
        plain = not any(isinstance(end, dict | list | tuple) for end in ends)
        return model if plain else keras.Model(model.inputs[0], *outputs.values(), name=model.name)
    if options.output is None or options.output not in outputs:
        missing = "" if options.output is None else f"none called {options.output!r}, but "
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in outputs.items())
        raise InputError(f"it has {missing}{len(outputs)} outputs: {shapes}; choose one with --output NAME")
    return keras.Model(model.inputs[0], outputs[options.output], name=model.name)


def _outputs_by_name(model: keras.Model) -> dict[str, Any]:
    struct = getattr(model, "_outputs_struct", None)
    if isinstance(struct, dict):
        return dict(struct)
    names = getattr(model, "output_names", None) or [str(i) for i in range(len(model.outputs))]
    return dict(zip(names, model.outputs, strict=True))


def _of_pictures(model: keras.Model, size_hw: tuple[int, int] | None) -> keras.Model:
    """Let a model take `(n, height, width, 1 or 3)` and give `(n, k)`, whatever form its ends have."""
    import keras

    shape = tuple(model.input_shape)
    picture, permuted = _picture_shape(shape, size_hw)
    image = pixels = keras.Input(picture, name="image")
    if permuted:
        pixels = keras.layers.Permute((3, 1, 2), name="channels_first")(pixels)
    elif picture != shape[1:]:
        pixels = keras.layers.Reshape(shape[1:], name="flat_pixels")(pixels)
    flat = [side for side in model.output_shape[1:] if side != 1]
    if len(model.output_shape) < 2 or None in flat or len(flat) > 1:
        raise InputError(f"expected a model with one output (n, classes), it gives {model.output_shape}")
    if pixels is image and len(model.output_shape) == 2:
        return model
    scores = model(pixels)
    if len(model.output_shape) > 2:
        scores = keras.layers.Flatten(name="flat_scores")(scores)
    return keras.Model(image, scores, name=model.name)


def _picture_shape(shape: tuple[Any, ...], size_hw: tuple[int, int] | None) -> tuple[tuple[int, int, int], bool]:
    """Return the shape `(height, width, channels)` of the pictures that an input can hold, and whether channels stand first."""
    sides, taken = shape[1:], f"it takes {shape}"
    if len(sides) in (2, 3) and None in sides:
        raise InputError(f"{taken}, pictures of any size: state one with --size HEIGHTxWIDTH, that of its training")
    found: tuple[int, int, int] | None = None
    permuted = False
    if len(sides) == 3 and sides[2] in (1, 3):
        found = sides
    elif len(sides) == 3 and sides[0] in (1, 3):
        found, permuted = (sides[1], sides[2], sides[0]), True
    elif len(sides) == 2:
        found = (*sides, 1)
    elif len(sides) == 1 and sides[0] is not None:
        found = _unflattened(sides[0], size_hw)
    if found is None:
        raise InputError(f"expected a model of pictures (n, height, width, 1 or 3), {taken}")
    if size_hw is not None and found[:2] != size_hw:
        raise InputError(f"{taken}, which is not --size {size_hw[0]}x{size_hw[1]}")
    return found, permuted


def _unflattened(pixels: int, size_hw: tuple[int, int] | None) -> tuple[int, int, int] | None:
    """Return the picture that a row of this many pixels can be: of the stated size, else square."""
    for channels in (1, 3):
        if size_hw is not None and math.prod(size_hw) * channels == pixels:
            return *size_hw, channels
        side = math.isqrt(pixels // channels)
        if size_hw is None and side * side * channels == pixels:
            return side, side, channels
    return None


def _labels(options: ForeignOptions, outputs: int) -> tuple[str, ...]:
    if options.labels is not None:
        return options.labels
    if options.unnamed:
        return tuple(str(class_id) for class_id in range(max(outputs, 2)))
    raise InputError("it was not saved by edgecnn and does not know its classes; name them in order with --labels")


def _scores(model: keras.Model, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return what a model gives to a few generated pictures: noise, dark noise, flat ones and slopes."""
    random = np.random.default_rng(0)
    images = [random.integers(0, high, shape) for high in (256, 256, 64, 16)]
    images += [np.full(shape, level) for level in (0, 127, 255)]
    slope = np.linspace(0, 255, shape[0])[:, None, None]
    images += [np.broadcast_to(slope, shape), np.broadcast_to(255 - slope, shape)]
    return KerasRuntime(model, shape).run(np.stack(images).astype(np.uint8))
