"""What a `.tflite` file is made of: subgraphs, tensors, operators, signatures."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from tfsqueeze.tflite.sparsity import decode, index_nbytes

BITS = {
    "INT2": 2,
    **dict.fromkeys(("INT4", "UINT4"), 4),
    **dict.fromkeys(("INT8", "UINT8", "BOOL", "FLOAT8_E4M3FN", "FLOAT8_E5M2"), 8),
    **dict.fromkeys(("INT16", "UINT16", "FLOAT16", "BFLOAT16"), 16),
    **dict.fromkeys(("INT32", "UINT32", "FLOAT32"), 32),
    **dict.fromkeys(("INT64", "UINT64", "FLOAT64", "COMPLEX64"), 64),
    "COMPLEX128": 128,
}


@dataclass(frozen=True)
class Tensor:
    """One tensor of a subgraph.

    Attributes:
        name: as the converter named it.
        shape: sizes, -1 where free (usually the batch axis).
        dtype: the schema's name, such as "FLOAT32", "INT8" or "INT4".
        content: the raw bytes of a constant; None for a computed tensor.
        scale, zero_point: quantization, one value per tensor or per channel; empty if not quantized.
        quantized_dimension: the axis that per-channel scales run along.
        is_variable: whether it keeps its value from run to run (recurrent state).
        sparsity: where the stored values lie, if `content` is stored sparse (the schema's object).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    content: np.ndarray | None = field(default=None, repr=False)
    scale: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32), repr=False)
    zero_point: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64), repr=False)
    quantized_dimension: int = 0
    is_variable: bool = False
    sparsity: Any = field(default=None, repr=False)

    @property
    def is_sparse(self) -> bool:
        """Whether only the values that are not zero are stored, with their places."""
        return self.sparsity is not None

    @property
    def is_constant(self) -> bool:
        """Whether the tensor's values are stored in the file."""
        return self.content is not None

    @property
    def is_quantized(self) -> bool:
        """Whether the tensor holds integers that stand for real numbers."""
        return self.scale.size > 0

    @property
    def elements(self) -> int:
        """Number of values, a free axis counted as 1."""
        return int(np.prod([max(size, 1) if size == -1 else size for size in self.shape], dtype=np.int64))

    @property
    def stored_nbytes(self) -> int:
        """Bytes that a constant takes in the file, the places of sparse values included."""
        if self.content is None:
            return 0
        return self.content.nbytes + (index_nbytes(self.sparsity) if self.is_sparse else 0)

    @property
    def nbytes(self) -> int:
        """Bytes of the values, packed as in the file, a free axis counted as 1; 0 for strings and handles."""
        return (self.elements * BITS.get(self.dtype, 0) + 7) // 8

    def values(self) -> np.ndarray:
        """The values of a constant, sparse ones filled up, 4-bit and 2-bit integers unpacked into int8.

        Raises:
            ValueError: if the tensor is no constant, holds no numbers, or is sparse with packed bits.
        """
        bits = BITS.get(self.dtype)
        if self.content is None or bits is None or (self.is_sparse and bits < 8):
            raise ValueError(f"Tensor {self.name!r} ({self.dtype}) has no plain stored values.")
        if self.is_sparse:
            stored = replace(self, shape=(-1,), sparsity=None).values()
            return decode(stored, self.sparsity, self.shape)
        if bits < 8:
            return _unpack_bits(self.content, bits, self.dtype[0] == "I")[: self.elements].reshape(self.shape)
        if self.dtype == "BFLOAT16":
            widened = self.content.view(np.uint16).astype(np.uint32) << 16
            return widened.view(np.float32).reshape(self.shape)
        return self.content.view(self.dtype.lower()).reshape(self.shape)


@dataclass(frozen=True)
class Operator:
    """One operator: its name ("CONV_2D", a custom code, or "Flex..." for a select-TF op), tensor indices
    (-1 for an optional input that is absent) and options by the schema's names."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    version: int = 1

    @property
    def is_select_tf(self) -> bool:
        """Whether the operator needs TensorFlow's own kernels (the Flex delegate)."""
        return self.name.startswith("Flex")


@dataclass(frozen=True)
class Subgraph:
    """A graph of operators in execution order; `inputs` and `outputs` index `tensors`."""

    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Signature:
    """Names of a subgraph's inputs and outputs, each with its tensor's index."""

    inputs: dict[str, int]
    outputs: dict[str, int]
    subgraph: int = 0


@dataclass(frozen=True)
class TFLiteFile:
    """A parsed `.tflite` file; the first subgraph is the one that an interpreter runs.

    Attributes:
        content: the whole file.
        subgraphs: the main graph, then the bodies of control flow.
        signatures: by name, usually one, "serving_default".
        description: who wrote the file, as it says itself.
        metadata: raw bytes by name.
        has_checksum: whether the content was verified against a checksum of ours.
    """

    content: bytes = field(repr=False)
    subgraphs: tuple[Subgraph, ...] = field(repr=False)
    signatures: dict[str, Signature]
    description: str = ""
    metadata: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    has_checksum: bool = False

    @property
    def main(self) -> Subgraph:
        """The subgraph that is run."""
        return self.subgraphs[0]

    @cached_property
    def signature(self) -> Signature:
        """The main subgraph's signature; made of tensor names for files that have none."""
        for signature in self.signatures.values():
            if signature.subgraph == 0 and signature.outputs:
                return signature
        names = [tensor.name for tensor in self.main.tensors]
        return Signature({names[i]: i for i in self.main.inputs}, {names[i]: i for i in self.main.outputs})


def _unpack_bits(content: np.ndarray, bits: int, signed: bool) -> np.ndarray:
    """Values of 2 or 4 bits, the first in the lowest bits of a byte, as int8."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    values = (content[:, None] >> shifts & (2**bits - 1)).astype(np.int8).reshape(-1)
    return np.where(values >= 2 ** (bits - 1), values - 2**bits, values) if signed else values
