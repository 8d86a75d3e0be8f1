"""Which operators of a `.tflite` file XNNPACK can run with its sparse kernels.

XNNPACK multiplies by sparse 1x1 convolutions in channels-first order, so it needs a region of the graph that
it can turn to that order: one that begins with a 3x3 convolution of the image, goes through operators that
have channels-first kernels only, and ends with a mean over the image. The rules are those of XNNPACK's
`xnn_subgraph_rewrite_for_nchw`; see also Elsen et al., Fast Sparse ConvNets, arXiv:1911.09723.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from tfsqueeze.tflite.structure import Operator, Subgraph, Tensor

START, INSIDE, END = "start", "inside", "end"
LEAST_ZEROS = 2 / 3
SAME, VALID = 0, 1
_UNARY = (
    *("ABS", "CEIL", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG", "LOGISTIC", "NEG"),
    *("RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "ROUND", "RSQRT", "SQRT", "SQUARE", "TANH"),
)
_UNPACKING = ("DENSIFY", "DEQUANTIZE")


@dataclass(frozen=True)
class Verdict:
    """What XNNPACK can do with one operator.

    Attributes:
        role: "start", "inside" or "end" of a region that can be turned to channels-first order; empty if
            the operator is in none.
        reason: why not, if it is in none.
        region: number of its region, from 0; -1 if it is in none.
    """

    role: str
    reason: str = ""
    region: int = -1


class SparseRegions:
    """The regions of a graph that XNNPACK can run with sparse kernels.

    Args:
        graph: the main subgraph of a `.tflite` file.

    Attributes:
        verdicts: `Verdict` by position of the operator; paddings that a convolution takes in and operators
            that unpack weights have none.
    """

    def __init__(self, graph: Subgraph):
        self._graph = graph
        self._producers = {index: op for op in graph.operators for index in op.outputs}
        self._consumers: dict[int, list[Operator]] = defaultdict(list)
        for operator in graph.operators:
            for index in {*operator.inputs}:
                self._consumers[index].append(operator)
        self._fused = {id(op.inputs) for op in graph.operators if self._is_fused_padding(op)}
        computing = [op for op in graph.operators if op.name not in _UNPACKING and not self._is_fused(op)]
        roles = {id(operator): self._role(operator) for operator in computing}
        self._roles = {key: role for key, (role, _) in roles.items() if role}
        self._reasons = {key: reason for key, (role, reason) in roles.items() if not role}
        self._remove_cut_off(computing)
        regions = self._regions(computing)
        self.verdicts = {
            position: Verdict(
                self._roles.get(id(op), ""), self._reasons.get(id(op), ""), regions.get(id(op), -1)
            )
            for position, op in enumerate(graph.operators)
            if id(op) in roles
        }

    def kernel(self, operator: Operator) -> Tensor | None:
        """The constant that an operator multiplies by, looked for behind what unpacks it."""
        if operator.name not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            return None
        index = operator.inputs[1]
        while index in self._producers and self._producers[index].name in _UNPACKING:
            index = self._producers[index].inputs[0]
        tensor = self._graph.tensors[index]
        return tensor if tensor.is_constant else None

    def is_pointwise(self, operator: Operator) -> bool:
        """Whether an operator is a 1x1 convolution, the one kind that has sparse kernels."""
        return operator.name == "CONV_2D" and self._graph.tensors[operator.inputs[1]].shape[1:3] == (1, 1)

    def _role(self, operator: Operator) -> tuple[str, str]:
        """Role of an operator by itself, or no role and the reason."""
        tensors = self._graph.tensors
        computed = [*self._computed(operator.inputs), *operator.outputs]
        if any(tensors[index].dtype != "FLOAT32" for index in computed):
            return "", f"it computes in {tensors[computed[-1]].dtype.lower()}, not in float32"
        if operator.name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            return self._convolution_role(operator)
        if operator.name == "FULLY_CONNECTED":
            return "", "of all layers only 1x1 convolutions have sparse kernels"
        flat = any(len(tensors[index].shape) != 4 for index in self._computed(operator.inputs))
        if operator.name in (*_UNARY, "ADD", "MUL", "RESIZE_BILINEAR", "MEAN", "DEPTH_TO_SPACE") and flat:
            return "", f"{operator.name} does not work on an image"
        if operator.name in (*_UNARY, "RESIZE_BILINEAR"):
            return INSIDE, ""
        if operator.name in ("ADD", "MUL"):
            constants = [tensors[i] for i in operator.inputs if tensors[i].is_constant]
            vectors = all(sum(size != 1 for size in tensor.shape) <= 1 for tensor in constants)
            return (INSIDE, "") if vectors else ("", f"{operator.name} with a constant image")
        if operator.name == "MEAN":
            axes = tensors[operator.inputs[1]]
            is_global = axes.is_constant and sorted(axes.values().ravel() % 4) == [1, 2]
            return (END, "") if is_global else ("", "MEAN over other axes than those of the image")
        if operator.name == "DEPTH_TO_SPACE":
            return END, ""
        return "", f"{operator.name} has no channels-first kernel"

    def _convolution_role(self, operator: Operator) -> tuple[str, str]:
        kernel = self._graph.tensors[operator.inputs[1]].shape
        channels = self._graph.tensors[operator.inputs[0]].shape[-1]
        size, strides = kernel[1:3], (operator.options["strideH"], operator.options["strideW"])
        shown = f"{size[0]}x{size[1]}"
        if (operator.options["dilationHFactor"], operator.options["dilationWFactor"]) != (1, 1):
            return "", "it is dilated"
        if operator.name == "DEPTHWISE_CONV_2D":
            if size not in ((3, 3), (5, 5)) or strides not in ((1, 1), (2, 2)) or kernel[3] != channels:
                return "", f"a depthwise {shown} kernel must be 3x3 or 5x5, of stride 1 or 2, multiplier 1"
            return (INSIDE, "") if self._pads_by(operator, size[0] // 2) else ("", _padding(size[0] // 2))
        if kernel[3] != channels:
            return "", "it is a grouped convolution"
        if size == (1, 1):
            return (INSIDE, "") if strides == (1, 1) else ("", "its stride is not 1")
        if size == (3, 3) and strides == (2, 2) and channels == 3:
            return (START, "") if self._pads_by(operator, 1) else ("", _padding(1))
        return (
            "",
            f"a {shown} kernel has no sparse form: only 1x1, and 3x3 of stride 2 on 3 channels to begin",
        )

    def _pads_by(self, operator: Operator, width: int) -> bool:
        """Whether a convolution sees `width` rows of zeros on each side of the image."""
        if operator.options["padding"] == SAME:
            return (operator.options["strideH"], operator.options["strideW"]) == (1, 1)
        producer = self._producers.get(operator.inputs[0])
        if producer is None or not self._is_fused(producer):
            return False
        widths = self._graph.tensors[producer.inputs[1]].values()
        return np.array_equal(widths, [[0, 0], [width, width], [width, width], [0, 0]])

    def _is_fused_padding(self, operator: Operator) -> bool:
        """Whether a padding is taken in by the one convolution without padding that reads it."""
        readers = self._consumers[operator.outputs[0]] if operator.outputs else []
        return (
            operator.name == "PAD"
            and self._graph.tensors[operator.inputs[1]].is_constant
            and len(readers) == 1
            and readers[0].name in ("CONV_2D", "DEPTHWISE_CONV_2D")
            and readers[0].options["padding"] == VALID
        )

    def _is_fused(self, operator: Operator) -> bool:
        return id(operator.inputs) in self._fused

    def _computed(self, inputs) -> list[int]:
        """Inputs that are no constants, not even packed ones; behind fused paddings."""
        found = []
        for index in inputs:
            if index < 0 or self._graph.tensors[index].is_constant:
                continue
            producer = self._producers.get(index)
            if producer is not None and producer.name in _UNPACKING:
                continue
            found.append(producer.inputs[0] if producer is not None and self._is_fused(producer) else index)
        return found

    def _readers(self, index: int) -> list[Operator]:
        """Operators that read a tensor, behind fused paddings."""
        direct = self._consumers[index]
        return [self._consumers[op.outputs[0]][0] if self._is_fused(op) else op for op in direct]

    def _remove_cut_off(self, computing: list[Operator]) -> None:
        """Takes out operators whose neighbours cannot be in a region, until nothing changes."""
        changed = True
        while changed:
            changed = False
            for operator in computing:
                reason = id(operator) in self._roles and self._cut_off(operator)
                if reason:
                    del self._roles[id(operator)]
                    self._reasons[id(operator)] = reason
                    changed = True

    def _cut_off(self, operator: Operator) -> str:
        role = self._roles[id(operator)]
        for index in [] if role == START else self._computed(operator.inputs):
            producer = self._producers.get(index)
            if producer is None:
                return (
                    "it reads the model's input: a 3x3 convolution of stride 2 on 3 channels must come first"
                )
            if id(producer) not in self._roles:
                return self._blame(producer)
            reason = self._leaves(index)
            if reason:
                return reason
        return "" if role == END else next(filter(None, map(self._leaves, operator.outputs)), "")

    def _leaves(self, index: int) -> str:
        """Why a tensor is needed outside of a region, if it is."""
        if index in self._graph.outputs:
            return "the model's output must come from behind a mean over the image"
        outside = [reader for reader in self._readers(index) if id(reader) not in self._roles]
        return self._blame(outside[0]) if outside else ""

    def _blame(self, operator: Operator) -> str:
        reason = self._reasons[id(operator)]
        if "is in the way" in reason or reason.startswith(("it reads the model", "the model's output")):
            return reason
        name = self._graph.tensors[operator.outputs[0]].name.split(";")[0]
        return f"{operator.name} {name!r} is in the way: {reason}"

    def _regions(self, computing: list[Operator]) -> dict[int, int]:
        """Number of the connected region of each operator that has a role."""
        regions: dict[int, int] = {}
        members = [operator for operator in computing if id(operator) in self._roles]
        for first in members:
            if id(first) in regions:
                continue
            number, waiting = len(set(regions.values())), [first]
            while waiting:
                operator = waiting.pop()
                if id(operator) in regions or id(operator) not in self._roles:
                    continue
                regions[id(operator)] = number
                if self._roles[id(operator)] != START:
                    inputs = self._computed(operator.inputs)
                    waiting += [self._producers[index] for index in inputs if index in self._producers]
                waiting += [reader for index in operator.outputs for reader in self._readers(index)]
        return regions


def _padding(width: int) -> str:
    return (
        f"its padding must be {width} on each side: ZeroPadding2D({width}) and padding='valid' for stride 2, "
        "padding='same' for stride 1"
    )
