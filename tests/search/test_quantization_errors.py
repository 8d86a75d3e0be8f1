"""Which layer costs how much when it rounds, and how few in float keep a score."""

import math

import numpy as np
import pytest

import tfsqueeze as tfs
from tests.quantization.test_aware import data_of
from tests.zoo import ZOO, zoo_inputs
from tfsqueeze.core.rewrite import rewrite
from tfsqueeze.search.calibrate_within import _fewest


def fragile():
    """The sequential model with one great weight per channel of conv2, whose others then round away."""
    model = rewrite(ZOO["sequential"]())
    kernel = model.get_layer("conv2").kernel
    value = kernel.numpy()
    value[0, 0, 0] *= 60
    kernel.assign(value)
    return model


def test_the_most_damaging_layer_is_found_and_the_table_tells():
    model = fragile()
    data = data_of(model, 64)
    expected = np.asarray(model(zoo_inputs(model, 64)))

    def nearness(other):
        return -float(np.square(np.asarray(other(zoo_inputs(model, 64))) - expected).mean())

    config = {"weight_bits": 4, "first_and_last_bits": 8}
    errors = tfs.quantization_errors(model, data, config, evaluate=nearness)
    assert errors.most_damaging()[0] == "conv2"
    assert errors.layers["conv2"].weights_db < errors.layers["conv1"].weights_db
    assert errors.baseline == pytest.approx(0, abs=1e-6) and errors.score < 0
    assert "conv2" in str(errors) and "nearness" in errors.to_markdown()
    assert all(v is None or math.isfinite(v) for e in errors.to_dict()["layers"].values() for v in e.values())


def test_layers_are_switched_in_what_is_compiled_once():
    model, data, functions = fragile(), data_of(fragile(), 32), []

    def agreement(other):
        compiled = other.predict(data, verbose=0)
        functions.append(other.predict_function)
        return -float(np.abs(compiled - np.asarray(other(data))).max())

    errors = tfs.quantization_errors(model, data, evaluate=agreement)
    assert all(function is functions[0] for function in functions)
    assert len(functions) == len(errors.layers) + 2
    assert min(errors.baseline, errors.score) > -1e-5
    assert errors.outputs_db < min(error.outputs_db for error in errors.layers.values())


def test_few_layers_stay_float_until_the_agreement_is_kept():
    model = fragile()
    config = {"weight_bits": 2, "first_and_last_bits": 8}
    options = {"rounding": "nearest", "correct_bias": False, "equalize": False}
    found = tfs.calibrate_within(model, data_of(model, 128), config, max_drop=0.02, **options)
    assert found.is_within and found.float_layers[:1] == ("conv2",)
    assert [len(trade.float_layers) for trade in found.trades] == sorted(
        {len(trade.float_layers) for trade in found.trades}
    )
    assert found.trades[0].bytes < found.trades[-1].bytes
    assert "conv2" in str(found)
    with pytest.raises(ValueError, match="`max_drop` must be in"):
        tfs.calibrate_within(model, data_of(model), max_drop=2)


@pytest.mark.parametrize("most", [1, 2, 5, 9])
def test_the_least_count_is_found_with_few_trials(most):
    for needed in range(1, most + 1):
        tried = []

        def is_enough(count, needed=needed, tried=tried):
            tried.append(count)
            return count >= needed

        assert _fewest(is_enough, most) == needed
        assert len(tried) == len(set(tried)) <= 2 * most.bit_length() + 1
    assert _fewest(lambda count: False, most) == most
