"""Whether a file is as integer as it was asked to be."""

from collections import Counter

from tfsqueeze.tflite.operators import FLOAT_TYPES, float_operators
from tfsqueeze.tflite.structure import TFLiteFile


def float_counts(file: TFLiteFile) -> dict[str, int]:
    """How many operators of each name compute in float, the most frequent first."""
    return dict(Counter(operator.name for operator, _ in float_operators(file)).most_common())


def check_integer(file: TFLiteFile, io_dtype: str, allow_float: bool) -> None:
    """Checks what an integer `io_dtype` promises.

    Raises:
        ValueError: if an input or output stayed float, which the converter does silently, or an operator
            computes in float and `allow_float` is False.
    """
    main = file.main
    stayed = [
        main.tensors[i].name for i in (*main.inputs, *main.outputs) if main.tensors[i].dtype in FLOAT_TYPES
    ]
    if stayed:
        raise ValueError(
            f"io_dtype={io_dtype!r} was asked for, but {', '.join(map(repr, stayed))} stayed float, because "
            'the operator there cannot be quantized. Use io_dtype="float32".'
        )
    left = float_counts(file)
    if left and not allow_float:
        listed = ", ".join(f"{name} x{count}" for name, count in left.items())
        raise ValueError(
            f"io_dtype={io_dtype!r} promises a full-integer file, but these operators stay float: {listed}. "
            'Replace their layers, pass allow_float=True, or use io_dtype="float32".'
        )
