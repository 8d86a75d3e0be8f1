"""Lottery tickets: sparse subnetworks that train as well as the whole, found by pruning and rewinding."""

import inspect
import numbers

import keras
import numpy as np

from tfsqueeze.core.checks import check_count, check_fraction, check_model
from tfsqueeze.core.resuming import weights_digest
from tfsqueeze.pruning.ticket import Ticket
from tfsqueeze.pruning.ticket_search import KernelChoice, TicketSearch, Train, copy_of
from tfsqueeze.pruning.ticket_storage import TicketFolder


def find_ticket(
    model: keras.Model,
    train: Train,
    *,
    sparsity: float = 0.9,
    rounds: int = 5,
    rewind=None,
    criterion="magnitude",
    pattern="unstructured",
    scope="global",
    select=None,
    data=None,
    storage=None,
) -> Ticket:
    """Finds a lottery ticket by iterative magnitude pruning with rewinding.

    The model is trained dense; then, `rounds` times, a part of the living weights is pruned, all others
    are put back to what they were early in training, and the sparser model is trained again. The living
    weights fall by the same factor in each round. `train` runs `rounds` + 1 times, each time on a new copy.

    Args:
        model: a built, untrained `keras.Model`; its present weights are the initial ones. It is not changed.
        train: `train(model, callbacks)` compiles (copies of a compiled model are compiled already) and fits
            the model it is given, passing `callbacks` to `model.fit`: they keep pruned weights at zero. What
            it returns goes to the history: a `History` (its last epoch), a number, a dict of numbers or None.
        sparsity: the ticket's fraction of zeros over the pruned kernels, in [0, 1).
        rounds: how often to prune, >= 1. More rounds find better tickets.
        rewind: where living weights, and all other variables, are put back to. None: the initial weights.
            A number of optimizer steps: the weights after as many steps of the dense training (late
            rewinding, which larger networks need; 0.1 % to 7 % of the training in the paper). A function
            `early(model)` that trains a copy up to that point. A list of arrays as of `get_weights()`, or a
            model, with the weights themselves.
        criterion, pattern, scope, select, data: as in `tfs.prune`, applied to the trained weights. A map of
            sparsities as `scope` is approached round by round as well.
        storage: a folder that keeps the state after every training, or None. Called again with it, the
            function goes on after the last finished training. The initial weights are kept there too
            ("initial.weights.h5"), for a program that cannot make them again.

    Returns:
        A `Ticket`: `.model` (rewound, untrained), `.trained`, `.masks`, `.history`, `.control(seed)`.

    Raises:
        TypeError: if `model` is no Keras model, or `train` cannot be called as `train(model, callbacks)`.
        ValueError: if an argument is out of range, nothing is selected, `train` let pruned weights live
            again or never reached `rewind` steps, or `storage` belongs to other work.

    Example:
        >>> def train(model, callbacks):
        ...     model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        ...     return model.fit(x, y, epochs=10, validation_data=held_out, callbacks=callbacks)
        >>> ticket = tfs.find_ticket(model, train, sparsity=0.9, rewind=200)
        >>> control = ticket.control(seed=1)
        >>> control_history = train(control, [tfs.PruningCallback()])

    Source: Frankle & Carbin, The Lottery Ticket Hypothesis, arXiv:1803.03635; Frankle et al., Stabilizing
    the Lottery Ticket Hypothesis, arXiv:1903.01611 (late rewinding).
    """
    check_model(model, "find_ticket()")
    sparsity = check_fraction("sparsity", sparsity)
    check_count("rounds", rounds)
    _check_train(train)
    rewind = _checked_rewind(rewind, model)
    choice = KernelChoice(criterion, pattern, scope, select, data)
    search = TicketSearch(copy_of(model), train, choice, rewind, sparsity, rounds)
    folder = TicketFolder(storage, {"model": weights_digest(model), **search.settings()})
    state = folder.read()
    if state is None:
        folder.begin(model)
        state = search.begin()
    student = None
    while len(state.history) <= rounds:
        student = search.train_next(state)
        folder.write(state)
    return search.ticket(state, student)


def _check_train(train) -> None:
    try:
        inspect.signature(train).bind(None, [])
    except TypeError as error:
        raise TypeError(
            "`train` must be a function that can be called as train(model, callbacks). "
            f"Received: {train!r} ({error})."
        ) from error
    except ValueError:
        # Built-in callables have no signature to look at.
        pass


def _checked_rewind(rewind, model):
    """None, a number of steps, a function, or a list of arrays that fit the model's weights."""
    if isinstance(rewind, keras.Model):
        rewind = rewind.get_weights()
    if rewind is None or callable(rewind):
        return rewind
    if isinstance(rewind, numbers.Integral) and not isinstance(rewind, bool) and rewind >= 1:
        return int(rewind)
    if not isinstance(rewind, (list, tuple)):
        raise ValueError(
            "`rewind` must be None, a number of optimizer steps >= 1, a function early(model), a list of "
            f"arrays as of model.get_weights(), or a model. Received: rewind={rewind!r}."
        )
    shapes, expected = [np.shape(value) for value in rewind], [tuple(w.shape) for w in model.weights]
    if shapes != expected:
        raise ValueError(
            f"The weights in `rewind` do not fit model {model.name!r}: it has arrays of shapes {expected}. "
            f"Received shapes: {shapes}."
        )
    return [np.asarray(value) for value in rewind]
