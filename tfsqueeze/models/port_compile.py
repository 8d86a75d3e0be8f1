"""Carries the compile settings of a Keras 2 model over to its port, where Keras 3 has them too."""

import inspect
from collections.abc import Mapping

import keras


def copy_compile_settings(old, new: keras.Model, custom_objects: Mapping) -> None:
    """Compiles `new` as `old` was; leaves it uncompiled if Keras 3 lacks some of its settings.

    The optimizer starts afresh: Keras 2 and 3 keep its state differently.

    Args:
        old: a `tf_keras` model, compiled or not.
        new: its port.
        custom_objects: losses, metrics and optimizers of the user's own, by name.
    """
    config = old.get_compile_config() if getattr(old, "optimizer", None) is not None else None
    if not config:
        return
    try:
        with keras.saving.custom_object_scope(dict(custom_objects)):
            new.compile(
                optimizer=_optimizer(config["optimizer"]),
                **{
                    name: _deserialize(config[name])
                    for name in ("loss", "loss_weights", "metrics", "weighted_metrics")
                    if config.get(name) is not None
                },
                **{name: config[name] for name in ("run_eagerly", "steps_per_execution") if config.get(name)},
            )
    except Exception:
        new.compiled = False


def _optimizer(config):
    if not isinstance(config, Mapping):
        return config
    name, settings = config["class_name"].removeprefix("Custom>"), config["config"]
    if name == "LossScaleOptimizer":
        return _optimizer(settings["inner_optimizer"])
    kind = getattr(keras.optimizers, name)
    known = set(inspect.signature(kind.__init__).parameters) - {"self", "kwargs"}
    kept = {key: _deserialize(value) for key, value in settings.items() if key in known and value is not None}
    kept.pop("loss_scale_factor", None)
    return kind(**kept)


def _deserialize(value):
    """Nested Keras objects; strings, functions by name, and numbers stay what they are."""
    if isinstance(value, (list, tuple)):
        return [_deserialize(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if "class_name" not in value:
        return {key: _deserialize(item) for key, item in value.items()}
    config = value.get("config")
    if isinstance(config, Mapping) and config.get("reduction") == "auto":
        value = {**value, "config": {**config, "reduction": "sum_over_batch_size"}}
    return keras.saving.deserialize_keras_object(value)
