"""LiteRT (`ai-edge-litert`), Google's successor of tflite-runtime and the first choice on a board."""

import ai_edge_litert
from ai_edge_litert.interpreter import Interpreter, OpResolverType

# Its own word, not importlib.metadata's, which takes longer to import than the interpreter.
NAME = f"ai-edge-litert {getattr(ai_edge_litert, '__version__', '2')}"


def open_interpreter(model: bytes, threads: int, *, delegate: bool = True) -> Interpreter:
    """Give the model's flatbuffer to a LiteRT interpreter with XNNPACK, or to one with the built-in kernels alone."""
    resolver = OpResolverType.AUTO if delegate else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return Interpreter(model_content=model, num_threads=threads, experimental_op_resolver_type=resolver)
