"""Peak memory of the tensors that are alive at the same time."""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One operation of a schedule: the tensors it reads and writes, and bytes it needs only for itself."""

    reads: tuple[Hashable, ...]
    writes: tuple[Hashable, ...]
    scratch: int = 0


def peak_bytes(
    steps: Iterable[Step],
    sizes: Mapping[Hashable, int],
    inputs: Iterable[Hashable],
    outputs: Iterable[Hashable],
) -> int:
    """The most bytes alive at any step when the steps run in order.

    A tensor lives from the step that writes it (inputs: from the start) to the last step that reads it
    (outputs: to the end). This is the arena a planner without in-place operations needs at least.

    Args:
        steps: the operations in order of execution.
        sizes: bytes per tensor; a tensor that is missing (a constant) takes none.
        inputs: tensors alive from the start.
        outputs: tensors alive to the end.

    Returns:
        Bytes; 0 for an empty schedule without inputs.

    Example:
        >>> peak_bytes([Step(("x",), ("y",))], {"x": 4, "y": 8}, ["x"], ["y"])
        12
    """
    steps = list(steps)
    last_read = {tensor: index for index, step in enumerate(steps) for tensor in step.reads}
    last_read.update(dict.fromkeys(outputs, len(steps)))
    alive = set(inputs)
    peak = _bytes(alive, sizes)
    for index, step in enumerate(steps):
        alive.update(step.writes)
        peak = max(peak, _bytes(alive, sizes) + step.scratch)
        alive = {tensor for tensor in alive if last_read.get(tensor, -1) > index}
    return peak


def _bytes(tensors, sizes) -> int:
    return sum(sizes.get(tensor, 0) for tensor in tensors)
