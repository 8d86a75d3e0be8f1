"""The one graph rewriter: every technique that changes a model's structure goes through `rewrite`."""

import warnings
from collections.abc import Callable, Sequence

import keras
from keras.src.models.functional import Functional, functional_like_constructor

from tfsqueeze.core import copying
from tfsqueeze.core.checks import check_graph, check_model, has_graph
from tfsqueeze.core.data import input_struct

Layers = keras.Layer | Sequence[keras.Layer] | None


def rewrite(
    model: keras.Model,
    replace: Callable[[keras.Layer], Layers] | None = None,
    *,
    after: Callable[[keras.Operation], Layers] | None = None,
    transfer: Callable[[keras.Layer, list[keras.Layer]], None] | None = None,
    adapt: Callable[[keras.Operation], Callable | None] | None = None,
) -> keras.Model:
    """Builds a new model like `model` with some layers replaced; without arguments, an exact copy.

    Walks Sequential, Functional and nested models. Layers that are not replaced are copied with
    weights, random state and flags; a shared layer stays shared, a nested model stays nested, names,
    input and output structures and compile settings stay as they are (the optimizer starts afresh).

    Args:
        model: a built `keras.Model`. Without a graph (a subclassed model) it can only be copied as a whole.
        replace: called once for each layer of the graph that is no model itself; returns the layer or
            the chain of layers to stand in its place, an empty list to leave it out (its input goes on),
            or None to keep it.
        after: called once for each input layer, layer or `keras.ops` operation; returns layers (in a
            Functional model, any callables on tensors) to apply to its output, or None.
        transfer: called as `transfer(old, new_layers)` for each replaced layer once the new layers are
            built, to set their weights.
        adapt: called for each input layer, which an `InputLayer` may stand in for, and once for each nested
            model and `keras.ops` operation, which any function of the same arguments may stand in for,
            where shapes change; returns None to keep it.

    Returns:
        A new model; `model` is not changed.

    Raises:
        TypeError: if `model` is no `keras.Model`.
        UnsupportedModelError: if it was never built, if a layer cannot be copied, or if layers are to be
            replaced in a model without a graph.

    Example:
        >>> def wider(layer):
        ...     return keras.layers.LeakyReLU() if isinstance(layer, keras.layers.ReLU) else None
        >>> leaky = rewrite(model, wider)
    """
    if replace is None and after is None and adapt is None:
        check_model(model, "rewrite()", alone=False)
    else:
        check_graph(model, "rewrite()")
    writer = _Rewriter(replace, after, adapt)
    twin = writer.model(model)
    writer.fill(transfer)
    copy_compile(model, twin)
    return twin


def copy_compile(source: keras.Model, target: keras.Model) -> None:
    """Compiles `target` as `source` is: the same loss, metrics and optimizer configuration, fresh state."""
    if not source.compiled:
        return
    if not hasattr(source, "_compile_config"):
        target.compile_from_config(source.get_compile_config())
        return
    settings = {name: _fresh(value) for name, value in source._compile_config.config.items()}
    target.compile(**settings)


def _fresh(setting):
    """Optimizers and metrics hold state, so each model needs its own."""
    return keras.tree.map_structure(
        lambda value: (
            type(value).from_config(value.get_config())
            if isinstance(value, (keras.optimizers.Optimizer, keras.metrics.Metric))
            else value
        ),
        setting,
    )


class _Rewriter:
    """Holds what has been made for each original, so that what is shared stays shared."""

    def __init__(self, replace, after, adapt):
        self._replace = replace or (lambda layer: None)
        self._after = after or (lambda operation: None)
        self._adapt = adapt or (lambda operation: None)
        self._made: dict[int, list] = {}
        self._replaced: list[tuple[keras.Layer, list[keras.Layer]]] = []
        self._copied: list[tuple[keras.Layer, keras.Layer]] = []

    def model(self, model: keras.Model) -> keras.Model:
        """The new model for a root or nested model, yet without weights."""
        if isinstance(model, keras.Sequential) and has_graph(model):
            twin = self._sequential(model)
        elif has_graph(model):
            twin = self._functional(model)
        else:
            return self._subclassed(model)
        twin.dtype_policy = model.dtype_policy
        twin._trainable = model.trainable
        return twin

    def fill(self, transfer) -> None:
        """Copies weights to the copied layers and lets `transfer` set those of the replaced ones."""
        for old, new in self._copied:
            copying.copy_state(old, new)
        for old, new_layers in self._replaced:
            if transfer is not None:
                transfer(old, new_layers)

    def _sequential(self, model):
        layers = [
            new
            for old in model._layers
            for new in (
                self._input_chain(old) if isinstance(old, keras.layers.InputLayer) else self._chain(old)
            )
        ]
        return _construct(model, layers)

    def _functional(self, model):
        inputs = keras.tree.map_structure(
            lambda tensor: self._input_layer(tensor._keras_history.operation).output, model._inputs_struct
        )
        outputs = model._run_through_graph(
            keras.tree.map_structure(self._after_input, model._inputs_struct, inputs),
            operation_fn=self._chain,
            call_fn=_call_chain,
        )
        return _construct(
            model, inputs, keras.tree.pack_sequence_as(model._outputs_struct, keras.tree.flatten(outputs))
        )

    def _input_chain(self, layer) -> list:
        return [self._input_layer(layer), *_as_list(self._after(layer))]

    def _after_input(self, old, new):
        return _call_chain(_as_list(self._after(old._keras_history.operation)), new)

    def _input_layer(self, layer):
        return self._adapt(layer) or type(layer).from_config(layer.get_config())

    def _subclassed(self, model):
        twin = copying.copy_layer(model)
        build_like(model, twin)
        self._copied.append((model, twin))
        return twin

    def _chain(self, operation) -> list:
        """What stands in the place of a layer or operation: made once, however often it is called."""
        if id(operation) not in self._made:
            self._made[id(operation)] = self._make(operation) + _as_list(self._after(operation))
        return self._made[id(operation)]

    def _make(self, operation) -> list:
        if not isinstance(operation, keras.Layer):
            return [self._adapt(operation) or copying.copy_operation(operation)]
        if isinstance(operation, keras.Model) and has_graph(operation):
            return [self._adapt(operation) or self.model(operation)]
        replacement = self._replace(operation)
        if replacement is not None:
            replacement = _as_list(replacement)
            self._replaced.append((operation, replacement))
            return list(replacement)
        twin = copying.copy_layer(operation)
        self._copied.append((operation, twin))
        return [twin]


def _construct(model, *parts) -> keras.Model:
    """A model of the same class where its constructor allows it."""
    plain = keras.Sequential if isinstance(model, keras.Sequential) else Functional
    if isinstance(model, keras.Sequential):
        same = type(model).__init__ is keras.Sequential.__init__
    else:
        same = functional_like_constructor(type(model))
    if not same:
        warnings.warn(
            f"The copy of {model.name!r} is a plain {plain.__name__}: the constructor of "
            f"{type(model).__name__} does not take layers or (inputs, outputs), so its own methods are lost.",
            stacklevel=4,
        )
    return (type(model) if same else plain)(*parts, name=model.name)


def _call_chain(chain, *args, **kwargs):
    outputs = chain[0](*args, **kwargs) if chain else args[0]
    for layer in chain[1:]:
        outputs = layer(outputs)
    return outputs


def build_like(model: keras.Model, twin: keras.Model) -> None:
    """Builds a copy of a subclassed model on the shapes the original was built on."""
    shapes = model._build_shapes_dict
    if shapes is None and twin.built:
        # Made whole by its constructor, as wrappers around built models are.
        return
    if shapes and len(shapes) > 1:
        twin.build_from_config({"shapes_dict": shapes})
    else:
        twin(input_struct(model))


def _as_list(layers) -> list:
    if layers is None:
        return []
    return list(layers) if isinstance(layers, (list, tuple)) else [layers]
