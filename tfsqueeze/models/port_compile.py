"""Carries the compile settings of a Keras 2 model over to its port, where Keras 3 has them too."""

import functools
import inspect
from collections.abc import Mapping

import keras

_SETTINGS = ("loss", "loss_weights", "metrics", "weighted_metrics", "run_eagerly", "steps_per_execution")


def copy_compile_settings(old, new: keras.Model, custom_objects: Mapping) -> None:
    """Compiles `new` as `old` was; leaves it uncompiled if Keras 3 lacks some of its settings.

    The optimizer starts afresh: Keras 2 and 3 keep its state differently.

    Args:
        old: a `tf_keras` model, compiled or not.
        new: its port.
        custom_objects: losses, metrics and optimizers of the user's own, by name.
    """
    if getattr(old, "optimizer", None) is None:
        return
    try:
        config = old.get_compile_config()
        with keras.saving.custom_object_scope(dict(custom_objects)):
            settings = {name: _revived(config[name]) for name in _SETTINGS if config.get(name) is not None}
            new.compile(optimizer=_optimizer(config["optimizer"]), **settings)
    except Exception:
        new.compiled = False


def mend_metrics(model: keras.Model) -> keras.Model:
    """Gives metrics of a Keras 2 `.h5` file their functions, of which Keras 3 reads only the names.

    Such a model would load, and fail in `fit` and `evaluate` with "'str' object is not callable". The
    optimizer keeps its state.

    Args:
        model: what Keras 3 read, compiled or not; it is compiled again where that is needed.

    Returns:
        The same model.
    """
    config = model._compile_config.config if model.compiled else {}
    given = {name: config[name] for name in ("metrics", "weighted_metrics") if config.get(name)}
    if any(map(_is_named_only, keras.tree.flatten(given))):
        model.compile(**{**config, **keras.tree.map_structure(_mended, given)})
    return model


def _is_named_only(metric) -> bool:
    return isinstance(metric, keras.metrics.MeanMetricWrapper) and isinstance(metric._fn, str)


def _mended(metric):
    """The name of the metric's function; for the accuracy "accuracy", which fits itself to the targets."""
    if not _is_named_only(metric):
        return metric
    return metric.name if metric.name in ("accuracy", "acc") else metric._fn


def _optimizer(config):
    """Keras 3 scales losses by itself where layers compute in float16."""
    if isinstance(config, Mapping) and config["class_name"] == "LossScaleOptimizer":
        return _optimizer(config["config"]["inner_optimizer"])
    return _revived(config)


def _revived(value):
    """Nested Keras objects from their configs; names, numbers and functions stay what they are."""
    if isinstance(value, (list, tuple)):
        return [_revived(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if "class_name" not in value:
        return {key: _revived(item) for key, item in value.items()}
    kind = _keras_class(value)
    if kind is None:
        return keras.saving.deserialize_keras_object(value)
    known = inspect.signature(kind.__init__).parameters
    config = {key: _revived(item) for key, item in value["config"].items() if key in known}
    if config.get("reduction") == "auto":
        config["reduction"] = "sum_over_batch_size"
    return kind(**{key: item for key, item in config.items() if item is not None})


def _keras_class(value) -> type | None:
    """The Keras 3 class of the same public name, such as `keras.optimizers.schedules.CosineDecay`."""
    module = (value.get("module") or "").removesuffix(".legacy")
    package, *parts = module.split(".")
    if package != "keras" or value.get("registered_name"):
        return None
    kind = functools.reduce(getattr, [*parts, value["class_name"]], keras)
    return kind if inspect.isclass(kind) else None
