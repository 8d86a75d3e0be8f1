"""factorize: targets met, exact where nothing is lost, the model around untouched, and errors that help."""

import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs
from tests.architecture.nets import assert_close, convolutional, correlated_images, flat
from tests.zoo import GRAPH_ZOO, ZOO, zoo_inputs
from tfsqueeze.architecture.replacing import Costs

QUICK = {"residual", "shared", "nested", "depthwise", "attention"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in GRAPH_ZOO]
)
def test_zoo(name, tmp_path):
    model = ZOO[name]()
    x, before = zoo_inputs(model), model.get_weights()
    small = tfs.factorize(model, energy=0.6)
    assert small.count_params() <= model.count_params()
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    small.save(tmp_path / "small.keras")
    assert_close(keras.models.load_model(tmp_path / "small.keras")(x), small(x))
    full = tfs.factorize(model, rank=dict.fromkeys(tfs.explain(small).done, 1.0))
    assert_close(full(x), model(x))


def test_all_energy_leaves_all_as_it_is():
    model = convolutional()
    same = tfs.factorize(model, energy=1.0)
    assert "cheapest as it is" in tfs.explain(same).skipped["dense"]
    assert_close(same(correlated_images(8)), model(correlated_images(8)))


@pytest.mark.parametrize("fraction", [0.7, 0.4])
@pytest.mark.parametrize("target", ["macs", "params"])
def test_targets_are_met_within_one_rank(target, fraction):
    model = convolutional()
    small = tfs.factorize(model, **{target: fraction})

    def size(model):
        return Costs(model).total if target == "macs" else model.count_params()

    reached = size(small) / size(model)
    rows = tfs.explain(small).done.values()
    step = max(row[f"{target}_before"] for row in rows) / size(model)
    assert fraction - step / 4 < reached <= fraction
    assert (
        sum(row["macs_before"] - row["macs_after"] for row in rows) == Costs(model).total - Costs(small).total
    )


def test_energy_is_kept_by_every_layer():
    done = tfs.explain(tfs.factorize(convolutional(), energy=0.7)).done
    assert done
    for row in done.values():
        assert row["energy_lost"] <= 0.3
        assert row["macs_after"] < row["macs_before"]


def test_ranks_are_those_asked_for():
    model = convolutional()
    rows = tfs.explain(tfs.factorize(model, rank={"conv2": (3, 5), "dense": 4, "point.*": 0.5})).done
    assert {path: row["rank"] for path, row in rows.items()} == {
        "conv2": "3x5",
        "dense": "4",
        "pointwise": "8",
    }
    small = tfs.factorize(model, rank=2, method="spatial", select="conv2")
    assert [layer.name for layer in small.layers if "conv2" in layer.name] == [
        "conv2_vertical",
        "conv2_horizontal",
    ]
    assert small.get_layer("conv2_vertical").filters == 2


def test_the_chain_takes_over_the_settings():
    image = keras.Input((8, 8, 6))
    settings = {
        "kernel_regularizer": "l2",
        "bias_regularizer": "l1",
        "activation": "swish",
        "dtype": "mixed_bfloat16",
    }
    x = layers.Conv2D(12, 3, strides=2, padding="same", name="conv", **settings)(image)
    model = keras.Model(image, layers.GlobalAveragePooling2D()(x))
    model.get_layer("conv").trainable = False
    small = tfs.factorize(model, macs=0.4, method="tucker")
    chain = [layer for layer in small.layers if layer.name.startswith("conv_")]
    assert {layer.dtype_policy.name for layer in chain} == {"mixed_bfloat16"}
    assert not any(layer.trainable for layer in chain)
    assert all(layer.kernel_regularizer is not None for layer in chain)
    assert [layer.use_bias for layer in chain] == [False] * (len(chain) - 1) + [True]
    assert (
        chain[-1].activation is model.get_layer("conv").activation and chain[-1].bias_regularizer is not None
    )


def test_channels_first_stays():
    model = keras.Sequential(
        [keras.Input((6, 8, 8)), layers.Conv2D(12, 3, data_format="channels_first", name="c")]
    )
    small = tfs.factorize(model, macs=0.5)
    assert {layer.data_format for layer in small.layers} == {"channels_first"}
    assert small.output_shape == model.output_shape


def test_outputs_keep_their_names_so_that_losses_find_them():
    first = keras.Input((12,))
    a = layers.Dense(12, name="a")(first)
    model = keras.Model(first, [a, layers.Dense(10, name="b")(a)])
    model.compile("sgd", {"a": "mse", "b": "mae"}, metrics={"b": ["mse"]})
    small = tfs.factorize(model, params=0.6)
    assert small.output_names == ["a", "b"]
    x = np.ones((4, 12), "float32")
    assert "b_mse" in small.evaluate(x, [np.ones((4, 12)), np.ones((4, 10))], return_dict=True, verbose=0)


def test_shared_and_nested_layers_stay_shared_and_nested():
    shared = tfs.factorize(ZOO["shared"](), rank={"tower": 2})
    assert [layer.name for layer in shared.layers].count("tower_reduce") == 1
    assert tfs.explain(shared).done["tower"]["macs_before"] == 2 * 6 * 8
    nested = tfs.factorize(ZOO["nested"](), rank={"backbone/inner_conv": 2})
    assert nested.get_layer("backbone").get_layer("inner_conv_core").filters == 2


def test_trains_on_several_devices(mirrored):
    with mirrored.scope():
        model = keras.Sequential(
            [
                keras.Input((12,)),
                layers.Dense(16, use_bias=False, name="a"),
                layers.BatchNormalization(),
                layers.Dense(3),
            ]
        )
        model.compile("adam", "mse", metrics=["mae"])
        small = tfs.factorize(model, rank={"a": 3})
    history = small.fit(np.ones((8, 12)), np.zeros((8, 3)), batch_size=4, verbose=0).history
    assert small.optimizer is not model.optimizer
    assert np.isfinite(history["mae"]).all()


def test_trains_in_several_steps_at_once_in_half_precision():
    model = keras.Sequential(
        [keras.Input((12,)), layers.Dense(16, "relu", dtype="mixed_bfloat16", name="a"), layers.Dense(3)]
    )
    model.compile(keras.optimizers.SGD(0.02), "mse", steps_per_execution=2)
    small = tfs.factorize(model, rank={"a": 3})
    assert small.steps_per_execution == 2 and float(small.optimizer.learning_rate) == pytest.approx(0.02)
    small.fit(np.ones((16, 12)), np.zeros((16, 3)), batch_size=4, verbose=0)
    assert small.get_layer("a_reduce").compute_dtype == "bfloat16"
    assert np.isfinite(flat(small.get_weights())).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNetV2", "EfficientNetB0", "DenseNet121", "ResNet50"])
def test_keras_applications(name):
    model = getattr(keras.applications, name)(weights=None, input_shape=(64, 64, 3), classes=10)
    small = tfs.factorize(model, macs=0.6)
    assert Costs(small).total <= 0.6 * Costs(model).total
    x = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype("float32")
    assert np.isfinite(np.asarray(small(x))).all()


@pytest.mark.slow
def test_exports_with_equal_outputs(tmp_path):
    small = tfs.factorize(convolutional(), macs=0.5)
    result = tfs.export_tflite(small, tmp_path / "small.tflite")
    assert max(parity.max_error for parity in result.parity.values()) < 1e-4
    assert not result.select_ops


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, "Give exactly one target.*none"),
        ({"energy": 0.5, "macs": 0.5}, "exactly one"),
        ({"energy": 0}, r"energy.*\(0, 1\].*energy=0"),
        ({"energy": 1.2}, r"energy=1.2"),
        ({"macs": -0.5}, r"macs=-0.5"),
        ({"macs": 0.001}, r"`macs`=0.001 cannot be reached.*as far as 0\.\d+"),
        ({"rank": 0}, r"whole number >= 1.*rank=0"),
        ({"rank": 1.5}, r"fraction of the full rank in \(0, 1\].*rank=1.5"),
        ({"rank": 10_000}, r"at most \d+, the largest full rank"),
        ({"rank": {"dense": 10_000}}, r"'dense' must be at most its full rank 24"),
        ({"rank": {"conv2": (1, 2, 3)}}, r"'conv2' \(tucker\) must be 2 number"),
        ({"rank": {"dance": 2}}, "matches no layer: 'dance'"),
        ({"rank": {}}, "empty dict"),
        ({"energy": 0.5, "method": "svd"}, "`method` must be one of"),
        ({"energy": 0.5, "select": "bn1"}, "BatchNormalization is not factorized"),
        ({"energy": 0.5, "select": "nothing"}, "matches no layer"),
        ({"energy": 0.5, "data": np.zeros((2, 10, 10, 4))}, "at least 4 examples"),
        ({"energy": 0.5, "data": np.zeros((8, 3))}, r"must have shape"),
    ],
)
def test_errors_say_what_to_do(arguments, message):
    with pytest.raises(ValueError, match=message):
        tfs.factorize(convolutional(), **arguments)


def test_errors_of_kind():
    with pytest.raises(TypeError, match="whole number, a fraction"):
        tfs.factorize(convolutional(), rank="full")
    with pytest.raises(TypeError, match="expects a `keras"):
        tfs.factorize("model.keras", rank=2)
    with pytest.raises(tfs.UnsupportedModelError, match="graph"):
        tfs.factorize(ZOO["subclassed"](), rank=2)
