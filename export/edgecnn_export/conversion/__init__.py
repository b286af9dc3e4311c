"""From a Keras model to TFLite and ONNX, float and int8."""
