"""Removing whole residual blocks."""

import itertools

import keras
import numpy as np

from tfsqueeze.core.checks import (
    check_choice,
    check_count,
    check_fraction,
    check_graph,
    check_kept,
    check_one_target,
)
from tfsqueeze.core.data import collect, input_specs
from tfsqueeze.core.explain import record
from tfsqueeze.core.inner_inputs import InnerInputs
from tfsqueeze.core.rewrite import rewrite
from tfsqueeze.core.select import select_layers
from tfsqueeze.core.trace import model_macs
from tfsqueeze.pruning.residual_blocks import ResidualBlock, find_blocks

CRITERIA = ("cosine", "change", "regular")


def prune_depth(
    model: keras.Model,
    *,
    blocks: int | None = None,
    ratio: float | None = None,
    macs: float | None = None,
    criterion: str | None = None,
    select=None,
    data=None,
    limit: int = 256,
) -> keras.Model:
    """Returns a copy of `model` without its least important residual blocks.

    A block x + branch(x) becomes x, as if the branch gave zeros; the layers of the branch are gone. Depth
    costs time on any hardware, also where narrower layers would not be faster. Fine-tune the result.

    Give exactly one of `blocks`, `ratio` and `macs`.

    Args:
        model: a built Sequential or Functional model, nested ones included; it is not changed. Blocks
            whose shortcut has a layer of its own cannot go.
        blocks: number of blocks to remove, >= 0.
        ratio: fraction of the blocks that can be removed to remove, in [0, 1); rounded down.
        macs: fraction of multiply-accumulates kept at most, in (0, 1].
        criterion: which blocks go first. "cosine": those whose output points where their input does, the
            mean of 1 - cos(x, x + branch(x)) over positions. "change": those whose branch is small, the
            mean norm of the branch relative to that of the sum. "regular": blocks at regular intervals,
            without `data`. None: "cosine" if `data` is given, else "regular".
        select: layers that may go, see `tfs.Select`; a block goes only if all layers with weights in its
            branch are selected. None for all.
        data: a few typical inputs, labelled or not, for "cosine" and "change".
        limit: most examples to use, >= 1.

    Returns:
        A new model, compiled as `model` is. `tfs.explain` on it lists the blocks with their scores, and
        why other sums are no blocks that can go.

    Raises:
        ValueError: if not exactly one target is given, it cannot be reached (the message says how far it
            goes), the criterion is unknown, or data is missing or does not fit.
        UnsupportedModelError: for a subclassed model, which has no graph.

    Example:
        >>> shallow = tfs.prune_depth(model, macs=0.7, data=x_train[:256])

    Source: Men et al., ShortGPT, arXiv:2403.03853 ("cosine"); Fan et al., Reducing Transformer Depth on
    Demand, arXiv:1909.11556 ("regular").
    """
    check_graph(model, "prune_depth()")
    _check_target(blocks, ratio, macs)
    criterion = criterion or ("regular" if data is None else "cosine")
    check_choice("criterion", criterion, CRITERIA)
    found, others = find_blocks(model)
    found = _selected(model, found, others, select)
    scores = block_scores(model, found, criterion, data, limit=limit)
    order = [found[i] for i in np.argsort(scores, kind="stable")]
    if macs is None:
        count = _count(blocks, ratio, len(found))
        pruned = drop_blocks(model, order[:count])
    else:
        count, pruned = _drop_to(model, order, macs)
    gone = {block.name for block in order[:count]}
    rows = {
        block.name: {"score": f"{score:.4g}", "layers": len(block.layers), "removed": block.name in gone}
        for block, score in zip(found, scores, strict=True)
    }
    # A second copy has no trace of the branches that were left hanging in the first.
    return record(rewrite(pruned), "prune_depth", rows, others)


def drop_blocks(model: keras.Model, blocks: list[ResidualBlock]) -> keras.Model:
    """A copy of `model` in which the blocks' sums are replaced by their shortcuts.

    Args:
        model: the model that the blocks were found in.
        blocks: what to leave out.
    """
    shortcuts = {id(block.sum): block.shortcut for block in blocks}

    def replace(operation):
        place = shortcuts.get(id(operation))
        return None if place is None else lambda *terms: keras.tree.flatten(terms)[place]

    return rewrite(model, replace, adapt=replace)


def block_scores(
    model: keras.Model, blocks: list[ResidualBlock], criterion: str, data=None, *, limit: int = 256
) -> np.ndarray:
    """How much each block matters; see `prune_depth`.

    Args:
        model: the model that the blocks were found in.
        blocks: the blocks, in the order of the graph.
        criterion: "cosine", "change" or "regular".
        data: examples, for all but "regular".
        limit: most examples to use, >= 1.

    Returns:
        A float array, the least important lowest.
    """
    if criterion == "regular":
        return _regular(len(blocks))
    if data is None:
        raise ValueError(f"criterion={criterion!r} needs `data`: a few typical inputs. Received: data=None.")
    examples = collect(data, input_specs(model), limit=limit)
    if not blocks:
        return np.zeros(0)
    sums = [block.sum for block in blocks]
    reader = InnerInputs(model, sums, [examples])
    totals, counts = np.zeros(len(blocks)), np.zeros(len(blocks))
    for batch in examples.batches(64):
        for index, calls in enumerate(reader.read_all(sums, batch)):
            for received in calls:
                terms = keras.tree.flatten(received.args)
                values = _influence(terms, blocks[index].shortcut, criterion)
                totals[index] += values.sum()
                counts[index] += values.size
    return totals / np.maximum(counts, 1)


def _influence(terms, shortcut, criterion) -> np.ndarray:
    """Per position, over the last axis."""
    x, branch = (
        keras.ops.convert_to_numpy(terms[place]).astype("float32") for place in (shortcut, 1 - shortcut)
    )
    output = x + branch
    length = np.linalg.norm(output, axis=-1)
    if criterion == "change":
        return np.linalg.norm(branch, axis=-1) / np.maximum(length, 1e-6)
    product = np.maximum(np.linalg.norm(x, axis=-1) * length, 1e-12)
    return 1 - (x * output).sum(-1) / product


def _regular(count: int) -> np.ndarray:
    """Scores by which the first k blocks are spread evenly: the middle of the widest gap goes next."""
    scores = np.zeros(count)
    taken = [-1, count]
    for rank in range(count):
        gaps = [
            (right - left, -left, (left + right) // 2)
            for left, right in itertools.pairwise(taken)
            if right - left > 1
        ]
        middle = max(gaps)[2]
        scores[middle] = rank
        taken = sorted([*taken, middle])
    return scores


def _check_target(blocks, ratio, macs) -> None:
    choices = "`blocks` (how many to remove), `ratio` (the fraction removed) or `macs` (the fraction kept)"
    check_one_target(choices, blocks=blocks, ratio=ratio, macs=macs)
    if blocks is not None:
        check_count("blocks", blocks, 0)
    if ratio is not None:
        check_fraction("ratio", ratio, remedy="It is the fraction of residual blocks removed.")
    if macs is not None:
        check_kept("macs", macs)


def _selected(model, blocks, others, select) -> list[ResidualBlock]:
    if select is None:
        return blocks
    inside = {id(layer) for block in blocks for layer in block.layers}

    def unsupported(layer):
        return None if id(layer) in inside else "in no residual block that can be removed"

    chosen = {id(named.layer) for named in select_layers(model, select, unsupported).chosen}
    for block in blocks:
        if any(id(layer) not in chosen for layer in block.layers):
            others[block.name] = "not all of its layers are selected"
    return [block for block in blocks if block.name not in others]


def _count(blocks, ratio, available) -> int:
    count = int(ratio * available + 1e-9) if blocks is None else int(blocks)
    if count > available:
        raise ValueError(
            f"`blocks`={count} cannot be reached: only {available} residual blocks can be removed. Sums "
            "whose shortcut has layers of its own must stay."
        )
    return count


def _drop_to(model, order, kept) -> tuple[int, keras.Model]:
    """Removes as few of the blocks, in order, as reach the fraction of multiply-accumulates."""
    whole = model_macs(model)
    low, high = 0, len(order)
    pruned = drop_blocks(model, order)
    reach = model_macs(pruned) / max(whole, 1)
    if reach > kept * (1 + 1e-9):
        raise ValueError(
            f"`macs`={kept:g} cannot be reached: without all {len(order)} residual blocks that can be "
            f"removed {reach:.4f} are left. Ask for less, or narrow the layers with tfs.prune_channels()."
        )
    while low < high:
        middle = (low + high) // 2
        candidate = drop_blocks(model, order[:middle])
        if model_macs(candidate) <= kept * whole * (1 + 1e-9):
            high, pruned = middle, candidate
        else:
            low = middle + 1
    return low, pruned
