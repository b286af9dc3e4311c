"""The repair ladder: what can be done, from cheap to dear, when a plain int8 file lost too much.

Importing any of it imports TensorFlow, quietly; without TensorFlow that is one clear error.
"""

from edgecnn_export.frameworks import require_keras

require_keras()
