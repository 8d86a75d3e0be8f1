"""Where models are run."""

import keras
import numpy as np
import pytest

from tfsqueeze.core import devices
from tfsqueeze.core.devices import without_xla_on_cpu
from tfsqueeze.recipe.training import fine_tune
from tfsqueeze.reporting.report import report


@pytest.fixture
def model():
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", "mse", jit_compile=True)
    return model


def test_a_model_is_as_it_was_afterwards(model):
    x = np.ones((2, 4), "float32")
    model.predict(x, verbose=0)
    function = model.predict_function
    with without_xla_on_cpu(model):
        assert not model.jit_compile
        model.predict(x, verbose=0)
        assert model.predict_function is not function
    assert model.jit_compile and model.predict_function is function


def test_a_model_is_as_it_was_after_an_error(model):
    with pytest.raises(ZeroDivisionError), without_xla_on_cpu(model):
        raise ZeroDivisionError
    assert model.jit_compile


def test_accelerators_keep_xla(model, monkeypatch):
    monkeypatch.setattr(devices, "has_gpu", lambda: True)
    with without_xla_on_cpu(model):
        assert model.jit_compile


def test_steps_that_train_go_without_and_give_the_model_back_as_it_was_compiled(model):
    seen = []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(watch.model.jit_compile)
    )
    tuned = fine_tune(model, (np.ones((8, 4)), np.ones((8, 3))), callbacks=[watch])
    assert seen == [False] and tuned.jit_compile


def test_a_report_predicts_without_and_leaves_the_model_as_it_was(model, monkeypatch):
    made = []
    make = keras.Model.make_predict_function
    monkeypatch.setattr(
        keras.Model,
        "make_predict_function",
        lambda self, force=False: made.append(self.jit_compile) or make(self),
    )
    report(model, data=(np.ones((8, 4)), np.ones((8, 3))), latency=False)
    assert made == [False] and model.jit_compile and model.predict_function is None
