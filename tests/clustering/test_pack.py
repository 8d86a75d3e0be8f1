"""Packed files: exact weights, the Shannon limit, damaged files; and the accounting beside them."""

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

import tfsqueeze as tfs
from tests.zoo import ZOO, zoo_inputs
from tfsqueeze.cli import cli
from tfsqueeze.clustering import entropy_coder
from tfsqueeze.clustering.codes import find_coding
from tfsqueeze.clustering.huffman import huffman_bits, sparse_bits
from tfsqueeze.clustering.packed_arrays import pack_arrays, unpack_arrays


def assert_same_weights(model, other):
    for old, new in zip(model.weights, other.weights, strict=True):
        assert old.numpy().tobytes() == new.numpy().tobytes(), old.path


def wide(units=256):
    model = keras.Sequential([keras.Input((96,)), layers.Dense(units), layers.Dense(units, name="second")])
    model.compile("adam", "mse")
    return model


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_sequences_come_back(data):
    sequences = []
    for _ in range(data.draw(st.integers(1, 3))):
        symbols = data.draw(st.integers(1, 300))
        rng = np.random.default_rng(data.draw(st.integers(0, 99)))
        tail = rng.geometric(data.draw(st.floats(0.01, 0.99)), data.draw(st.integers(0, 3000))) % symbols
        sequences.append(np.concatenate([np.arange(symbols), tail]))
    tables = [entropy_coder.frequency_table(np.bincount(sequence)) for sequence in sequences]
    content = entropy_coder.encode(sequences, tables)
    decoded = entropy_coder.decode(content, [sequence.size for sequence in sequences], tables)
    for old, new in zip(sequences, decoded, strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("zeros", [0.1, 0.6, 0.95])
def test_codes_come_close_to_the_limit(zeros):
    rng = np.random.default_rng(0)
    sequence = np.where(rng.random(60_000) < zeros, 0, rng.integers(0, 16, 60_000))
    counts = np.bincount(sequence)
    share = counts / counts.sum()
    limit = -(share * np.log2(share)).sum() * sequence.size / 8
    assert (
        limit < len(entropy_coder.encode([sequence], [entropy_coder.frequency_table(counts)])) < 1.01 * limit
    )


def test_arrays_of_every_kind_come_back_bit_by_bit():
    rng = np.random.default_rng(0)
    few = rng.normal(size=5)
    arrays = [
        *(
            rng.choice(few, (30, 20)).astype(kind)
            for kind in ("float32", "float64", "float16", "int8", "int32")
        ),
        np.array([np.nan, -0.0, 0.0, np.inf] * 20, "float32"),
        rng.normal(size=(3, 50)).astype("float32"),
        np.zeros((0, 3), "float32"),
        np.int64(7).reshape(()),
        np.zeros((8, 8), bool),
        np.full((64, 2), 3, "uint16"),
    ]
    packed = pack_arrays(arrays)
    for old, new in zip(arrays, unpack_arrays(packed.facts, packed.sections), strict=True):
        assert (old.dtype, old.shape, old.tobytes()) == (new.dtype, new.shape, new.tobytes())


def test_structure_is_found_in_the_values():
    rng = np.random.default_rng(0)
    book = rng.normal(size=(16, 4)).astype("float32")
    from_book = book[rng.integers(0, 16, (40, 64))].transpose(0, 2, 1).reshape(160, 64)
    per_channel = np.stack([rng.choice(rng.normal(size=8), 500) for _ in range(32)], 1).astype("float32")
    found = [find_coding(array).layout for array in (from_book, per_channel)]
    assert (found[0].length, found[0].books) == (4, "one")
    assert (found[1].length, found[1].books) == (1, "columns")
    assert find_coding(rng.normal(size=(50, 50)).astype("float32")) is None


@pytest.mark.parametrize("name", ZOO)
def test_every_model_comes_back_exactly(name, tmp_path):
    model = ZOO[name]()
    small = tfs.cluster(tfs.prune(model, 0.6), 5)
    for chosen in (model, small):
        result = tfs.pack(chosen, tmp_path / "model.tfsq")
        again = tfs.unpack(tmp_path / "model.tfsq")
        assert_same_weights(chosen, again)
        inputs = zoo_inputs(chosen)
        for old, new in zip(
            keras.tree.flatten(chosen(inputs)), keras.tree.flatten(again(inputs)), strict=True
        ):
            np.testing.assert_array_equal(old, new)
        assert result.bytes == (tmp_path / "model.tfsq").stat().st_size


@pytest.mark.parametrize("sparsity", [0.0, 0.9])
def test_a_file_is_within_three_percent_of_the_limit(sparsity, tmp_path):
    small = tfs.cluster(tfs.prune(wide(), sparsity), 16)
    result = tfs.pack(small, tmp_path / "model.tfsq")
    assert result.weight_bytes <= 1.03 * result.limit_bytes
    assert result.limit_bytes == pytest.approx(tfs.huffman_size(small).shannon, abs=16)
    assert tfs.unpack(tmp_path / "model.tfsq").compiled


def test_product_quantization_is_stored_as_codes(tmp_path):
    small = tfs.product_quantize(wide(512), 16, length=4)
    result = tfs.pack(small, tmp_path / "model.tfsq")
    assert_same_weights(small, tfs.unpack(tmp_path / "model.tfsq"))
    assert result.weight_bytes <= 1.03 * result.limit_bytes
    assert result.ratio > 20


def test_state_that_is_no_weight_is_kept(tmp_path):
    lookup = layers.StringLookup(vocabulary=["a", "b", "c"])
    words = keras.Input((4,), dtype="string")
    model = keras.Model(words, layers.Embedding(5, 3)(lookup(words)))
    tfs.pack(model, tmp_path / "model.tfsq")
    again = tfs.unpack(tmp_path / "model.tfsq")
    assert again.layers[1].get_vocabulary() == lookup.get_vocabulary()
    assert_same_weights(model, again)


def test_the_accounting_by_hand():
    assert huffman_bits(np.array([5, 2, 1])) == 11
    assert huffman_bits(np.array([9])) == 9
    codes = np.array([1, 0, 0, 2, 0, 0, 0, 0, 0, 1])
    # Gaps 0, 2, and 5 = one filler and 1; codes 1, 2, filler, 1.
    assert sparse_bits(codes, 0, 2) == huffman_bits(np.array([1, 2, 1])) + huffman_bits(
        np.array([1, 1, 1, 1])
    )


def test_sizes_are_in_order():
    small = tfs.cluster(tfs.prune(wide(), 0.9), 16)
    size = tfs.huffman_size(small)
    assert size.shannon < size.deep_compression <= size.huffman < size.fixed < size.raw
    assert size.raw == 4 * small.count_params()
    assert size.gzipped < size.raw
    assert "Shannon limit" in str(size) and "second/kernel" in str(size)
    kernel = tfs.huffman_size(wide()).rows[0]
    assert kernel.words == 0 and kernel.shannon == kernel.raw == 4 * kernel.weights


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "model.tfsq"
    tfs.pack(tfs.cluster(wide(64), 16), path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(8, len(content), 30):
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match="is damaged or cut off"):
            tfs.unpack(path)
    for end in (10, 20, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:end])
        with pytest.raises(ValueError, match="is damaged or cut off"):
            tfs.unpack(path)
    path.write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(ValueError, match=r"was not written by `tfs\.pack`"):
        tfs.unpack(path)
    with pytest.raises(ValueError, match="No such file"):
        tfs.unpack(tmp_path / "other.tfsq")
    with pytest.raises(TypeError, match=r"tfs\.load_model"):
        tfs.pack("model.keras", path)


def test_programs_in_files_are_not_run(tmp_path):
    model = keras.Sequential([keras.Input((3,)), layers.Lambda(lambda x: x + 1)])
    tfs.pack(model, tmp_path / "model.tfsq")
    with pytest.raises(Exception, match=r"[Ll]ambda"):
        tfs.unpack(tmp_path / "model.tfsq")


def test_commands(tmp_path):
    model = wide(32)
    model.save(tmp_path / "model.keras")

    def run(*words):
        result = CliRunner().invoke(cli, list(map(str, words)))
        assert result.exit_code == 0, result.output
        return result.output

    packed = run("pack", tmp_path / "model.keras", "-o", tmp_path / "m.tfsq", "--clusters", 8)
    assert "Shannon limit" in packed
    run("unpack", tmp_path / "m.tfsq", "-o", tmp_path / "again.keras")
    assert_same_weights(tfs.cluster(model, 8), keras.models.load_model(tmp_path / "again.keras"))
