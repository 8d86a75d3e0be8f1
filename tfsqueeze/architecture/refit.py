"""Fitting new chains to what the layers they stand for gave, without training."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from tfsqueeze.core.batch_statistics import assign_batch_statistics, batch_moments
from tfsqueeze.core.checks import check_positive
from tfsqueeze.core.data import Examples, collect, input_specs
from tfsqueeze.core.followers import next_normalization
from tfsqueeze.core.inner_inputs import InnerInputs
from tfsqueeze.core.layer_info import kernels as kernels_of
from tfsqueeze.core.least_squares import MOST_INPUTS_OF_TRIALS, LeastSquares, best_fit
from tfsqueeze.core.linear_view import LinearView, linear_view, reproduces
from tfsqueeze.core.refitting import PARTS, in_parts, is_held_out, rows_wanted, sampled_rows
from tfsqueeze.core.select import walk

EXACT = 1e-10


@dataclass
class Replacement:
    """A layer and the chain that stands in its place.

    Attributes:
        path: of the layer.
        layer: the original.
        form: how it was taken apart; `fit`, if it has one, improves all kernels together.
        kernels: of the chain, as computed from the weights.
        error: squared error of the chain's weights relative to the layer's.
        chain: the new layers, once they are built.
    """

    path: str
    layer: keras.Layer
    form: Any
    kernels: list[np.ndarray]
    error: float
    chain: list[keras.Layer]

    def assign(self, kernels: list[np.ndarray], bias: np.ndarray | None) -> None:
        """Sets the kernels of the chain, and its bias unless None."""
        for variable, kernel in zip(self._variables, kernels, strict=True):
            variable.assign(kernel.reshape(variable.shape))
        if bias is not None:
            self.chain[-1].bias.assign(bias.reshape(self.layer.bias.shape))

    @property
    def _variables(self) -> list[keras.Variable]:
        return [variable for layer in self.chain for _, variable in kernels_of(layer)]


def check_examples(model: keras.Model, data, limit: int) -> Examples | None:
    """The examples to fit to; None without data.

    Raises:
        ValueError: if they do not fit the model, or are too few.
    """
    check_positive("limit", limit)
    if data is None:
        return None
    examples = collect(data, input_specs(model), limit=limit)
    if len(examples) < PARTS:
        raise ValueError(
            f"`data` must hold at least {PARTS} examples, better hundreds, so that some can be held out. "
            f"Received: {len(examples)}."
        )
    return examples


def refit(
    model: keras.Model,
    changed: keras.Model,
    replacements: list[Replacement],
    examples: Examples,
    *,
    batch_size: int = 128,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Fits the chains of a changed model, in place, to give what the layers of the original gave.

    Chain by chain in the order they run, by least squares: from what the chain receives in the changed
    model, all chains before it being fitted, to what its layer gave in the original. A quarter of the
    examples is held out to choose how far weights may move; a chain that gains nothing on them stays as it
    is. The statistics of batch normalisation that runs after a changed layer move, in the same pass, as far
    as what they are of has moved. Layers before the first that is not exact stay as they are to the bit.

    Args:
        model: the original.
        changed: what stands in its place.
        replacements: the layers with their chains in `changed`.
        examples: at least four.
        batch_size: examples per run.
        seed: of the positions drawn in images and sequences.

    Returns:
        By path, the chain's squared error on held-out examples relative to the variance of what the layer
        gave, before and after the fit.
    """
    return _Refitter(model, changed, replacements, in_parts(examples, batch_size, len(examples)), seed).run()


def split(examples: Examples, batch_size: int) -> tuple[list[Examples], list[Examples]]:
    """The batches that `refit` fits to, and those that it holds out."""
    parts: tuple[list[Examples], list[Examples]] = [], []
    for number, batch in enumerate(in_parts(examples, batch_size, len(examples))):
        parts[is_held_out(number)].append(batch)
    return parts


class _Refitter:
    def __init__(self, model, changed, replacements, batches, seed):
        self._batches, self._seed = batches, seed
        self._count = sum(map(len, batches))
        self._of = {id(replacement.chain[0]): replacement for replacement in replacements}
        olds = {named.path: named.layer for named in walk(model)}
        news = [named for named in walk(changed) if isinstance(named.layer, layers.BatchNormalization)]
        self._normalizations = {id(named.layer): olds[named.path] for named in news if named.path in olds}
        firsts = [replacement.chain[0] for replacement in replacements]
        before = [*(replacement.layer for replacement in replacements), *self._normalizations.values()]
        self._new = InnerInputs(changed, [*firsts, *(named.layer for named in news)], batches)
        self._old = InnerInputs(model, before, batches)
        self._errors: dict[str, tuple[float, float]] = {}

    def run(self) -> dict[str, tuple[float, float]]:
        is_exact = True
        for layer in self._new.order:
            replacement = self._of.get(id(layer))
            is_exact &= replacement is None or replacement.error < EXACT
            if is_exact:
                continue
            if replacement is None:
                self._renormalize(layer)
            elif (view := linear_view(replacement.layer)) is not None and self._is_linear(view):
                self._fit(replacement, view)
        return self._errors

    def _renormalize(self, layer: layers.BatchNormalization) -> None:
        """Moves the statistics as far as what the layer receives has moved.

        What the two models receive for the same examples is compared, so that the statistics stay near those
        of the training data where these examples differ from them.
        """
        old = self._normalizations.get(id(layer))
        if old is None:
            return
        mean, variance = batch_moments(layer, self._new, self._batches)
        mean_before, variance_before = batch_moments(old, self._old, self._batches)
        ratio = (variance + layer.epsilon) / (variance_before + layer.epsilon)
        moving_mean, moving_variance = map(_array, (old.moving_mean, old.moving_variance))
        assign_batch_statistics(layer, moving_mean + mean - mean_before, moving_variance * ratio)

    def _is_linear(self, view: LinearView) -> bool:
        few = self._old.read(view.layer, self._batches[0])[0].few
        return reproduces(view, few, view.layer(few))

    def _fit(self, replacement: Replacement, view: LinearView) -> None:
        form, kernels = replacement.form, replacement.kernels
        bias = _bias(replacement, view)
        before = form.before(kernels).astype("float32")
        # All kernels can be fitted from the windows, the last one alone from what reaches it.
        whole = hasattr(form, "fit") and before.shape[1] <= MOST_INPUTS_OF_TRIALS
        inner = before.shape[1] if whole else before.shape[2]
        problems = [LeastSquares(before.shape[0], inner, view.output_shape[1]) for _ in range(2)]
        wanted = rows_wanted(inner)
        for number, batch in enumerate(self._batches):
            count = math.ceil(wanted * len(batch) / self._count)
            for rows, targets in self._samples(replacement, view, number, batch, count):
                if not whole:
                    rows = np.einsum("rgi,gim->rgm", rows, before, optimize=True)
                problems[is_held_out(number)].add(rows, targets)
        last = kernels[-1].reshape(before.shape[0], before.shape[2], -1)
        held_out = problems[1].through(before) if whole else problems[1]
        error = held_out.relative_error(last, bias)
        if whole:
            found = form.fit(*problems, kernels, bias)
        elif found := best_fit(*problems, last, bias):
            found = [*kernels[:-1], found[0]], found[1]
        after = error
        if found is not None:
            kernels, bias = found
            last = kernels[-1].reshape(last.shape)
            held_out = problems[1].through(form.before(kernels)) if whole else problems[1]
            after = held_out.relative_error(last, bias)
            replacement.assign(kernels, None if view.bias is None else bias)
        self._errors[replacement.path] = error, after

    def _samples(self, replacement, view, number, batch, count) -> Iterator[tuple]:
        """About `count` rows that the chain receives, with what the layer gave there, not yet activated."""
        before = self._old.read(replacement.layer, batch)
        after = self._new.read(replacement.chain[0], batch)
        for call, (was, now) in enumerate(zip(before, after, strict=True)):
            rows = [
                sampled_rows(view, received, (self._seed, number, call), math.ceil(count / len(before)))
                for received in (now, was)
            ]
            yield rows[0], view.outputs(rows[1])


def _bias(replacement, view) -> np.ndarray | None:
    """What the fit starts from: the chain's own bias, or one that the normalisation behind it will take."""
    if view.bias is not None:
        return (
            keras.ops.convert_to_numpy(replacement.chain[-1].bias)
            .astype("float64")
            .reshape(view.output_shape)
        )
    return None if next_normalization(replacement.layer) is None else np.zeros(view.output_shape)


def _array(values) -> np.ndarray:
    return keras.ops.convert_to_numpy(values).astype("float64")
