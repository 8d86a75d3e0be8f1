"""The loss' gradient on data, for criteria that ask what a weight does rather than how large it is."""

import keras
import numpy as np
import tensorflow as tf

from tfsqueeze.core.data import input_specs, pack_inputs, stream
from tfsqueeze.core.targets import Target
from tfsqueeze.core.trained import trained_model


def loss_gradients(
    model: keras.Model, targets: list[Target], data, *, limit: int = 512, root_mean_square: bool = False
) -> list[np.ndarray]:
    """Mean gradient of the compiled loss with respect to each target, over up to `limit` examples.

    Args:
        model: a compiled model; it runs in inference mode and is not changed.
        targets: the kernels.
        data: inputs with targets, in any form `model.fit` takes.
        limit: most examples to use, >= 1.
        root_mean_square: give the root of the mean squared gradient of the batches instead of the mean.

    Raises:
        ValueError: if the model is not compiled, or there are no data or no labels.
    """
    if not model.compiled:
        raise ValueError(f"Gradients need a loss: compile model {model.name!r} before pruning by them.")
    if data is None:
        raise ValueError(
            "This criterion needs `data`: inputs with labels, such as (x, y). Received: data=None."
        )
    sums = [np.zeros(target.variable.shape) for target in targets]
    seen = 0
    for batch in stream(data, input_specs(trained_model(model))):
        if batch.targets is None:
            raise ValueError("This criterion needs labels: pass `data` as (x, y). Received inputs alone.")
        for total, gradient in zip(sums, _gradients(model, targets, batch), strict=True):
            total += (np.square(gradient) if root_mean_square else gradient) * len(batch)
        seen += len(batch)
        if seen >= limit:
            break
    means = [total / max(seen, 1) for total in sums]
    return [np.sqrt(mean) for mean in means] if root_mean_square else means


def _gradients(model, targets, batch) -> list[np.ndarray]:
    inputs = pack_inputs(trained_model(model), batch.inputs)
    with tf.GradientTape() as tape:
        outputs = model(inputs, training=False)
        loss = model.compute_loss(
            x=inputs, y=batch.targets, y_pred=outputs, sample_weight=batch.weights, training=False
        )
    gradients = tape.gradient(loss, [target.variable.value for target in targets])
    return [
        np.zeros(target.variable.shape) if gradient is None else tf.convert_to_tensor(gradient).numpy()
        for target, gradient in zip(targets, gradients, strict=True)
    ]
