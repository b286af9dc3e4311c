"""Importing Keras and its backend on purpose: with one line when it is missing, and without what they print at their start."""

from __future__ import annotations

import os
import sys

from edgecnn.errors import MissingDependencyError
from edgecnn.quiet import quiet_import


def require_keras() -> None:
    """Import Keras and its backend quietly; call it before any module that says `import keras`.

    TensorFlow reads TF_CPP_MIN_LOG_LEVEL when it is first imported, so it is set here and only if the user has not.
    Raises MissingDependencyError when Keras or its backend is not installed.
    """
    if sys.modules.get("keras") is not None:
        return
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
    except ImportError as error:
        missing = "Keras" if error.name == "keras" else "TensorFlow"
        raise MissingDependencyError(f"{missing} is not installed. Install it with: pip install 'edgecnn[train]'") from error
