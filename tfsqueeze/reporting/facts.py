"""What a report is made of: plain records, filled by `keras_facts` and `tflite_facts`."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class LayerFacts:
    """One layer of a Keras model, or one operator of a `.tflite` file.

    Attributes:
        name: the layer's name, or the name of the operator's first output tensor.
        kind: the layer's class, or the operator's name.
        parameters: number of weights, each counted once however often the layer is called.
        nonzero: number of those that are not zero.
        macs: multiply-accumulates for one example over all calls; None if unknown.
        dtype: type of the largest weight, such as "float32" or "int8"; empty without weights.
    """

    name: str
    kind: str
    parameters: int
    nonzero: int
    macs: int | None
    dtype: str = ""

    @property
    def sparsity(self) -> float | None:
        """Fraction of the weights that is zero; None for a layer without weights."""
        return 1 - self.nonzero / self.parameters if self.parameters else None


@dataclass(frozen=True)
class OperatorCount:
    """How often an operator occurs in a `.tflite` file with given types.

    Attributes:
        name: the operator, such as "CONV_2D".
        dtype: type of what it computes on and returns.
        weights: type of its constant weights if it differs from `dtype` (hybrid operators), else empty.
        count: number of occurrences.
    """

    name: str
    dtype: str
    weights: str
    count: int


@dataclass(frozen=True)
class Facts:
    """Everything known of a model without running it on data. None means unknown, never zero.

    Attributes:
        kind: "Keras model" or "TFLite file".
        parameters: number of weights.
        nonzero: number of weights that are not zero.
        macs: multiply-accumulates for one example.
        weight_bytes: bytes the weights take, packed types counted as packed.
        file_bytes: bytes of the file (`size_of` says of which).
        gzip_bytes: bytes of that file after gzip, the size of a download.
        size_of: what `file_bytes` was measured on.
        activation_bytes: peak of the tensors alive at the same time when one example is computed, in the
            order of the schedule, without in-place tricks and fused operators.
        layers: facts per layer or operator, in order of computation.
        operators: operator counts by name and type; empty for a Keras model.
        select_tf_ops: operators that need the large TensorFlow runtime ("Flex" operators).
        float_ops: operators that compute in float in an otherwise integer file.
        notes: what could not be found out, and why.
    """

    kind: str
    parameters: int
    nonzero: int
    macs: int | None
    weight_bytes: int
    file_bytes: int | None
    gzip_bytes: int | None
    size_of: str
    activation_bytes: int | None
    layers: list[LayerFacts] = field(default_factory=list)
    operators: list[OperatorCount] = field(default_factory=list)
    select_tf_ops: list[str] = field(default_factory=list)
    float_ops: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def sparsity(self) -> float:
        """Fraction of the weights that is zero."""
        return 1 - self.nonzero / self.parameters if self.parameters else 0.0
