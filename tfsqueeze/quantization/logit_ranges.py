"""Ranges of logits, by the probabilities that softmax makes of them.

Far below the greatest, a logit may be anything; between the greatest two, one step decides the class. The
squared error of the logits themselves counts both alike, and spends most steps where they tell nothing.
"""

import math
from collections import defaultdict

import keras
import numpy as np

from tfsqueeze.quantization import behaviour
from tfsqueeze.quantization.activation import ActivationQuantizer
from tfsqueeze.quantization.ranges import graph_of, levels, nodes_of
from tfsqueeze.quantization.wrapper import quantized_layers

MOST_VALUES = 2**17
# What the error of the logits counts for: it decides where the probabilities are right either way.
_LOGITS_SHARE = 1e-6


def quantizers_of_logits(model: keras.Model) -> list[ActivationQuantizer]:
    """The quantizers whose tensor softmax alone reads, over its last axis.

    Args:
        model: as `quantize_aware` returns it.
    """
    wrappers = [layer for layer in quantized_layers(model) if layer.activation is keras.activations.softmax]
    found = [layer.quantizer for layer in wrappers]
    for level in levels(model):
        nodes, readers = nodes_of(level), defaultdict(list)
        for node in nodes:
            for tensor in node.inputs:
                readers[tensor].append(node.operation)
        outputs = {id(tensor) for tensor in graph_of(level).outputs}
        for node in nodes:
            quantizer, behind = node.operation, readers[node.outputs[0]]
            if not isinstance(quantizer, ActivationQuantizer) or len(quantizer._inbound_nodes) > 1:
                continue
            if node.outputs[0] not in outputs and behind and all(map(behaviour.is_softmax, behind)):
                found.append(quantizer)
    return found


def some_rows(values: np.ndarray, most: int) -> np.ndarray:
    """Logits (..., classes) as (examples, classes), evenly thinned to about `most` numbers."""
    rows = values.reshape(-1, values.shape[-1])
    return rows[:: max(math.ceil(rows.size / most), 1)]


class LogitError:
    """What rounding logits to a range costs: the squared error of their probabilities.

    Args:
        rows: logits, (examples, classes).
        bits: of the grid.
    """

    def __init__(self, rows: np.ndarray, bits: int):
        self._rows = rows[np.isfinite(rows).all(1)].astype("float64")
        self._wanted = _softmax(self._rows)
        self._levels = 2.0**bits - 1
        self._scale = _LOGITS_SHARE / max(float(self._rows.var()), 1e-12)

    def __call__(self, low: float, high: float) -> float:
        """The error with the range (low, high)."""
        step = max(high - low, 1e-12) / self._levels
        rounded = np.round(np.clip(self._rows, low, high) / step) * step
        of_logits = self._scale * np.square(rounded - self._rows).mean()
        return float(np.square(_softmax(rounded) - self._wanted).mean() + of_logits)


def _softmax(rows: np.ndarray) -> np.ndarray:
    powers = np.exp(rows - rows.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
