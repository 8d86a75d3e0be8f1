"""Pruning in one go, without training."""

import keras

from tfsqueeze.core.checks import check_fraction, check_model
from tfsqueeze.core.explain import record
from tfsqueeze.core.rewrite import rewrite
from tfsqueeze.pruning.masks import MaskRule
from tfsqueeze.pruning.targets import find_targets


def prune(
    model: keras.Model,
    sparsity: float,
    *,
    criterion="magnitude",
    pattern: str = "unstructured",
    scope: str = "layer",
    select=None,
    data=None,
) -> keras.Model:
    """Returns a copy of `model` with the least important weights set to zero.

    Fine-tune the result with `tfs.PruningCallback()` (no schedule), which keeps its zeros.

    Args:
        model: any built `keras.Model`; it is not changed.
        sparsity: fraction of zeros in each pruned kernel, in [0, 1). Existing zeros count.
        criterion: "magnitude", or a function from a kernel (NumPy array) to scores of the same shape; the
            lowest are pruned.
        pattern: "unstructured": any weight may become zero.
        scope: "layer": the same sparsity in every layer.
        select: layers to prune, see `tfs.Select`; None for all dense, convolutional and recurrent
            kernels that are not depthwise.
        data: examples for criteria that look at data; "magnitude" does not.

    Returns:
        A new model, compiled as `model` is. `tfs.explain` on it lists each kernel's zeros and what was
        skipped.

    Raises:
        ValueError: if `sparsity` is not in [0, 1), an option is unknown, or nothing is selected.

    Example:
        >>> small = tfs.prune(model, 0.5)

    Source: Han et al., Learning both Weights and Connections, arXiv:1506.02626.
    """
    remedy = "To remove whole filters use tfs.prune_channels()."
    sparsity = check_fraction("sparsity", sparsity, remedy=remedy)
    rule = MaskRule(criterion, pattern, scope)
    check_model(model, "prune()")
    twin = rewrite(model)
    targets, skipped = find_targets(twin, select)
    rows = {}
    for target, mask in zip(targets, rule.masks(targets, sparsity), strict=True):
        target.variable.assign(target.variable.numpy() * mask)
        rows[target.path] = {"weights": mask.size, "zeros": int(mask.size - mask.sum())}
    return record(twin, "prune", rows, skipped)
