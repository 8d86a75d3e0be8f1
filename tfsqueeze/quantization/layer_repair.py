"""Refitting the layers of a quantized model, one after the other, to what they gave in float."""

import math
from dataclasses import dataclass, field

import keras
import numpy as np

from tfsqueeze.core.data import Examples
from tfsqueeze.core.inner_inputs import InnerInputs, Received
from tfsqueeze.core.least_squares import MOST_INPUTS_OF_TRIALS, LeastSquares, best_fit
from tfsqueeze.core.linear_view import LinearView, linear_view, reproduces
from tfsqueeze.core.refitting import PARTS, is_held_out, rows_wanted, sampled_rows
from tfsqueeze.core.select import walk
from tfsqueeze.quantization.adaptive_rounding import best_steps, round_adaptively
from tfsqueeze.quantization.attention import QuantizedAttention
from tfsqueeze.quantization.rounding import levels
from tfsqueeze.quantization.wrapper import QuantizedLayer, quantized_layers

# A kernel with more zeros than this was pruned: its zeros stay.
PRUNED = 0.05
_UNIFORM = ("uniform", "clipped", "learned_step")


@dataclass(frozen=True)
class LayerRepair:
    """What was refitted.

    Attributes:
        errors: by layer path, squared error of the layer's outputs relative to their variance, rounded to
            the nearest and after the repair.
        skipped: why layers were left as they are, by path.
    """

    errors: dict[str, tuple[float, float]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def repair_layers(
    model: keras.Model,
    quantized: keras.Model,
    batches: list[Examples],
    *,
    rounding: bool = True,
    bias: bool = True,
    seed: int = 0,
) -> LayerRepair:
    """Refits kernels and biases of a quantized model, in place, layer by layer in the order they run.

    Each layer is fitted to give, from what it receives in the quantized model (with all before it repaired),
    what it gives in the float model.

    Args:
        model: the float model.
        quantized: what `quantize_aware` made of it, with its activation ranges set; it is changed.
        batches: examples; with four batches or more, a quarter is held out.
        rounding: whether to refit kernels and round them adaptively; their float values then lie on the
            grid they are rounded to, so that training can go on from there.
        bias: whether to set biases, or the mean of the BatchNormalization behind, so that outputs have the
            mean they have in float.
        seed: of the positions drawn in images and sequences.

    Returns:
        A `LayerRepair`.

    Source: bias correction from data, Nagel et al., arXiv:1906.04721, section 4.2 (empirical); adaptive
    rounding as in `round_adaptively`, towards the outputs of the float model as in GPTAQ, arXiv:2504.02692.
    """
    return _Repairer(model, quantized, batches, rounding, bias, seed).run()


class _Repairer:
    def __init__(self, model, quantized, batches, rounding: bool, bias: bool, seed: int):
        self._batches, self._rounding, self._bias, self._seed = batches, rounding, bias, seed
        self._count = sum(map(len, batches))
        floats = {named.path: named.layer for named in walk(model)}
        paths = plain_paths(quantized)
        self._pairs = {
            id(wrapper): (paths[id(wrapper)], floats[paths[id(wrapper)]], wrapper)
            for wrapper in quantized_layers(quantized)
        }
        self._float_inputs = InnerInputs(model, [old for _, old, _ in self._pairs.values()], batches)
        wrappers = [wrapper for _, _, wrapper in self._pairs.values()]
        self._inputs = InnerInputs(quantized, wrappers, batches)
        self._result = LayerRepair()

    def run(self) -> LayerRepair:
        for wrapper in self._inputs.order:
            path, old, _ = self._pairs[id(wrapper)]
            reason = self._refit(path, old, wrapper)
            if reason is not None:
                self._result.skipped[path] = reason
        return self._result

    def _refit(self, path: str, old, wrapper: QuantizedLayer) -> str | None:
        """Refits one layer; returns why not, if it cannot be."""
        views = linear_view(old), linear_view(wrapper.layer)
        if None in views or wrapper.kernel_names is not None or len(wrapper.kernels()) != 1:
            return "no matrix product of inputs and one stored kernel"
        if views[0].weights.shape[1] > MOST_INPUTS_OF_TRIALS:
            return f"more than {MOST_INPUTS_OF_TRIALS} inputs per output"
        few = self._float_inputs.read(old, self._batches[0])[0].few
        if not reproduces(views[0], few, old(few)):
            return "its call does more than multiply, add a bias and activate"
        fitting, held_out = self._problems(old, wrapper, views)
        before = _error(held_out, wrapper, views[1], views[1].bias)
        if self._rounding and wrapper.weights_method in _UNIFORM:
            self._round(wrapper, views[1], fitting, held_out)
        bias = views[1].bias
        if self._bias:
            bias = _matched_bias(fitting, _rounded(wrapper, views[1]))
            if not _shift(wrapper, views[1], bias):
                bias = views[1].bias
        self._result.errors[path] = before, _error(held_out, wrapper, views[1], bias)
        return None

    def _problems(self, old, wrapper, views) -> tuple[LeastSquares, LeastSquares]:
        """Inputs in the quantized model with outputs in the float one: to fit, and to choose by."""
        shape = views[1].weights.shape
        parts = min(PARTS, len(self._batches))
        problems = [LeastSquares(*shape) for _ in range(2)]
        wanted = rows_wanted(shape[1])
        for number, batch in enumerate(self._batches):
            calls = _paired(self._float_inputs.read(old, batch), self._inputs.read(wrapper, batch))
            count = math.ceil(wanted * len(batch) / self._count / len(calls))
            for call, (was, now) in enumerate(calls):
                seed = (self._seed, number, call)
                targets = views[0].outputs(sampled_rows(views[0], was, seed, count))
                problems[is_held_out(number, parts)].add(sampled_rows(views[1], now, seed, count), targets)
        fitting, held_out = problems
        return (held_out if not fitting.count else fitting), held_out

    def _round(self, wrapper, view: LinearView, fitting: LeastSquares, held_out: LeastSquares) -> None:
        start = view.weights.astype("float64")
        zeros = start == 0
        is_pruned = zeros.mean() > PRUNED
        can_shift = self._bias and (view.bias is not None or normalization_behind(wrapper) is not None)
        wanted = start
        if fitting is not held_out and not is_pruned:
            bias = view.bias if view.bias is not None else np.zeros(view.output_shape)
            found = best_fit(fitting, held_out, start, bias if can_shift else None)
            wanted = start if found is None else found[0]
        best = self._rounded_to(wrapper, view, wanted, fitting, can_shift, zeros & is_pruned)
        bias = _matched_bias(fitting, best[0]) if can_shift else view.bias
        nearest = _error(held_out, wrapper, view, self._bias_for(fitting, wrapper, view, can_shift))
        if held_out.relative_error(best[0], bias) < nearest:
            _store(wrapper, view, *best)
        else:
            view.assign(_rounded(wrapper, view), None)

    def _bias_for(self, fitting, wrapper, view, can_shift):
        return _matched_bias(fitting, _rounded(wrapper, view)) if can_shift else view.bias

    def _rounded_to(self, wrapper, view, target, fitting, can_shift, zeros):
        limit = levels(wrapper.bits)
        moments = _moments(fitting, centered=can_shift)
        steps = best_steps(target, moments, limit, per_channel=wrapper.per_channel)
        fixed = zeros | _greatest(target, wrapper.per_channel)
        integers = round_adaptively(np.where(zeros, 0.0, target), moments, steps, limit, fixed)
        return integers * steps, steps


def _paired(floats: list[Received], rounded: list[Received]) -> list[tuple[Received, Received]]:
    """Each call in float with the same one in the quantized model, whose order may be another."""
    left, pairs = list(floats), []
    for now in rounded:
        values = np.asarray(now.first)
        errors = [
            np.square(np.asarray(was.first) - values).mean() if was.first.shape == values.shape else np.inf
            for was in left
        ]
        pairs.append((left.pop(int(np.argmin(errors))), now))
    return pairs


def plain_paths(quantized: keras.Model) -> dict[int, str]:
    """The path that each wrapped layer has in the model that was quantized, by id of its wrapper."""
    kinds = (QuantizedLayer, QuantizedAttention)
    found = {}
    for named in walk(quantized):
        if isinstance(named.layer, QuantizedLayer):
            parents = [parent.name for parent in named.parents if not isinstance(parent, kinds)]
            found[id(named.layer)] = "/".join([*parents, named.layer.layer.name])
    return found


def normalization_behind(layer: keras.Layer) -> keras.layers.BatchNormalization | None:
    """The BatchNormalization that alone reads what a layer gives, or None."""
    nodes = layer._outbound_nodes
    if len(nodes) != 1 or not isinstance(nodes[0].operation, keras.layers.BatchNormalization):
        return None
    found = nodes[0].operation
    is_last = found.axis in (-1, len(found.input.shape) - 1)
    return found if is_last and len(found._inbound_nodes) == 1 else None


def _rounded(wrapper: QuantizedLayer, view: LinearView) -> np.ndarray:
    return view.arrangement.to_matrix(wrapper.baked()[view.attribute]).astype("float64")


def _error(problem: LeastSquares, wrapper, view: LinearView, bias) -> float:
    return problem.relative_error(_rounded(wrapper, view), bias)


def _matched_bias(problem: LeastSquares, weights: np.ndarray) -> np.ndarray:
    """The bias with which the mean of the outputs is that of the targets."""
    sums = problem.products[:, -1, :-1]
    return (problem.targets[:, -1] - np.einsum("gk,gko->go", sums, weights)) / problem.count


def _moments(problem: LeastSquares, centered: bool) -> np.ndarray:
    """Second moments of the inputs; about their mean where a bias takes up what the mean adds."""
    moments = problem.products[:, :-1, :-1] / problem.count
    if not centered:
        return moments
    mean = problem.products[:, -1, :-1] / problem.count
    return moments - mean[:, :, None] * mean[:, None, :]


def _greatest(weights: np.ndarray, per_channel: bool) -> np.ndarray:
    """The weight of each step with the greatest magnitude: on the last level, it keeps the step as it is."""
    magnitude = np.abs(weights)
    if not per_channel:
        return np.arange(magnitude.size).reshape(magnitude.shape) == magnitude.argmax()
    return np.arange(weights.shape[1])[:, None] == magnitude.argmax(1)[:, None, :]


def _store(wrapper: QuantizedLayer, view: LinearView, kernel: np.ndarray, steps: np.ndarray) -> None:
    view.assign(kernel, None)
    for name in wrapper.method.trained:
        whole = view.arrangement.to_kernel(np.broadcast_to(steps, kernel.shape))
        (described, variable), *_ = wrapper.kernels()
        step = np.asarray(whole).reshape(variable.shape).max(wrapper.axes(described), keepdims=True)
        wrapper._scale(described, name).assign(np.log(step))


def _shift(wrapper: QuantizedLayer, view: LinearView, bias: np.ndarray) -> bool:
    """Sets the bias, or the mean of the normalisation behind; False if there is neither."""
    if view.bias is not None:
        view.layer.bias.assign(bias.reshape(view.layer.bias.shape))
        return True
    normalization = normalization_behind(wrapper)
    if normalization is None:
        return False
    normalization.moving_mean.assign(normalization.moving_mean - bias.reshape(-1))
    return True
