"""From a trained Keras model to artifacts, and the proof that nothing was lost on the way."""

import edgecnn  # noqa: F401  # before OpenCV: it sets the limits of what that decodes
