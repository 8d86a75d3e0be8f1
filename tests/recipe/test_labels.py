"""Targets of the wrong kind are told before training, with the loss that fits them."""

import keras
import numpy as np
import pytest

from tfsqueeze.recipe.training import fine_tune
from tfsqueeze.recipe.training_data import check_labels

NUMBERS = np.array([0, 2, 1, 2])
VECTORS = np.eye(3, dtype="float32")[NUMBERS]


@pytest.fixture(scope="module")
def model():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])


def test_class_numbers_do_not_fit_a_loss_for_vectors(model):
    for loss in ("categorical_crossentropy", keras.losses.CategoricalCrossentropy()):
        with pytest.raises(ValueError, match=r'class numbers.*loss="sparse_categorical_crossentropy"'):
            check_labels(model, loss, NUMBERS)
    with pytest.raises(ValueError, match=r'one-hot.*loss="categorical_crossentropy"'):
        check_labels(model, "sparse_categorical_crossentropy", VECTORS)


def test_what_fits_or_cannot_be_told_passes(model):
    check_labels(model, "categorical_crossentropy", VECTORS)
    check_labels(model, "sparse_categorical_crossentropy", NUMBERS)
    check_labels(model, "sparse_categorical_crossentropy", NUMBERS[:, None])
    check_labels(model, "mse", VECTORS)
    check_labels(model, None, None)
    check_labels(
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]), "categorical_crossentropy", NUMBERS
    )


def test_training_says_so(model):
    model.compile("adam", "categorical_crossentropy")
    with pytest.raises(ValueError, match="The targets are class numbers"):
        fine_tune(model, (np.ones((4, 4), "float32"), NUMBERS))
