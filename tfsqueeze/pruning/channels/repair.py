"""Making good for removed channels without training: least squares on what the original computed."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import keras
import numpy as np
from keras import layers

from tfsqueeze.core.batch_statistics import set_batch_statistics
from tfsqueeze.core.data import Examples, collect, input_specs
from tfsqueeze.core.followers import next_normalization
from tfsqueeze.core.inner_inputs import InnerInputs
from tfsqueeze.core.layer_info import kernels
from tfsqueeze.core.least_squares import MOST_INPUTS, LeastSquares, best_fit
from tfsqueeze.core.linear_view import reproduces
from tfsqueeze.core.refitting import PARTS, in_parts, is_held_out, rows_wanted, sampled_rows
from tfsqueeze.core.select import walk
from tfsqueeze.pruning.channels.cut import KeptParts
from tfsqueeze.pruning.channels.graph import ChannelGraph
from tfsqueeze.pruning.channels.sums import lost_by_others, term_of
from tfsqueeze.pruning.channels.twins import Twins

EXACT = 1e-5
# Multiply-accumulates that running up to every layer would take, where runs do not fit in memory to go on
# with; beyond, layers with many positions per example make do with fewer examples.
AFFORDABLE_MACS = 2e13
LEAST_EXAMPLES = 128


@dataclass(frozen=True)
class Repair:
    """What was refitted.

    Attributes:
        errors: by path, the layer's squared error relative to the variance of its targets, before and after.
        skipped: why layers whose inputs are others than before were left as they are, by path.
    """

    errors: dict[str, tuple[float, float]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def repair(
    graph: ChannelGraph,
    pruned: keras.Model,
    keep,
    data,
    *,
    limit: int = 1024,
    batch_size: int = 128,
    seed: int = 0,
) -> Repair:
    """Refits the weights of a pruned model, in place, so that its layers give again what they gave before.

    Layer by layer in the order they run, kernel and bias are fitted by least squares: from what the layer
    receives in the pruned model, with all layers before it repaired, to what it gave in the original. A
    layer that feeds a sum also makes good for what the other terms have lost. A quarter of the examples is
    held out to choose how far the weights may move; a layer that gains nothing on them stays as it is.

    Statistics of batch normalisation stay those of the original, whose inputs the fitted layers imitate;
    they are measured anew only behind layers that could not be fitted.

    In large models, layers that give many positions per example are fitted on the first hundred examples or
    so: what a thousand images give in such layers does not fit in memory, and runs would begin anew.

    Args:
        graph: the channel groups of the original model.
        pruned: what `cut` made of it; it is changed.
        keep: the units kept, as `cut` takes them.
        data: examples, labelled or not, in any form `model.fit` takes; some hundreds do.
        limit: most examples to use, >= 4.
        batch_size: examples per run, >= 1; it bounds the memory.
        seed: of the positions drawn in images and sequences.

    Returns:
        A `Repair`.

    Raises:
        ValueError: if the data do not fit the model, or are fewer than four examples.

    Source: He et al., Channel Pruning for Accelerating Very Deep Neural Networks, arXiv:1707.06168.
    """
    examples = collect(data, input_specs(graph.model), limit=limit)
    if len(examples) < PARTS:
        raise ValueError(
            f"A repair needs at least {PARTS} examples, better hundreds. Received: {len(examples)}."
        )
    count = min(len(examples), _affordable(graph))
    batches = in_parts(examples, batch_size, count)
    return _Repairer(graph, pruned, keep, batches, count, seed).run()


def _affordable(graph) -> int:
    runs = sum(bool(kernels(named.layer)) for named in walk(graph.model))
    return max(LEAST_EXAMPLES, int(AFFORDABLE_MACS / max(graph.macs() * runs, 1)))


class _Repairer:
    """Goes through the layers of the pruned model with the same layers of the original beside them."""

    def __init__(self, graph: ChannelGraph, pruned, keep, batches: list[Examples], count: int, seed: int):
        self._batches, self._count, self._seed = batches, count, seed
        self._cut = KeptParts(graph, keep)
        olds = {named.path: named.layer for named in walk(graph.model)}
        self._layers = {named.path: named.layer for named in walk(pruned) if named.path in olds}
        self._twins = {path: (olds[path], new) for path, new in self._layers.items() if kernels(new)}
        self._terms = {path: (term_of(old), term_of(new)) for path, (old, new) in self._twins.items()}
        sums = [[term.operation for term in pair if term] for pair in self._terms.values()]
        old_layers = [*(old for old, _ in self._twins.values()), *(pair[0] for pair in sums if pair)]
        new_layers = [*self._layers.values(), *(pair[1] for pair in sums if len(pair) == 2)]
        self._old_inputs = InnerInputs(graph.model, old_layers, batches)
        self._new_inputs = InnerInputs(pruned, new_layers, batches)
        self._unfitted: set[int] = set()
        self._result = Repair()

    def run(self) -> Repair:
        paths = {id(layer): path for path, layer in self._layers.items()}
        for layer in self._new_inputs.order:
            path = paths.get(id(layer))
            if path in self._twins:
                self._refit(path)
            elif isinstance(layer, layers.BatchNormalization) and id(layer) in self._unfitted:
                set_batch_statistics(layer, self._new_inputs, self._batches)
        return self._result

    def _refit(self, path: str) -> None:
        old, new = self._twins[path]
        twins = Twins.of(old, new, self._cut)
        reason = self._misfit(old, twins)
        if reason is None:
            reason = self._fit(path, twins)
        if reason is not None:
            self._result.skipped[path] = reason
            self._unfitted.add(id(next_normalization(new)))

    def _misfit(self, old, twins: Twins | None) -> str | None:
        if twins is None:
            return "no matrix product of inputs and a stored kernel"
        if twins.new.weights.shape[1] > MOST_INPUTS:
            return f"more than {MOST_INPUTS} inputs per output"
        few = self._old_inputs.read(old, self._batches[0])[0].few
        if not reproduces(twins.old, few, old(few)):
            return "its call does more than multiply, add a bias and activate"
        return None

    def _fit(self, path: str, twins: Twins) -> str | None:
        """Fits one layer; returns why it was left as it is, if it was and should not be."""
        normalization = None if twins.new.layer.bias is not None else next_normalization(twins.new.layer)
        weights, bias = twins.new.weights, twins.new.bias
        if normalization is not None:
            bias = np.zeros(twins.new.output_shape)
        problems = [LeastSquares(*weights.shape) for _ in range(2)]
        is_exact = True
        wanted, used = rows_wanted(weights.shape[1]), 0
        for number, batch in enumerate(self._batches):
            if used >= self._count and sum(problem.count for problem in problems) >= wanted:
                break
            used += len(batch)
            share = math.ceil(wanted * len(batch) / self._count)
            for rows, targets in self._samples(path, twins, (self._seed, number), batch, share):
                problems[is_held_out(number)].add(rows, targets)
                is_exact &= np.allclose(
                    twins.new.outputs(rows), targets, EXACT, EXACT * np.abs(targets).max()
                )
        if is_exact:
            return None
        found = best_fit(*problems, weights, bias)
        if found is None:
            return "too few examples to improve it"
        if normalization is not None:
            normalization.moving_mean.assign(normalization.moving_mean - found[1].reshape(-1))
        twins.new.assign(found[0], None if normalization is not None else found[1])
        errors = problems[0].relative_error(weights, bias), problems[0].relative_error(*found)
        self._result.errors[path] = errors
        return None

    def _samples(self, path, twins: Twins, seed, batch: Examples, count: int) -> Iterator[tuple]:
        """About `count` rows of inputs in the pruned model, with the outputs they should give."""
        (old, new), (old_term, new_term) = self._twins[path], self._terms[path]
        before, *old_sum = self._old_inputs.read_all([old, *_sum(old_term, new_term)[:1]], batch)
        after, *new_sum = self._new_inputs.read_all([new, *_sum(old_term, new_term)[1:]], batch)
        count = math.ceil(count / len(before))
        for call, (was, now) in enumerate(zip(before, after, strict=True)):
            drawn = (*seed, call)
            targets = twins.take(twins.old.outputs(sampled_rows(twins.old, was, drawn, count)))
            if old_sum:
                sums = (old_term, old_sum[0][0]), (new_term, new_sum[0][0])
                targets = targets + lost_by_others(*sums, twins, drawn, count)
            yield sampled_rows(twins.new, now, drawn, count), targets


def _sum(old_term, new_term) -> list:
    return [old_term.operation, new_term.operation] if old_term and new_term else []
