"""Loading the files that Keras saves, `.keras` and `.h5`, without running code of theirs, and saying why one does not load."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgecnn.artifacts.artifact import SUFFIXES
from edgecnn.errors import EdgecnnError, InputError
from edgecnn.runtimes.tflite import first_line
from edgecnn_export.keras2 import renewed

if TYPE_CHECKING:
    import keras

Kind = Literal["zip", "hdf5"]
_HDF5 = b"\x89HDF\r\n\x1a\n"
_MAX_CONFIG_BYTES = 2**26
_WAY_OUT = "save the model as a SavedModel, model.export(FOLDER), and give that folder"


def kind_of(path: Path) -> Kind:
    """Tell what a file is by its first bytes, whatever its name; InputError when Keras saves no such thing."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if start == _HDF5:
        return "hdf5"
    if start.startswith(b"PK") or path.suffix == ".keras":
        return "zip"
    if path.suffix.lower() in SUFFIXES:
        raise InputError(
            f"{path} is an exported file; this starts from the Keras model that it was made from: "
            "a .keras or .h5 file, or the folder of a run or SavedModel"
        )
    raise InputError(f"{path} is not a model that Keras saves, neither .keras (ZIP) nor .h5 (HDF5), or it is cut short")


def load_model(path: Path) -> keras.Model:
    """Load a `.keras` or `.h5` file; InputError, naming the layer where one is to blame, when Keras cannot."""
    import keras

    kind = kind_of(path)
    saved_by = _saved_by(path, kind)
    try:
        config = _read_config(path, kind)
        made = _without_broken_augmentation(renewed(config) if saved_by.startswith("2.") else config)
        if (reason := _reason(made, saved_by)) is not None:
            raise InputError(f"{path}: {reason}")
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            # Keras goes by the suffix. compile=False: an optimizer is of no use here, and custom losses would be looked for.
            copy = _with_suffix(path, kind, None if made == config else made, Path(folder))
            warnings.simplefilter("ignore")  # how a stranger named the inputs is not the user's to mend
            return keras.saving.load_model(copy, compile=False, safe_mode=True)
    except EdgecnnError:
        raise
    except Exception as error:  # whatever the file's bytes make Keras stumble over: its errors share no base class
        raise InputError(
            f"cannot load {path}, saved by Keras {saved_by} (this is Keras {keras.__version__}): {_cause(error)}"
        ) from error


def _read_config(path: Path, kind: Kind) -> dict[str, Any]:
    """Return the configuration of the model that a file holds."""
    if kind == "zip":
        with zipfile.ZipFile(path) as archive:
            text = archive.open("config.json").read(_MAX_CONFIG_BYTES)
    else:
        import h5py

        with h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
        if text is None:
            raise InputError(f"{path} holds weights without a model (save_weights); save the whole model with model.save()")
    config = json.loads(text)
    if not isinstance(config, dict):
        raise ValueError("its configuration is not a JSON object")
    return config


def _without_broken_augmentation(config: Any) -> Any:
    """Replace layers of augmentation that Keras cannot rebuild from what it saved of them (RandomShear, in Keras 3.15).

    They pass pictures through when a model is used, and are removed anyway.
    """
    import keras

    if isinstance(config, list):
        return [_without_broken_augmentation(value) for value in config]
    if not isinstance(config, dict):
        return config
    kind, settings = str(config.get("class_name")), config.get("config")
    base = "BaseImagePreprocessingLayer"
    if kind.startswith("Random") and kind != "RandomCrop" and isinstance(settings, dict):
        cls = getattr(keras.layers, kind, None)
        if cls is not None and base in [each.__name__ for each in cls.__mro__]:
            try:
                cls.from_config(dict(settings))
            except (TypeError, ValueError):
                name = settings.get("name")
                return config | {"module": "keras.layers", "class_name": "Identity", "config": {"name": name}}
    return {key: _without_broken_augmentation(value) for key, value in config.items()}


def _cause(error: Exception) -> str:
    """Return the innermost reason of Keras' nested messages, else the first line."""
    marker = "Exception encountered: "
    inner = [line.partition(marker)[2] for line in str(error).splitlines() if line.startswith(marker)]
    plain = [line for line in inner if line and not line.startswith(("<class", "Error when deserializing"))]
    return plain[-1][:300] if plain else first_line(error)[:300]


def _with_suffix(path: Path, kind: Kind, config: dict[str, Any] | None, folder: Path) -> Path:
    """Let a file be found under the suffix that Keras knows, in a copy with another configuration where one is given."""
    target = folder / ("model.keras" if kind == "zip" else "model.h5")
    if kind == "zip" and config is not None:
        with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as copy:
            for entry in source.infolist():
                content = json.dumps(config).encode() if entry.filename == "config.json" else source.read(entry)
                copy.writestr(entry.filename, content)
    elif kind == "hdf5" and config is not None:
        import h5py

        shutil.copyfile(path, target)
        with h5py.File(target, "r+") as file:
            file.attrs["model_config"] = json.dumps(config)
    else:
        target.symlink_to(os.path.abspath(path))  # noqa: PTH100  # a link to a link stays one
    return target


@dataclass(frozen=True)
class _Object:
    """One object of a configuration: its class, what that is registered as, its settings, the layer that it belongs to."""

    kind: str
    module: str | None
    registered: str | None
    config: Any
    layer: str


def _objects(config: Any, layer: str = "") -> Iterator[_Object]:
    """Walk through a configuration, layers before what belongs to them."""
    if isinstance(config, list):
        for value in config:
            yield from _objects(value, layer)
    elif isinstance(config, dict):
        inner = config.get("config")
        if isinstance(config.get("class_name"), str):
            layer = str((isinstance(inner, dict) and inner.get("name")) or config.get("name") or layer)
            yield _Object(config["class_name"], config.get("module"), config.get("registered_name"), inner, layer)
        for key, value in config.items():
            if key not in ("compile_config", "build_config"):
                yield from _objects(value, layer)


def _reason(config: dict[str, Any], saved_by: str) -> str | None:
    """Say which layer keeps a model from being loaded, and why; None where none is known to."""
    by_keras_2 = saved_by.startswith("2.")
    for each in _objects(config):
        settings = each.config if isinstance(each.config, dict) else {}
        if each.kind in ("Lambda", "__lambda__"):
            return f"layer {each.layer!r} ({each.kind}) is Python code, which is never run here; {_WAY_OUT}"
        if each.kind in ("TFOpLambda", "SlicingOpLambda"):
            function = settings.get("function", "for a part of a tensor")
            return f"layer {each.layer!r} is the TensorFlow function {function}, which Keras 3 cannot load; {_WAY_OUT}"
        if by_keras_2 and "hard_sigmoid" in (settings.get("activation"), settings.get("recurrent_activation")):
            return f"layer {each.layer!r} uses hard_sigmoid, which Keras 3 computes otherwise than Keras 2 did; {_WAY_OUT}"
        if (unknown := _unknown(each)) is not None:
            subject = f"layer {each.layer!r}" if each.layer else "the model"
            return f"{subject} {unknown}, whose code is not in the file; {_WAY_OUT}"
    return None


def _unknown(each: _Object) -> str | None:
    """Say what an object is made by when that is neither Keras' nor registered in this process; None when it is."""
    import keras

    registered = each.registered if each.registered is not None else each.kind if ">" in each.kind else None
    if each.kind == "function":
        known = keras.saving.get_registered_object(str(each.config)) or hasattr(keras.activations, str(each.config))
        return None if known else f"uses the function {each.config}"
    if each.module is not None and each.module.partition(".")[0] == "keras":
        return None
    if registered is not None:
        return None if keras.saving.get_registered_object(registered) is not None else f"is of the class {registered}"
    if each.module is not None:
        return f"is of the class {each.kind} of {each.module}"
    # No module stands in an .h5 file. Only layers are looked up: initializers and the like have no name.
    is_layer = isinstance(each.config, dict) and {"name", "trainable"} <= each.config.keys()
    is_known = each.kind == "Functional" or any(hasattr(home, each.kind) for home in (keras.layers, keras.models))
    return f"is of the class {each.kind}" if is_layer and not is_known else None


def _saved_by(path: Path, kind: Kind) -> str:
    try:
        if kind == "zip":
            with zipfile.ZipFile(path) as archive:
                return str(json.loads(archive.read("metadata.json"))["keras_version"])
        import h5py

        with h5py.File(path, "r") as file:
            return str(file.attrs["keras_version"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError, zlib.error, zipfile.BadZipFile):
        return "of unknown version"
