"""Importing Keras and its backend on purpose: with one line when it is missing, and without what they print at their start."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys

from edgecnn.errors import MissingDependencyError
from edgecnn.progress import note
from edgecnn.quiet import quiet_import


def check_keras() -> None:
    """Raise MissingDependencyError where Keras is not installed, without importing it: that takes seconds.

    For what is to be refused before anything else is done, when mistakes in what the user gave are still to be found.
    """
    # A module that was forbidden stands in sys.modules as None, and has no spec to look for.
    if sys.modules.get("keras", ...) is None or importlib.util.find_spec("keras") is None:
        raise _missing("Keras")


def require_keras() -> None:
    """Import Keras and its backend quietly; call it before any module that says `import keras`.

    TensorFlow reads TF_CPP_MIN_LOG_LEVEL when it is first imported, so it is set here and only if the user has not.
    Raises MissingDependencyError when Keras or its backend is not installed.
    """
    if sys.modules.get("keras") is not None:
        return
    check_keras()
    note("loading Keras")  # some seconds, in which no progress can be shown
    if "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        with quiet_import():
            import keras

            if keras.backend.backend() == "tensorflow":
                import tensorflow as tf

                # The first look for a GPU reports each missing driver as an error; done here, it is not done loudly later.
                tf.config.list_physical_devices("GPU")
                # A model asked with a batch of another size, or the next model, is not the user's mistake.
                tf.get_logger().addFilter(lambda record: "retracing" not in str(record.msg))
        gc.freeze()  # each conversion to TFLite runs the collector of cycles, which takes .3 s to look at all that was imported
    except ImportError as error:
        raise _missing("Keras" if error.name == "keras" else "TensorFlow") from error


def _missing(name: str) -> MissingDependencyError:
    return MissingDependencyError(f"{name} is not installed. Install it with: pip install 'edgecnn[train]'")
