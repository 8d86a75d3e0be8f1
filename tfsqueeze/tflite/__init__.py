"""Reading, checking and running `.tflite` files; knows nothing of Keras."""
