"""From a Keras model to TFLite and ONNX, float and int8.

Importing any of it imports TensorFlow, quietly; without TensorFlow that is one clear error.
"""

from edgecnn_export.frameworks import require_keras

require_keras()
