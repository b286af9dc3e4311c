"""Models that other tools saved: each gets a task of its own and is made to take raw pixels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgecnn.errors import InputError
from edgecnn.normalization import RAW, InputConvention, Normalization
from edgecnn.preprocessing import Preprocessing
from edgecnn.runtimes.tflite import first_line
from edgecnn.tasks import Task
from edgecnn_export.reference import KerasRuntime, Reference

if TYPE_CHECKING:
    import keras


def open_saved_model(path: Path) -> keras.Model:
    """Wrap the serving signature of a SavedModel, one input and one output, as a Keras model."""
    import keras

    if keras.backend.backend() != "tensorflow":
        raise InputError(f"a SavedModel opens under Keras' TensorFlow backend only, this is {keras.backend.backend()}")
    try:
        import tensorflow as tf

        signature = tf.saved_model.load(str(path)).signatures["serving_default"]
        inputs = signature.structured_input_signature[1]
        layer = keras.layers.TFSMLayer(str(path), call_endpoint="serving_default", name="saved_model")
    except Exception as error:  # TensorFlow's loader raises a dozen unrelated types
        raise InputError(f"{path} is not a SavedModel with a signature 'serving_default': {first_line(error)}") from error
    if len(inputs) != 1 or len(signature.structured_outputs) != 1:
        raise InputError(
            f"{path} has {len(inputs)} inputs and {len(signature.structured_outputs)} outputs; expected one of each"
        )
    ((_, spec),) = inputs.items()
    ((output, _),) = signature.structured_outputs.items()
    if spec.shape.rank != 4:
        raise InputError(f"expected a SavedModel of pictures (n, height, width, channels), {path} takes {spec.shape}")
    image = keras.Input(tuple(spec.shape[1:]), name="image", dtype=spec.dtype.name)
    return keras.Model(image, layer(image)[output], name="saved_model")


def foreign_reference(
    model: keras.Model, path: Path, labels: tuple[str, ...] | None, convention: InputConvention, unnamed: bool
) -> Reference:
    """Give another tool's model a task of its own, named after its file, and put its normalization in front."""
    if labels is None and unnamed:
        labels = tuple(str(class_id) for class_id in range(model.output_shape[-1]))
    if labels is None:
        raise InputError(f"{path} was not saved by edgecnn and does not know its classes; name them in order with --labels")
    task = Task(path.stem, path.stem, labels, _preprocessing(model, path))
    _check_classes(model, task, path)
    normalization = convention.normalization(task.preprocessing.channels)
    reference = Reference(model, task, model.name, raw=model).normalized(normalization)
    check_model(reference.model, task, path)
    return reference


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


def _preprocessing(model: keras.Model, path: Path) -> Preprocessing:
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4 or None in shape[1:] or shape[3] not in (1, 3):
        raise InputError(f"expected a model of pictures (n, height, width, 1 or 3) of fixed size, {path} takes {shape}")
    return Preprocessing(shape[1], shape[2], "gray" if shape[3] == 1 else "rgb")


def _check_classes(model: keras.Model, task: Task, path: Path) -> None:
    shape = getattr(model, "output_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 2:
        raise InputError(f"expected a model with one output (n, classes), {path} gives {shape}")
    if shape[1] != len(task.labels):
        raise InputError(f"{path} has {shape[1]} classes, but {len(task.labels)} labels: {', '.join(task.labels)}")


def check_model(model: keras.Model, task: Task, path: Path) -> None:
    """Raise InputError unless the model maps the task's pictures to probabilities."""
    shape = task.preprocessing.shape
    if tuple(getattr(model, "input_shape", ())[1:]) != shape:
        raise InputError(f"{path} takes {getattr(model, 'input_shape', None)}, its task prepares {shape}")
    _check_classes(model, task, path)
    levels = np.linspace(0, 255, 3).astype(np.uint8)
    probabilities = KerasRuntime(model, shape).run(np.broadcast_to(levels[:, None, None, None], (3, *shape)).copy())
    if not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3) or probabilities.min() < -1e-6:
        raise InputError(f"{path} does not give probabilities (its outputs do not add up to 1); end the model in a softmax")
