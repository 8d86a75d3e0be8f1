"""The layer that rounds activations, and learns the range it rounds them in."""

import keras
import tensorflow as tf

from tfsqueeze.quantization.observers import OBSERVERS
from tfsqueeze.quantization.switch import switched

# A product that no converter folds away: it parts two ranges that would otherwise be merged.
_NEARLY_ONE = 1.0 + 2.0**-20


@keras.saving.register_keras_serializable(package="tfsqueeze")
class ActivationQuantizer(keras.Layer):
    """Rounds its input to the grid of an integer type, and measures the range of that grid in training.

    One quantizer may stand behind several tensors that must share a range (the inputs of a concatenation);
    then each has a slot, a range of its own, and the grid spans them all.

    Args:
        bits: of the grid, 2 to 16.
        symmetric: whether the range is centred at 0.
        ranges: how the range is found; see `tfs.QuantizationConfig`.
        momentum: share of the old range kept per step.
        percentile: for ranges="percentile".
        slots: number of tensors.
        fixed: the range (low, high), for activations whose range is known; nothing is measured then.
        rescale: whether every call is one with `rescale`; see `call`.

    Attributes:
        is_rounding: whether the input is rounded, or only measured; a `tf.Variable` to switch it in
            compiled functions.
        is_measuring: whether training moves the range.

    Source: Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference, arXiv:1712.05877, section 3.
    """

    # Probabilities stay probabilities: what reads the end of a network looks at what comes before.
    keeps_meaning = True

    def __init__(
        self,
        bits: int = 8,
        symmetric: bool = False,
        ranges: str = "moving_average",
        momentum: float = 0.99,
        percentile: float = 99.99,
        slots: int = 1,
        fixed: tuple[float, float] | None = None,
        rescale: bool = False,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.bits = bits
        self.symmetric = symmetric
        self.ranges = ranges
        self.momentum = momentum
        self.percentile = percentile
        self.slots = slots
        self.fixed = None if fixed is None else tuple(map(float, fixed))
        self.rescale = rescale
        self.is_rounding = self.is_measuring = True
        self._share: float | None = None
        self.supports_masking = True
        self.minimum = self.maximum = None
        self.built = True
        if fixed is None:
            self.minimum = self._bound("minimum")
            self.maximum = self._bound("maximum")

    def _bound(self, name):
        return self.add_weight(
            name=name,
            shape=(self.slots,),
            initializer="zeros",
            dtype="float32",
            trainable=self.ranges == "learned",
            autocast=False,
            aggregation="mean",
        )

    def build(self, input_shape=None):
        """Nothing depends on the input's shape."""

    def call(self, inputs, slot=0, rescale=False, measure=True, training=False):
        """Rounds `inputs`.

        Args:
            inputs: a float tensor.
            slot: which of the tensors it is.
            rescale: whether it was rounded before to another grid, so that a file must convert it.
            measure: False where the tensor only shares the range of others.
            training: whether to measure.
        """
        values = tf.cast(inputs, tf.float32)
        low, high = self._range(values, slot, measure, bool(training))
        if rescale or self.rescale:
            values = values * _NEARLY_ONE
        outputs = switched(self.is_rounding, lambda: self._rounded(values, low, high, inputs.dtype), inputs)
        if hasattr(inputs, "_keras_logits"):
            # Losses need them: a probability rounded to 0 has no logarithm, and would teach nothing.
            outputs._keras_logits = inputs._keras_logits
        return outputs

    def _rounded(self, values, low, high, dtype):
        rounded = tf.quantization.fake_quant_with_min_max_vars(
            values, low, high, num_bits=self.bits, narrow_range=self.symmetric
        )
        return tf.cast(rounded, dtype)

    def begin_measuring(self, share: float) -> None:
        """Measures in inference too, a batch taking `share` of a moving average, until `end_measuring()`."""
        self._share = share

    def end_measuring(self) -> None:
        """Ends what `begin_measuring` began."""
        self._share = None

    def bounds(self) -> tuple[float, float]:
        """The range in use, both ends 0 if none was ever measured."""
        if self.fixed is not None:
            return self.fixed
        low, high = self._spanned(self.minimum.numpy(), self.maximum.numpy())
        return float(low), float(high)

    @property
    def is_trained(self) -> bool:
        """Whether there is a range: a fixed one, or one that data was seen for."""
        low, high = self.bounds()
        return not low == high == 0

    def reset(self) -> None:
        """Forgets the range."""
        if self.fixed is None:
            self.minimum.assign(tf.zeros_like(self.minimum))
            self.maximum.assign(tf.zeros_like(self.maximum))

    def compute_output_spec(self, inputs, slot=0, rescale=False, measure=True, training=False):
        """The input's."""
        return keras.KerasTensor(inputs.shape, inputs.dtype)

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "bits": self.bits,
            "symmetric": self.symmetric,
            "ranges": self.ranges,
            "momentum": self.momentum,
            "percentile": self.percentile,
            "slots": self.slots,
            "fixed": self.fixed,
            "rescale": self.rescale,
        }

    def _range(self, values, slot, measure, training):
        if self.fixed is not None:
            return tf.constant(self.fixed[0]), tf.constant(self.fixed[1])
        minimum, maximum = tf.convert_to_tensor(self.minimum), tf.convert_to_tensor(self.maximum)
        if measure and ((training and self.is_measuring) or self._share is not None):
            minimum, maximum = self._measured(values, slot, minimum, maximum)
        elif not training:
            minimum, maximum = tf.cond(
                tf.reduce_all(tf.equal(minimum, maximum)),
                lambda: tuple(end[None] for end in self._observed(values)),
                lambda: (minimum, maximum),
            )
        return self._spanned(minimum, maximum)

    def _measured(self, values, slot, minimum, maximum):
        """Moves the slot's range towards that of `values`; the first time it takes it over."""
        low, high = self._observed(values)
        here = tf.one_hot(slot, self.slots)
        is_new = tf.equal(minimum, maximum)
        if self.ranges == "min_max":
            low_step, high_step = tf.minimum(low - minimum, 0.0), tf.maximum(high - maximum, 0.0)
        else:
            pace = self._pace()
            low_step, high_step = pace * (low - minimum), pace * (high - maximum)
        low_step = here * tf.where(is_new, low - minimum, low_step)
        high_step = here * tf.where(is_new, high - maximum, high_step)
        is_usable = tf.math.is_finite(low) & tf.math.is_finite(high)
        low_step = tf.where(is_usable, low_step, 0.0)
        high_step = tf.where(is_usable, high_step, 0.0)
        self.minimum.assign(minimum + tf.stop_gradient(low_step))
        self.maximum.assign(maximum + tf.stop_gradient(high_step))
        return minimum + tf.stop_gradient(low_step), maximum + tf.stop_gradient(high_step)

    def _pace(self) -> float:
        if self._share is not None:
            return self._share
        return 0.0 if self.ranges == "learned" else 1.0 - self.momentum

    def _observed(self, values):
        values = tf.stop_gradient(values)
        low, high = OBSERVERS[self.ranges](values, self.percentile, self.bits)
        return tf.minimum(low, 0.0), tf.maximum(high, 0.0)

    def _spanned(self, minimum, maximum):
        """One range for all slots; it includes 0, which padding needs to be exact."""
        low = tf.minimum(tf.reduce_min(minimum), 0.0)
        high = tf.maximum(tf.reduce_max(maximum), 0.0)
        if self.symmetric:
            high = tf.maximum(-low, high)
            low = -high
        return low, high
