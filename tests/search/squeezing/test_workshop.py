"""Making candidates: what is reused, what is trained by what, what is kept."""

import keras
import numpy as np
import pytest

from tfsqueeze.recipe import training
from tfsqueeze.recipe.run_data import RunData
from tfsqueeze.search.squeezing import techniques as known
from tfsqueeze.search.squeezing.attempts import Epochs, attempt_folder
from tfsqueeze.search.squeezing.repertoire import Repertoire
from tfsqueeze.search.squeezing.workshop import Training, Workshop

rng = np.random.default_rng(0)
TRAIN = rng.normal(size=(64, 6)).astype("float32"), rng.integers(0, 2, 64)
REPERTOIRE = Repertoire((known.PRUNING,), known.FORMATS, True, {})
SETTING = {"pruning": 0.5, "quantization": "int8"}
PLAIN, AWARE = Epochs(1), Epochs(1, 1)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((6,)),
        keras.layers.Dense(16, "relu", name="hidden"),
        keras.layers.Dense(2, "softmax"),
    ]
    model = keras.Sequential(layers)
    # Compiling for XLA takes longer than these trainings.
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    return model


def make_workshop(model, output, strategy=None):
    data = RunData.read(model, {"train": TRAIN})
    return Workshop(model, data, REPERTOIRE, Training(32, 0.01), output, seed=0, strategy=strategy)


def note_trainings(monkeypatch):
    """The number of devices of every training from now on."""
    seen, fit = [], training.Training.fit

    def noted(self, fitted, *arguments, **options):
        seen.append(fitted.distribute_strategy.num_replicas_in_sync)
        return fit(self, fitted, *arguments, **options)

    monkeypatch.setattr(training.Training, "fit", noted)
    return seen


def zeros(model):
    return float(np.mean([np.mean(v.numpy() == 0) for v in model.trainable_weights if "kernel" in v.path]))


def reused(made):
    return [step.verb for step in made.steps if step.is_reused]


def test_a_longer_training_begins_with_what_a_shorter_one_has_done(model, tmp_path, monkeypatch):
    trainings = note_trainings(monkeypatch)
    workshop = make_workshop(model, tmp_path)
    workshop.make(SETTING, 4, Epochs())
    first = workshop.make(SETTING, 4, PLAIN)
    assert reused(first) == ["prune"]
    in_float = workshop.float_model(SETTING, 4, PLAIN)
    assert type(in_float.get_layer("hidden")) is keras.layers.Dense
    assert len(trainings) == 1
    finished = workshop.make(SETTING, 4, AWARE)
    assert reused(finished) == ["prune", "distil", "calibrate"]
    assert len(trainings) == 2
    assert zeros(first.model) == zeros(finished.model) > 0.4
    assert first.path.read_bytes() != finished.path.read_bytes()
    alone = workshop.recipe(SETTING, AWARE).run(model, train=TRAIN, output=tmp_path / "alone", measure=False)
    assert alone.path.read_bytes() == finished.path.read_bytes()
    assert workshop.make(SETTING, 4, AWARE).path == finished.path
    assert len(trainings) == 4
    workshop.delete_but({attempt_folder(tmp_path, 4, AWARE)})
    assert [one.name for one in (tmp_path / "attempts").iterdir()] == ["candidate-4-epochs-1-aware-1"]


def test_the_untouched_original_is_the_float_model_of_a_mere_format(model, tmp_path):
    workshop = make_workshop(model, tmp_path)
    assert workshop.float_model({"pruning": 0.0, "quantization": "int8"}, 0, Epochs()) is model
    assert workshop.float_model(SETTING, 0, PLAIN) is None


def test_candidates_are_trained_on_all_devices(model, tmp_path, monkeypatch, mirrored):
    trainings = note_trainings(monkeypatch)
    before = model.get_weights()
    made = make_workshop(model, tmp_path, mirrored).make(SETTING, 0, AWARE)
    assert trainings == [2, 2]
    assert made.path.exists()
    assert zeros(made.model) > 0.4
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
