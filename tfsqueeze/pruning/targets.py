"""Which weights of a model are pruned, and why the others are not."""

from collections.abc import Callable

import keras

from tfsqueeze.core.targets import Target, find_kernels


def find_targets(
    model: keras.Model, select=None, misfit: Callable[[Target], str | None] = lambda target: None
) -> tuple[list[Target], dict[str, str]]:
    """Finds the kernels to prune, as `core.targets.find_kernels` does.

    Args:
        model: any built model.
        select: see `tfs.Select`.
        misfit: returns why a kernel cannot be pruned as asked, or None if it can.

    Returns:
        The targets, each variable once, and the reasons why layers or kernels were left out, by path.

    Raises:
        TypeError, ValueError: as `tfsqueeze.core.select.select_layers`; also if no kernel fits.
    """
    targets, skipped = find_kernels(model, select, "pruned")
    reasons = {target.path: misfit(target) for target in targets}
    fitting = [target for target in targets if reasons[target.path] is None]
    misfits = {path: reason for path, reason in reasons.items() if reason is not None}
    if not fitting:
        raise ValueError(f"No kernel of model {model.name!r} fits the pattern: {misfits}.")
    return fitting, {**skipped, **misfits}
