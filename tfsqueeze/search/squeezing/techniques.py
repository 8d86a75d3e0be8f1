"""The techniques that a search composes: what each may be set to, and the recipe's steps it stands for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras

from tfsqueeze.architecture.factorize import factorize
from tfsqueeze.architecture.input_size import with_input_size
from tfsqueeze.architecture.separable import to_separable
from tfsqueeze.clustering.one_shot import cluster
from tfsqueeze.core.data import Examples
from tfsqueeze.pruning.channels.one_shot import prune_channels
from tfsqueeze.pruning.depth import prune_depth
from tfsqueeze.pruning.one_shot import prune
from tfsqueeze.search.squeezing.objectives import QUANTITIES


@dataclass(frozen=True)
class Technique:
    """One dimension of the search that changes weights or layers.

    Attributes:
        name: such as "channels".
        options: what it may be set to; the first leaves the model as it is.
        verb: the recipe's step.
        arguments: of that step, for an option.
        mildest: raises where the technique does not apply to a model.
        serves: what it makes smaller, of the objective's quantities.
        is_sparing: whether it can leave layers alone.
    """

    name: str
    options: tuple
    verb: str
    arguments: Callable[[Any], dict]
    mildest: Callable[[keras.Model, Examples], Any]
    serves: tuple[str, ...] = tuple(QUANTITIES)
    is_sparing: bool = True

    def steps(self, option, spared: Mapping[str, Any]) -> list[dict]:
        """The recipe's steps for an option.

        Args:
            option: one of `options`.
            spared: the argument `select` that leaves layers alone, or nothing.
        """
        if option == self.options[0]:
            return []
        return [{self.verb: {**self.arguments(option), **(spared if self.is_sparing else {})}}]


RESOLUTION = Technique(
    "resolution",
    (1.0, 0.75, 0.5),
    "with_input_size",
    lambda scale: {"size": scale, "keep_input": True},
    lambda model, data: with_input_size(model, 0.5, keep_input=True),
    ("macs", "memory", "latency"),
    is_sparing=False,
)
DEPTH = Technique(
    "depth",
    (0, 1, 2, 3),
    "prune_depth",
    lambda blocks: {"blocks": blocks},
    lambda model, data: prune_depth(model, blocks=1, data=data),
    is_sparing=False,
)
CHANNELS = Technique(
    "channels",
    (1.0, 0.75, 0.5, 0.35, 0.25, 0.15, 0.1, 0.06, 0.04),
    "prune_channels",
    lambda kept: {"macs": kept},
    lambda model, data: prune_channels(model, macs=0.9),
)
SEPARABLE = Technique(
    "separable",
    (False, True),
    "to_separable",
    lambda is_on: {},
    lambda model, data: to_separable(model),
)
LOW_RANK = Technique(
    "low_rank",
    (1.0, 0.7, 0.5, 0.35),
    "factorize",
    lambda kept: {"macs": kept},
    lambda model, data: factorize(model, macs=0.9),
)
PRUNING = Technique(
    "pruning",
    (0.0, 0.5, 0.7, 0.85, 0.93),
    "prune",
    lambda sparsity: {"sparsity": sparsity, "scope": "lamp", "data": None},
    lambda model, data: prune(model, 0.5),
    ("size", "download"),
)
CLUSTERING = Technique(
    "clustering",
    (0, 32, 16, 8),
    "cluster",
    lambda clusters: {"clusters": clusters, "data": None},
    lambda model, data: cluster(model, 32, init="linear"),
    ("download",),
)
#: In the order in which they are applied.
STRUCTURE = (RESOLUTION, DEPTH, CHANNELS, SEPARABLE, LOW_RANK, PRUNING, CLUSTERING)
SPARING = "sparing"
#: How many of the most sensitive layers the others leave alone.
SPARED = (0, 1, 3)
QUANTIZATION = "quantization"
FORMATS = ("int8", "int4", "float16")
INTEGERS = ("int8", "int4")
FLOAT = "float32"
NAMES = (*(technique.name for technique in STRUCTURE), SPARING, QUANTIZATION)
#: What leaves a model as it is, by name.
OFF = {**{technique.name: technique.options[0] for technique in STRUCTURE}, SPARING: 0}
