"""MNIST: handwritten digits, 28 x 28 (LeCun, Cortes, Burges, 1998)."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecnn.datasets.dataset import Dataset, SplitInfo, Splits, concatenate, picture_digests
from edgecnn.datasets.idx import read_idx
from edgecnn.errors import DatasetError, MissingDependencyError, NoDataError
from edgecnn.preprocessing import Preprocessing
from edgecnn.tasks import Task

VALIDATION = 5000
# SHA-256 of the values (without header) of the four original files, whose gzip files have the well-known md5 sums f68b3c2d...,
# d53e105e..., 9fb629c4... and ec29112d...; of the values, so that unpacked and repacked files count as what they hold.
ORIGINAL = {
    "train-images-idx3": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "train-labels-idx1": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "t10k-images-idx3": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    "t10k-labels-idx1": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}
_NPZ_NAMES = ("x_train", "y_train", "x_test", "y_test")
Arrays = dict[str, NDArray[np.uint8]]


def load_mnist(folder: Path | None, seed: int = 0) -> Splits:
    """Load the four IDX files (gzipped or not) of `folder`, or with None what Keras has downloaded into its cache.

    The test split is t10k; validation is the last 5,000 training pictures (a twelfth of a smaller training file) whatever the
    seed, so that a model never meets its training pictures there. Other data in the same format is accepted, and
    `SplitInfo.source` says that it is not the original.
    """
    del seed
    arrays = _read_cache() if folder is None else _read_folder(folder)
    train, test = _datasets(arrays)
    kept = len(train) - min(VALIDATION, len(train) // 12)
    if kept == len(train):
        raise DatasetError(
            f"{len(train)} training pictures are too few to take a validation split from; at least 12 are needed"
        )
    original = all(hashlib.sha256(arrays[name].tobytes()).hexdigest() == digest for name, digest in ORIGINAL.items())
    info = SplitInfo(
        source="MNIST" if original else "digits in MNIST's format (not the original MNIST)",
        rule=f"test: t10k; validation: the last {len(train) - kept:,} of train",
        complete={"train": original, "validation": original, "test": original},
    )
    return Splits(
        train.take(np.arange(kept)),
        train.take(np.arange(kept, len(train))),
        test,
        info,
        None if folder is None else folder.resolve(),
    )


def read_mnist(folder: Path) -> Dataset:
    """Read all pictures of the four IDX files of `folder`, train before test, without dividing them."""
    return concatenate(_datasets(_read_folder(folder)))


def cache_path() -> Path:
    """Return where Keras keeps its download of MNIST."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "datasets" / "mnist.npz"


def download_mnist() -> Path:
    """Let Keras download MNIST into its cache, where `load_mnist(None)` finds it; DatasetError when that fails."""
    try:
        from keras.datasets import mnist
    except ImportError as error:
        raise MissingDependencyError("Keras is not installed. Install it with: pip install 'edgecnn[train]'") from error
    try:
        with contextlib.redirect_stdout(sys.stderr):
            mnist.load_data()
    except Exception as error:  # Keras raises bare Exception for a network failure
        reason = " ".join(str(error).split())
        raise DatasetError(f"MNIST could not be downloaded: {reason}; put the four IDX files into a folder instead") from error
    return cache_path()


def _read_folder(folder: Path) -> Arrays:
    if not folder.is_dir():
        raise DatasetError(f"no such folder: {folder}; MNIST is four files such as train-images-idx3-ubyte.gz in one folder")
    return {name: read_idx(_idx_file(folder, name), axes=int(name[-1])) for name in ORIGINAL}


def _idx_file(folder: Path, name: str) -> Path:
    """Find `train-images-idx3-ubyte` or `train-images.idx3-ubyte`, with `.gz` or without."""
    stem, kind = name.rsplit("-", 1)
    variants = [f"{stem}{dot}{kind}-ubyte{suffix}" for dot in "-." for suffix in ("", ".gz")]
    for variant in variants:
        if (folder / variant).is_file():
            return folder / variant
    raise DatasetError(f"{folder} lacks {variants[1]} (or {variants[0]}); MNIST is four such files in one folder")


def _read_cache() -> Arrays:
    path = cache_path()
    if not path.is_file():
        raise NoDataError(
            f"MNIST is not at {path}; run `edgecnn data download mnist`, or give a folder with its four IDX files"
        )
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = [np.asarray(file[name]) for name in _NPZ_NAMES]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} is damaged ({error}); delete it and run `edgecnn data download mnist`") from error
    if any(array.dtype != np.uint8 for array in arrays) or [array.ndim for array in arrays] != [3, 1, 3, 1]:
        raise DatasetError(f"{path} does not hold MNIST; delete it and run `edgecnn data download mnist`")
    return dict(zip(ORIGINAL, arrays, strict=True))


def _datasets(arrays: Arrays) -> tuple[Dataset, Dataset]:
    """Return the training and the test pictures."""
    train_images, train_labels, test_images, test_labels = (arrays[name] for name in ORIGINAL)
    return _dataset(train_images, train_labels, "train"), _dataset(test_images, test_labels, "test")


def _dataset(images: NDArray[np.uint8], labels: NDArray[np.uint8], split: str) -> Dataset:
    if images.shape[1:] != (28, 28):
        raise DatasetError(f"expected {split} pictures of 28 x 28 pixels, got {' x '.join(map(str, images.shape[1:]))}")
    if len(images) != len(labels):
        raise DatasetError(f"{len(images)} {split} pictures but {len(labels)} labels; the files do not belong together")
    if len(images) == 0:
        raise DatasetError(f"the {split} files hold no pictures; download them again")
    if labels.max() > 9:
        raise DatasetError(f"{split} label {labels.max()} is not a digit; labels must be 0..9")
    names = tuple(f"{split}[{i}]" for i in range(len(images)))
    pictures = np.ascontiguousarray(images[..., None])
    return Dataset(pictures, labels.astype(np.int64), names, digests=picture_digests(pictures))


def _synthesize(count: int, seed: int) -> Dataset:
    from edgecnn.datasets.synthetic.digits import generate_digits

    return generate_digits(count, seed)


def _ood(count: int, seed: int) -> dict[str, NDArray[np.uint8]]:
    from edgecnn.datasets.synthetic.ood_digits import generate_other_marks

    return generate_other_marks(count, seed)


def _outliers(count: int, seed: int) -> NDArray[np.uint8]:
    from edgecnn.datasets.synthetic.outliers import generate_counter_marks

    return generate_counter_marks(count, seed)


TASK: Task = Task(
    name="mnist",
    title="handwritten digits",
    labels=tuple("0123456789"),
    preprocessing=Preprocessing(28, 28, "gray", "digit"),
    max_drop=0.2,
    load=load_mnist,
    read=read_mnist,
    synthesize=_synthesize,
    ood=_ood,
    outliers=_outliers,
)
