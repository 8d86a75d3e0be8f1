"""Product quantization: words, codebooks, errors that data lower, what does not fit."""

import keras
import numpy as np
import pytest
from keras import layers

import tfsqueeze as tfs
from tests.zoo import ZOO
from tfsqueeze.clustering.subvectors import OutputError, codebook_of, decode, nearest

rng = np.random.default_rng(0)


def network(inputs=32):
    model = keras.Sequential(
        [
            keras.Input((8, 8, inputs)),
            layers.Conv2D(64, 3, activation="relu", name="conv"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(96, name="dense"),
        ]
    )
    return model


def words(kernel, length):
    matrix = kernel.reshape(-1, kernel.shape[-1])
    return matrix.reshape(-1, length, matrix.shape[1]).transpose(0, 2, 1)


def test_words_that_are_there_are_found():
    book = rng.normal(size=(6, 3)).astype("float32") * 10
    vectors = book[rng.integers(0, 6, 400)]
    found = codebook_of(vectors, 6, 0)
    np.testing.assert_allclose(found[nearest(vectors, found)], vectors, rtol=1e-5)


@pytest.mark.parametrize("codebooks", ["layer", "segment"])
def test_kernels_hold_few_words(codebooks):
    small = tfs.product_quantize(network(), 8, length=4, codebooks=codebooks)
    for layer, shape in ((small.get_layer("conv"), (3, 3, 32, 64)), (small.get_layer("dense"), (64, 96))):
        kernel = layer.kernel.numpy()
        assert kernel.shape == shape
        parts = words(kernel, 4)
        pools = parts if codebooks == "segment" else parts.reshape(1, -1, 4)
        assert max(len(np.unique(pool, axis=0)) for pool in pools) <= 8
    rows = tfs.explain(small).done
    assert rows["conv/kernel"]["length"] == 4
    assert rows["conv/kernel"]["bits"] < 32


def test_a_codebook_per_segment_has_less_error():
    errors = [
        tfs.explain(tfs.product_quantize(network(), 8, length=4, codebooks=books)).done["conv/kernel"][
            "error"
        ]
        for books in ("layer", "segment")
    ]
    assert errors[1] < errors[0]


@pytest.mark.parametrize("codebooks", ["layer", "segment"])
def test_data_lower_the_error_of_the_outputs(codebooks):
    mixing = rng.normal(size=(32, 32)).astype("float32")
    x = (rng.normal(size=(60, 8, 8, 6)) @ rng.normal(size=(6, 32)) + 0.1).astype("float32") @ mixing
    model = network()

    def error(data):
        small = tfs.product_quantize(model, 8, length=4, codebooks=codebooks, data=data)
        return float(np.square(small.predict(x, verbose=0) - model.predict(x, verbose=0)).mean())

    assert error(x) < 0.6 * error(None)


def test_refining_never_makes_it_worse():
    matrix = rng.normal(size=(24, 40)).astype("float32")
    inputs = rng.normal(size=(500, 24)) * np.logspace(-1, 1, 24)
    loss = OutputError(inputs.T @ inputs / 500, matrix)
    parts = matrix.reshape(6, 4, 40).transpose(0, 2, 1)
    for books in (
        codebook_of(parts.reshape(-1, 4), 8, 0)[None],
        np.stack([codebook_of(p, 8, 0) for p in parts]),
    ):
        codes = np.stack([nearest(part, books[s % len(books)]) for s, part in enumerate(parts)])
        refined = loss.refine(codes, books)
        assert loss.of(decode(*refined)) < 0.9 * loss.of(decode(codes, books))


def test_what_does_not_fit_is_left_with_a_reason():
    model = keras.Sequential(
        [
            keras.Input((9, 9, 3)),
            layers.Conv2D(64, 1, name="stem"),
            layers.Conv2DTranspose(64, 3, name="up"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(512, name="wide"),
            layers.Dense(64, name="narrow"),
            layers.Dense(3, name="head"),
        ]
    )
    small = tfs.product_quantize(model, 64, length=2)
    skipped = tfs.explain(small).skipped
    assert "does not have its inputs first" in skipped["up/kernel"]
    assert "its codebooks would take half" in skipped["head/kernel"]
    assert "cannot be cut" in skipped["stem/kernel"]
    np.testing.assert_array_equal(model.get_layer("up").kernel, small.get_layer("up").kernel)


def test_subclassed_models():
    model = ZOO["subclassed"]()
    assert tfs.product_quantize(model, 4, length=2, select="hidden").name == model.name


def test_errors():
    model = network()
    with pytest.raises(ValueError, match="`length` must be an integer >= 2"):
        tfs.product_quantize(model, 16, length=1)
    with pytest.raises(ValueError, match="`codebooks` must be one of 'layer', 'segment'"):
        tfs.product_quantize(model, 16, codebooks="channel")
    with pytest.raises(ValueError, match="`clusters` is the number"):
        tfs.product_quantize(model, 1)
    with pytest.raises(ValueError, match=r"No kernel of model .* can be put together"):
        tfs.product_quantize(model, 4096, length=8)
