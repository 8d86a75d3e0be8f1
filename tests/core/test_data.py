"""Every form of data gives the same examples, and wrong data a clear error."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.zoo import ZOO, zoo_inputs
from tfsqueeze.core.data import collect, input_specs, pack_inputs, random_examples, stream

X = np.arange(30, dtype="float32").reshape(10, 3)
Y = np.arange(10)


@pytest.fixture
def specs():
    return input_specs(keras.Sequential([keras.Input((3,), name="x"), keras.layers.Dense(1)]))


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return X[index * 4 : index * 4 + 4], Y[index * 4 : index * 4 + 4]


FORMS = {
    "array": lambda: X,
    "tensor": lambda: tf.constant(X),
    "list": lambda: [X],
    "dict": lambda: {"x": X},
    "tuple": lambda: (X, Y),
    "weighted": lambda: (X, Y, np.ones(10)),
    "batched dataset": lambda: tf.data.Dataset.from_tensor_slices((X, Y)).batch(4),
    "unbatched dataset": lambda: tf.data.Dataset.from_tensor_slices((X, Y)),
    "dataset of dicts": lambda: tf.data.Dataset.from_tensor_slices({"x": X}).batch(4),
    "PyDataset": lambda: Batches(),
    "generator": lambda: ((X[i : i + 4], Y[i : i + 4]) for i in range(0, 10, 4)),
    "generator of examples": lambda: (row for row in X),
    "function, as for a converter": lambda: lambda: ([X[i : i + 1]] for i in range(10)),
    "integers": lambda: X.astype("int64"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_examples(specs, form):
    examples = collect(FORMS[form](), specs)
    np.testing.assert_array_equal(examples.inputs["x"], X)
    assert examples.inputs["x"].dtype == "float32"
    if examples.targets is not None:
        np.testing.assert_array_equal(examples.targets, Y)


@pytest.mark.parametrize("form", FORMS)
def test_a_limit_is_exact(specs, form):
    assert len(collect(FORMS[form](), specs, limit=7)) == 7


def test_streaming_does_not_read_ahead(specs):
    read = []

    def endless():
        while True:
            read.append(1)
            yield X[:2]

    assert len(collect(endless(), specs, limit=6)) == 6
    assert len(read) == 3


def test_batches_of_arrays(specs):
    assert [len(batch) for batch in stream((X, Y), specs, batch_size=4)] == [4, 4, 2]


@pytest.mark.parametrize("name", ZOO)
def test_zoo_models_take_what_specs_describe(name):
    model = ZOO[name]()
    specs = input_specs(model)
    inputs = pack_inputs(model, random_examples(specs, 2).inputs)
    first = keras.tree.flatten(model(inputs))[0]
    assert first.shape[0] == 2
    again = collect(zoo_inputs(model, 3), specs)
    assert len(again) == 3


def test_several_inputs():
    specs = input_specs(ZOO["multi_output"]())
    first, second = np.ones((4, 5)), np.ones((4, 7))
    by_name = collect({"second": second, "first": first}, specs)
    in_order = collect([first, second], specs)
    assert by_name.inputs["second"].shape == in_order.inputs["second"].shape == (4, 7)
    targets = {"kind": np.zeros((4, 3)), "score": np.zeros((4, 1))}
    assert set(collect(({"first": first, "second": second}, targets), specs)[:2].targets) == {"kind", "score"}


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (np.ones((4, 5)), ValueError, r"Input 'x' must have shape \(n, 3\).*Received: \(4, 5\)"),
        ([], ValueError, "not a single example"),
        (iter(()), ValueError, "not a single example"),
        (np.ones((0, 3)), ValueError, "not a single example"),
        ({"z": X}, ValueError, r"lacks the model inputs \['x'\]. Received keys: \['z'\]"),
        ((X, Y[:5]), ValueError, "same number of examples"),
        ((X, Y, Y, Y), ValueError, "Received 4 entries"),
        (np.array([["a", "b", "c"]]), TypeError, "must be numeric"),
        (3, TypeError, "Expected NumPy arrays"),
        ("data.npz", TypeError, "Expected NumPy arrays"),
    ],
)
def test_wrong_data(specs, data, error, message):
    with pytest.raises(error, match=message):
        collect(data, specs)
