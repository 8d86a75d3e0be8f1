"""What a compressed model has that further training must not undo."""

from collections.abc import Sequence

import keras
import numpy as np

from tfsqueeze.clustering.callback import ClusteringCallback
from tfsqueeze.core.targets import find_kernels
from tfsqueeze.pruning.callback import PruningCallback

#: Trained weights are never exactly zero by chance; a hundredth of them has been pruned.
LEAST_ZEROS = 0.01
#: Clustered kernels have few values for many weights.
WEIGHTS_PER_VALUE = 4


def holding_callbacks(
    model: keras.Model, given: Sequence[keras.callbacks.Callback]
) -> list[keras.callbacks.Callback]:
    """Callbacks that keep the zeros and the shared values of a model's kernels while it trains.

    Args:
        model: the model whose weights are trained.
        given: the user's own callbacks, which take precedence over one of the same class.
    """
    try:
        targets, _ = find_kernels(model, None, "held")
    except ValueError:
        return []
    kernels = [keras.ops.convert_to_numpy(target.variable) for target in targets]
    wanted = {PruningCallback: _has_zeros, ClusteringCallback: _has_shared_values}
    return [
        callback()
        for callback, is_there in wanted.items()
        if any(map(is_there, kernels)) and not any(isinstance(one, callback) for one in given)
    ]


def _has_zeros(kernel: np.ndarray) -> bool:
    return bool(np.mean(kernel == 0) > LEAST_ZEROS)


def _has_shared_values(kernel: np.ndarray) -> bool:
    living = kernel[kernel != 0]
    return np.unique(living).size * WEIGHTS_PER_VALUE <= living.size and living.size > 0
