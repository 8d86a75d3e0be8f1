"""Which form each layer takes, at which ranks."""

import numbers
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import layers

from tfsqueeze.architecture.allocation import Ladders, allocate, cheapest_within
from tfsqueeze.architecture.form import Choice, choices, united
from tfsqueeze.architecture.forms import forms
from tfsqueeze.architecture.moments import Moments
from tfsqueeze.architecture.ranks import absolute_ranks, rank_of
from tfsqueeze.architecture.replacing import Costs, kernel_params
from tfsqueeze.core.select import NamedLayer, Selection

LOOKED_UP = "looked up, not multiplied: only `params`, `energy` and `rank` shrink it"


@dataclass(frozen=True)
class Target:
    """How small: "energy", "rank", "macs" or "params", with its value."""

    name: str
    value: Any

    def measure(self, layer: keras.Layer) -> str:
        """The cost of a layer that the target is about."""
        is_looked_up = isinstance(layer, layers.Embedding)
        return "params" if self.name == "params" or is_looked_up else "macs"


def choose(
    model: keras.Model,
    selection: Selection,
    costs: Costs,
    target: Target,
    method: str,
    moments: dict[int, Moments],
) -> tuple[list[tuple[NamedLayer, Choice]], dict[str, str]]:
    """A form and ranks for each layer that becomes cheaper, and by path why the others do not.

    Args:
        model: the model.
        selection: the layers to work on.
        costs: of the model.
        target: how small.
        method: how convolutions are taken apart.
        moments: of what layers receive, by their ids; empty without data.

    Raises:
        ValueError: if the target is out of reach, or a rank out of range.
    """
    offers = []
    skipped = dict(selection.skipped)
    for named in selection.chosen:
        if isinstance(named.layer, layers.Embedding) and target.name == "macs":
            skipped[named.path] = LOOKED_UP
        else:
            offers.append(_Offer(named, target, method, moments.get(id(named.layer)), costs))
    if target.name == "rank":
        chosen = _at_rank(offers, target.value)
    else:
        ladders = {offer.named.path: offer.ladder() for offer in offers}
        if target.name == "energy":
            found = {
                o.named.path: cheapest_within(ladders[o.named.path], target.value, o.measure) for o in offers
            }
        else:
            total = costs.total if target.name == "macs" else model.count_params()
            found = _within(model, ladders, total, target)
        chosen = [(offer.named, found[offer.named.path]) for offer in offers]
    reason = {"energy": f"to keep {target.value} of its energy", "rank": "at this rank"}
    reason = f"cheapest as it is {reason.get(target.name, 'for this target')}"
    skipped |= {named.path: reason for named, choice in chosen if choice.form is None}
    return [(named, choice) for named, choice in chosen if choice.form is not None], skipped


def weighed(
    chosen: list[tuple[NamedLayer, Choice]], method: str, moments: dict[int, Moments]
) -> list[tuple[NamedLayer, Choice]]:
    """The same forms and ranks, the kernels now those that are best for what the layers receive.

    Args:
        chosen: what `choose` returned without moments.
        method: how convolutions are taken apart.
        moments: of what layers receive, by their ids.
    """
    found = []
    for named, choice in chosen:
        offered = forms(named.layer, method, moments.get(id(named.layer)))
        form = next(form for form in offered if form.name == choice.form.name)
        lost = float(form.lost(np.array([choice.ranks]))[0])
        found.append((named, replace(choice, form=form, lost=lost)))
    return found


class _Offer:
    """What one layer can become."""

    def __init__(self, named: NamedLayer, target: Target, method, moments, costs: Costs):
        layer = named.layer
        self.named, self.measure = named, target.measure(layer)
        self.whole = Choice(None, (), costs.macs(layer), kernel_params(layer), 0.0)
        self.forms = forms(layer, method, moments)
        self._positions = costs.positions(layer)

    def ladder(self) -> list[Choice]:
        """All choices worth having, the layer as it is the first of them."""
        every = [choice for form in self.forms for choice in choices(form, self._positions, self.measure)]
        return united([self.whole, *every], self.measure)

    def at(self, rank, *, is_exact: bool) -> Choice:
        """The choice at a rank; the layer as it is if that costs no more and need not be."""
        form = self.forms[-1]
        ranks = absolute_ranks(form, rank, self.named.path, is_exact=is_exact)
        (found,) = choices(form, self._positions, self.measure, np.array([ranks]))
        is_cheaper = getattr(found, self.measure) < getattr(self.whole, self.measure)
        return found if is_exact or is_cheaper else self.whole


def _at_rank(offers: list[_Offer], rank) -> list[tuple[NamedLayer, Choice]]:
    is_exact = isinstance(rank, dict)
    most = max((max(form.full_ranks) for offer in offers for form in offer.forms), default=0)
    if isinstance(rank, numbers.Integral) and rank > most:
        raise ValueError(f"`rank` must be at most {most}, the largest full rank. Received: rank={rank}.")
    return [(offer.named, offer.at(rank_of(rank, offer.named), is_exact=is_exact)) for offer in offers]


def _within(model, ladders: Ladders, total: int, target: Target) -> dict[str, Choice]:
    def cost(choice):
        return getattr(choice, target.name)

    others = total - sum(cost(ladder[0]) for ladder in ladders.values())
    found = allocate(ladders, int(target.value * total * (1 + 1e-9)) - others, target.name)
    if found is None:
        reach = (others + sum(cost(ladder[-1]) for ladder in ladders.values())) / total
        raise ValueError(
            f"`{target.name}`={target.value:g} cannot be reached: with all ranks 1 it goes as far as "
            f"{reach:.4f} in model {model.name!r}. Ask for less, select more layers, or remove channels with "
            "prune_channels()."
        )
    return found
