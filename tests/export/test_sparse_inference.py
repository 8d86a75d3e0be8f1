"""Which layers XNNPACK can run sparse, by its rules."""

import re

import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs
from tests.zoo import ZOO
from tfsqueeze.core.select import walk

IN_REGION = "part of a region that fits; stays dense"


def mobile(middle=lambda x: x, stem_padding="valid", end=True):
    """A small MobileNet that fits XNNPACK's rules, with room for what does not."""
    image = keras.Input((16, 16, 3))
    x = layers.ZeroPadding2D(1)(image) if stem_padding == "valid" else image
    x = layers.Conv2D(8, 3, 2, padding=stem_padding, use_bias=False, name="stem")(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    y = layers.Activation("hard_swish")(layers.Conv2D(32, 1, name="expand")(x))
    y = layers.ReLU()(layers.DepthwiseConv2D(3, padding="same", name="depthwise")(y))
    x = layers.Add()([x, layers.Conv2D(8, 1, name="project")(middle(y))])
    x = layers.DepthwiseConv2D(5, 2, name="down")(layers.ZeroPadding2D(2)(x))
    x = layers.Conv2D(32, 1, activation="relu", name="last")(x)
    if end:
        x = layers.Dense(4, name="head")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, x)


def found(model):
    return {layer.name: layer for layer in tfs.check_sparse_inference(model).layers}


@pytest.mark.slow
def test_a_network_that_fits_prunes_only_what_gets_faster():
    model = mobile()
    checked = tfs.check_sparse_inference(model)
    assert checked.select == ["expand", "project", "last"]
    assert not checked.runs_sparse
    reasons = {layer.name: layer.reason for layer in checked.layers}
    assert reasons["stem"] == reasons["depthwise"] == reasons["down"] == IN_REGION
    assert reasons["expand"] == "1x1 convolutions of its region have 0% zeros"
    assert reasons["head"] == "of all layers only 1x1 convolutions have sparse kernels"
    pruned = tfs.prune(model, 0.75, select=checked.select)
    again = tfs.check_sparse_inference(pruned)
    assert {layer.name for layer in again.layers if layer.runs_sparse} == set(checked.select)
    assert np.count_nonzero(pruned.get_layer("stem").kernel) == np.count_nonzero(
        model.get_layer("stem").kernel
    )
    model.compile("sgd", "mse")
    callback = tfs.PruningCallback(0.75, select=checked.select)
    model.fit(np.zeros((2, 16, 16, 3)), np.zeros((2, 4)), verbose=0, callbacks=[callback])
    assert tfs.check_sparse_inference(model).runs_sparse


def test_two_thirds_of_zeros_are_needed():
    for sparsity, expected in ((0.6, False), (0.7, True)):
        pruned = tfs.prune(mobile(), sparsity, select=["expand", "project", "last"])
        assert tfs.check_sparse_inference(pruned).runs_sparse is expected


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"middle": layers.MaxPooling2D(1)},
            r"MAX_POOL_2D .* is in the way: MAX_POOL_2D has no channels-first",
        ),
        ({"middle": layers.Conv2D(32, 3, padding="same")}, "is in the way: a 3x3 kernel has no sparse form"),
        ({"middle": layers.DepthwiseConv2D(3, padding="same", dilation_rate=2)}, "is in the way"),
        ({"middle": layers.DepthwiseConv2D(7, padding="same")}, "a depthwise 7x7 kernel must be 3x3 or 5x5"),
        (
            {"stem_padding": "same"},
            r"CONV_2D 'stem' is in the way: its padding must be 1 on each side: ZeroPadding2D\(1\)",
        ),
        ({"end": False}, "the model's output must come from behind a mean over the image"),
    ],
)
def test_one_misfit_keeps_the_whole_region_dense(options, reason):
    checked = tfs.check_sparse_inference(mobile(**options))
    assert not any(layer.prunable for layer in checked.layers)
    by_name = {layer.name: layer.reason for layer in checked.layers}
    assert re.search(reason, by_name["expand"] if "end" not in options else by_name["last"])
    with pytest.raises(ValueError, match=r"No layer of .* can run with XNNPACK's sparse kernels"):
        _ = checked.select


def test_a_grouped_pointwise_convolution_does_not_fit():
    assert found(mobile(layers.Conv2D(32, 1, groups=2, name="grouped")))["grouped"].reason == (
        "it is a grouped convolution"
    )


@pytest.mark.parametrize("name", ZOO)
def test_every_layer_of_every_model_gets_its_verdict(name):
    model = ZOO[name]()
    checked = tfs.check_sparse_inference(model)
    paths = {named.path for named in walk(model)}
    assert checked.layers and all(layer.name in paths for layer in checked.layers)
    assert all(layer.reason for layer in checked.layers)
    assert checked.layers[0].name in str(checked) and checked.to_markdown()
    assert len(checked.to_dict()["layers"]) == len(checked.layers)


@pytest.mark.slow
def test_a_file_stored_sparse_or_in_integers(tmp_path):
    pruned = tfs.prune(mobile(), 0.9, select=["expand", "project", "last"])
    for sparse in (True, False):
        path = tmp_path / f"{sparse}.tflite"
        tfs.export_tflite(pruned, path, sparse=sparse)
        assert sum(layer.runs_sparse for layer in tfs.check_sparse_inference(path).layers) == 3
    tfs.export_tflite(pruned, path, quantize="float16")
    assert tfs.check_sparse_inference(path).runs_sparse
    images = np.random.default_rng(0).normal(size=(8, 16, 16, 3)).astype("float32")
    tfs.export_tflite(pruned, path, quantize="int8", representative_data=images)
    checked = tfs.check_sparse_inference(path)
    assert not checked.runs_sparse
    assert all("not in float32" in layer.reason for layer in checked.layers)
