"""Pruning in one go, without training."""

import keras

from tfsqueeze.core.checks import check_fraction, check_model
from tfsqueeze.core.explain import record
from tfsqueeze.core.rewrite import rewrite
from tfsqueeze.pruning import evidence
from tfsqueeze.pruning.masks import MaskRule
from tfsqueeze.pruning.targets import find_targets


def prune(
    model: keras.Model,
    sparsity: float,
    *,
    criterion="magnitude",
    pattern="unstructured",
    scope="layer",
    select=None,
    data=None,
) -> keras.Model:
    """Returns a copy of `model` with the least important weights set to zero.

    Fine-tune the result with `tfs.PruningCallback()` (no schedule), which keeps its zeros.

    Args:
        model: any built `keras.Model`; it is not changed.
        sparsity: fraction of zeros over the pruned kernels, in [0, 1). Existing zeros count.
        criterion: what makes a weight important: "magnitude"; "taylor", "snip" (first-order effect on the
            loss) or "fisher" (second-order), which need `data`; "random"; or a function from a kernel
            (NumPy array) to scores of the same shape. The lowest are pruned.
        pattern: where zeros fall: "unstructured"; "n:m" such as "2:4" (at most 2 of 4 consecutive inputs
            stay); a block `(rows, columns)` of the kernel seen as a matrix (inputs, outputs); "rows";
            "columns". Kernels that do not fit are skipped, with the reason.
        scope: how the sparsity is distributed: "layer" (the same everywhere), "global" (the lowest scores
            of the whole model), "lamp" (the same, made comparable between layers),
            "erk" (by the shapes of kernels), or a map of layer names or patterns to
            sparsities, which then replace `sparsity`.
        select: layers to prune, see `tfs.Select`; None for all dense, convolutional and recurrent
            kernels that are not depthwise.
        data: labelled examples, for criteria that use gradients of the compiled loss.

    Returns:
        A new model, compiled as `model` is. `tfs.explain` on it lists each kernel's zeros and what was
        skipped.

    Raises:
        ValueError: if `sparsity` is not in [0, 1) or out of the pattern's reach, an option is unknown,
            data is missing, or nothing is selected.

    Example:
        >>> small = tfs.prune(model, 0.9, scope="lamp")

    Source: Han et al., Learning both Weights and Connections, arXiv:1506.02626.
    """
    remedy = "To remove whole filters use tfs.prune_channels()."
    sparsity = check_fraction("sparsity", sparsity, remedy=remedy)
    rule = MaskRule(criterion, pattern, scope)
    check_model(model, "prune()")
    targets, skipped = find_targets(model, select, rule.misfit)
    masks = rule.masks(targets, sparsity, evidence.from_data(rule.evidence, model, targets, data))
    twin = rewrite(model)
    twin_of = dict(zip(map(id, model.weights), twin.weights, strict=True))
    rows = {}
    for target, mask in zip(targets, masks, strict=True):
        twin_of[id(target.variable)].assign(target.variable.numpy() * mask)
        rows[target.path] = {"weights": mask.size, "zeros": int(mask.size - mask.sum())}
    return record(twin, "prune", rows, skipped)
