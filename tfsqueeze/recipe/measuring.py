"""What a model or a file costs and scores after a step."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from tfsqueeze.core.data import Examples
from tfsqueeze.recipe.result import StepResult
from tfsqueeze.recipe.run_data import fitted
from tfsqueeze.reporting.report import make_report, scoring
from tfsqueeze.reporting.subjects import KerasSubject, open_subject


class Measure:
    """Measures after each step, with one metric for all of them.

    Args:
        original: the model a recipe begins with; without `metric`, what it was compiled with is measured.
        validation: examples with targets; None for no scores.
        metric: as in `tfs.report`.
    """

    def __init__(self, original: keras.Model, validation: Examples | None, metric: Any = None):
        self._validation = validation
        self._score = scoring(metric, [KerasSubject(original)])

    def __call__(self, result: StepResult, model: keras.Model, subject: keras.Model | Path) -> StepResult:
        """The result with parameters, MACs and scores of `subject`, the model or a file made of it."""
        is_file = isinstance(subject, Path)
        if is_file and subject.suffix != ".tflite":
            return replace(result, parameters=model.count_params())
        examples = None if self._validation is None else fitted(model, self._validation)
        report = make_report("", open_subject(subject), examples, self._score, None)
        return replace(
            result, parameters=report.facts.parameters, macs=report.facts.macs, metrics=report.metrics
        )
