"""Small `.tflite` files for tests, made without Keras."""

import functools

import numpy as np
import tensorflow as tf

from tfsqueeze.export.quiet import quiet

KERNEL = np.array([[1.0, -2.0], [0.5, 3.0], [-1.0, 0.25]], np.float32)


@functools.cache
def float_file(batch: int | None = None) -> bytes:
    """x @ KERNEL as "product" and x + 1 as "sum", for "x" of shape (batch, 3)."""
    return _convert(batch, quantized=False)


@functools.cache
def int8_file() -> bytes:
    """The same, with int8 inputs and outputs, calibrated on [-1, 1]."""
    return _convert(None, quantized=True)


def _convert(batch, quantized):
    module = tf.Module()
    spec = tf.TensorSpec((batch, 3), tf.float32, name="x")

    @tf.function(input_signature=[spec])
    def serve(x):
        return {"product": tf.matmul(x, KERNEL), "sum": x + 1.0}

    module.serve = serve
    with quiet():
        converter = tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()], module)
        if quantized:
            samples = np.random.default_rng(0).uniform(-1, 1, (50, 1, 3)).astype(np.float32)
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([sample] for sample in samples)
            converter.inference_input_type = converter.inference_output_type = tf.int8
        return converter.convert()
