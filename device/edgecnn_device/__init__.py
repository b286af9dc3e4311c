"""What runs on the board: the camera loop and all that keeps it alive for months; never TensorFlow."""

import edgecnn  # noqa: F401  # before OpenCV: it sets the limits of what that decodes
