from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecnn.datasets import mnist
from edgecnn.datasets.idx import read_idx
from edgecnn.datasets.mnist import ORIGINAL, load_mnist
from edgecnn.errors import DatasetError, EdgecnnError, NoDataError


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def write_folder(folder: Path, pack: Callable[[bytes], bytes] = bytes, suffix: str = "", train: int = 120) -> Path:
    random = np.random.default_rng(0)
    for part, count in (("train", train), ("t10k", 30)):
        images = random.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (folder / f"{part}-images-idx3-ubyte{suffix}").write_bytes(pack(idx_bytes(images)))
        (folder / f"{part}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx_bytes(labels)))
    return folder


def test_an_idx_file_gives_its_array(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "file").write_bytes(idx_bytes(array))

    read = read_idx(tmp_path / "file", axes=3)

    assert np.array_equal(read, array)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "starts with nothing"),
        (b"PK\x03\x04 zip", "not an IDX file"),
        (bytes([0, 0, 13, 1]) + (1).to_bytes(4, "big") + bytes(4), "type 0x0d"),
        (bytes([0, 0, 8, 3]), "with 3 axes"),
        (bytes([0, 0, 8, 1, 0, 0]), "header promises"),
        (bytes([0, 0, 8, 1]) + (9).to_bytes(4, "big") + bytes(8), "has 16 bytes where its header promises 17"),
        (bytes([0, 0, 8, 1]) + (7).to_bytes(4, "big") + bytes(8), "promises 15"),
        (bytes([0, 0, 8, 1]) + b"\xff\xff\xff\xff" + bytes(8), "promises 4294967303"),
        (gzip.compress(idx_bytes(np.zeros(99, np.uint8)), mtime=0)[:-12], "damaged gzip"),
        (b"\x1f\x8bnonsense", "damaged gzip"),
    ],
)
def test_a_damaged_idx_file_is_refused_in_one_line(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "file").write_bytes(data)

    with pytest.raises(DatasetError, match=reason) as caught:
        read_idx(tmp_path / "file", axes=1)

    assert "\n" not in str(caught.value)


@given(st.binary(max_size=64))
@settings(max_examples=200, deadline=None)
def test_random_bytes_never_crash_the_reader(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "random-idx"
    path.write_bytes(b"\0\0\x08\x01" + data)

    try:
        size = read_idx(path, axes=1).size
    except EdgecnnError:
        size = -1

    assert size == -1 or 8 + size == 4 + len(data)


def test_a_file_that_unpacks_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgecnn.datasets.idx.MAX_BYTES", 1000)
    (tmp_path / "file").write_bytes(gzip.compress(bytes(100_000)))

    with pytest.raises(DatasetError, match="unpacks to more than 1000"):
        read_idx(tmp_path / "file", axes=1)


@pytest.mark.parametrize(("pack", "suffix"), [(bytes, ""), (gzip.compress, ".gz")])
def test_packed_and_unpacked_folders_give_the_same_pictures(
    tmp_path: Path, pack: Callable[[bytes], bytes], suffix: str
) -> None:
    splits = load_mnist(write_folder(tmp_path, pack, suffix))

    assert [len(splits[name]) for name in ("train", "validation", "test")] == [110, 10, 30]


def test_the_seed_does_not_move_the_validation_split(tmp_path: Path) -> None:
    write_folder(tmp_path)

    one, other = (load_mnist(tmp_path, seed).validation.digest() for seed in (0, 1))

    assert one == other


def test_other_data_in_the_format_is_not_called_mnist(tmp_path: Path) -> None:
    info = load_mnist(write_folder(tmp_path)).info

    assert "not the original MNIST" in info.source


def test_the_original_is_recognised_by_its_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path, gzip.compress, ".gz")
    values = {name: read_idx(tmp_path / f"{name}-ubyte.gz", axes=int(name[-1])) for name in ORIGINAL}
    monkeypatch.setattr(
        mnist, "ORIGINAL", {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in values.items()}
    )

    info = load_mnist(tmp_path).info

    assert info.source == "MNIST"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()

    with pytest.raises(DatasetError, match=r"lacks t10k-labels-idx1-ubyte\.gz"):
        load_mnist(tmp_path)


def test_labels_of_another_alphabet_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.full(30, 17, np.uint8)))

    with pytest.raises(DatasetError, match="test label 17 is not a digit"):
        load_mnist(tmp_path)


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(29, np.uint8)))

    with pytest.raises(DatasetError, match="30 test pictures but 29 labels"):
        load_mnist(tmp_path)


def test_pictures_of_another_size_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((30, 20, 20), np.uint8)))

    with pytest.raises(DatasetError, match="got 20 x 20"):
        load_mnist(tmp_path)


def test_too_few_training_pictures_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, train=11)

    with pytest.raises(DatasetError, match="11 training pictures are too few"):
        load_mnist(tmp_path)


def test_the_cache_of_keras_is_read_when_no_folder_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "datasets").mkdir()
    pictures, labels = np.zeros((24, 28, 28), np.uint8), np.zeros(24, np.uint8)
    np.savez(tmp_path / "datasets" / "mnist.npz", x_train=pictures, y_train=labels, x_test=pictures, y_test=labels)

    splits = load_mnist(None)

    assert [len(splits[name]) for name in ("train", "validation", "test")] == [22, 2, 24]


def test_an_empty_cache_means_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    with pytest.raises(NoDataError, match="edgecnn data download mnist"):
        load_mnist(None)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 cut short", b"plain text"])
def test_a_damaged_cache_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "mnist.npz").write_bytes(data)

    with pytest.raises(DatasetError, match="damaged"):
        load_mnist(None)
