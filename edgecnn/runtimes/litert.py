"""LiteRT (`ai-edge-litert`), Google's successor of tflite-runtime and the first choice on a board."""

from importlib.metadata import version

from ai_edge_litert.interpreter import Interpreter, OpResolverType

NAME = f"ai-edge-litert {version('ai-edge-litert')}"


def open_interpreter(model: bytes, threads: int, *, delegate: bool = True) -> Interpreter:
    """Give the model's flatbuffer to a LiteRT interpreter with XNNPACK, or to one with the built-in kernels alone."""
    resolver = OpResolverType.AUTO if delegate else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return Interpreter(model_content=model, num_threads=threads, experimental_op_resolver_type=resolver)
