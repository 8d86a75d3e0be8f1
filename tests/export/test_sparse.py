"""Pruned models export to small files that compute the same."""

import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs
from tfsqueeze.tflite.file import read
from tfsqueeze.tflite.runner import Runner

INPUTS = np.random.default_rng(0).normal(size=(4, 8, 8, 16)).astype("float32")


@pytest.fixture(scope="module")
def pruned():
    keras.utils.set_random_seed(0)
    shared = layers.Dense(64, name="shared")
    image = keras.Input((8, 8, 16), name="image")
    x = layers.Conv2D(64, 3, padding="same", activation="relu", name="conv")(image)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.Conv2D(64, 1, name="pointwise")(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = shared(layers.Activation("relu")(shared(x)))
    return tfs.prune(keras.Model(image, layers.Dense(5, name="score")(x)), 0.9)


def exported(model, path, **options):
    result = tfs.export_tflite(model, path, **options)
    return result, read(path)


@pytest.mark.parametrize("quantize", [None, "float16"])
def test_a_pruned_model_is_stored_sparse_and_computes_the_same(pruned, tmp_path, quantize):
    dense, dense_file = exported(pruned, tmp_path / "dense.tflite", quantize=quantize, sparse=False)
    small, small_file = exported(pruned, tmp_path / "small.tflite", quantize=quantize)
    assert small.bytes < 0.4 * dense.bytes
    assert (small.sparse_kernels, dense.sparse_kernels) == (4, 0)
    assert "4 kernels stored sparse" in str(small) and "sparse" not in str(dense)
    for options in ({}, {"delegate": False}, {"keep_tensors": True}):
        expected = Runner(dense_file, **options).run({"image": INPUTS})["score"]
        np.testing.assert_array_equal(Runner(small_file, **options).run({"image": INPUTS})["score"], expected)


@pytest.mark.parametrize("quantize", [None, "float16"])
def test_reports_are_those_of_the_dense_file(pruned, tmp_path, quantize):
    reports = []
    for sparse in (False, True):
        path = tmp_path / f"{sparse}.tflite"
        tfs.export_tflite(pruned, path, quantize=quantize, sparse=sparse)
        reports.append(tfs.report(path).to_dict())
    dense, sparse = reports
    for fact in ("parameters", "sparsity", "macs"):
        assert sparse[fact] == dense[fact]
    assert sparse["sparsity"] > 0.85
    assert [layer["sparsity"] for layer in sparse["layers"]] == [
        layer["sparsity"] for layer in dense["layers"]
    ]


def test_a_model_with_few_zeros_stays_dense(tmp_path):
    model = keras.Sequential([keras.Input((64,)), layers.Dense(64)])
    slightly = tfs.prune(model, 0.3)
    assert exported(model, tmp_path / "a.tflite", sparse=True)[0].sparse_kernels == 0
    assert exported(slightly, tmp_path / "b.tflite")[0].sparse_kernels == 0
    assert not any(o.name == "DENSIFY" for o in exported(slightly, tmp_path / "b.tflite")[1].main.operators)


def test_integer_files_are_never_sparse(pruned, tmp_path):
    for quantize in ("dynamic", "int8"):
        result, _ = exported(pruned, tmp_path / "a.tflite", quantize=quantize, representative_data=INPUTS)
        assert result.sparse_kernels == 0
    with pytest.raises(ValueError, match=r"goes with quantize=None or \"float16\".*'int8'"):
        tfs.export_tflite(
            pruned, tmp_path / "b.tflite", quantize="int8", representative_data=INPUTS, sparse=True
        )
    with pytest.raises(ValueError, match="`sparse` must be one of"):
        tfs.export_tflite(pruned, tmp_path / "b.tflite", sparse="yes")


def test_variants_share_the_choice(pruned, tmp_path):
    results = tfs.export_variants(pruned, tmp_path, [None, "float16"], sparse=False)
    assert all(result.sparse_kernels == 0 for result in results.values())
