"""The judgement of a file: drops and their bounds, on the same examples as the baseline."""

import keras
import numpy as np
import pytest

from tfsqueeze.core.data import Examples
from tfsqueeze.search.squeezing.paired_test import Judge

COUNT = 200


class Undirected(keras.metrics.MeanSquaredError):
    """A metric that does not tell which way is better."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._direction = None


def picking(columns, width):
    """A model that returns some of its inputs, so that an example holds the predictions of two models."""
    image = keras.Input((width,), name="x")
    layer = keras.layers.Dense(len(columns), use_bias=False)
    model = keras.Model(image, layer(image))
    kernel = np.zeros((width, len(columns)), "float32")
    kernel[list(columns), range(len(columns))] = 1
    layer.set_weights([kernel])
    return model


def judged(first, second, targets, metric, max_drop=0.02, confidence=0.9):
    """A judge whose baseline predicts `first`, and a model that predicts `second`."""
    first, second = (np.asarray(values, "float32").reshape(len(targets), -1) for values in (first, second))
    half, width = first.shape[1], 2 * first.shape[1]
    examples = Examples({"x": np.concatenate([first, second], 1)}, np.asarray(targets))
    before = picking(range(half), width)
    judge = Judge(before, before, examples, metric, max_drop, confidence)
    return judge, picking(range(half, width), width)


def one_hot(classes):
    return np.eye(3)[classes]


def test_equal_files_have_no_drop_but_a_bound():
    classes = np.arange(COUNT) % 3
    judge, other = judged(one_hot(classes), one_hot(classes), classes, "accuracy")
    verdict = judge.verdict(other)
    assert (verdict.score, verdict.drop, verdict.examples) == (1.0, 0.0, COUNT)
    assert verdict.upper == pytest.approx(1.2816 / COUNT, rel=1e-3)
    assert verdict.is_within


def test_only_examples_that_one_gets_right_count():
    classes = np.arange(COUNT) % 3
    before, after = classes.copy(), classes.copy()
    before[:40] = (classes[:40] + 1) % 3
    after[:43] = (classes[:43] + 1) % 3
    after[0] = classes[0]
    judge, other = judged(one_hot(before), one_hot(after), classes, "accuracy")
    verdict = judge.verdict(other)
    assert verdict.drop == pytest.approx(2 / COUNT)
    expected = 2 / COUNT + 1.2816 * np.sqrt(4 + 1 - 4 / COUNT) / COUNT
    assert verdict.upper == pytest.approx(expected, rel=1e-3)
    assert not verdict.is_within
    assert judged(one_hot(before), one_hot(after), classes, "accuracy", 0.03)[0].verdict(other).is_within
    assert list(judge.drops(other, [10, 20]))[-1] == pytest.approx(-1 / 20)


def test_of_errors_the_drop_is_the_relative_rise():
    rng = np.random.default_rng(0)
    targets = rng.normal(size=COUNT).astype("float32")
    noise = rng.normal(size=COUNT)
    judge, other = judged(targets + noise, targets + 1.1 * noise, targets, "mean_squared_error", 0.3)
    verdict = judge.verdict(other)
    assert not judge.higher_is_better
    assert verdict.drop == pytest.approx(0.21, rel=1e-3)
    assert 0.2 < verdict.upper < 0.3
    assert verdict.is_within


def test_of_functions_higher_is_better():
    targets = np.linspace(0, 1, COUNT)
    judge, other = judged(
        targets, targets - 0.1, targets, lambda true, given: -float(np.abs(true - given[:, 0]).mean())
    )
    assert judge.verdict(other).drop == pytest.approx(0.1, rel=1e-3)
    with pytest.raises(ValueError, match=r"Whether a higher .* is better is not known"):
        judged(targets, targets, targets, Undirected())


def test_a_baseline_at_chance_and_too_few_examples_are_told():
    classes = np.arange(COUNT) % 3
    judge, _ = judged(one_hot(np.zeros(COUNT, int)), one_hot(classes), classes, "accuracy")
    with pytest.raises(ValueError, match=r"no better than chance: its file has an accuracy of 0.33"):
        judge.check()
    good, _ = judged(one_hot(classes), one_hot(classes), classes, "accuracy", 0.001)
    with pytest.raises(ValueError, match=r"at least 1643 examples are needed\. Received: 200"):
        good.check()
    judged(one_hot(classes), one_hot(classes), classes, "accuracy")[0].check()
