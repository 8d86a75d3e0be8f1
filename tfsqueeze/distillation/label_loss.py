"""The compiled loss with each output under a weight of its own."""

import keras
from keras import ops
from keras.src.trainers.compile_utils import CompileLoss


def by_output(compiled: CompileLoss, labels, outputs, sample_weight, alphas: list, names: list[str]):
    """The compiled loss as it is, and with each output's part times 1 - alpha.

    Args:
        compiled: the loss Keras made in `compile`.
        labels, outputs, sample_weight: what it is called on.
        alphas: a scalar tensor for each output, in the order of `keras.tree.flatten`.
        names: the outputs' names, in the same order.
    """
    if len(alphas) == 1:
        value = compiled(labels, outputs, sample_weight)
        return value, value * (1 - alphas[0])
    if not compiled.built:
        compiled(labels, outputs, sample_weight)
    order = [path for path, _ in keras.tree.flatten_with_path(outputs)]
    parts = compiled._flat_losses
    # Losses given by name for outputs in a list have the name as their path.
    positions = [
        order.index(tuple(part.path)) if tuple(part.path) in order else names.index(part.path[-1])
        for part in parts
    ]
    weights = [1 - alphas[position] for position in positions]
    # The parts are summed inside CompileLoss, which knows how labels of every form belong to outputs.
    kept: list = []
    try:
        compiled._flat_losses = [
            part._replace(loss=_keeping(part.loss, part.loss_weights, kept)) for part in parts
        ]
        value = compiled(labels, outputs, sample_weight)
    finally:
        compiled._flat_losses = parts
    return value, sum(part * weight for part, weight in zip(kept, weights, strict=True))


def _keeping(loss, weight, kept: list):
    def call(*arguments):
        value = loss(*arguments)
        kept.append(ops.cast(value, "float32") * (1.0 if weight is None else weight))
        return value

    return call
