"""TensorFlow's own interpreter, for a workstation that has no other."""

import warnings
from importlib.metadata import version

import tensorflow as tf

NAME = f"tensorflow {version('tensorflow')}"


def open_interpreter(model: bytes, threads: int) -> "tf.lite.Interpreter":
    """Give the model's flatbuffer to TensorFlow's interpreter, without its notice of deprecation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tf.lite.Interpreter(model_content=model, num_threads=threads)
