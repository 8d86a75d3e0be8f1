"""Clustering in one go, without training."""

import keras
import numpy as np

from tfsqueeze.clustering.importance import input_energies
from tfsqueeze.clustering.sharing import SharingRule
from tfsqueeze.clustering.targets import find_targets
from tfsqueeze.core.checks import check_model
from tfsqueeze.core.explain import record
from tfsqueeze.core.rewrite import rewrite


def cluster(
    model: keras.Model,
    clusters: int,
    *,
    init: str = "kmeans++",
    per_channel: bool = False,
    preserve_zeros: bool = True,
    select=None,
    data=None,
    seed: int = 0,
) -> keras.Model:
    """Returns a copy of `model` whose kernels hold few distinct values, each shared by many weights.

    The shapes stay as they are; what becomes small is the file: `tfs.pack` stores which value each weight
    has, and a `.tflite` file of the model compresses well. Fine-tune the result with
    `tfs.ClusteringCallback()`, which trains the shared values.

    Args:
        model: any built `keras.Model`; it is not changed.
        clusters: most distinct values per kernel, in [2, 4096]; 16 take 4 bits each.
        init: where k-means starts: "kmeans++"; "linear" (evenly over the range: serves the few large
            weights); "density" (at even quantiles); "random"; "optimal" (the least error there is).
        per_channel: whether each output channel has `clusters` values of its own.
        preserve_zeros: whether weights that are zero stay exactly zero, as after pruning. Where a kernel
            has zeros, zero is then one of its `clusters` values.
        select: layers to cluster, see `tfs.Select`; None for all dense, convolutional and recurrent
            kernels that are not depthwise.
        data: typical inputs. Errors then count by how strong the input is that they are multiplied with,
            in layers that multiply (dense, convolutional).
        seed: of what is random in `init`.

    Returns:
        A new model, compiled as `model` is. `tfs.explain` on it lists per kernel the weights, distinct
        values and squared error relative to that of zeros, and what was skipped.

    Raises:
        ValueError: if `clusters` is out of range, an option is unknown, weights are not finite, or
            nothing is selected.

    Example:
        >>> small = tfs.cluster(model, 16)
        >>> small.fit(x, y, callbacks=[tfs.ClusteringCallback()])
        >>> tfs.pack(small, "small.tfsq")

    Source: Han et al., Deep Compression, arXiv:1510.00149.
    """
    rule = SharingRule(clusters, init, per_channel, preserve_zeros, seed)
    check_model(model, "cluster()")
    targets, skipped = find_targets(model, select)
    importance = input_energies(model, targets, data) if data is not None else {}
    twin = rewrite(model)
    twin_of = dict(zip(map(id, model.weights), twin.weights, strict=True))
    rows = {}
    for target in targets:
        shared = rule.share(target, importance.get(target.path))
        twin_of[id(target.variable)].assign(shared)
        rows[target.path] = facts(target.weights, shared)
    return record(twin, "cluster", rows, skipped)


def facts(weights: np.ndarray, shared: np.ndarray) -> dict:
    """What `tfs.explain` tells of a kernel: weights, distinct values, relative squared error."""
    error = np.square(weights - shared, dtype="float64").sum() / max(
        np.square(weights, dtype="float64").sum(), 1e-30
    )
    return {"weights": weights.size, "values": np.unique(shared).size, "error": round(float(error), 6)}
