"""Which rule an operation has: how it passes on, consumes and produces channels.

Keyed by class; subclasses inherit the rule of their class as long as they do not override its `call`.
"""

from collections.abc import Callable

import keras
from keras import layers

from tfsqueeze.core import layer_info
from tfsqueeze.pruning.channels import (
    rules_attention,
    rules_einsum,
    rules_following,
    rules_kernels,
    rules_moving,
    rules_recurrent,
)
from tfsqueeze.pruning.channels.flow import Axes, Call, Flow
from tfsqueeze.pruning.channels.rules_trial import by_trial

operations = keras.src.ops.numpy

_WITH_KERNELS: dict[type, Callable] = {
    layers.Dense: rules_kernels.dense,
    layers.Conv1D: rules_kernels.convolution,
    layers.Conv2D: rules_kernels.convolution,
    layers.Conv3D: rules_kernels.convolution,
    layers.Conv1DTranspose: rules_kernels.transposed_convolution,
    layers.Conv2DTranspose: rules_kernels.transposed_convolution,
    layers.Conv3DTranspose: rules_kernels.transposed_convolution,
    layers.DepthwiseConv1D: rules_kernels.depthwise_convolution,
    layers.DepthwiseConv2D: rules_kernels.depthwise_convolution,
    layers.SeparableConv1D: rules_kernels.separable_convolution,
    layers.SeparableConv2D: rules_kernels.separable_convolution,
    layers.Embedding: rules_kernels.embedding,
    layers.EinsumDense: rules_einsum.einsum_dense,
}

_OTHERS: dict[type, Callable] = {
    layers.MultiHeadAttention: rules_attention.attention,
    layers.GroupQueryAttention: rules_attention.grouped_query_attention,
    operations.Einsum: rules_einsum.einsum,
    operations.Matmul: rules_einsum.matmul,
    layers.RNN: rules_recurrent.recurrent,
    layers.SimpleRNN: rules_recurrent.recurrent,
    layers.LSTM: rules_recurrent.recurrent,
    layers.GRU: rules_recurrent.recurrent,
    layers.ConvLSTM1D: rules_recurrent.recurrent,
    layers.ConvLSTM2D: rules_recurrent.recurrent,
    layers.ConvLSTM3D: rules_recurrent.recurrent,
    layers.Bidirectional: rules_recurrent.bidirectional,
    layers.TimeDistributed: lambda flow, call: rules_recurrent.time_distributed(flow, call, apply_rule),
    layers.BatchNormalization: rules_following.batch_normalization,
    layers.LayerNormalization: rules_following.layer_normalization,
    layers.RMSNormalization: rules_following.layer_normalization,
    layers.GroupNormalization: rules_following.group_normalization,
    layers.PReLU: rules_following.parametric_relu,
    layers.Concatenate: rules_moving.concatenate,
    operations.Concatenate: rules_moving.concatenate,
    layers.Flatten: rules_moving.flatten,
    layers.Reshape: rules_moving.reshape,
    operations.Reshape: rules_moving.reshape,
    operations.Split: rules_moving.split,
    operations.GetItem: rules_moving.get_item,
}


def apply_rule(flow: Flow, call: Call) -> list[Axes]:
    """Labels of the outputs of a call: by its class's rule, or by trial if it has none."""
    operation = call.operation
    if rule := _look_up(_WITH_KERNELS, operation):
        if not layer_info.kernels(operation) or getattr(operation, "lora_enabled", False):
            return flow.pin(call, f"the kernel of {call.path!r} is quantized or adapted")
        return rule(flow, call)
    if getattr(operation, "quantization_mode", None):
        return flow.pin(call, f"{call.path!r} is quantized")
    return (_look_up(_OTHERS, operation) or by_trial)(flow, call)


def _look_up(table, operation) -> Callable | None:
    for cls in type(operation).__mro__:
        if cls in table:
            return table[cls] if type(operation).call is cls.call else None
    return None
