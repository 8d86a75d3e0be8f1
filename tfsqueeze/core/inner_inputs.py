"""What layers inside a model receive while it runs on data."""

import collections
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from tfsqueeze.core.data import Examples
from tfsqueeze.core.steps import Run, Steps

#: What the runs of one reader may keep between two layers; batches beyond begin anew each time.
MOST_BYTES = 2**31


@dataclass(frozen=True)
class Received:
    """The arguments of one call of a layer, with the tensors as they are at run time."""

    args: tuple
    kwargs: dict[str, Any]

    @property
    def first(self):
        """The layer's first input."""
        return self.args[0] if self.args else next(iter(self.kwargs.values()))

    @property
    def few(self):
        """The first two examples of `first`."""
        return self.first[:2]


class InnerInputs:
    """Reads the inputs of layers anywhere inside a model, nested and composite layers included.

    The model runs eagerly, in inference mode, and only as far as the layer that is asked for. On each of
    its batches it stays there: a layer further on is read by going on from that place, so that all layers
    one after the other take little more than one run. What ran before must then not be changed; weights of
    the layers that were read last, and of all further on, may be.

    Args:
        model: any built model.
        layers: the layers that will be asked for.
        batches: what the model will run on, at least one example. Other batches may be read too, each time
            from the beginning.

    Attributes:
        order: those of `layers` that run and whose inputs can be read, in the order of their last calls.
    """

    def __init__(self, model: keras.Model, layers: Sequence[keras.Layer], batches: Sequence[Examples]):
        self._steps = Steps(model, whole=layers)
        calls = [(layer, place) for layer, place, _ in _run(self._steps.begin(batches[0][:1]), layers, None)]
        self._counts = collections.Counter(id(layer) for layer, _ in calls)
        self._places = {id(layer): place for layer, place in reversed(calls)}
        last_first = {id(layer): layer for layer, _ in reversed(calls)}
        self.order: list[keras.Layer] = list(reversed(last_first.values()))
        self._runs = {id(batch): _Kept(batch) for batch in batches}

    def read(self, layer: keras.Layer, batch: Examples) -> list[Received]:
        """What `layer` receives for a batch: one entry for each time it is called."""
        return self.read_all([layer], batch)[0]

    def read_all(self, layers: Sequence[keras.Layer], batch: Examples) -> list[list[Received]]:
        """What several layers receive in the same run, in the order they are given."""
        if not layers:
            return []
        begin = min(self._places[id(layer)] for layer in layers)
        until = sum(self._counts[id(layer)] for layer in {id(layer): layer for layer in layers}.values())
        calls = _run(self._run_to(begin, batch), layers, until)
        return [[received for called, _, received in calls if called is layer] for layer in layers]

    def _run_to(self, place: int, batch: Examples) -> Run:
        """A run on a batch before the step at a place."""
        kept = self._runs.get(id(batch))
        run = None if kept is None else kept.run
        if run is None or run.place > place:
            run = self._steps.begin(batch)
        while run.place < place:
            run.step()
        if kept is not None:
            kept.run = None
            others = sum(other.run.bytes for other in self._runs.values() if other.run is not None)
            kept.run = run if others + run.bytes <= MOST_BYTES else None
        return run.copy()


@dataclass
class _Kept:
    """A batch, and a run on it to go on with."""

    batch: Examples
    run: Run | None = None


def _run(run: Run, layers, until: int | None) -> list[tuple[keras.Layer, int, Received]]:
    """The calls of layers from where a run is to its end, or until there were so many; with their steps."""
    calls: list[tuple[keras.Layer, int, Received]] = []

    def take(layer, received):
        if _has_values(received):
            calls.append((layer, run.place, received))
            if len(calls) == until:
                raise _Enough

    with contextlib.ExitStack() as stack:
        for layer in {id(layer): layer for layer in layers}.values():
            stack.enter_context(_watched(layer, take))
        stack.enter_context(contextlib.suppress(_Enough))
        while run.place < len(run.steps):
            run.step()
    return calls


def _has_values(received: Received) -> bool:
    """Not so inside a loop that TensorFlow traces."""
    tensors = [leaf for leaf in keras.tree.flatten((received.args, received.kwargs)) if tf.is_tensor(leaf)]
    return bool(tensors) and all(hasattr(tensor, "numpy") for tensor in tensors)


class _Enough(BaseException):
    """Ends a run early; Keras rewrites ordinary exceptions."""


@contextlib.contextmanager
def _watched(layer, take) -> Iterator[None]:
    original = layer.call

    def call(*args, **kwargs):
        take(layer, Received(args, kwargs))
        return original(*args, **kwargs)

    layer.call = call
    try:
        yield
    finally:
        del layer.call
