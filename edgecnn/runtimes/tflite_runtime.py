"""`tflite-runtime` 2.14, the last of its line: Python 3.11 at most and numpy<2."""

from importlib.metadata import version

from tflite_runtime.interpreter import Interpreter

NAME = f"tflite-runtime {version('tflite-runtime')}"


def open_interpreter(model: bytes, threads: int) -> Interpreter:
    """Give the model's flatbuffer to a TensorFlow Lite interpreter."""
    return Interpreter(model_content=model, num_threads=threads)
