"""Sparse tensors: every format decodes, and a file with sparse kernels computes what it did."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.tflite.builders import float_file, int8_file
from tfsqueeze.tflite.file import read
from tfsqueeze.tflite.sparse_storage import store_sparse
from tfsqueeze.tflite.sparsity import decode, encode, index_nbytes

DENSE, COMPRESSED = schema.DimensionType.DENSE, schema.DimensionType.SPARSE_CSR


def level(segments, indices):
    return schema.DimensionMetadataT(
        COMPRESSED, arraySegments=schema.Int32VectorT(segments), arrayIndices=schema.Int32VectorT(indices)
    )


@given(
    hnp.arrays(
        st.sampled_from(["float32", "float16", "int8"]),
        hnp.array_shapes(min_dims=1, max_dims=4),
        elements=st.sampled_from([0, 0, 0, 1, -2]),
    )
)
def test_round_trip(values):
    stored, places = encode(values)
    assert stored.size == np.count_nonzero(values)
    restored = decode(stored, places, values.shape)
    assert restored.dtype == values.dtype
    np.testing.assert_array_equal(restored, values)


@pytest.mark.parametrize(("size", "bytes_each"), [(200, 1), (60_000, 2), (70_000, 4)])
def test_places_take_as_few_bytes_as_they_can(size, bytes_each):
    values = np.zeros((1, size), "float32")
    values[0, -1] = 1
    stored, places = encode(values)
    assert index_nbytes(places) == 2 + bytes_each
    np.testing.assert_array_equal(decode(stored, places, values.shape), values)


def test_another_order_of_axes_by_hand():
    columns_first = schema.SparsityParametersT(
        [1, 0], None, [schema.DimensionMetadataT(DENSE, 3), level([0, 1, 1, 3], [1, 0, 1])]
    )
    expected = [[0, 0, 8], [7, 0, 9]]
    np.testing.assert_array_equal(decode(np.array([7, 8, 9]), columns_first, (2, 3)), expected)


def test_blocks_by_hand():
    """Blocks of 1x2 in a 2x4 matrix; the second block of row 0 and the first of row 1 are stored."""
    blocks = schema.SparsityParametersT(
        [0, 1, 2],
        [1],
        [schema.DimensionMetadataT(DENSE, 2), level([0, 1, 2], [1, 0]), schema.DimensionMetadataT(DENSE, 2)],
    )
    expected = [[0, 0, 1, 2], [3, 4, 0, 0]]
    np.testing.assert_array_equal(decode(np.array([1, 2, 3, 4]), blocks, (2, 4)), expected)


def test_places_that_do_not_fit():
    stored, places = encode(np.eye(4, dtype="float32"))
    with pytest.raises(ValueError, match="places of a sparse tensor do not fit its shape"):
        decode(stored, places, (4, 2))
    with pytest.raises(ValueError, match="do not fit"):
        decode(stored[:2], places, (4, 4))
    places.dimMetadata[0].denseSize = 2**31 - 1
    with pytest.raises(ValueError, match="level of size"):
        decode(stored, places, (4, 4))
    places.traversalOrder = [0, 5]
    with pytest.raises(ValueError, match="do not fit"):
        decode(stored, places, (4, 4))


@pytest.mark.parametrize("content", [float_file(), int8_file()], ids=["float", "int8"])
def test_files_that_would_not_shrink_stay_as_they_are(content):
    assert store_sparse(content) == content
    assert not any(tensor.is_sparse for tensor in read(content).main.tensors)
