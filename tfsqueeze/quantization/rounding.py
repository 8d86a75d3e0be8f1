"""Rounding to a grid that training can see through, and the grids of uniform quantization.

Every function takes a kernel (float tensor) and the axes that one scale is shared along, and returns a
tensor of the same shape whose values lie on the grid.
"""

import tensorflow as tf

SMALLEST_SCALE = 1e-9


def straight_through(value, rounded):
    """`rounded` in the forward pass, the gradient of `value` in the backward pass.

    Source: Bengio et al., Estimating or Propagating Gradients Through Stochastic Neurons, arXiv:1308.3432.
    """
    # In this order the sum is exact: what is added to `rounded` is zero.
    return tf.stop_gradient(rounded) + (value - tf.stop_gradient(value))


def levels(bits: int) -> int:
    """The greatest integer of a symmetric signed grid: 127 for 8 bits, 7 for 4, 1 for 2."""
    return 2 ** (bits - 1) - 1


def uniform(kernel, axes, bits: int):
    """Rounds to `2**bits - 1` equidistant levels between -max|w| and max|w|; zeros stay zeros.

    w_q = s * round(w / s), s = max|w| / (2^(bits-1) - 1), which is how `.tflite` kernels store weights
    (https://ai.google.dev/edge/litert/models/quantization_spec).
    """
    scale = max_scale(kernel, axes, bits)
    return straight_through(kernel, scale * tf.round(kernel / scale))


def max_scale(kernel, axes, bits: int):
    """The step that puts the greatest magnitude on the last level."""
    return tf.maximum(tf.reduce_max(tf.abs(kernel), axes, keepdims=True), SMALLEST_SCALE) / levels(bits)


def clipped(kernel, axes, bits: int, candidates: int = 20):
    """Like `uniform`, with the step (of `candidates` from 0.4 to 1 of the full one) of least squared error.

    Clipping the few greatest weights makes the steps finer for all others, which pays at 4 bits.

    Source: Choukroun et al., Low-bit Quantization of Neural Networks for Efficient Inference,
    arXiv:1902.06822.
    """
    step = tf.stop_gradient(least_error_scale(kernel, axes, bits, candidates))
    level = tf.clip_by_value(tf.round(kernel / step), -levels(bits), levels(bits))
    return straight_through(kernel, step * level)


def least_error_scale(kernel, axes, bits: int, candidates: int = 20):
    """The step of least squared rounding error, clipping included."""
    full, limit = max_scale(kernel, axes, bits), float(levels(bits))

    def error(fraction):
        step = full * fraction
        rounded = step * tf.clip_by_value(tf.round(kernel / step), -limit, limit)
        return tf.reduce_sum(tf.square(rounded - kernel), axes, keepdims=True)

    fractions = tf.linspace(0.4, 1.0, candidates)
    errors = tf.stack([error(fractions[index]) for index in range(candidates)])
    return full * tf.gather(fractions, tf.argmin(errors, axis=0))


def learned_step(kernel, axes, bits: int, log_step):
    """Rounds with a step that is trained with the weights (LSQ), by its logarithm.

    w_q = s * round(clip(w / s, -q, q)); the gradient of s is scaled by 1 / sqrt(n q), n weights per step, so
    that steps learn at the pace of weights. The logarithm keeps s positive, and lets optimizers such as Adam,
    whose updates do not depend on the gradient's size, change it by a fraction of itself.

    Args:
        log_step: natural logarithm of the trained step, broadcastable to the kernel.

    Source: Esser et al., Learned Step Size Quantization, arXiv:1902.08153, eq. 1-3; the logarithm by Jain et
    al., Trained Quantization Thresholds, arXiv:1903.08066.
    """
    limit = float(levels(bits))
    count = tf.cast(tf.size(kernel) // tf.size(log_step), tf.float32)
    step = tf.exp(scaled_gradient(log_step, 1.0 / tf.sqrt(count * limit)))
    inside = tf.clip_by_value(kernel / step, -limit, limit)
    return straight_through(inside, tf.round(inside)) * step


def log_of_least_error_scale(kernel, axes, bits: int):
    """Where the logarithm of a learned step starts."""
    return tf.math.log(least_error_scale(kernel, axes, bits))


def scaled_gradient(value, factor):
    """The value, with its gradient times `factor`."""
    scaled = value * factor
    return tf.stop_gradient(value) + (scaled - tf.stop_gradient(scaled))
