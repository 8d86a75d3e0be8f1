"""The same model in another precision, weights kept."""

import warnings
from typing import Any

import keras
from keras.optimizers import LossScaleOptimizer
from keras.src.layers.preprocessing.data_layer import DataLayer
from keras.src.models.functional import Functional

from tfsqueeze.core import copying
from tfsqueeze.core.checks import UnsupportedModelError, check_model, has_graph
from tfsqueeze.core.explain import record
from tfsqueeze.core.rewrite import rewrite
from tfsqueeze.core.select import select_layers, walk
from tfsqueeze.core.trace import layer_calls
from tfsqueeze.precision.policy import policy_name, resolve

INPUT = "it holds an input"
OUTPUT = "it makes an output of the model, which is float32"


def with_precision(
    model: keras.Model, precision: str = "auto", *, select=None, data: Any = None
) -> keras.Model:
    """Returns the same model computing in another precision; weights stay float32 and keep their values.

    The layers that make the model's outputs compute in float32, and so do those that prepare inputs, where
    half precision would lose digits. With "float32" a model in mixed precision becomes an ordinary one
    again, to be exported.

    Args:
        model: any built model, in float32 or in mixed precision.
        precision: "float16", "bfloat16", "float32" or "auto", see `tfs.set_mixed_precision`.
        select: layers to convert, see `tfs.Select`; None for all. Others stay as they are.
        data: examples on which to look for layers whose values exceed float16 (`tfs.find_overflows`); they
            stay float32, with a warning. None to look for none.

    Returns:
        A new model, compiled as `model` is; for float16 the optimizer scales the loss. `tfs.explain` lists
        the layers. `model` is not changed. Layers that a custom layer or a subclassed model makes in its own
        constructor are converted too, but are made anew in Keras' default precision when loaded from a file:
        call `with_precision` again, or load under `tfs.set_mixed_precision`.

    Raises:
        ValueError: if `precision` is unknown or nothing is selected.
        UnsupportedModelError: if a layer does not compute in that precision: leave it out by `select`.

    Example:
        >>> fast = tfs.with_precision(model, "bfloat16")
        >>> fast.fit(x, y)
        >>> tfs.export_tflite(tfs.with_precision(fast, "float32"), "model.tflite")
    """
    check_model(model, "with_precision()")
    precision = resolve(precision)
    plan = _Plan(model, precision, select)
    if data is not None and precision == "float16":
        plan.keep(_overflowing(model, data, precision, select))
    twin = _converted(model, plan)
    return record(twin, "with_precision", *plan.account())


def _overflowing(model, data, precision, select) -> dict[str, str]:
    from tfsqueeze.precision.overflow import find_overflows

    found = find_overflows(model, data, precision, select=select)
    if found:
        listed = "; ".join(f"{path}: {reason}" for path, reason in found.items())
        warnings.warn(f"These layers overflow in {precision} and stay in float32. {listed}", stacklevel=3)
    return found


def layer_by_layer(model: keras.Model, precision: str) -> keras.Model:
    """A copy in another precision with the very layers of `model` in their order, nothing cast after them."""
    return _converted(model, _Plan(model, precision, None), cast_outputs=False)


class _Plan:
    """The policy of every layer of a model, and why some keep float32."""

    def __init__(self, model: keras.Model, precision: str, select):
        self.policy = policy_name(precision)
        self._layers = {id(named.layer): named for named in walk(model)}
        selection = select_layers(model, select, _unsupported)
        reasons = {named.path: _unsupported(named.layer) for named in walk(model)}
        told = {path: reason for path, reason in reasons.items() if reason not in (None, INPUT)}
        self.skipped = {**selection.skipped, **told}
        self._policies = {id(named.layer): self.policy for named in selection.chosen}
        if precision != "float32":
            outputs = _output_operations(model)
            self.keep({named.path: OUTPUT for key, named in self._layers.items() if key in outputs})

    def keep(self, reasons: dict[str, str]) -> None:
        """Lets layers, and what is inside them, compute in float32."""
        self.skipped = {**self.skipped, **reasons}
        for key, named in self._layers.items():
            inside = any(named.path == path or named.path.startswith(f"{path}/") for path in reasons)
            if inside and _unsupported(named.layer) is None:
                self._policies[key] = "float32"

    def keep_custom(self, error: Exception) -> bool:
        """Lets the user's own layers compute as they did; False if there are none left to blame."""
        custom = [
            named
            for key, named in self._layers.items()
            if any(map(_is_custom, (named.layer, *named.parents))) and key in self._policies
        ]
        for named in custom:
            del self._policies[id(named.layer)]
            self.skipped[named.path] = f"a layer of your own; in {self.policy} the model fails: {error}"
        return bool(custom)

    def of(self, layer) -> str | None:
        """The policy a layer is to get, None to leave it."""
        return self._policies.get(id(layer))

    def apply(self, layer: keras.Layer, twin: keras.Layer) -> None:
        """Sets the policies of a copy and of all inside it, which its configuration may not reach."""
        for old, new in zip(layer._flatten_layers(), twin._flatten_layers(), strict=True):
            policy = self.of(old)
            if policy is not None and new.dtype_policy.name != policy:
                new.dtype_policy = policy

    def account(self) -> tuple[dict, dict]:
        """What was done, by path, and what was skipped."""
        done = {
            named.path: {"precision": f"{named.layer.compute_dtype} -> {self._policies[key]}"}
            for key, named in self._layers.items()
            if self._policies.get(key) == self.policy and named.layer.weights and not has_graph(named.layer)
        }
        return done, self.skipped


def _is_custom(layer) -> bool:
    return isinstance(layer, keras.layers.Lambda) or not type(layer).__module__.startswith("keras.")


def _unsupported(layer) -> str | None:
    if isinstance(layer, keras.layers.InputLayer):
        return INPUT
    if isinstance(layer, (DataLayer, keras.layers.Normalization)):
        return "it prepares inputs, whose digits half precision would lose"
    if layer.quantization_mode:
        return "it is quantized"
    if layer.compute_dtype == "float64":
        return "it computes in float64 on purpose"
    if not str(layer.compute_dtype).startswith(("float", "bfloat")):
        return "it does not compute in floats"
    return None


def _converted(model, plan: _Plan, cast_outputs: bool = True) -> keras.Model:
    try:
        return _rewritten(model, plan, cast_outputs)
    except Exception as error:
        if not plan.keep_custom(error):
            raise UnsupportedModelError(
                f"Model {model.name!r} does not compute in {plan.policy}: {error} Leave the layer out: "
                "select=tfs.Select(skip='its name')."
            ) from error
    return _converted(model, plan, cast_outputs)


def _rewritten(model, plan: _Plan, cast_outputs: bool) -> keras.Model:
    def replace(layer):
        policy = plan.of(layer)
        if policy is None and not any(map(plan.of, layer._flatten_layers(include_self=False))):
            return None
        return copying.copy_layer(layer, None if policy is None else _in_policy(layer.get_config(), policy))

    def transfer(old, new_layers):
        copying.copy_state(old, new_layers[0])
        plan.apply(old, new_layers[0])

    def cast(operation):
        made_by_operation = id(operation) in outputs and not isinstance(operation, keras.Layer)
        return keras.layers.Activation("linear", dtype="float32") if made_by_operation else None

    outputs = set() if plan.policy == "float32" or not cast_outputs else _output_operations(model)
    if has_graph(model):
        twin = rewrite(model, replace, transfer=transfer, after=cast)
    else:
        twin = rewrite(model)
        plan.apply(model, twin)
    twin.dtype_policy = plan.policy
    layer_calls(twin)
    _recompile(model, twin, plan.policy)
    return twin


def _in_policy(config, policy: str):
    """A configuration with every policy in it replaced, those of wrapped layers included."""
    if isinstance(config, (list, tuple)):
        return type(config)(_in_policy(value, policy) for value in config)
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy":
        return {**config, "config": {"name": policy}}
    return {key: _in_policy(value, policy) for key, value in config.items()}


def _recompile(model, twin, policy: str) -> None:
    """Compiles `twin` with loss scaling in float16 and without it otherwise.

    The scaling is written into the compile settings: a loaded Functional model has Keras' default policy,
    from which `compile` could not know that it is needed.
    """
    if not model.compiled or not hasattr(model, "_compile_config"):
        return
    settings = dict(twin._compile_config.config)
    optimizer = keras.optimizers.get(settings["optimizer"])
    scaled = isinstance(optimizer, LossScaleOptimizer)
    if policy == "mixed_float16" and not scaled and settings.get("auto_scale_loss", True):
        settings["optimizer"] = LossScaleOptimizer(_unbuilt(optimizer))
    elif policy != "mixed_float16" and scaled:
        settings["optimizer"] = _unbuilt(optimizer.inner_optimizer)
    else:
        settings["optimizer"] = _unbuilt(optimizer)
    twin.compile(**settings)


def _unbuilt(optimizer):
    return type(optimizer).from_config(optimizer.get_config())


def _output_operations(model) -> set[int]:
    """The layers and operations whose floats are the model's outputs, those inside nested models included."""
    if not has_graph(model):
        calls = [call.layer for call in layer_calls(model) if isinstance(call.layer, keras.Layer)]
        return {id(calls[-1])} if calls else set()
    graph = getattr(model, "_functional", None) or model
    found: set[int] = set()
    for tensor in graph.outputs if isinstance(graph, Functional) else ():
        operation = tensor._keras_history.operation
        if isinstance(operation, keras.Model):
            found |= _output_operations(operation)
        elif keras.backend.is_float_dtype(tensor.dtype):
            found.add(id(operation))
    return found
