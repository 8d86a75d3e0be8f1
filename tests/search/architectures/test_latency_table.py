"""The latency table: which operators a network has, each timed once, and predictions as their sums."""

import json

import keras
import numpy as np
import pytest
from keras import layers

from tests.zoo import GRAPH_ZOO, ZOO
from tfsqueeze.search.architectures import latency_table
from tfsqueeze.search.architectures.latency_table import LatencyTable
from tfsqueeze.search.architectures.limits import Latencies, Limits, prediction_correlation, rank_correlation
from tfsqueeze.search.architectures.operators import Operator, operators
from tfsqueeze.tflite.runner import Runner


def names(model) -> list[str]:
    return [operator.operation.name for operator in operators(model)]


def conv_net(filters=4, name=None, **settings):
    return keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(filters, 3, name=name, **settings)])


@pytest.fixture
def stopwatch(monkeypatch):
    """Times every operator as 3 ms, 1 ms of them the call, without converting it; tells what it timed."""
    asked = []
    idle = latency_table._idle().key

    def timed(paths, runs):
        asked.extend(key for key in paths if key != idle)
        return {key: 1.0 if key == idle else 3.0 for key in paths}

    monkeypatch.setattr(latency_table, "file_latencies", timed)
    monkeypatch.setattr(Operator, "convert", lambda self: b"")
    return asked


def test_what_is_folded_away_does_not_count():
    # The normalisation after the stem stays: the shortcut needs what is before it.
    found = names(ZOO["residual"]())
    assert found[0] == "stem" and found[-1] == "head"
    assert [type(operator.operation).__name__ for operator in operators(ZOO["residual"]())] == [
        "Conv2D",
        "BatchNormalization",
        "Activation",
        "Conv2D",
        "Add",
        "GlobalAveragePooling2D",
        "Dense",
    ]
    assert [type(operator.operation) for operator in operators(ZOO["depthwise"]())].count(
        layers.BatchNormalization
    ) == 0


@pytest.mark.parametrize(
    ("between", "counted"),
    [
        ([layers.BatchNormalization(), layers.ReLU()], False),
        ([layers.ReLU(max_value=6.0)], False),
        ([layers.Activation("relu")], False),
        ([layers.Dropout(0.5)], False),
        ([layers.ReLU(max_value=4.0)], True),
        ([layers.Activation("silu")], True),
    ],
)
def test_what_the_operator_before_computes_in_passing(between, counted):
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3), *between, layers.Flatten()])
    assert len(operators(model)) == 2 + counted


def test_an_activated_convolution_takes_over_nothing_more():
    inside = [layers.Conv2D(4, 3, activation="relu", name="conv"), layers.BatchNormalization(name="bn")]
    assert names(keras.Sequential([keras.Input((8, 8, 3)), *inside])) == ["conv", "bn"]


def test_shared_nested_and_composite_layers():
    assert names(ZOO["shared"]()).count("tower") == 2
    nested = names(ZOO["nested"]())
    assert "inner_conv" in nested and "inner" not in nested
    assert names(ZOO["attention"]())[:1] == ["attention"]


def test_operators_are_alike_if_they_cost_the_same():
    first = operators(conv_net())[0].key
    assert operators(conv_net(name="other", kernel_initializer="ones"))[0].key == first
    others = [conv_net(5), conv_net(strides=2), conv_net(padding="same"), conv_net(use_bias=False)]
    assert len({first, *(operators(model)[0].key for model in others)}) == 5
    shared = operators(ZOO["shared"]())
    assert shared[0].key == shared[1].key


@pytest.mark.parametrize("name", ["sequential", "residual"])
def test_operators_run_alone(name):
    model = ZOO[name]()
    for operator in operators(model)[:3]:
        runner = Runner(operator.convert())
        specs = [leaf for leaf in keras.tree.flatten(operator.arguments) if hasattr(leaf, "shape")]
        assert [port.shape for port in runner.inputs] == [tuple(spec.shape) for spec in specs]
        values = {port.name: np.ones(port.shape, "float32") for port in runner.inputs}
        expected = operator._call(*values.values())
        (given,) = runner.invoke(values).values()
        np.testing.assert_allclose(given, expected, atol=1e-5)


@pytest.mark.parametrize("name", GRAPH_ZOO)
def test_predictions_are_sums_over_operators(name, stopwatch, tmp_path):
    model = ZOO[name]()
    table = LatencyTable(tmp_path / "table.json")
    found = operators(model)
    assert table.predict(model) == 1.0 + 2.0 * len(found)
    assert sorted(stopwatch) == sorted({operator.key for operator in found})


def test_each_operator_is_timed_once_and_kept(stopwatch, tmp_path):
    path = tmp_path / "folder" / "table.json"
    table, other = LatencyTable(path), LatencyTable(path)
    table.predict(conv_net(4))
    other.predict(conv_net(6))
    assert len(stopwatch) == 2
    again = LatencyTable(path)
    assert again.predict(conv_net(4)) == again.predict(conv_net(6)) == 3.0 and len(stopwatch) == 2
    path.write_text("{ damaged")
    assert LatencyTable(path).predict(conv_net(4)) == 3.0 and len(stopwatch) == 3


def test_a_table_that_cannot_be_written_lasts_as_long_as_the_program(stopwatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    table = LatencyTable(tmp_path / "file" / "table.json")
    assert table.predict(conv_net()) == table.predict(conv_net()) == 3.0 and len(stopwatch) == 1


def test_what_cannot_be_converted_alone_counts_nothing(stopwatch, monkeypatch, tmp_path):
    def refuse(self):
        raise ValueError("unknown")

    monkeypatch.setattr(Operator, "convert", refuse)
    table = LatencyTable(tmp_path / "table.json")
    assert table.predict(conv_net()) == 0 and {*table.entries.values()} == {0}


def test_the_table_of_a_machine_is_in_its_cache(stopwatch, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    LatencyTable().predict(conv_net())
    (path,) = tmp_path.rglob("*.json")
    assert path.parent == tmp_path / "tfsqueeze" / "latencies" and len(json.loads(path.read_text())) == 2


@pytest.mark.slow
def test_operators_are_timed_by_the_interpreter(tmp_path):
    table = LatencyTable(tmp_path / "table.json", runs=5)
    small, large = conv_net(4), conv_net(256)
    assert 0 < table.predict(small) < table.predict(large)


class Guess:
    """Predicts a millisecond per filter; counts what is timed."""

    def __init__(self):
        self.count = 0

    def predicted(self, model) -> float:
        return model.layers[0].filters

    def timed(self, model) -> float:
        self.count += 1
        return model.layers[0].filters + 0.5


def test_only_networks_that_may_be_fast_enough_are_timed():
    limits, guess = Limits(latency_ms=8), Guess()
    costs = [limits.costs(conv_net(filters), guess) for filters in (2, 6, 8, 10, 11)]
    assert [cost.get("latency_ms") for cost in costs] == [2.5, 6.5, 8.5, 10.5, None]
    assert [bool(limits.exceeded(cost)) for cost in costs] == [False, False, True, True, True]
    assert guess.count == 4 and limits.exceeded(costs[-1]) == "predicted_ms 11 > 10.4"
    assert limits.exceeded(costs[2]) == "latency_ms 8.5 > 8"
    assert prediction_correlation(costs) == 1.0
    assert prediction_correlation(costs[:2]) is None
    assert Limits(params=1, latency_ms=8).costs(conv_net(), guess).keys() == {"macs", "params"}
    assert guess.count == 4


def test_predictions_are_scaled_to_the_given_network(stopwatch, monkeypatch, tmp_path):
    monkeypatch.setattr(Latencies, "timed", lambda self, model: 6.0)
    latencies = Latencies(conv_net(4), LatencyTable(tmp_path / "table.json"))
    two = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.Conv2D(4, 3)])
    assert latencies.predicted(conv_net(4)) == 6.0 and latencies.predicted(two) == 10.0


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2, 3, 4], [1, 10, 100, 1000], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 2, 3], [1, 3, 2], 0.5),
        # With ties, from the formula for ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4.
        ([1, 2, 2, 4], [1, 2, 3, 4], 0.948683),
        ([1, 1, 1], [1, 2, 3], None),
    ],
)
def test_rank_correlation(first, second, expected):
    assert rank_correlation(first, second) == expected
