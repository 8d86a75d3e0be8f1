"""The kernels of a model that a technique on weights is about, and why the others are not."""

from dataclasses import dataclass

import keras

from tfsqueeze.core.layer_info import Kernel, kernels
from tfsqueeze.core.select import select_layers


@dataclass(frozen=True)
class Target:
    """One kernel, with its path, the layer that owns it, and what its axes mean."""

    path: str
    layer: keras.Layer
    kernel: Kernel
    variable: keras.Variable


def find_kernels(
    model: keras.Model, select, done: str, make: type[Target] = Target
) -> tuple[list[Target], dict[str, str]]:
    """Finds the kernels to work on; biases, normalisation and unknown variables are never among them.

    Without a selection, depthwise kernels and embeddings are left alone (they are small and sensitive, or
    looked up rather than multiplied), and so are frozen layers.

    Args:
        model: any built model.
        select: see `tfs.Select`.
        done: what is done to a kernel, for the reasons: "pruned".
        make: the class of the targets.

    Returns:
        The targets, each variable once, and the reasons why layers were left out, by path.

    Raises:
        TypeError, ValueError: as `tfsqueeze.core.select.select_layers`.
    """

    def unsupported(layer) -> str | None:
        if kernels(layer):
            return None
        if not layer.built:
            return "it has no weights yet"
        return f"{type(layer).__name__} has no kernel that can be {done}"

    def not_by_default(layer) -> str | None:
        pairs = kernels(layer)
        if not any(kernel.by_default for kernel, _ in pairs):
            return f"{type(layer).__name__} is {done} only when selected"
        if not any(variable.trainable for _, variable in pairs):
            return "it is frozen (trainable=False)"
        return None

    selection = select_layers(model, select, unsupported, by_default=not_by_default)
    targets: dict[int, Target] = {}
    for named in selection.chosen:
        for kernel, variable in kernels(named.layer):
            if select is not None or kernel.by_default:
                path = f"{named.path}/{kernel.attribute}"
                targets.setdefault(id(variable), make(path, named.layer, kernel, variable))
    return list(targets.values()), selection.skipped
