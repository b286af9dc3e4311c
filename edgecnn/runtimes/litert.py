"""LiteRT (`ai-edge-litert`), Google's successor of tflite-runtime and the first choice on a board."""

from importlib.metadata import version

from ai_edge_litert.interpreter import Interpreter

NAME = f"ai-edge-litert {version('ai-edge-litert')}"


def open_interpreter(model: bytes, threads: int) -> Interpreter:
    """Give the model's flatbuffer to a LiteRT interpreter with XNNPACK."""
    return Interpreter(model_content=model, num_threads=threads)
