"""What the tests of examples share."""

import keras
import pytest

import tfsqueeze
from tests.docs.namespace import namespace


@pytest.fixture
def quiet(monkeypatch):
    """Training without progress bars, and without XLA, whose compiling takes longer than tiny trainings."""
    monkeypatch.setattr("keras.src.trainers.trainer.model_supports_jit", lambda model: False)
    keras.utils.disable_interactive_logging()
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)
    keras.utils.enable_interactive_logging()


@pytest.fixture(scope="session")
def tflite_file(tmp_path_factory):
    """The content of a float32 file of the examples' model."""
    path = tmp_path_factory.mktemp("exported") / "model.tflite"
    tfsqueeze.export_tflite(namespace({"model"})["model"], path)
    return path.read_bytes()
