"""What Keras lets users give per output (labels, sample weights, losses) or per layer (precision)."""

from collections.abc import Mapping, Sequence

import keras

from tfsqueeze.core.data import input_struct

REGRESSIONS = {
    "mean_squared_error",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_logarithmic_error",
    "huber",
    "log_cosh",
}


def part_of(structure, names: list[str], index: int):
    """What belongs to one output: by its name in a dict, by position in a list, else the whole.

    Args:
        structure: None, one value for all, or a dict or list of values.
        names: names of all outputs, in order.
        index: position of the output.
    """
    if isinstance(structure, Mapping):
        return structure.get(names[index])
    if isinstance(structure, (list, tuple)):
        return structure[index] if len(structure) == len(names) else None
    return structure


def is_regression(loss) -> bool:
    """Whether a compiled loss (name, function or object) is one of numbers rather than classes."""
    if loss is None:
        return False
    found = keras.losses.get(loss)
    name = getattr(found, "__name__", None) or type(found).__name__
    return keras.src.utils.naming.to_snake_case(name) in REGRESSIONS


def placeholders(model: keras.Model):
    """Inputs like those of a built model, to make another graph on."""
    return keras.tree.map_structure(
        lambda tensor: keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name),
        input_struct(model),
    )


def scaling_policy(models: Sequence[keras.Model]):
    """The policy that tells Keras whether the loss must be scaled: a float16 layer anywhere decides."""
    policies = [layer.dtype_policy for model in models for layer in model._flatten_layers()]
    return next((policy for policy in policies if policy.name == "mixed_float16"), models[0].dtype_policy)
