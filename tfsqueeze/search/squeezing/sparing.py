"""Which layers a search may leave alone: those whose pruning costs most of the score."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras

from tfsqueeze.search.sensitivity.sensitivity import sensitivity
from tfsqueeze.search.squeezing.paired_test import Judge
from tfsqueeze.search.squeezing.repertoire import Repertoire, first_line
from tfsqueeze.search.squeezing.techniques import SPARING

SPARSITIES = (0.7, 0.9)
FEWEST, MOST = 16, 256
#: Multiply-accumulates that the whole measurement may take: some seconds of one core.
MACS = 2e11


def with_sensitive_layers(
    repertoire: Repertoire,
    model: keras.Model,
    judge: Judge,
    macs: int | None,
    wanted: Sequence[str] | None,
    output: Path,
) -> Repertoire:
    """The repertoire with the layers that it may leave alone, measured once and kept in `sensitivity.json`.

    Args:
        repertoire: the techniques.
        model: what is to be squeezed.
        judge: scores models on its first examples.
        macs: multiply-accumulates of the model for one example, or None if that is not known.
        wanted: names of techniques; None for all.
        output: the folder of the search.
    """
    if not repertoire.can_spare:
        return repertoire
    if wanted is not None and SPARING not in wanted:
        return replace(repertoire, skipped={**repertoire.skipped, SPARING: "not asked for"})
    count = examples_to_use(model, macs)
    try:
        found = sensitivity(
            model,
            lambda pruned: judge.score(pruned, count),
            sparsities=SPARSITIES,
            storage=output / "sensitivity.json",
            progress=False,
        )
    except (ValueError, TypeError) as error:
        return replace(repertoire, skipped={**repertoire.skipped, SPARING: first_line(error)})
    return replace(repertoire, sensitive=tuple(found.most_sensitive()))


def examples_to_use(model: keras.Model, macs: int | None) -> int:
    """How many examples the layers are compared on, fewer for large models."""
    runs = len(SPARSITIES) * len([layer for layer in model._flatten_layers() if layer.trainable_variables])
    affordable = int(MACS / max(runs * (macs or 1), 1))
    return min(max(affordable, FEWEST), MOST)
