"""Shared settings: quiet TensorFlow, two logical CPUs (for MirroredStrategy), a seed before every test."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

import keras
import pytest
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.fixture(autouse=True)
def seed():
    """Every test starts from the same random state."""
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def mirrored():
    """A strategy over two logical CPUs; a second one in the same process would mix up its collectives."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def pytest_collection_modifyitems(items):
    """Fast tests first, so that a mistake shows early."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
