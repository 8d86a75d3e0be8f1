"""When rounding starts and what is frozen, as training goes on."""

import keras

from tfsqueeze.core.checks import UnsupportedModelError, check_count
from tfsqueeze.core.trained import trained_model
from tfsqueeze.quantization.curvature import bring_curvature
from tfsqueeze.quantization.measuring import activation_quantizers
from tfsqueeze.quantization.wrapper import quantized_layers


class QuantizationCallback(keras.callbacks.Callback):
    """Starts rounding late, and freezes ranges and BatchNormalization statistics, at given steps.

    It also brings the optimizer's curvature to kernels that are rounded by a loss-aware method.

    Steps are those of `optimizer.iterations`, so that a second `fit` and resumed training go on where they
    were. At each of the (at most three) changes the training step is compiled anew.

    Args:
        start_step: first step with rounding; before it, the model trains in float and ranges are measured.
        freeze_ranges_step: first step at which activation ranges stay as they are; None leaves them moving.
        freeze_batch_norm_step: first step at which BatchNormalization computes with its moving statistics,
            as in inference, and stays as it is; None leaves it training.

    Raises:
        ValueError: if a step is negative or no whole number.
        UnsupportedModelError: when training begins, if the model is not quantization-aware.

    Example:
        >>> steps = len(x_train) // 128 * epochs
        >>> freezing = tfs.QuantizationCallback(freeze_ranges_step=steps // 2,
        ...                                     freeze_batch_norm_step=steps * 3 // 4)
        >>> qat.fit(x_train, y_train, batch_size=128, epochs=epochs, callbacks=[freezing])

    Source: Krishnamoorthi, arXiv:1806.08342, section 3.2 (delayed start, frozen statistics).
    """

    def __init__(
        self,
        *,
        start_step: int = 0,
        freeze_ranges_step: int | None = None,
        freeze_batch_norm_step: int | None = None,
    ):
        super().__init__()
        self.start_step = check_count("start_step", start_step, 0)
        self.freeze_ranges_step = _step("freeze_ranges_step", freeze_ranges_step)
        self.freeze_batch_norm_step = _step("freeze_batch_norm_step", freeze_batch_norm_step)
        self._phase: tuple[bool, bool, bool] | None = None
        self._thawed: list[keras.Layer] = []

    def on_train_begin(self, logs=None):
        """Finds the layers to steer."""
        model = trained_model(self.model)
        self._quantizers, self._layers = activation_quantizers(model), quantized_layers(model)
        if not self._quantizers:
            raise UnsupportedModelError(
                f"Model {model.name!r} is not quantization-aware. Train what `tfs.quantize_aware(model)` "
                "returns with tfs.QuantizationCallback."
            )
        self._curvatures = [pair for layer in self._layers for pair in layer.curvatures()]
        norms = (keras.layers.BatchNormalization,)
        layers = model._flatten_layers()
        self._thawed = [layer for layer in layers if isinstance(layer, norms) and layer.trainable]
        self._phase = None

    def on_epoch_begin(self, epoch, logs=None):
        """Sets the phase once every callback has begun (one may restore a backup)."""
        self._update()

    def on_train_batch_end(self, batch, logs=None):
        """Sets the phase and the curvature of the next step."""
        self._update()
        if self._curvatures:
            bring_curvature(self.model.optimizer, self._curvatures)

    def on_train_end(self, logs=None):
        """Leaves a model that rounds everything and can be trained on; the next `fit` sets its own phase."""
        self._apply((True, False, False))
        self.model.train_function = None

    def _update(self) -> None:
        step = int(keras.ops.convert_to_tensor(self.model.optimizer.iterations).numpy())
        phase = (
            step >= self.start_step,
            self.freeze_ranges_step is not None and step >= self.freeze_ranges_step,
            self.freeze_batch_norm_step is not None and step >= self.freeze_batch_norm_step,
        )
        if phase != self._phase:
            self._apply(phase)
            self.model.make_train_function(force=True)

    def _apply(self, phase) -> None:
        is_rounding, ranges_frozen, norms_frozen = self._phase = phase
        for layer in self._layers:
            layer.is_rounding = is_rounding
        for quantizer in self._quantizers:
            quantizer.is_rounding = is_rounding
            quantizer.is_measuring = not ranges_frozen
            if quantizer.ranges == "learned":
                quantizer.trainable = not ranges_frozen
        for norm in self._thawed:
            norm.trainable = not norms_frozen


def _step(name: str, value: int | None) -> int | None:
    return None if value is None else check_count(name, value, 0)
