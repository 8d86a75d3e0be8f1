"""Where in the network an exported file starts to differ from the model."""

import re
from collections.abc import Mapping

import keras
import numpy as np

from tfsqueeze.core.checks import has_graph
from tfsqueeze.core.data import pack_inputs
from tfsqueeze.export.parity import snr_db
from tfsqueeze.tflite.runner import Runner
from tfsqueeze.tflite.structure import Tensor

_MATCHES_DB = 60.0


def largest_drops(
    quantized, reference, inputs: Mapping[str, np.ndarray], most: int = 5
) -> list[tuple[str, float]]:
    """Operators of a quantized file that lose most, compared tensor by tensor with the float file.

    Args:
        quantized, reference: files of one model, whose tensors have the same names.
        inputs: one batch of examples by input name.
        most: how many to give.

    Returns:
        (tensor name, SNR in dB behind it) in execution order, of those where the SNR falls most below
        that of the operator's own inputs.
    """
    expected = _tensor_values(reference, inputs)
    runner = Runner(quantized, keep_tensors=True)
    runner.invoke(inputs)
    tensors = runner.file.main.tensors
    ratios: dict[int, float] = {}
    drops = []
    for operator in runner.file.main.operators:
        before = min((ratios[index] for index in operator.inputs if index in ratios), default=200.0)
        for index in operator.outputs:
            wanted = expected.get(tensors[index].name)
            received = _real_values(runner, index, tensors[index])
            if wanted is None or received is None or wanted.shape != received.shape:
                ratios[index] = before
                continue
            ratios[index] = snr_db(wanted, received - wanted)
            drops.append((before - ratios[index], len(drops), tensors[index].name, ratios[index]))
    worst = sorted(sorted(drops, reverse=True)[:most], key=lambda drop: drop[1])
    return [(name, ratio) for _, _, name, ratio in worst]


def first_mismatch(model: keras.Model, file, inputs: Mapping[str, np.ndarray]) -> list[str]:
    """Layers of a graph model behind the last one whose output some tensor of a float file holds.

    A layer fused into its neighbour has no tensor of its own, so it is the last match that counts.

    Args:
        model: the Keras model.
        file: its float `.tflite` file.
        inputs: one batch of examples by input name.

    Returns:
        Names of the layers that follow the last match, at most 3; empty if the model has no graph.
    """
    if not has_graph(model):
        return []
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    taps = keras.Model(model.inputs, [keras.tree.flatten(layer.output)[0] for layer in layers])
    outputs = taps(keras.tree.flatten(pack_inputs(model, inputs)), training=False)
    held = list(_tensor_values(file, inputs).values())
    last = -1
    for position, output in enumerate(keras.tree.flatten(outputs)):
        wanted = np.asarray(output, np.float32)
        if any(v.shape == wanted.shape and snr_db(wanted, v - wanted) > _MATCHES_DB for v in held):
            last = position
    return [layer.name for layer in layers[last + 1 : last + 4]]


def layer_of(tensor_name: str, model: keras.Model | None) -> str:
    """The Keras layer behind a tensor name such as "model_1/block/conv_1/BiasAdd;..."."""
    names = set() if model is None else {layer.name for layer in model._flatten_layers()}
    for segment in reversed(tensor_name.split(";")[0].split("/")):
        for name in (segment, re.sub(r"_\d+$", "", segment)):
            if name in names:
                return name
    return tensor_name.split(";")[0]


def _tensor_values(file, inputs) -> dict[str, np.ndarray]:
    runner = Runner(file, keep_tensors=True)
    runner.invoke(inputs)
    values = {}
    for operator in runner.file.main.operators:
        for index in operator.outputs:
            value = _real_values(runner, index, runner.file.main.tensors[index])
            if value is not None:
                values[runner.file.main.tensors[index].name] = value
    return values


def _real_values(runner: Runner, index: int, tensor: Tensor) -> np.ndarray | None:
    """A computed tensor as real numbers; None for indices, shapes and what the interpreter does not keep."""
    try:
        values = runner.interpreter.get_tensor(index)
    except ValueError:
        return None
    if tensor.dtype == "FLOAT32":
        return values
    if not tensor.is_quantized or tensor.scale.size > 1:
        return None
    return (values.astype(np.float32) - tensor.zero_point[0]) * tensor.scale[0]
