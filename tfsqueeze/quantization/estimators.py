"""Low-bit rounding of kernels, one small function per method.

Each takes a kernel (float tensor), the axes one scale is shared along, and the bits asked for (which
those with a grid of their own do not use), and returns a tensor of the same shape. The gradient goes straight
through to the float kernel unless said otherwise.
"""

import tensorflow as tf

from tfsqueeze.quantization.rounding import SMALLEST_SCALE, scaled_gradient, straight_through

TERNARY_THRESHOLD = 0.7
TRAINED_THRESHOLD = 0.05


def ternarize(kernel, axes, bits=2, threshold: float = TERNARY_THRESHOLD):
    """Rounds to {-a, 0, +a}: 0 below `threshold` * mean|w|, a the mean magnitude of the rest.

    a is the closed-form minimiser of the squared error for that support.

    Source: Li & Liu, Ternary Weight Networks, arXiv:1605.04711, eq. 6.
    """
    magnitude = tf.abs(kernel)
    kept = _as_float(magnitude > threshold * tf.reduce_mean(magnitude, axes, keepdims=True))
    return straight_through(kernel, _mean_where(magnitude, kept, axes) * tf.sign(kernel) * kept)


def ternarize_fixed(kernel, axes, bits=2, threshold: float = 1 / 3):
    """Rounds to {-a, 0, +a}, a = max|w|, with 0 below the fixed `threshold` * a.

    Source: Zhu et al., Trained Ternary Quantization, arXiv:1612.01064, section 3 (fixed threshold factor).
    """
    greatest = tf.reduce_max(tf.abs(kernel), axes, keepdims=True)
    kept = _as_float(tf.abs(kernel) > threshold * greatest)
    return straight_through(kernel, greatest * tf.sign(kernel) * kept)


def ternarize_stochastic(kernel, axes, bits=2, training: bool = False):
    """In training, keeps a weight with probability |w| / max|w|; in inference `ternarize_fixed` at 1/2.

    With a = max|w| the expectation of the rounded weight is the weight itself.

    Source: Lin et al., Neural Networks with Few Multiplications, arXiv:1510.03009, section 4.
    """
    if not training:
        return ternarize_fixed(kernel, axes, threshold=0.5)
    greatest = tf.maximum(tf.reduce_max(tf.abs(kernel), axes, keepdims=True), SMALLEST_SCALE)
    kept = _as_float(tf.random.uniform(tf.shape(kernel)) < tf.abs(kernel) / greatest)
    return straight_through(kernel, greatest * tf.sign(kernel) * kept)


def ternarize_trained(kernel, axes, bits=2, *, positive, negative, threshold: float = TRAINED_THRESHOLD):
    """Rounds to {-n, 0, +p} with trained scales n and p; 0 below `threshold` * max|w| (TTQ).

    The scales get the sum of the gradients of their weights; the float kernel gets the gradient times the
    scale of its side, and 1 where it is 0.

    Args:
        positive, negative: the trained scales p and n, broadcastable to the kernel.

    Source: Zhu et al., Trained Ternary Quantization, arXiv:1612.01064, eq. 6-8.
    """
    limit = threshold * tf.reduce_max(tf.abs(kernel), axes, keepdims=True)
    above, below = _as_float(kernel > limit), _as_float(kernel < -limit)
    chosen = tf.abs(positive) * above - tf.abs(negative) * below
    pace = tf.stop_gradient(tf.abs(positive) * above + tf.abs(negative) * below + (1 - above - below))
    return chosen + (pace * kernel - tf.stop_gradient(pace * kernel))


def positive_scale(kernel, axes, bits=2):
    """Where p of `ternarize_trained` starts: the mean of the weights above the threshold."""
    limit = TRAINED_THRESHOLD * tf.reduce_max(tf.abs(kernel), axes, keepdims=True)
    return _mean_where(kernel, _as_float(kernel > limit), axes)


def negative_scale(kernel, axes, bits=2):
    """Where n of `ternarize_trained` starts: the mean magnitude of the weights below minus the threshold."""
    return positive_scale(-kernel, axes)


def binarize(kernel, axes, bits=1):
    """Rounds to {-a, +a}, a = mean|w|, by the sign; the gradient passes where |w| <= max(1, 3a).

    Source: Courbariaux et al., BinaryConnect, arXiv:1511.00363, eq. 1; the scale by Rastegari et al.,
    XNOR-Net, arXiv:1603.05279, eq. 6.
    """
    scale = tf.reduce_mean(tf.abs(kernel), axes, keepdims=True)
    limit = tf.stop_gradient(tf.maximum(1.0, 3 * scale))
    return straight_through(tf.clip_by_value(kernel, -limit, limit), scale * _sign(kernel))


def binarize_stochastic(kernel, axes, bits=1, training: bool = False):
    """In training, +a with probability clip((w / a + 1) / 2, 0, 1), else -a; in inference `binarize`.

    Source: Courbariaux et al., BinaryConnect, arXiv:1511.00363, eq. 2-3.
    """
    if not training:
        return binarize(kernel, axes)
    scale = tf.maximum(tf.reduce_mean(tf.abs(kernel), axes, keepdims=True), SMALLEST_SCALE)
    chance = tf.clip_by_value((kernel / scale + 1) / 2, 0.0, 1.0)
    drawn = 2 * _as_float(tf.random.uniform(tf.shape(kernel)) < chance) - 1
    return straight_through(kernel, scale * drawn)


def binarize_trained(kernel, axes, bits=1, *, low, high):
    """Rounds to the nearer of two trained constants, `low` and `high`, which learn with the weights.

    Each constant gets the mean of the gradients of the weights it stands for.

    Source: Tung & Mori, CLIP-Q, arXiv:1803.09161 (trained codebook), for a codebook of two entries; the mean
    gradient by Han et al., Deep Compression, arXiv:1510.00149, section 3.3.
    """
    is_high = _as_float(kernel >= (low + high) / 2)
    share = tf.reduce_mean(is_high, axes, keepdims=True)
    count = tf.cast(tf.size(kernel) // tf.size(low), tf.float32)
    upper = scaled_gradient(high, 1 / tf.maximum(share * count, 1.0)) * is_high
    lower = scaled_gradient(low, 1 / tf.maximum((1 - share) * count, 1.0)) * (1 - is_high)
    return upper + lower + (kernel - tf.stop_gradient(kernel))


def low_constant(kernel, axes, bits=1):
    """Where `low` of `binarize_trained` starts: the mean of the weights below their mean."""
    below = _as_float(kernel < tf.reduce_mean(kernel, axes, keepdims=True))
    return _mean_where(kernel, below, axes)


def high_constant(kernel, axes, bits=1):
    """Where `high` of `binarize_trained` starts: the mean of the weights not below their mean."""
    above = _as_float(kernel >= tf.reduce_mean(kernel, axes, keepdims=True))
    return _mean_where(kernel, above, axes)


def binarize_loss_aware(kernel, axes, bits=1, *, curvature):
    """Rounds to {-a, +a} where the loss feels it least: a = sum(d |w|) / sum(d), d the loss's curvature.

    Args:
        curvature: positive estimate of the second derivative per weight, of the kernel's shape; ones make it
            `binarize`.

    Source: Hou, Yao & Kwok, Loss-aware Binarization of Deep Networks, arXiv:1611.01600, eq. 7.
    """
    scale = _weighted_mean(tf.abs(kernel), curvature, axes)
    return straight_through(kernel, scale * _sign(kernel))


def ternarize_loss_aware(kernel, axes, bits=2, *, curvature, rounds: int = 5):
    """Rounds to {-a, 0, +a} where the loss feels it least, d the loss's curvature.

    Alternates between the support |w| > a / 2 and a = sum(d |w|) / sum(d) over it, from `ternarize` on.

    Args:
        curvature: positive estimate of the second derivative per weight, of the kernel's shape.
        rounds: how often both are computed.

    Source: Hou & Kwok, Loss-aware Weight Quantization of Deep Networks, arXiv:1802.08635, section 3.1.
    """
    magnitude = tf.abs(kernel)
    kept = _as_float(magnitude > TERNARY_THRESHOLD * tf.reduce_mean(magnitude, axes, keepdims=True))
    scale = _weighted_mean(magnitude, curvature * kept, axes)
    for _ in range(rounds):
        kept = _as_float(magnitude > scale / 2)
        scale = _weighted_mean(magnitude, curvature * kept, axes)
    return straight_through(kernel, scale * tf.sign(kernel) * kept)


def dorefa(kernel, axes, bits: int):
    """Rounds tanh-squashed weights to 2^bits equidistant levels in [-1, 1], times the mean magnitude.

    w_q = 2 q(tanh(w) / (2 max|tanh(w)|) + 1/2) - 1, q(x) = round((2^bits - 1) x) / (2^bits - 1). The
    levels are even in number, so 0 is none of them: zeros do not stay.

    Source: Zhou et al., DoReFa-Net, arXiv:1606.06160, eq. 9; scaled to the weights' own size.
    """
    steps = 2.0**bits - 1
    squashed = tf.tanh(kernel)
    greatest = tf.maximum(tf.reduce_max(tf.abs(squashed), axes, keepdims=True), SMALLEST_SCALE)
    unit = squashed / (2 * greatest) + 0.5
    level = 2 * straight_through(unit, tf.round(unit * steps) / steps) - 1
    return level * tf.stop_gradient(tf.reduce_max(tf.abs(kernel), axes, keepdims=True))


def _mean_where(values, mask, axes):
    total = tf.reduce_sum(values * mask, axes, keepdims=True)
    return total / tf.maximum(tf.reduce_sum(mask, axes, keepdims=True), 1.0)


def _weighted_mean(values, weights, axes):
    total = tf.reduce_sum(values * weights, axes, keepdims=True)
    return total / tf.maximum(tf.reduce_sum(weights, axes, keepdims=True), SMALLEST_SCALE)


def _sign(kernel):
    """The sign, +1 for 0: a binary grid has no 0."""
    return 2 * _as_float(kernel >= 0) - 1


def _as_float(condition):
    return tf.cast(condition, tf.float32)
