"""Which operators of a file compute in float, and which need TensorFlow's own kernels."""

from tfsqueeze.tflite.structure import Operator, Subgraph, TFLiteFile

FLOAT_TYPES = ("FLOAT32", "FLOAT16", "BFLOAT16", "FLOAT64")
INTEGER_ACTIVATIONS = ("INT8", "UINT8", "INT16")
_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE", "CAST")


def float_operators(file: TFLiteFile) -> list[tuple[Operator, Subgraph]]:
    """Operators that compute with a float tensor, with their subgraphs; mere conversions of type are none."""
    return [
        (operator, graph)
        for graph in file.subgraphs
        for operator in graph.operators
        if operator.name not in _CONVERSIONS and _touches_float(operator, graph)
    ]


def select_operators(file: TFLiteFile) -> list[str]:
    """Names of the operators that run with TensorFlow's own kernels, without their "Flex" prefix."""
    operators = (operator for graph in file.subgraphs for operator in graph.operators)
    return sorted({operator.name.removeprefix("Flex") for operator in operators if operator.is_select_tf})


def is_integer_file(file: TFLiteFile) -> bool:
    """Whether any operator other than QUANTIZE computes a quantized activation."""
    return any(
        graph.tensors[index].is_quantized and graph.tensors[index].dtype in INTEGER_ACTIVATIONS
        for graph in file.subgraphs
        for operator in graph.operators
        if operator.name != "QUANTIZE"
        for index in operator.outputs
    )


def _touches_float(operator: Operator, graph: Subgraph) -> bool:
    operands = (index for index in (*operator.inputs, *operator.outputs) if index >= 0)
    return any(graph.tensors[index].dtype in FLOAT_TYPES for index in operands)
