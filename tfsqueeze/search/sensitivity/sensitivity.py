"""`sensitivity`: how much each layer's pruning costs, measured one layer at a time."""

import itertools
import math
import numbers
from collections.abc import Callable, Iterable
from typing import Any

import keras

from tfsqueeze.core.checks import check_fraction, check_model
from tfsqueeze.core.resuming import setting_text, weights_digest
from tfsqueeze.core.rewrite import rewrite
from tfsqueeze.core.targets import Target
from tfsqueeze.pruning import evidence
from tfsqueeze.pruning.masks import MaskRule
from tfsqueeze.pruning.targets import find_targets
from tfsqueeze.search.scoring import Scorer
from tfsqueeze.search.sensitivity.result import Sensitivity
from tfsqueeze.search.sensitivity.storage import ScoreFile

BASELINE = ("", 0.0)


def sensitivity(
    model: keras.Model,
    evaluate: Callable[[keras.Model], float] | Any,
    *,
    sparsities: Iterable[float] = (0.5, 0.7, 0.8, 0.9, 0.95),
    criterion="magnitude",
    pattern="unstructured",
    select=None,
    storage=None,
    progress: bool = True,
) -> Sensitivity:
    """Measures how the score falls when one layer at a time is pruned.

    Every layer that can be pruned is pruned alone to each sparsity, the model is scored, and its weights
    are put back exactly. All of it happens on a copy. The result tells which layers are fragile, and gives
    a distribution of sparsities over layers that costs least (`Sensitivity.budget`).

    Args:
        model: any built `keras.Model`; it is not changed.
        evaluate: a function `model -> float`, higher being better (return a loss or an error negated).
            It is called once per layer and sparsity, so that a thousand examples or fewer are a good
            measure. It may train the model for a moment: all weights are put back after every call. Or
            labelled examples in any form `model.evaluate` takes: the score is then the metric the model was
            compiled with, else accuracy or mean squared error; errors count negative.
        sparsities: fractions of zeros in (0, 1) to try. A budget guesses beyond the largest.
        criterion, pattern: as in `tfs.prune`. The criteria that use gradients need labelled examples as
            `evaluate`.
        select: layers to try, see `tfs.Select`; None for those that `tfs.prune` would prune.
        storage: a `.json` file that keeps every score as it is measured, or None. Called again with it, the
            function goes on where it was stopped and repeats nothing; further sparsities or layers are added.
        progress: whether to show a progress bar.

    Returns:
        A `Sensitivity`. Print it for a table.

    Raises:
        TypeError: if `model` is no Keras model or `evaluate` returns no number.
        ValueError: if a sparsity is out of range or of the pattern's reach, nothing is selected, data lacks
            targets, `evaluate` returns NaN, or `storage` belongs to other work.

    Example:
        >>> found = tfs.sensitivity(model, (x_validation, y_validation), storage="sensitivity.json")
        >>> print(found)
        >>> small = tfs.prune(model, 0.9, scope=found.budget(0.9))

    Source: Li et al., Pruning Filters for Efficient ConvNets, arXiv:1608.08710, section 3.2; Han et al.,
    arXiv:1506.02626, section 3.5.
    """
    check_model(model, "sensitivity()")
    levels = _levels(sparsities)
    rule = MaskRule(criterion, pattern, "layer")
    twin = rewrite(model)
    scorer = Scorer(evaluate, twin)
    targets, skipped = find_targets(twin, select, rule.misfit)
    probe = _Probe(twin, targets, rule, scorer)
    probe.check(levels[-1])
    settings = {
        "model": weights_digest(model),
        "criterion": setting_text(criterion),
        "pattern": setting_text(rule.pattern),
        "evaluate": scorer.identity,
    }
    file = ScoreFile(storage, settings)
    _measure(probe, [BASELINE, *itertools.product(probe.layers, levels)], file, progress)
    return Sensitivity(
        baseline=file[BASELINE],
        scores={layer: {level: file[layer, level] for level in levels} for layer in probe.layers},
        weights={
            layer: sum(math.prod(target.variable.shape) for target in group)
            for layer, group in probe.layers.items()
        },
        metric=file.metric,
        skipped=skipped,
        max_sparsity=rule.pattern.max_sparsity,
    )


class _Probe:
    """Scores a model with one layer pruned, and puts all its weights back."""

    def __init__(self, model, targets: list[Target], rule: MaskRule, scorer: Scorer):
        self.layers: dict[str, list[Target]] = {}
        for target in targets:
            self.layers.setdefault(target.path.rsplit("/", 1)[0], []).append(target)
        self._model, self._rule, self._scorer = model, rule, scorer
        self._weights = [variable.numpy() for variable in model.weights]
        self._evidence = self._all_evidence(targets)

    def check(self, sparsity: float) -> None:
        """Raises now what masks would raise after hours: NaN, or a sparsity beyond the pattern's reach."""
        for layer in self.layers:
            self._masks(layer, sparsity)

    def score(self, layer: str, sparsity: float) -> float:
        """The score with `layer` alone pruned to `sparsity`."""
        if sparsity:
            for target, mask in zip(self.layers[layer], self._masks(layer, sparsity), strict=True):
                target.variable.assign(target.variable.numpy() * mask)
        try:
            return self._scorer(self._model)
        finally:
            for variable, value in zip(self._model.weights, self._weights, strict=True):
                variable.assign(value)

    @property
    def metric(self) -> str:
        """What the score is."""
        return self._scorer.name

    def _masks(self, layer, sparsity):
        targets = self.layers[layer]
        seen = [self._evidence.get(target.path) for target in targets]
        return self._rule.masks(targets, sparsity, seen)

    def _all_evidence(self, targets) -> dict:
        kind, examples = self._rule.evidence, self._scorer.examples
        if kind is None:
            return {}
        if kind in evidence.FROM_LOSS and examples is None:
            raise ValueError(
                f"criterion={self._rule.criterion!r} needs labelled examples: pass data, such as (x, y), as "
                "`evaluate`, or choose a criterion that looks at the weights alone. Received: a function."
            )
        seen = evidence.from_data(kind, self._model, targets, examples)
        return {target.path: values for target, values in zip(targets, seen, strict=True)}


def _measure(probe: _Probe, keys: list[tuple[str, float]], file: ScoreFile, progress: bool) -> None:
    """Scores what the file does not hold yet; an interruption loses the evaluation it falls in."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    missing = [key for key in keys if key not in file]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not progress) as bar:
        task = bar.add_task("sensitivity", total=len(keys), completed=len(keys) - len(missing))
        for layer, sparsity in missing:
            bar.update(task, description=f"{layer} at {sparsity:g}" if layer else "unpruned")
            file.add((layer, sparsity), probe.score(layer, sparsity), probe.metric)
            bar.advance(task)
        bar.update(task, description="sensitivity")


def _levels(sparsities) -> list[float]:
    listed = [sparsities] if isinstance(sparsities, numbers.Real) else list(sparsities)
    levels = sorted({check_fraction("sparsities", level) for level in listed} - {0.0})
    if not levels:
        raise ValueError(f"`sparsities` must name fractions of zeros in (0, 1). Received: {sparsities!r}.")
    return levels
