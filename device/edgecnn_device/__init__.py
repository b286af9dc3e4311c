"""What runs on the board: the camera loop and all that keeps it alive for months; never TensorFlow."""
