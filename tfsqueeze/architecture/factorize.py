"""Layers as products of smaller ones, the ranks chosen over the whole model."""

import keras

from tfsqueeze.architecture.choosing import Target, choose, weighed
from tfsqueeze.architecture.form import lost_weight
from tfsqueeze.architecture.forms import METHODS, unsupported
from tfsqueeze.architecture.moments import Moments, input_moments
from tfsqueeze.architecture.nearest import nearest
from tfsqueeze.architecture.ranks import check_rank
from tfsqueeze.architecture.refit import Replacement, check_examples, refit, split
from tfsqueeze.architecture.replacing import Costs, facts, put_in_place
from tfsqueeze.architecture.successors import Names, cannot_be_replaced
from tfsqueeze.core.checks import check_choice, check_graph, check_kept, check_one_target
from tfsqueeze.core.explain import record
from tfsqueeze.core.select import Selection, select_layers, walk


def factorize(
    model: keras.Model,
    *,
    energy: float | None = None,
    rank: int | float | dict | None = None,
    macs: float | None = None,
    params: float | None = None,
    method: str = "auto",
    select=None,
    data=None,
    limit: int = 1024,
    batch_size: int = 128,
    seed: int = 0,
) -> keras.Model:
    """Returns a copy of `model` whose layers are products of smaller ones.

    Dense, EinsumDense and 1x1 convolutions become two of their kind (`<old>_reduce`, `<old>_expand`), an
    Embedding a narrow one and a Dense layer. Convolutions become two along one axis each
    (`<old>_vertical`, `<old>_horizontal`), or one on fewer channels between two 1x1 convolutions
    (`<old>_reduce`, `<old>_core`, `<old>_expand`). Each is the best approximation of its rank. Given data,
    errors count as the inputs make them count, and each chain is then fitted to what the layer gave, from
    what it now receives; batch normalisation is measured anew. Layers stay as they are where nothing
    would get cheaper.

    Give exactly one of `energy`, `rank`, `macs` and `params`.

    Args:
        model: a built Sequential or Functional model, nested ones included; it is not changed.
        energy: fraction of the squared singular values (of the squared outputs, given data) that each layer
            keeps at least, in (0, 1]; each takes the cheapest ranks that do.
        rank: of every layer: a whole number >= 1, or a fraction of the full rank in (0, 1]; or a dict from
            layer names, paths or regular expressions to these. A layer that a dict names is factorized even
            if it gets no cheaper, and may get a pair (channels before, after) for method "tucker". Others
            are left as they are.
        macs: fraction of the model's multiply-accumulates kept at most, in (0, 1]. Ranks go where they cost
            least of what is kept in all, and as many are kept as fit: not one more would. Given data, what
            is kept is measured both of the squared outputs and of the squared weights, and the model is
            returned whose outputs are closer to the original's on held-out examples.
        params: the same for the number of parameters. Embeddings take part in `params`, `energy` and
            `rank`, not in `macs`: looking up costs no multiplication.
        method: how convolutions with a window are taken apart. "spatial": k x 1 then 1 x k. "tucker": 1x1,
            k x k on fewer channels, 1x1. "cp": 1x1, depthwise k x k, 1x1; slow to compute, cheap to run.
            "auto": for each layer "spatial" or "tucker", whichever loses less at its cost; with `rank`,
            "tucker".
        select: layers to work on, see `tfs.Select`; None for all that can be factorized.
        data: some hundreds of typical inputs, labelled or not, in any form `model.fit` takes.
        limit: most examples to use, >= 4.
        batch_size: examples per run of the model, >= 1; it bounds the memory.
        seed: of the positions drawn in images and sequences.

    Returns:
        A new model, compiled as `model` is. `tfs.explain` on it lists per layer form, rank,
        multiply-accumulates and weights before and after, the energy lost by the choice of ranks, the error
        of the kernel and, given data, that of the outputs (on held-out examples, relative to their
        variance) before and after the fit; and why other layers were skipped.

    Raises:
        ValueError: if not exactly one target is given, it is out of range or out of reach (the message says
            how far it goes), nothing is selected, a layer named exactly cannot be factorized, or the data
            do not fit.
        UnsupportedModelError: for a subclassed model, which has no graph.

    Example:
        >>> small = tfs.factorize(model, macs=0.5, data=x_train[:512])
        >>> small.fit(x_train, y_train, epochs=5)

    Source: Jaderberg et al., arXiv:1405.3866 (spatial); Kim et al., arXiv:1511.06530 (Tucker); Lebedev et
    al., arXiv:1412.6553 (CP); Zhang et al., arXiv:1505.06798 (ranks of the whole model, fit to outputs);
    Wang et al., SVD-LLM, arXiv:2403.07378 (weighted by activations); Lan et al., ALBERT, arXiv:1909.11942
    (embeddings).
    """
    check_graph(model, "factorize()")
    check_choice("method", method, METHODS)
    target = _target(energy, rank, macs, params)
    if target.name == "rank" and method == "auto":
        method = "tucker"
    examples = check_examples(model, data, limit)
    selection, costs = _select(model, select, method, target), Costs(model)
    settings = {"batch_size": batch_size, "seed": seed}
    moments: dict[int, Moments] = {}
    if examples is not None:
        fitted, held_out = split(examples, batch_size)
        moments = input_moments(model, [named.layer for named in selection.chosen], fitted, seed=seed)
    plans = [choose(model, selection, costs, target, method, moments)]
    if moments and target.name in ("macs", "params"):
        plans += _plan_by_weights(model, selection, costs, target, method, moments, plans[0])
    means = {key: found.mean for key, found in moments.items() if found.mean is not None}
    built = [_built(model, chosen, means, examples, settings) for chosen, _ in plans]
    best = 0
    if len(plans) > 1:
        best = nearest(model, [changed for changed, *_ in built], held_out)
    (changed, replacements, errors), (chosen, skipped) = built[best], plans[best]
    after = Costs(changed)
    done = {
        replacement.path: {
            "form": choice.form.name,
            "rank": "x".join(map(str, choice.ranks)),
            **facts(replacement, costs, after, errors),
            "energy_lost": round(choice.lost, 6),
        }
        for replacement, (_, choice) in zip(replacements, chosen, strict=True)
    }
    return record(changed, "factorize", done, skipped)


def _target(energy, rank, macs, params) -> Target:
    choices = "`energy`, `rank`, `macs` or `params` (the fraction kept)"
    name, value = check_one_target(choices, energy=energy, rank=rank, macs=macs, params=params)
    return Target(name, check_rank(value) if name == "rank" else check_kept(name, value))


def _select(model, select, method, target) -> Selection:
    places = {id(named.layer): cannot_be_replaced(named) for named in walk(model)}

    def reason(layer):
        return unsupported(layer, method) or places[id(layer)]

    selection = select_layers(model, select, reason)
    if not isinstance(target.value, dict):
        return selection
    wanted = {id(named.layer) for named in select_layers(model, list(target.value), reason).chosen}
    others = {named.path: "no rank given" for named in selection.chosen if id(named.layer) not in wanted}
    chosen = [named for named in selection.chosen if named.path not in others]
    return Selection(chosen, selection.skipped | others)


def _plan_by_weights(model, selection, costs, target, method, moments, plan) -> list:
    """Ranks by the weights alone, unless they are those of `plan`.

    How much a layer's error matters to the outputs neither tells: few examples overrate what they have in
    common, and layers that follow may put an error right. So both are tried.
    """
    chosen, skipped = choose(model, selection, costs, target, method, {})
    if _ranks(chosen) == _ranks(plan[0]):
        return []
    return [(weighed(chosen, method, moments), skipped)]


def _ranks(chosen) -> list[tuple]:
    return [(named.path, choice.form.name, choice.ranks) for named, choice in chosen]


def _built(model, chosen, means, examples, settings) -> tuple[keras.Model, list[Replacement], dict]:
    """The model with chains in place, fitted where there are examples; what replaced what; and errors."""
    names = Names(model)
    replacements = [_replacement(named, choice, names) for named, choice in chosen]
    changed = put_in_place(model, replacements, names, means)
    errors = {}
    if examples is not None and replacements:
        errors = refit(model, changed, replacements, examples, **settings)
    return changed, replacements, errors


def _replacement(named, choice, names) -> Replacement:
    kernels = choice.form.kernels(choice.ranks)
    error = lost_weight(choice.form, kernels)
    chain = choice.form.layers(choice.ranks, names)
    return Replacement(named.path, named.layer, choice.form, kernels, error, chain)
