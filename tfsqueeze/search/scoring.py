"""One number that says how good a model is, from a user's function or from data; higher is better."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from tfsqueeze.core.data import Examples
from tfsqueeze.core.resuming import arrays_digest, setting_text
from tfsqueeze.reporting.metrics import default_metric
from tfsqueeze.reporting.report import EVALUATION_BATCH_SIZE, read_examples, scoring
from tfsqueeze.reporting.subjects import KerasSubject


class Scorer:
    """Scores models, by a function of the user's or by a metric on data.

    Args:
        evaluate: a function `model -> float`, higher being better; or examples with targets in any form
            `model.evaluate` takes. With data, the score is the metric the model was compiled with, else
            accuracy for class targets and mean squared error for others; errors count negative.
        model: the model the data is read for.

    Attributes:
        name: what the score is, such as "accuracy" or "-mean_squared_error".
        examples: the data, or None if `evaluate` is a function.
        identity: text that tells one scoring from another, across runs of the program.

    Raises:
        ValueError: if the data does not fit the model, has no targets, or its metric has no known direction.
    """

    def __init__(self, evaluate: Callable[[keras.Model], float] | Any, model: keras.Model):
        self.examples: Examples | None = None
        if callable(evaluate):
            self.name = getattr(evaluate, "__name__", type(evaluate).__name__).strip("<>")
            self.identity = f"function {setting_text(evaluate)}"
            self._evaluate = evaluate
            return
        self.examples = read_examples(evaluate, KerasSubject(model))
        self._score = scoring(None, [KerasSubject(model)])
        self._directions = _directions(default_metric(model))
        self.name = "score"
        self._evaluate = self._on_data
        digest = arrays_digest([self.examples.inputs, self.examples.targets, self.examples.weights])
        self.identity = f"{len(self.examples)} examples {digest}"

    def __call__(self, model: keras.Model) -> float:
        """The score of `model`, a finite number.

        Raises:
            TypeError: if the user's function returns no number.
            ValueError: if it returns NaN or infinity.
        """
        score = self._evaluate(model)
        value = np.asarray(score) if not isinstance(score, Mapping) else None
        if value is None or value.size != 1 or value.dtype.kind not in "buif":
            raise TypeError(
                "`evaluate` must return one number, higher being better. Received: "
                f"{score!r}. `model.evaluate` returns the loss and the metrics together: return one of "
                "them, such as `model.evaluate(x, y, return_dict=True)['accuracy']`."
            )
        number = float(value.reshape(()))
        if not math.isfinite(number):
            raise ValueError(
                f"`evaluate` must return a finite number. Received: {number}. Where a model is too broken "
                "to be scored, return the worst score there is."
            )
        return number

    def _on_data(self, model) -> float:
        predictions = KerasSubject(model).predict(self.examples, EVALUATION_BATCH_SIZE)
        scores = self._score(predictions, self.examples.targets, weights=self.examples.weights)
        metric, score = one_score(scores, "Pass a function `evaluate(model) -> float` that weighs them.")
        sign = self._sign(metric)
        self.name = metric if sign > 0 else f"-{metric}"
        # Adding 0 turns -0.0 into 0.0.
        return sign * score + 0.0

    def _sign(self, metric: str) -> int:
        direction = self._directions.get(metric) or direction_of(metric)
        if direction is None:
            raise ValueError(
                f"Whether a higher {metric!r} is better is not known. Pass a function "
                "`evaluate(model) -> float` whose result is higher for better models."
            )
        return 1 if direction == "up" else -1


def one_score(scores: Mapping[str, float], remedy: str) -> tuple[str, float]:
    """The metric that all outputs share, and its mean over them.

    Args:
        scores: by "<output> <metric>", or "<metric>" alone.
        remedy: what can be done, for the message.

    Raises:
        ValueError: if they are of several metrics.
    """
    metrics = {name.rsplit(" ", 1)[-1] for name in scores}
    if len(metrics) > 1:
        raise ValueError(
            f"The outputs have different metrics ({', '.join(scores)}), which make no one score. {remedy}"
        )
    return metrics.pop(), sum(scores.values()) / len(scores)


def _directions(default) -> dict[str, str | None]:
    """Keras' own notion of "up" or "down" for the metrics a compiled model names, by metric name."""
    named = [one for one in keras.tree.flatten(default) if isinstance(one, keras.metrics.Metric)]
    return {metric.name: getattr(metric, "_direction", None) for metric in named}


def direction_of(name: str) -> str | None:
    """Keras' own notion of "up" or "down" for a metric's name; None if it has none."""
    try:
        return getattr(keras.metrics.get(name), "_direction", None)
    except (ValueError, TypeError):
        return None
