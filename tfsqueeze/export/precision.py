"""Tracing a mixed-precision model as float32, which is what `.tflite` kernels compute in."""

import contextlib
from collections.abc import Iterator

import keras


def reduced_precision_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Layers (and the model itself) that compute in float16, bfloat16 or float64."""
    layers = model._flatten_layers()
    return [layer for layer in layers if layer.compute_dtype in ("float16", "bfloat16", "float64")]


@contextlib.contextmanager
def float32_compute(model: keras.Model) -> Iterator[bool]:
    """Lets `model` compute in float32 for the length of the block; variables are not touched.

    Policies are switched and put back rather than the model cloned, so it works for subclassed models
    and costs no memory.

    Yields:
        Whether anything had to be switched.
    """
    layers = reduced_precision_layers(model)
    policies = [layer.dtype_policy for layer in layers]
    try:
        for layer in layers:
            layer.dtype_policy = "float32"
        yield bool(layers)
    finally:
        for layer, policy in zip(layers, policies, strict=True):
            layer.dtype_policy = policy
