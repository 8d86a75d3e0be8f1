"""The sparse format of `.tflite` tensors: an array to its non-zero values and where they lie, and back.

Each level of the format runs over one axis (or over one axis of a block) and either goes through all its
places or lists the occupied ones (compressed sparse rows), as the schema's SparsityParameters say.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

_INDEX_VECTORS = (
    (np.uint8, schema.SparseIndexVector.Uint8Vector, schema.Uint8VectorT),
    (np.uint16, schema.SparseIndexVector.Uint16Vector, schema.Uint16VectorT),
    (np.int32, schema.SparseIndexVector.Int32Vector, schema.Int32VectorT),
)


def encode(values: np.ndarray) -> tuple[np.ndarray, schema.SparsityParametersT]:
    """The non-zero values of an array, and their places: the last axis compressed, all others in full.

    Args:
        values: array of at least one axis.

    Example:
        >>> stored, places = encode(np.array([[0.0, 2.0], [3.0, 0.0]], "float32"))
        >>> stored
        array([2., 3.], dtype=float32)
    """
    rows = values.reshape(-1, values.shape[-1])
    row, column = np.nonzero(rows)
    segments = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(rows)))])
    levels = [schema.DimensionMetadataT(schema.DimensionType.DENSE, size) for size in values.shape[:-1]]
    compressed = schema.DimensionMetadataT(schema.DimensionType.SPARSE_CSR)
    compressed.arraySegmentsType, compressed.arraySegments = _index_vector(segments)
    compressed.arrayIndicesType, compressed.arrayIndices = _index_vector(column)
    places = schema.SparsityParametersT(
        traversalOrder=np.arange(values.ndim, dtype=np.int32), dimMetadata=[*levels, compressed]
    )
    return rows[row, column], places


def decode(stored: np.ndarray, places: schema.SparsityParametersT, shape: tuple[int, ...]) -> np.ndarray:
    """The whole array of `shape`, whatever axes and blocks of it are compressed.

    Raises:
        ValueError: if values and places do not fit together.
    """
    try:
        whole = np.zeros(shape, stored.dtype)
        whole[_positions(places, shape)] = stored
        return whole
    except (IndexError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"the places of a sparse tensor do not fit its shape {shape} ({error})") from error


def index_nbytes(places: schema.SparsityParametersT) -> int:
    """Bytes that the lists of places take."""
    vectors = (v for level in places.dimMetadata for v in (level.arraySegments, level.arrayIndices))
    return sum(np.asarray(vector.values).nbytes for vector in vectors if vector is not None)


def _index_vector(numbers: np.ndarray):
    dtype, code, vector = next(
        kind for kind in _INDEX_VECTORS if numbers.max(initial=0) <= np.iinfo(kind[0]).max
    )
    return code, vector(numbers.astype(dtype))


def _positions(places, shape) -> tuple[np.ndarray, ...]:
    """The index of each stored value along each axis."""
    order = [int(level) for level in places.traversalOrder]
    blocked = [] if places.blockMap is None else [int(axis) for axis in places.blockMap]
    visited: dict[int, np.ndarray] = {}
    parents = 1
    for level, metadata in zip(order, places.dimMetadata, strict=True):
        if metadata.format == schema.DimensionType.DENSE:
            # A damaged file must not ask for more memory than its tensor has entries.
            if not 0 <= parents * metadata.denseSize <= np.prod(shape, dtype=np.int64):
                raise IndexError(f"level of size {metadata.denseSize}")
            repeats, along = metadata.denseSize, np.tile(np.arange(metadata.denseSize), parents)
        else:
            repeats = np.diff(np.asarray(metadata.arraySegments.values, np.int64))
            along = np.asarray(metadata.arrayIndices.values, np.int64)
        visited = {known: np.repeat(index, repeats) for known, index in visited.items()}
        visited[level] = along
        parents = along.size
    sizes = {
        axis: places.dimMetadata[order.index(len(shape) + position)].denseSize
        for position, axis in enumerate(blocked)
    }
    inner = {axis: visited[len(shape) + position] for position, axis in enumerate(blocked)}
    return tuple(visited[axis] * sizes.get(axis, 1) + inner.get(axis, 0) for axis in range(len(shape)))
