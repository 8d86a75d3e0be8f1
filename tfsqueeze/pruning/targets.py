"""Which weights of a model are pruned, and why the others are not."""

from collections.abc import Callable
from dataclasses import dataclass

import keras

from tfsqueeze.core.layer_info import Kernel, kernels
from tfsqueeze.core.select import select_layers


@dataclass(frozen=True)
class Target:
    """One kernel to prune, with the path of its layer and what its axes mean."""

    path: str
    kernel: Kernel
    variable: keras.Variable


def find_targets(
    model: keras.Model, select=None, misfit: Callable[[Target], str | None] = lambda target: None
) -> tuple[list[Target], dict[str, str]]:
    """Finds the kernels to prune; biases, normalisation and unknown variables are never among them.

    Without a selection, depthwise kernels and embeddings are left alone (they are small and sensitive, or
    looked up rather than multiplied), and so are frozen layers.

    Args:
        model: any built model.
        select: see `tfs.Select`.
        misfit: returns why a kernel cannot be pruned as asked, or None if it can.

    Returns:
        The targets, each variable once, and the reasons why layers or kernels were left out, by path.

    Raises:
        TypeError, ValueError: as `tfsqueeze.core.select.select_layers`; also if no kernel fits.
    """
    selection = select_layers(model, select, _unsupported, by_default=_not_by_default)
    targets: dict[int, Target] = {}
    for named in selection.chosen:
        pairs = kernels(named.layer)
        wanted = [pair for pair in pairs if pair[0].by_default] if select is None else pairs
        for kernel, variable in wanted:
            path = f"{named.path}/{kernel.attribute}"
            targets.setdefault(id(variable), Target(path, kernel, variable))
    reasons = {target.path: misfit(target) for target in targets.values()}
    fitting = [target for target in targets.values() if reasons[target.path] is None]
    misfits = {path: reason for path, reason in reasons.items() if reason is not None}
    if not fitting:
        raise ValueError(f"No kernel of model {model.name!r} fits the pattern: {misfits}.")
    return fitting, {**selection.skipped, **misfits}


def _unsupported(layer) -> str | None:
    if kernels(layer):
        return None
    if not layer.built:
        return "it has no weights yet"
    return f"{type(layer).__name__} has no kernel that can be pruned"


def _not_by_default(layer) -> str | None:
    pairs = kernels(layer)
    if not any(kernel.by_default for kernel, _ in pairs):
        return f"{type(layer).__name__} is pruned only when selected"
    if not any(variable.trainable for _, variable in pairs):
        return "it is frozen (trainable=False)"
    return None
