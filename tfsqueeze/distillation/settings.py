"""`alpha` and `temperature`: numbers, or schedules evaluated inside the compiled training step."""

import numbers
from collections.abc import Mapping

import keras
import numpy as np
from keras import ops

from tfsqueeze.core.checks import check_positive
from tfsqueeze.core.schedules import Constant, Schedule
from tfsqueeze.distillation.output_pairs import check_names

KNOTS = 4096
Setting = float | Schedule | keras.optimizers.schedules.LearningRateSchedule
SCHEDULES = (Schedule, keras.optimizers.schedules.LearningRateSchedule)


def check_alpha(alpha):
    """Returns the weight of the teacher's loss, one or a dict by output, or raises what is wrong."""
    if isinstance(alpha, Mapping):
        return {name: check_alpha(value) for name, value in alpha.items()}
    if isinstance(alpha, SCHEDULES):
        return _evaluable("alpha", alpha)
    if isinstance(alpha, bool) or not isinstance(alpha, numbers.Real) or not 0 <= alpha <= 1:
        raise ValueError(
            "`alpha` is the weight of the teacher's loss and must be in [0, 1] (0: labels only, 1: teacher "
            f"only), a schedule, or a dict of these by output. Received: alpha={alpha!r}."
        )
    return float(alpha)


def check_alpha_names(alpha, names: list[str]) -> None:
    """Raises ValueError unless an alpha by output lists exactly the student's outputs."""
    if not isinstance(alpha, Mapping):
        return
    check_names(alpha, names, "alpha")
    missing = [name for name in names if name not in alpha]
    if missing:
        raise ValueError(f"`alpha` has no entry for the outputs {missing}. It must list all of {names}.")


def check_temperature(temperature):
    """Returns the temperature, or raises what is wrong."""
    if isinstance(temperature, SCHEDULES):
        return _evaluable("temperature", temperature)
    return float(check_positive("temperature", temperature, remedy="Usual values are 2 to 8."))


def value_at(setting: Setting, step):
    """The value of a setting at a step, as a float32 tensor, computed in the graph.

    A `tfs.schedules` object is written in Python; its values go into the graph as a table: one for every
    step where it spans up to 4096 steps, otherwise 4096 with straight lines between them.

    Args:
        setting: a number, a `tfs.schedules` object or a `keras.optimizers.schedules` object.
        step: integer scalar tensor, of `optimizer.iterations`.
    """
    if isinstance(setting, keras.optimizers.schedules.LearningRateSchedule):
        return ops.cast(setting(step), "float32")
    if isinstance(setting, Schedule) and setting.end_step > setting.begin_step:
        return _interpolate(setting, step)
    value = setting(setting.begin_step) if isinstance(setting, Schedule) else setting
    return ops.convert_to_tensor(value, "float32")


def packed(alpha, temperature) -> dict:
    """Both settings as configurations that JSON can hold."""
    return {"alpha": pack(alpha), "temperature": pack(temperature)}


def unpacked(config: Mapping) -> dict:
    """The configuration of a model with both settings made again."""
    return {**config, **{name: unpack(config[name]) for name in ("alpha", "temperature")}}


def pack(setting):
    """A setting as a configuration that JSON can hold."""
    if isinstance(setting, Mapping):
        return {name: pack(value) for name, value in setting.items()}
    return keras.saving.serialize_keras_object(setting) if isinstance(setting, SCHEDULES) else setting


def unpack(config):
    """The setting that `pack` made `config` of."""
    if isinstance(config, Mapping) and "class_name" not in config:
        return {name: unpack(value) for name, value in config.items()}
    return keras.saving.deserialize_keras_object(config) if isinstance(config, Mapping) else config


def _interpolate(schedule, step):
    span = schedule.end_step - schedule.begin_step
    knots = min(span + 1, KNOTS)
    steps = np.rint(np.linspace(schedule.begin_step, schedule.end_step, knots)).astype(int)
    # A knot before the beginning, since a schedule may jump at its first step.
    table = ops.convert_to_tensor([schedule(int(s)) for s in [max(steps[0] - 1, 0), *steps]], "float32")
    position = (ops.cast(step, "float32") - schedule.begin_step) * ((knots - 1) / span) + 1
    position = ops.clip(position, 0.0 if schedule.begin_step else 1.0, float(knots))
    lower = ops.floor(position)
    upper = ops.minimum(lower + 1, float(knots))
    low, high = (ops.take(table, ops.cast(index, "int32")) for index in (lower, upper))
    return low + (position - lower) * (high - low)


def _evaluable(name: str, schedule):
    if isinstance(schedule, Schedule) and schedule.end_step == -1 and not isinstance(schedule, Constant):
        raise ValueError(f"`{name}` needs a schedule with an end. Received: {schedule!r}. Set `end_step`.")
    return schedule
