"""How much an error in each weight matters, from what the layers receive."""

import keras
import numpy as np

from tfsqueeze.clustering.targets import SharedKernel
from tfsqueeze.core.data import collect, input_specs
from tfsqueeze.core.inner_inputs import InnerInputs
from tfsqueeze.core.linear_view import LinearView, linear_view

_ROWS = 4096


def input_products(
    model: keras.Model, targets: list[SharedKernel], data, *, limit: int = 256, batch_size: int = 32
) -> dict[str, tuple[LinearView, np.ndarray]]:
    """The mean products of every two inputs that a kernel multiplies, measured on data.

    The squared error of a layer's outputs is a quadratic form of the error of its weights with these.

    Args:
        model: a built model; it is not changed.
        targets: the kernels.
        data: typical inputs, labelled or not.
        limit: most examples to use, >= 1.
        batch_size: examples per run of the model, >= 1.

    Returns:
        By path of the kernel, the layer as a matrix product and an array (groups, inputs, inputs); kernels
        of layers that are no plain product, or are never called, are missing.
    """
    examples = collect(data, input_specs(model), limit=limit)
    views = {target.path: view for target in targets if (view := _view(target)) is not None}
    layers = [view.layer for view in views.values()]
    inner = InnerInputs(model, layers, [examples])
    rng = np.random.default_rng(0)
    found = {}
    for path, view in views.items():
        if any(layer is view.layer for layer in inner.order):
            found[path] = (view, _mean_products(inner, view, examples, batch_size, rng))
    return found


def input_energies(model: keras.Model, targets: list[SharedKernel], data) -> dict[str, np.ndarray]:
    """The mean square of the input that each weight is multiplied with, in the shape of its kernel.

    Args and omissions are those of `input_products`.
    """
    energies = {}
    for path, (view, products) in input_products(model, targets, data).items():
        diagonal = np.einsum("gii->gi", products)[..., None]
        spread = np.broadcast_to(diagonal, view.weights.shape)
        energies[path] = view.arrangement.to_kernel(spread).reshape(view.kernel.shape)
    return energies


def _view(target) -> LinearView | None:
    view = linear_view(target.layer)
    return view if view is not None and view.kernel is target.variable else None


def _mean_products(inner, view, examples, batch_size, rng) -> np.ndarray:
    total, count = 0.0, 0
    for batch in examples.batches(batch_size):
        for received in inner.read(view.layer, batch):
            rows = view.rows(keras.ops.convert_to_numpy(received.first).astype("float32"), rng, _ROWS)
            stacked = rows.transpose(1, 2, 0)
            total = total + stacked @ stacked.transpose(0, 2, 1)
            count += len(rows)
    return (total / max(count, 1)).astype("float32")
