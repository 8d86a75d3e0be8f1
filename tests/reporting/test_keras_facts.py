"""What is read from Keras models, by hand, over the zoo, and against published figures."""

import keras
import numpy as np
import pytest
from keras import layers

from tests.zoo import ZOO
from tfsqueeze.reporting.keras_facts import keras_facts


@pytest.mark.parametrize("name", ZOO)
def test_every_weight_is_counted_once(name):
    model = ZOO[name]()
    before = model.get_weights()
    facts = keras_facts(model)
    assert facts.parameters == model.count_params() == sum(layer.parameters for layer in facts.layers)
    assert facts.weight_bytes == 4 * model.count_params()
    assert facts.macs > 0 and facts.macs == sum(layer.macs for layer in facts.layers)
    assert facts.file_bytes > facts.gzip_bytes > 0
    assert not facts.notes
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_zeros_per_layer(pruned_dense):
    facts = keras_facts(pruned_dense)
    (layer,) = facts.layers
    assert (layer.name, layer.kind, layer.dtype) == ("dense", "Dense", "float32")
    assert (layer.parameters, layer.nonzero, layer.sparsity, layer.macs) == (8, 3, 0.625, 6)
    assert facts.sparsity == 0.625


def test_shared_layer_has_its_weights_once_and_its_macs_per_call():
    (tower,) = (layer for layer in keras_facts(ZOO["shared"]()).layers if layer.name == "tower")
    assert (tower.parameters, tower.macs) == (6 * 8 + 8, 2 * 6 * 8)


def test_size_when_saved_leaves_out_the_optimizer():
    model = ZOO["sequential"]()
    before = keras_facts(model)
    model.compile("adam", "mse")
    model.fit(np.zeros((4, 8, 8, 3)), np.zeros((4, 4)), verbose=0)
    after = keras_facts(model)
    assert abs(after.file_bytes - before.file_bytes) < 0.05 * before.file_bytes
    assert after.size_of == "a .keras file of the model, without optimizer"
    assert model.optimizer.iterations == 1


def test_size_of_the_file_a_model_came_from(tmp_path):
    model = ZOO["sequential"]()
    model.save(tmp_path / "model.keras")
    facts = keras_facts(model, tmp_path / "model.keras")
    assert facts.file_bytes == (tmp_path / "model.keras").stat().st_size
    assert facts.size_of == "the .keras file"


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_the_state_of_an_optimizer_in_the_file_does_not_count(tmp_path, ending):
    model = ZOO["sequential"]()
    plain = keras_facts(model)
    model.compile("adam", "mse")
    model.fit(np.zeros((4, 8, 8, 3)), np.zeros((4, 4)), verbose=0)
    path = tmp_path / f"model.{ending}"
    model.save(path)
    facts = keras_facts(model, path)
    assert facts.file_bytes < 1.05 * plain.file_bytes
    whole = f"model.{ending} has {path.stat().st_size:,} bytes"
    assert facts.notes == [f"{whole}, with the state of the optimizer, which is left out."]


def test_pruned_weights_compress():
    def dense(zeros):
        model = keras.Sequential([keras.Input((100,)), layers.Dense(200)])
        kernel = np.random.default_rng(0).normal(size=(100, 200))
        model.layers[0].kernel.assign(np.where(np.arange(200) < 200 * zeros, 0, kernel))
        return keras_facts(model)

    full, sparse = dense(0), dense(0.9)
    assert sparse.file_bytes == pytest.approx(full.file_bytes, rel=0.01)
    assert sparse.gzip_bytes < 0.3 * full.gzip_bytes


def test_half_precision_weights_take_half_the_bytes():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, dtype="float16")])
    assert keras_facts(model).weight_bytes == 16


def test_models_whose_call_cannot_be_traced_are_reported_without_macs():
    class Fussy(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x):
            if x.shape[0] is None:
                raise RuntimeError("needs a batch size")
            return self.dense(x)

    model = Fussy()
    model(np.zeros((2, 3)))
    facts = keras_facts(model)
    assert facts.parameters == 8 and facts.macs is None
    assert any("MACs are unknown" in note and "needs a batch size" in note for note in facts.notes)


def test_free_axes_leave_macs_unknown():
    facts = keras_facts(keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(2, 3)]))
    assert facts.macs is None and "free axes" in facts.notes[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "millions"), [("MobileNet", 569), ("MobileNetV2", 300), ("ResNet50", 3860)]
)
def test_macs_agree_with_published_figures(architecture, millions):
    """Howard et al. 2017 (table 4), Sandler et al. 2018 (table 4), He et al. 2016 (table 1)."""
    model = getattr(keras.applications, architecture)(weights=None)
    assert keras_facts(model).macs / 1e6 == pytest.approx(millions, rel=0.005)
