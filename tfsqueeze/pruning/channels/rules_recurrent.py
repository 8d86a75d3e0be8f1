"""Rules of recurrent layers and of the wrappers around layers."""

from dataclasses import replace

import keras
import numpy as np
from keras import layers
from keras.src.layers.rnn.conv_lstm import ConvLSTMCell

from tfsqueeze.core import layer_info
from tfsqueeze.pruning.channels.flow import Axes, Call, Flow, Tensor
from tfsqueeze.pruning.channels.trial import passes_channels

_CELLS = (layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell, ConvLSTMCell)


def recurrent(flow: Flow, call: Call) -> list[Axes]:
    """`LSTM`, `GRU`, `SimpleRNN`, `ConvLSTM`, `RNN` of their cells: units go with their gates and states."""
    layer, cell, sequence = call.operation, call.operation.cell, call.inputs[0]
    if type(cell) not in _CELLS or getattr(cell, "data_format", "") == "channels_first":
        return flow.pin(call, f"{call.path!r} has a cell that is not known")
    if layer.stateful or not _gates_pass_channels(cell):
        return flow.pin(call, f"{call.path!r} is stateful or has an activation that mixes channels")
    units = flow.produce(cell, "units", cell.recurrent_kernel.shape[-2])
    for state in call.inputs[1:]:
        flow.sets.join(units, state.axes[-1], f"the initial state of {call.path!r} cannot be cut")
    for labels in sequence.axes[:-1]:
        flow.sets.pin(labels, f"{call.path!r} steps over them")
    _touch_cell(flow, call, units, sequence)
    return [(*(None,) * (len(shape) - 1), units) for shape in call.output_shapes]


def _touch_cell(flow, call, units, sequence) -> None:
    layer, cell = call.operation, call.operation.cell
    kernels = (cell.kernel, cell.recurrent_kernel)
    inputs, outputs = len(cell.kernel.shape) - 2, len(cell.kernel.shape) - 1
    gates = np.tile(units, cell.kernel.shape[-1] // len(units))
    flow.touch(cell, cell.kernel, inputs, "consumer", sequence.axes[-1], path=call.path, tensor=sequence)
    flow.touch(cell, cell.recurrent_kernel, inputs, "consumer", units, path=call.path)
    for kernel in kernels:
        flow.touch(cell, kernel, outputs, "producer", gates, path=call.path)
    if cell.bias is not None:
        flow.touch(cell, cell.bias, len(cell.bias.shape) - 1, "follower", gates, path=call.path)
    owner = cell if type(layer) is layers.RNN else layer
    flow.resize(owner, **{"filters" if isinstance(cell, ConvLSTMCell) else "units": units})
    flow.count(call, kernels)


def _gates_pass_channels(cell) -> bool:
    functions = [getattr(cell, name, None) for name in ("activation", "recurrent_activation")]
    return all(
        function is None or passes_channels(function, cell.recurrent_kernel.shape[-2])
        for function in functions
    )


def bidirectional(flow: Flow, call: Call) -> list[Axes]:
    """`Bidirectional`: both directions keep the same units."""
    layer = call.operation
    known = (layers.LSTM, layers.GRU, layers.SimpleRNN)
    if type(layer.forward_layer) not in known or layer.return_state or len(call.inputs) > 1:
        return flow.pin(call, f"{call.path!r} wraps a layer that is not known or returns its states")
    shapes = [(*call.output_shapes[0][:-1], layer.forward_layer.units)]
    ways = [
        recurrent(flow, replace(call, operation=way, path=flow.path(way), output_shapes=shapes))[0]
        for way in (layer.forward_layer, layer.backward_layer)
    ]
    forward, backward = (axes[-1] for axes in ways)
    units = flow.sets.join(forward, backward, f"the directions of {call.path!r} differ")
    if layer.merge_mode is None:
        return ways
    merged = np.tile(units, 2) if layer.merge_mode == "concat" and units is not None else units
    return [(*ways[0][:-1], merged)]


def time_distributed(flow: Flow, call: Call, rule) -> list[Axes]:
    """`TimeDistributed`: the rule of the wrapped layer, for each step."""
    inner, tensor = call.operation.layer, call.inputs[0]
    if isinstance(inner, (keras.Model, layers.Wrapper)) or not layer_info.kernels(inner):
        return flow.pin(call, f"{call.path!r} wraps a layer that is not known")
    flow.sets.pin(tensor.axes[1], f"{call.path!r} steps over them")
    step = Tensor((tensor.shape[0], *tensor.shape[2:]), (None, *tensor.axes[2:]), tensor.symbol)
    shapes = [(shape[0], *shape[2:]) for shape in call.output_shapes]
    flow.repeats *= tensor.shape[1] or 1
    inside = Call(inner, flow.path(inner), [step], shapes)
    outputs = rule(flow, inside)
    flow.repeats //= tensor.shape[1] or 1
    return [(None, None, *axes[1:]) for axes in outputs]
