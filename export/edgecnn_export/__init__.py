"""From a trained Keras model to artifacts, and the proof that nothing was lost on the way."""
