"""Every verb that takes a model refuses what is none in the same clear words, and writes nothing."""

import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs

X = np.zeros((8, 4), "float32")
Y = np.zeros(8, "int32")

VERBS = {
    "calibrate": lambda model: tfs.calibrate(model, X),
    "cluster": lambda model: tfs.cluster(model, 4),
    "downsample_output": lambda model: tfs.downsample_output(model, 2),
    "Distiller": lambda model: tfs.Distiller(model, model),
    "factorize": lambda model: tfs.factorize(model, macs=0.5),
    "find_overflows": lambda model: tfs.find_overflows(model, X),
    "find_ticket": lambda model: tfs.find_ticket(model, lambda model, callbacks: None, sparsity=0.5),
    "huffman_size": tfs.huffman_size,
    "largest_batch": lambda model: tfs.largest_batch(model, (X, Y)),
    "pack": lambda model: tfs.pack(model, "never.tfsq"),
    "product_quantize": lambda model: tfs.product_quantize(model, 4, length=2),
    "prune": lambda model: tfs.prune(model, 0.5),
    "prune_channels": lambda model: tfs.prune_channels(model, macs=0.5),
    "prune_depth": lambda model: tfs.prune_depth(model, blocks=1),
    "quantization_errors": lambda model: tfs.quantization_errors(model, X),
    "quantize_aware": tfs.quantize_aware,
    "scale_width": lambda model: tfs.scale_width(model, 0.5),
    "search_architecture": lambda model: tfs.search_architecture(model, (X, Y), (X, Y), trials=1),
    "sensitivity": lambda model: tfs.sensitivity(model, lambda pruned: 1.0),
    "squeeze": lambda model: tfs.squeeze(model, (X, Y), (X, Y)),
    "swap_backbone": lambda model: tfs.swap_backbone(model, "MobileNetV2"),
    "sweep_input_sizes": lambda model: tfs.sweep_input_sizes(model, [8], (X, Y)),
    "to_separable": tfs.to_separable,
    "with_input_size": lambda model: tfs.with_input_size(model, 8),
    "with_precision": lambda model: tfs.with_precision(model, "bfloat16"),
}


@pytest.fixture(autouse=True)
def nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("given", [None, "model.keras", 3], ids=repr)
def test_what_is_no_model_is_refused_by_the_verbs_own_name(verb, given):
    with pytest.raises(TypeError, match=rf"{verb}\(\) expects a `keras.Model`. Received: .*tfs.load_model"):
        VERBS[verb](given)


@pytest.mark.parametrize("verb", VERBS)
def test_a_model_without_weights_yet_is_told_to_be_built(verb):
    unbuilt = keras.Sequential([layers.Dense(4)])
    with pytest.raises(tfs.UnsupportedModelError, match=rf"{verb}\(\) needs a built model, but 'sequential"):
        VERBS[verb](unbuilt)
