"""By how much a file scores worse than another on the same examples, with the error of that estimate."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import keras
import numpy as np

from tfsqueeze.core.data import Examples
from tfsqueeze.reporting.metrics import hits, is_classification
from tfsqueeze.reporting.report import EVALUATION_BATCH_SIZE, scoring
from tfsqueeze.reporting.subjects import KerasSubject, open_subject
from tfsqueeze.search.scoring import direction_of, one_score

RESAMPLES = 300


@dataclass(frozen=True)
class Verdict:
    """How a file compares with the baseline's file on the same examples.

    Attributes:
        score: the metric of the file.
        drop: by how much it is worse: in the metric's unit where higher is better, as a fraction of the
            baseline's where lower is better. Negative where it is better.
        upper: what the drop does not exceed, with the confidence asked for.
        is_within: whether that is at most the drop allowed.
        examples: how many examples were compared.
    """

    score: float
    drop: float
    upper: float
    is_within: bool
    examples: int


class Judge:
    """Compares files with a baseline's file, example by example.

    Accuracy is judged by McNemar's idea: only examples that one of the two gets right and the other wrong
    count, and their difference is nearly normal (with half an example added to either count, as Agresti and
    Min do, so that few such examples do not pass for certainty). Other metrics are judged by a paired
    bootstrap: both files are scored on the same resampled examples.

    Args:
        baseline: the baseline's `.tflite` file.
        model: the model it was made of; without `metric` what it was compiled with is measured.
        examples: with targets, in random order.
        metric: as in `tfs.report`; of a function, higher is better.
        max_drop: the drop allowed.
        confidence: that a file within the allowed drop is so beyond chance, one-sided, in [0.5, 1).

    Raises:
        ValueError: if several metrics are measured, or the direction of one is unknown.

    Source: McNemar, Psychometrika 12, 1947; Agresti & Min, Statistics in Medicine 23, 2004; Efron, Annals of
        Statistics 7, 1979.
    """

    def __init__(
        self,
        baseline,
        model: keras.Model,
        examples: Examples,
        metric: Any,
        max_drop: float,
        confidence: float,
    ):
        self._examples, self._max_drop, self._confidence = examples, max_drop, confidence
        self._score = scoring(metric, [KerasSubject(model)])
        self._expected = self._predict(baseline, examples)
        self.metric, self.baseline = self._scored(self._expected, examples)
        self.higher_is_better = _is_higher_better(metric, self.metric)

    def __len__(self) -> int:
        return len(self._examples)

    @property
    def is_accuracy(self) -> bool:
        """Whether the metric is a mean of hits, for which no resampling is needed."""
        return self.metric == "accuracy" and len(self._expected) == 1

    def drops(self, path, counts: Iterable[int]) -> Iterator[float]:
        """The drops of a file on the first examples, for rising counts; each example is predicted once."""
        subject = open_subject(path)
        given: dict[str, np.ndarray] = {}
        done = 0
        for count in counts:
            more = subject.predict(self._examples[done:count], EVALUATION_BATCH_SIZE)
            given = {n: np.concatenate([given[n], v]) if done else v for n, v in more.items()}
            done = count
            part = self._examples[:count]
            expected = {name: values[:count] for name, values in self._expected.items()}
            yield self._drop(*(self._scored(values, part)[1] for values in (expected, given)))

    def score(self, path, count: int) -> float:
        """The metric of a file or model on the first examples, negated where lower is better."""
        part = self._examples[:count]
        score = self._scored(self._predict(path, part), part)[1]
        return score if self.higher_is_better else -score

    def verdict(self, path) -> Verdict:
        """Judges a file or model on all examples."""
        given = self._predict(path, self._examples)
        score = self._scored(given, self._examples)[1]
        drop = self._drop(self.baseline, score)
        upper = self._upper_of_hits if self.is_accuracy else self._upper_by_bootstrap
        bound = max(upper(given), drop)
        return Verdict(score, drop, bound, bound <= self._max_drop, len(self))

    def check(self) -> None:
        """Raises ValueError if the baseline is no better than chance, or the examples are too few."""
        needed = math.ceil(self._quantile**2 / max(self._max_drop, 1e-3))
        if self.is_accuracy and len(self) < needed:
            raise ValueError(
                f"The validation data is too small to tell a drop of {self._max_drop:g}: at least {needed} "
                f"examples are needed. Received: {len(self)}. Give more, or allow a greater `max_drop`."
            )
        target = keras.tree.flatten(self._examples.targets)[0]
        if not self.is_accuracy or not is_classification(target, next(iter(self._expected.values()))):
            return
        classes = target.argmax(-1) if target.shape == next(iter(self._expected.values())).shape else target
        most_frequent = np.unique(classes, return_counts=True)[1].max() / classes.size
        error = math.sqrt(most_frequent * (1 - most_frequent) / len(self))
        if self.baseline <= most_frequent + error:
            raise ValueError(
                f"The model is no better than chance: its file has an accuracy of {self.baseline:.3f}, "
                f"always naming the most frequent class one of {most_frequent:.3f}. Train it first, and "
                "check that the validation data is scaled as in training."
            )

    @property
    def _quantile(self) -> float:
        return NormalDist().inv_cdf(self._confidence)

    def _predict(self, path, examples) -> dict[str, np.ndarray]:
        return open_subject(path).predict(examples, EVALUATION_BATCH_SIZE)

    def _scored(self, predictions, examples) -> tuple[str, float]:
        scores = self._score(predictions, examples.targets, weights=examples.weights)
        return one_score(scores, "Give `metric`: a metric for the output that matters, by its name.")

    def _drop(self, expected: float, given: float) -> float:
        if self.higher_is_better:
            return expected - given
        return (given - expected) / max(abs(expected), 1e-12)

    def _upper_of_hits(self, given) -> float:
        target = keras.tree.flatten(self._examples.targets)[0]
        pair = (next(iter(predictions.values())) for predictions in (self._expected, given))
        before, after = (hits(target, values).reshape(len(target), -1) for values in pair)
        loss = np.nanmean(before - after, axis=1)
        count = len(loss)
        squares = np.sum(np.square(loss)) + 1 - np.square(np.sum(loss)) / count
        return float(np.mean(loss) + self._quantile * math.sqrt(max(squares, 0.0)) / count)

    def _upper_by_bootstrap(self, given) -> float:
        rng = np.random.default_rng(0)
        drops = []
        for _ in range(RESAMPLES):
            rows = rng.integers(0, len(self), len(self))
            pair = ({name: v[rows] for name, v in p.items()} for p in (self._expected, given))
            part = self._examples[rows]
            drops.append(self._drop(*(self._scored(predictions, part)[1] for predictions in pair)))
        return float(np.quantile(drops, self._confidence))


def _is_higher_better(metric: str | Callable | Any, name: str) -> bool:
    if isinstance(metric, keras.metrics.Metric):
        direction = getattr(metric, "_direction", None)
    elif callable(metric):
        direction = "up"
    else:
        direction = direction_of(name)
    if direction is None:
        raise ValueError(
            f"Whether a higher {name!r} is better is not known. Give `metric` as a function "
            "`(y_true, y_pred) -> float` whose result is higher for better predictions."
        )
    return direction == "up"
