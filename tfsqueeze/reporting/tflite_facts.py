"""What a `.tflite` file tells without running it: weights, MACs, operators, types, memory."""

import gzip
from collections import Counter
from dataclasses import replace

import numpy as np

from tfsqueeze.reporting.facts import Facts, LayerFacts, OperatorCount
from tfsqueeze.reporting.memory import Step, peak_bytes
from tfsqueeze.reporting.tflite_macs import operator_macs
from tfsqueeze.reporting.tflite_shapes import for_one_example, keeps_examples_apart
from tfsqueeze.tflite.operators import FLOAT_TYPES, float_operators, is_integer_file, select_operators
from tfsqueeze.tflite.structure import BITS, Operator, Subgraph, Tensor, TFLiteFile

LOOP_NOTE = "MACs are unknown: there are loops or branches, and how often they run is not in the file."
UNPACKING = ("DENSIFY", "DEQUANTIZE")
KERNEL_OPERATORS = ("CONV", "FULLY_CONNECTED", "LSTM", "RNN", "SVDF", "BATCH_MATMUL", "EMBEDDING")


def tflite_facts(file: TFLiteFile) -> Facts:
    """Collects the facts of a parsed `.tflite` file.

    Weights are the constants that take part in the arithmetic: float or quantized, each counted once.
    Shapes, axes and paddings are not weights.

    Args:
        file: from `tflite.read`.

    Raises:
        ValueError: if operators do not fit their tensors, as in a damaged file that can still be parsed.

    Example:
        >>> facts = tflite_facts(tflite.read("model.tflite"))
        >>> print(facts.parameters, facts.macs)
    """
    try:
        return _facts(file)
    except (IndexError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(
            f"The .tflite file is corrupt: its operators do not fit their tensors ({error}). "
            "Copy or export it again."
        ) from error


def _facts(file: TFLiteFile) -> Facts:
    notes: list[str] = []
    stored, file = file, replace(file, subgraphs=tuple(map(for_one_example, file.subgraphs)))
    shapes_known = _shapes_known(stored.main, file.main)
    if not shapes_known:
        notes.append("MACs and activation memory are unknown: the file has free axes besides the batch.")
    layers, weight_bytes = _layers(file, shapes_known, notes)
    return Facts(
        kind="TFLite file",
        parameters=sum(layer.parameters for layer in layers),
        nonzero=sum(layer.nonzero for layer in layers),
        macs=None if any(layer.macs is None for layer in layers) else sum(layer.macs for layer in layers),
        weight_bytes=weight_bytes,
        file_bytes=len(file.content),
        gzip_bytes=len(gzip.compress(file.content, 6)),
        size_of="the .tflite file",
        activation_bytes=_activation_bytes(file.main) if shapes_known else None,
        layers=layers,
        operators=operator_counts(file),
        select_tf_ops=select_operators(file),
        float_ops=float_names(file),
        notes=notes,
    )


def float_names(file: TFLiteFile) -> list[str]:
    """Operators that compute in float although the file is an integer one, as "NAME (tensor)"."""
    if not is_integer_file(file):
        return []
    return [
        f"{operator.name} ({graph.tensors[operator.outputs[0]].name})"
        for operator, graph in float_operators(file)
        if operator.outputs
    ]


def operator_counts(file: TFLiteFile) -> list[OperatorCount]:
    """Operators by name and type, the most frequent first."""
    counter: Counter = Counter()
    for graph in file.subgraphs:
        for operator in graph.operators:
            dtype = graph.tensors[operator.outputs[0]].dtype.lower() if operator.outputs else ""
            weights = _weight_type(operator, graph)
            counter[operator.name, dtype, weights if weights != dtype else ""] += 1
    ordered = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    return [OperatorCount(*key, count=count) for key, count in ordered]


def _activation_bytes(graph: Subgraph) -> int:
    """Peak of live activations, to which the lasting state of recurrent operators belongs."""
    states = [index for index, tensor in enumerate(graph.tensors) if tensor.is_variable]
    sizes = {index: tensor.nbytes for index, tensor in enumerate(graph.tensors) if not tensor.is_constant}
    computing = [operator for operator in graph.operators if not _unpacks_weights(operator, graph)]
    steps = [Step(operator.inputs, operator.outputs) for operator in computing]
    return peak_bytes(steps, sizes, (*graph.inputs, *states), (*graph.outputs, *states))


def _layers(file: TFLiteFile, shapes_known: bool, notes: list[str]) -> tuple[list[LayerFacts], int]:
    """Facts per operator that has weights or MACs, and the bytes of all weights."""
    layers, seen, weight_bytes = [], set(), 0
    batch_size = _batch_size(file.main)
    for graph in file.subgraphs:
        producers = {index: op for op in graph.operators for index in op.outputs}
        for operator in graph.operators:
            if _unpacks_weights(operator, graph):
                continue
            weights = [tensor for tensor in _weights(operator, graph, producers) if _is_new(tensor, seen)]
            weight_bytes += sum(tensor.stored_nbytes for tensor in weights)
            macs = operator_macs(operator, graph.tensors) // batch_size
            if not (weights or macs):
                continue
            if macs and graph is not file.main and LOOP_NOTE not in notes:
                notes.append(LOOP_NOTE)
            is_known = shapes_known and (graph is file.main or not macs)
            layers.append(_layer_facts(operator, graph, weights, macs if is_known else None))
    return layers, weight_bytes


def _unpacks_weights(operator: Operator, graph: Subgraph) -> bool:
    """Whether an operator only turns stored float16 weights to float32, or sparse ones to dense."""
    if operator.name not in UNPACKING:
        return False
    tensor = graph.tensors[operator.inputs[0]]
    return tensor.is_constant or any(
        producer.name == "DENSIFY" and operator.inputs[0] in producer.outputs for producer in graph.operators
    )


def _layer_facts(operator, graph, weights, macs) -> LayerFacts:
    largest = max(weights, key=lambda tensor: tensor.elements, default=None)
    name = graph.tensors[operator.outputs[0]].name if operator.outputs else operator.name
    return LayerFacts(
        name=name,
        kind=operator.name,
        parameters=sum(tensor.elements for tensor in weights),
        nonzero=sum(_nonzero(tensor) for tensor in weights),
        macs=macs,
        dtype=largest.dtype.lower() if largest else "",
    )


def _weights(operator: Operator, graph: Subgraph, producers: dict[int, Operator]) -> list[Tensor]:
    """The constants an operator computes with, looking through what unpacks them."""
    found = []
    for index in operator.inputs:
        while index in producers and producers[index].name in UNPACKING:
            index = producers[index].inputs[0]
        if index >= 0 and _is_weight(graph.tensors[index], operator):
            found.append(graph.tensors[index])
    return found


def _is_weight(tensor: Tensor, operator: Operator) -> bool:
    if not tensor.is_constant or tensor.dtype not in BITS or not tensor.elements:
        return False
    has_kernel = any(part in operator.name for part in KERNEL_OPERATORS)
    numeric = tensor.dtype in FLOAT_TYPES or tensor.is_quantized
    return numeric and (has_kernel or tensor.elements > 1)


def _is_new(tensor: Tensor, seen: set) -> bool:
    """Tensors that share one buffer are one weight."""
    key = (tensor.content.ctypes.data, tensor.content.nbytes)
    return not (key in seen or seen.add(key))


def _nonzero(tensor: Tensor) -> int:
    values = tensor.values()
    if tensor.zero_point.size == 1:
        return int(np.count_nonzero(values != values.dtype.type(tensor.zero_point[0])))
    if tensor.zero_point.size > 1 and np.any(tensor.zero_point):
        shape = [1] * values.ndim
        shape[tensor.quantized_dimension] = -1
        return int(np.count_nonzero(values != tensor.zero_point.reshape(shape)))
    return int(np.count_nonzero(values))


def _weight_type(operator: Operator, graph: Subgraph) -> str:
    """Type of the operator's largest constant weight, biases excepted; empty without one."""
    constants = [graph.tensors[index] for index in operator.inputs if index >= 0]
    weights = [tensor for tensor in constants if _is_weight(tensor, operator) and len(tensor.shape) > 1]
    return max(weights, key=lambda tensor: tensor.elements).dtype.lower() if weights else ""


def _batch_size(graph: Subgraph) -> int:
    """The fixed batch size all inputs agree on, 1 where it is free."""
    leading = {graph.tensors[index].shape[0] for index in graph.inputs if graph.tensors[index].shape}
    return max(leading.pop(), 1) if len(leading) == 1 else 1


def _shapes_known(stored: Subgraph, resolved: Subgraph) -> bool:
    """Whether the batch is the only free axis, and could be followed from the inputs to the outputs."""
    ports = [stored.tensors[index].shape for index in (*stored.inputs, *stored.outputs)]
    if any(-1 in shape[1:] for shape in ports):
        return False
    return not any(-1 in shape for shape in ports) or keeps_examples_apart(resolved)
