"""Rounding weights up or down so that the outputs of a layer, not the weights, change least.

All functions take a stack of independent products (see `core.linear_view`): weights of shape (groups, inputs,
outputs), and the second moments of the inputs, (groups, inputs, inputs).
"""

import numpy as np

CANDIDATES = np.linspace(0.4, 1.0, 31)
DAMPING = 0.01
PASSES = 8
_SMALLEST = 1e-9


def best_steps(weights: np.ndarray, moments: np.ndarray, limit: int, *, per_channel: bool = True):
    """The step of each output (or of all) whose rounding costs least, each input weighed by its square.

    Args:
        weights: (groups, inputs, outputs).
        moments: (groups, inputs, inputs).
        limit: the greatest integer of the grid.
        per_channel: whether each output has a step of its own.

    Returns:
        Steps that broadcast to `weights`.
    """
    axes = 1 if per_channel else (0, 1, 2)
    full = np.maximum(np.abs(weights).max(axes, keepdims=True), _SMALLEST) / limit
    importance = np.einsum("gkk->gk", moments)[..., None]
    importance = importance + 1e-6 * importance.max(initial=_SMALLEST)
    best, lowest = full, np.full(full.shape, np.inf)
    for fraction in CANDIDATES[::-1]:
        step = full * fraction
        rounded = np.clip(np.round(weights / step), -limit, limit) * step
        error = (importance * np.square(rounded - weights)).sum(axes, keepdims=True)
        best, lowest = np.where(error < lowest, step, best), np.minimum(error, lowest)
    return best


def round_adaptively(
    weights: np.ndarray, moments: np.ndarray, steps: np.ndarray, limit: int, fixed: np.ndarray
) -> np.ndarray:
    """The integers q for which the outputs with weights q * steps are nearest to those with `weights`.

    That is the quadratic form of the rounding error in the inputs' second moments. Weights are rounded one
    after the other, those with the strongest inputs first, each passing its error on to those that follow
    (GPTQ); then each is set to the best integer given all others, until none moves.

    Args:
        weights: (groups, inputs, outputs).
        moments: (groups, inputs, inputs).
        steps: broadcast to `weights`.
        limit: the greatest integer.
        fixed: which weights are rounded to the nearest and stay so.

    Returns:
        Integers as floats, of the shape of `weights`.

    Source: Frantar et al., GPTQ, arXiv:2210.17323, algorithm 1; Behdin et al., QuantEase, arXiv:2309.01885,
    algorithm 1; the objective is that of Nagel et al., AdaRound, arXiv:2004.10568, eq. 13.
    """
    size = moments.shape[-1]
    diagonal = np.einsum("gkk->gk", moments)
    damping = DAMPING * diagonal.mean(-1) + _SMALLEST
    moments = moments + np.eye(size) * damping[:, None, None]
    integers = _passing_errors_on(weights, moments, steps, limit, fixed)
    return _descended(weights, moments, steps, limit, fixed, integers)


def _passing_errors_on(weights, moments, steps, limit, fixed) -> np.ndarray:
    order = np.argsort(-np.einsum("gkk->gk", moments), axis=1)
    sorted_moments = np.take_along_axis(moments, order[:, :, None], 1)
    sorted_moments = np.take_along_axis(sorted_moments, order[:, None, :], 2)
    # The upper Cholesky factor of the inverse holds what each weight owes to those after it.
    factors = np.swapaxes(np.linalg.cholesky(np.linalg.inv(sorted_moments)), 1, 2)
    steps = np.broadcast_to(steps, weights.shape)
    rest = np.take_along_axis(weights / steps, order[:, :, None], 1)
    nearest = np.clip(np.round(rest), -limit, limit)
    is_fixed = np.take_along_axis(fixed, order[:, :, None], 1)
    integers = np.empty_like(rest)
    for index in range(rest.shape[1]):
        free = np.clip(np.round(rest[:, index]), -limit, limit)
        integers[:, index] = np.where(is_fixed[:, index], nearest[:, index], free)
        error = (rest[:, index] - integers[:, index]) / factors[:, index, index, None]
        rest[:, index + 1 :] -= factors[:, index, index + 1 :, None] * error[:, None]
    back = np.argsort(order, axis=1)
    return np.take_along_axis(integers, back[:, :, None], 1)


def _descended(weights, moments, steps, limit, fixed, integers) -> np.ndarray:
    levels = weights / steps
    integers = np.where(fixed, np.clip(np.round(levels), -limit, limit), integers)
    slope = moments @ (integers - levels)
    for _ in range(PASSES):
        moved = False
        for index in range(weights.shape[1]):
            best = integers[:, index] - slope[:, index] / moments[:, index, index, None]
            best = np.clip(np.round(best), -limit, limit)
            change = np.where(fixed[:, index], 0.0, best - integers[:, index])
            if change.any():
                moved = True
                integers[:, index] += change
                slope += moments[:, :, index, None] * change[:, None]
        if not moved:
            break
    return integers
