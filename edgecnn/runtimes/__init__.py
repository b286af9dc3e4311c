"""Running a model: raw uint8 pictures in, float32 probabilities out, whatever the file holds and whoever executes it.

One module a runtime, imported only when chosen. For `.tflite` the order is `ai-edge-litert`, `tflite-runtime`, then
TensorFlow's own interpreter; the environment variable EDGECNN_RUNTIME or the argument `runtime` names one instead.
"""

from edgecnn.runtimes.runtime import Runtime
from edgecnn.runtimes.select import ENVIRONMENT_VARIABLE, RUNTIMES, open_runtime

__all__ = ["ENVIRONMENT_VARIABLE", "RUNTIMES", "Runtime", "open_runtime"]
