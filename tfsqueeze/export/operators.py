"""Which operators of a file compute in float or need TensorFlow, and of what type its ends are."""

from collections import Counter

from tfsqueeze.tflite.structure import Operator, Subgraph, TFLiteFile

_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE", "CAST")
_FLOATS = ("FLOAT32", "FLOAT16", "BFLOAT16", "FLOAT64")


def float_operators(file: TFLiteFile) -> dict[str, int]:
    """Operators with a float operand and how many there are, other than those that only convert types."""
    operators = [
        operator.name
        for subgraph in file.subgraphs
        for operator in subgraph.operators
        if operator.name not in _CONVERSIONS and _is_float(operator, subgraph)
    ]
    return dict(Counter(operators).most_common())


def select_operators(file: TFLiteFile) -> list[str]:
    """Operators that run with TensorFlow's own kernels, without their "Flex" prefix."""
    operators = (operator for subgraph in file.subgraphs for operator in subgraph.operators)
    return sorted({operator.name.removeprefix("Flex") for operator in operators if operator.is_select_tf})


def check_integer(file: TFLiteFile, io_dtype: str, allow_float: bool) -> None:
    """Checks what an integer `io_dtype` promises.

    Raises:
        ValueError: if an input or output stayed float, which the converter does silently, or an operator
            computes in float and `allow_float` is False.
    """
    main = file.main
    stayed = [main.tensors[i].name for i in (*main.inputs, *main.outputs) if main.tensors[i].dtype in _FLOATS]
    if stayed:
        raise ValueError(
            f"io_dtype={io_dtype!r} was asked for, but {', '.join(map(repr, stayed))} stayed float, because "
            'the operator there cannot be quantized. Use io_dtype="float32".'
        )
    left = float_operators(file)
    if left and not allow_float:
        listed = ", ".join(f"{name} x{count}" for name, count in left.items())
        raise ValueError(
            f"io_dtype={io_dtype!r} promises a full-integer file, but these operators stay float: {listed}. "
            'Replace their layers, pass allow_float=True, or use io_dtype="float32".'
        )


def _is_float(operator: Operator, subgraph: Subgraph) -> bool:
    operands = (index for index in (*operator.inputs, *operator.outputs) if index >= 0)
    return any(subgraph.tensors[index].dtype in _FLOATS for index in operands)
