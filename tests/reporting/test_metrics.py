"""The default metric, and every form a metric and targets can be given in."""

import keras
import numpy as np
import pytest

from tfsqueeze.reporting.metrics import default_metric, evaluate_predictions

PROBABILITIES = np.array([[0.9, 0.1, 0.0], [0.2, 0.3, 0.5], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1]])


def score(predictions, targets, metric=None, weights=None):
    return evaluate_predictions({"y": np.asarray(predictions)}, targets, metric, weights)


@pytest.mark.parametrize(
    "targets",
    [
        np.array([0, 2, 1, 2]),
        np.array([[0], [2], [1], [2]]),
        np.array([0.0, 2.0, 1.0, 2.0]),
        np.eye(3)[[0, 2, 1, 2]],
        np.eye(3, dtype="uint8")[[0, 2, 1, 2]],
    ],
)
def test_class_targets_of_every_form_give_accuracy(targets):
    assert score(PROBABILITIES, targets) == {"accuracy": 0.75}


def test_binary_classes_by_probability_and_by_logit():
    targets = np.array([0, 1, 1, 0])
    assert score([[0.1], [0.9], [0.4], [0.2]], targets) == {"accuracy": 0.75}
    assert score([[-2.0], [0.3], [4.0], [-0.1]], targets) == {"accuracy": 1.0}
    assert score([0.1, 0.9, 0.4, 0.2], targets[:, None]) == {"accuracy": 0.75}


def test_pixels_count_alike_and_void_ones_are_left_out():
    predictions = np.zeros((1, 2, 2, 3))
    predictions[..., 1] = 1
    assert score(predictions, np.array([[[1, 1], [0, 1]]])) == {"accuracy": 0.75}
    assert score(predictions, np.array([[[1, 1], [0, 11]]])) == {"accuracy": pytest.approx(2 / 3)}


def test_numbers_give_mean_squared_error():
    assert score([[1.0], [3.0]], np.array([1.0, 1.0])) == {"mean_squared_error": 2.0}
    assert score([[1.0, 2.0]], np.array([[1.5, 2.0]])) == {"mean_squared_error": 0.125}


def test_named_metric_metric_object_and_function():
    predictions, targets = np.array([[1.0], [3.0]]), np.array([[1.0], [1.0]])
    assert score(predictions, targets, "mean_absolute_error") == {"mean_absolute_error": 1.0}
    metric = keras.metrics.RootMeanSquaredError(name="rmse")
    assert score(predictions, targets, metric)["rmse"] == pytest.approx(2**0.5)
    assert metric.result() == 0, "the user's metric object must not be touched"

    def worst(y_true, y_pred):
        return np.max(np.abs(y_true - y_pred))

    assert score(predictions, targets, worst) == {"worst": 2.0}


def test_sample_weights():
    assert score(PROBABILITIES, np.array([0, 2, 1, 2]), weights=np.array([1, 1, 1, 3])) == {"accuracy": 0.5}
    metric = keras.metrics.SparseCategoricalAccuracy(name="own")
    weighted = score(PROBABILITIES, np.array([0, 2, 1, 2]), metric, np.array([1, 1, 1, 3]))
    assert weighted["own"] == pytest.approx(0.5)


def test_several_outputs_by_dict_and_by_order():
    predictions = {"kind": PROBABILITIES, "size": np.ones((4, 1))}
    kinds, sizes = np.array([0, 2, 1, 2]), np.full((4, 1), 3.0)
    expected = {"kind accuracy": 0.75, "size mean_squared_error": 4.0}
    assert evaluate_predictions(predictions, {"size": sizes, "kind": kinds}) == expected
    assert evaluate_predictions(predictions, [kinds, sizes]) == expected
    assert evaluate_predictions(predictions, {"kind": kinds}) == {"accuracy": 0.75}
    chosen = {"size": "mean_absolute_error"}
    assert evaluate_predictions(predictions, [kinds, sizes], chosen) == {"size mean_absolute_error": 2.0}


def test_what_a_compiled_model_names_fills_in_where_it_fits():
    predictions = {"kind": PROBABILITIES, "size": np.ones((4, 1))}
    targets = [np.array([0, 2, 1, 2]), np.full((4, 1), 3.0)]
    default = {"size": "mean_absolute_error", "other": "mse"}
    scores = evaluate_predictions(predictions, targets, default=default)
    assert scores == {"kind accuracy": 0.75, "size mean_absolute_error": 2.0}
    assert evaluate_predictions({"y": np.ones((2, 1))}, np.zeros(2), "mse", default="mae") == {"mse": 1.0}


def test_errors_say_what_does_not_fit():
    with pytest.raises(ValueError, match=r"3 classes, so targets must be in 0\.\.2.*from 0 to 5"):
        score(PROBABILITIES, np.array([0, 1, 2, 5]))
    with pytest.raises(ValueError, match="2 targets for 4 predictions"):
        score(PROBABILITIES, np.array([0, 1]))
    with pytest.raises(ValueError, match=r"2 outputs \['a', 'b'\].*for 1"):
        evaluate_predictions({"a": PROBABILITIES, "b": PROBABILITIES}, np.zeros(4))
    with pytest.raises(ValueError, match=r"named \['c'\], but the outputs are \['a', 'b'\]"):
        evaluate_predictions({"a": PROBABILITIES, "b": PROBABILITIES}, {"c": np.zeros(4)})
    with pytest.raises(ValueError, match=r"`metric` names outputs \['b'\] without targets"):
        evaluate_predictions({"a": PROBABILITIES}, np.zeros(4), {"b": "mse"})
    with pytest.raises(ValueError, match="Pass `metric=`"):
        score(PROBABILITIES, np.zeros((4, 7)), "accuracy")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"loss": "sparse_categorical_crossentropy"}, "accuracy"),
        ({"loss": keras.losses.BinaryCrossentropy(from_logits=True)}, "accuracy"),
        ({"loss": "mean_absolute_error"}, "mean_absolute_error"),
        ({"loss": keras.losses.MeanSquaredError()}, "mean_squared_error"),
        ({"loss": lambda y, p: keras.ops.mean(p)}, None),
        ({"loss": "mse", "metrics": ["mae"]}, "mae"),
        ({"loss": "mse", "metrics": [["sparse_categorical_accuracy"]]}, "accuracy"),
        ({"loss": "mse", "metrics": [keras.metrics.BinaryAccuracy()]}, "accuracy"),
        (
            {"loss": "mse", "metrics": ["sparse_top_k_categorical_accuracy"]},
            "sparse_top_k_categorical_accuracy",
        ),
        ({"loss": "mse", "metrics": {"out": ["mae", "mse"]}}, {"out": "mae"}),
    ],
)
def test_compiled_models_name_their_metric(settings, expected):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="out")])
    model.compile(**settings)
    assert default_metric(model) == expected


def test_models_never_compiled_name_none():
    assert default_metric(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])) is None
