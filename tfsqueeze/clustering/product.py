"""Product quantization: kernels put together from few sub-vectors."""

import keras
import numpy as np

from tfsqueeze.clustering.importance import input_products
from tfsqueeze.clustering.one_shot import facts
from tfsqueeze.clustering.sharing import check_clusters
from tfsqueeze.clustering.subvectors import OutputError, codebook_of, decode, nearest
from tfsqueeze.clustering.targets import SharedKernel, find_targets
from tfsqueeze.core.checks import check_choice, check_model, check_positive
from tfsqueeze.core.explain import record
from tfsqueeze.core.rewrite import rewrite

CODEBOOKS = ("layer", "segment")


def product_quantize(
    model: keras.Model,
    clusters: int,
    *,
    length: int = 8,
    codebooks: str = "layer",
    select=None,
    data=None,
    seed: int = 0,
) -> keras.Model:
    """Returns a copy of `model` whose kernels are put together from few sub-vectors of several weights.

    A kernel is seen as a matrix (inputs, outputs) and each of its columns cut into sub-vectors of `length`
    consecutive inputs, for each of which the nearest of `clusters` learned ones is put: with 256 of length 8
    a weight takes one bit. Fine-tune with `tfs.ClusteringCallback()`, which trains the codebooks; store with
    `tfs.pack`.

    Args:
        model: any built `keras.Model`; it is not changed.
        clusters: sub-vectors in a codebook, in [2, 4096].
        length: weights in a sub-vector, >= 2; where it does not divide a layer's inputs, the largest
            number below it that does.
        codebooks: one for each "layer" (Stock et al., arXiv:1907.05686), or for each "segment" of inputs,
            as in Gong et al. and Wu et al., which has less error and larger codebooks.
        select: layers to quantize, see `tfs.Select`; None for all dense and ordinary convolutional
            kernels large enough to gain by it.
        data: typical inputs. Codes and codebooks are then chosen by the error of the layers' outputs, each
            segment making good for the others (Wu et al., 3.3), rather than by that of the weights.
        seed: of what is random.

    Returns:
        A new model, compiled as `model` is. `tfs.explain` on it lists per kernel the weights, distinct
        values, relative squared error, sub-vector length and bits per weight with codebook, and what was
        skipped.

    Raises:
        ValueError: if an option is out of range, weights are not finite, or nothing is selected or fits.

    Example:
        >>> small = tfs.product_quantize(model, 256, length=8, data=x_train[:256])

    Source: Gong et al., Compressing deep convolutional networks using vector quantization,
    arXiv:1412.6115; Wu et al., Quantized convolutional neural networks, arXiv:1512.06473.
    """
    check_clusters(clusters)
    check_choice("codebooks", codebooks, CODEBOOKS)
    if check_positive("length", length) != int(length) or length < 2:
        raise ValueError(f"`length` must be an integer >= 2. Received: {length}. For 1 use tfs.cluster().")
    check_model(model, "product_quantize()")
    targets, skipped = find_targets(model, select)
    misfits = {target.path: _misfit(target, clusters, int(length), codebooks) for target in targets}
    fitting = [target for target in targets if misfits[target.path] is None]
    skipped |= {path: reason for path, reason in misfits.items() if reason}
    if not fitting:
        raise ValueError(
            f"No kernel of model {model.name!r} can be put together from sub-vectors: {misfits}."
        )
    products = {} if data is None else input_products(model, fitting, data)
    twin = rewrite(model)
    twin_of = dict(zip(map(id, model.weights), twin.weights, strict=True))
    rows = {}
    for target in fitting:
        seen = products[target.path][1][0] if target.path in products else None
        part = _length(target, int(length))
        shared = _quantized(target, clusters, part, codebooks, seen, seed)
        twin_of[id(target.variable)].assign(shared.reshape(target.variable.shape))
        bits = _bits(target, clusters, part, codebooks) / target.weights.size
        rows[target.path] = {
            **facts(target.weights, shared.reshape(target.variable.shape)),
            "length": part,
            "bits": round(bits, 2),
        }
    return record(twin, "product_quantize", rows, skipped)


def _quantized(target, clusters, length, codebooks, products, seed) -> np.ndarray:
    matrix = _matrix(target)
    parts = matrix.reshape(-1, length, matrix.shape[1]).transpose(0, 2, 1)
    pools = parts.reshape(1, -1, length) if codebooks == "layer" else parts
    books = np.stack([codebook_of(pool, clusters, seed) for pool in pools])
    codes = np.stack([nearest(pool, book) for pool, book in zip(pools, books, strict=True)])
    codes = codes.reshape(len(parts), -1)
    if products is not None:
        codes, books = OutputError(products, matrix).refine(codes, books)
    return decode(codes, books)


def _matrix(target: SharedKernel) -> np.ndarray:
    return target.weights.reshape(_inputs(target), -1)


def _inputs(target) -> int:
    return int(np.prod([target.variable.shape[axis] for axis in target.kernel.inputs]))


def _length(target, length: int) -> int:
    return max(size for size in range(1, length + 1) if _inputs(target) % size == 0)


def _bits(target, clusters, length, codebooks) -> float:
    size, segments = int(np.prod(target.variable.shape)), _inputs(target) // length
    books = 1 if codebooks == "layer" else segments
    return size / length * np.log2(clusters) + 32 * books * clusters * length


def _misfit(target, clusters, length, codebooks) -> str | None:
    """Why a kernel cannot or should not be put together from sub-vectors."""
    if (*target.kernel.inputs, *target.kernel.outputs) != tuple(range(len(target.variable.shape))):
        return f"the kernel of {type(target.layer).__name__} does not have its inputs first"
    part = _length(target, length)
    if part < 2:
        return f"its {_inputs(target)} inputs cannot be cut into equal parts of up to {length}"
    size = int(np.prod(target.variable.shape))
    words = size // part if codebooks == "layer" else size // _inputs(target)
    if words <= clusters:
        return f"it has no more than {clusters} sub-vectors of length {part} per codebook"
    # Float weights take 32 bits.
    if _bits(target, clusters, part, codebooks) > 16 * size:
        return "its codebooks would take half of what its weights do, or more"
    return None
