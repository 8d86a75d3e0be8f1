"""What layers receive is the same whether a run goes on from the layer before or begins anew."""

import keras
import numpy as np
import pytest
from keras import layers

from tests.zoo import ZOO, zoo_inputs
from tfsqueeze.core import inner_inputs
from tfsqueeze.core.data import collect, input_specs
from tfsqueeze.core.inner_inputs import InnerInputs
from tfsqueeze.core.steps import Steps


def batches_of(model, size=2):
    return list(collect(zoo_inputs(model, 6), input_specs(model)).batches(size))


def weighted(model):
    return [layer for layer in model._flatten_layers(include_self=False) if layer.trainable_variables]


def values(calls):
    return [np.asarray(leaf) for call in calls for leaf in keras.tree.flatten((call.args, call.kwargs))]


def change(layer, seed):
    for number, variable in enumerate(layer.trainable_variables):
        noise = np.random.default_rng((seed, number)).normal(0, 0.05, variable.shape)
        variable.assign(variable + noise)


@pytest.mark.parametrize("most_bytes", [inner_inputs.MOST_BYTES, 0])
@pytest.mark.parametrize("name", ZOO)
def test_reading_on_sees_what_a_run_from_the_beginning_sees(name, most_bytes, monkeypatch):
    monkeypatch.setattr(inner_inputs, "MOST_BYTES", most_bytes)
    model = ZOO[name]()
    batches = batches_of(model)
    reader = InnerInputs(model, weighted(model), batches)
    assert reader.order
    for index, layer in enumerate(reader.order):
        for batch in batches:
            anew = InnerInputs(model, weighted(model), [batch])
            for expected, received in zip(
                values(anew.read(layer, batch)), values(reader.read(layer, batch)), strict=True
            ):
                np.testing.assert_array_equal(expected, received)
        change(layer, index)


@pytest.mark.parametrize("name", ZOO)
def test_layers_may_be_read_in_any_order(name):
    model = ZOO[name]()
    batches = batches_of(model)
    reader = InnerInputs(model, weighted(model), batches)
    together = reader.read_all(reader.order, batches[1])
    for layer, expected in reversed(list(zip(reader.order, together, strict=True))):
        for one, other in zip(values(expected), values(reader.read(layer, batches[1])), strict=True):
            np.testing.assert_array_equal(one, other)


def test_reading_no_layers_gives_nothing():
    model = ZOO["sequential"]()
    batches = batches_of(model)
    assert InnerInputs(model, [], batches).read_all([], batches[0]) == []


def test_each_layer_runs_a_few_times_however_many_are_read(monkeypatch):
    model = keras.Sequential([keras.Input((8,)), *(layers.Dense(8) for _ in range(30))])
    runs = []
    original = layers.Dense.call
    monkeypatch.setattr(
        layers.Dense, "call", lambda self, *args, **kw: runs.append(1) or original(self, *args, **kw)
    )
    batches = batches_of(model, 3)
    reader = InnerInputs(model, model.layers, batches)
    for layer in reader.order:
        for batch in batches:
            reader.read(layer, batch)
    # Once to see the order, then at most once for each of the two batches.
    assert len(runs) <= 3 * 30


def test_a_layer_inside_a_nested_model_is_reached_without_running_all_of_it():
    model = ZOO["nested"]()
    steps = Steps(model)
    nested = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    assert nested and len(steps) > len(model.layers)
    assert len(Steps(model, whole=nested)) < len(steps)


@pytest.mark.parametrize("training, is_opened", [(None, True), (False, True), (True, False)])
def test_a_frozen_backbone_is_opened_unless_it_is_to_train(training, is_opened):
    backbone = keras.Sequential([keras.Input((8,)), layers.Dense(8), layers.Dropout(0.5), layers.Dense(4)])
    inputs = keras.Input((8,))
    model = keras.Model(inputs, layers.Dense(2)(backbone(inputs, training=training)))
    assert (len(Steps(model)) == 4) == is_opened


def test_only_what_later_steps_need_is_kept():
    model = keras.Sequential([keras.Input((64,)), *(layers.Dense(64) for _ in range(10))])
    run = Steps(model).begin(batches_of(model, 6)[0])
    sizes = set()
    for _ in range(9):
        run.step()
        sizes.add(run.bytes)
    assert sizes == {6 * 64 * 4}


def test_masks_reach_the_layers_behind():
    tokens = keras.Input((5,), dtype="int32")
    x = layers.Embedding(7, 4, mask_zero=True)(tokens)
    x = layers.Dense(3)(x)
    model = keras.Model(tokens, layers.LSTM(3)(x))
    ids = np.array([[1, 2, 0, 0, 0], [3, 4, 5, 0, 0]], "int32")
    (batch,) = collect(ids, input_specs(model)).batches(2)
    reader = InnerInputs(model, model.layers[1:], [batch])
    for layer in reader.order:
        (received,) = reader.read(layer, batch)
    mask = received.kwargs.get("mask", received.args[-1])
    np.testing.assert_array_equal(mask, ids != 0)
