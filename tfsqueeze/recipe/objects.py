"""Objects in a step's arguments: `{"Adam": {"learning_rate": 0.1}}` stands for `Adam(learning_rate=0.1)`."""

import re
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras

from tfsqueeze import callbacks, distillation, schedules
from tfsqueeze.core.checks import did_you_mean
from tfsqueeze.core.select import Select
from tfsqueeze.pruning.patterns import Blocks
from tfsqueeze.pruning.regrowth import Regrowth
from tfsqueeze.quantization.config import QuantizationConfig

OURS = types.SimpleNamespace(
    Select=Select, Blocks=Blocks, Regrowth=Regrowth, QuantizationConfig=QuantizationConfig
)
EVERYWHERE = (
    OURS,
    callbacks,
    schedules,
    keras.callbacks,
    keras.optimizers,
    keras.optimizers.schedules,
    keras.regularizers,
)
#: Arguments whose objects are looked for in certain places first: Keras has classes of one name in several.
PLACES = {
    "metrics": (keras.metrics,),
    "loss": (keras.losses,),
    "losses": (distillation, keras.losses),
    "callbacks": (callbacks, keras.callbacks),
}
#: Arguments whose entries are always objects, so that a name alone is one too.
NAMED = ("callbacks", "losses")
#: Arguments whose entries are layer classes.
LAYER_CLASSES = ("types",)
#: Arguments that are mappings by the names of layers, in which nothing stands for an object.
MAPPINGS = ("overrides", "scope", "kernels")
PERCENT = re.compile(r"(\d+(?:\.\d+)?)%")


def build(arguments: Mapping[str, Any], title: str, steps: Callable[[], int]) -> dict[str, Any]:
    """The arguments of a step with objects made of the mappings that name them.

    Args:
        arguments: plain data by argument name.
        title: the step, for messages.
        steps: gives the number of optimizer steps of the training, of which "50%" in an object is the half.

    Raises:
        ValueError: if a class is unknown or refuses its arguments.
    """
    builder = _Builder(title, steps)
    return {
        name: value if name in MAPPINGS else builder.value(name, value) for name, value in arguments.items()
    }


def check_objects(arguments: Mapping[str, Any], title: str) -> None:
    """Raises what `build` would, before anything is run."""
    build(arguments, title, lambda: 100)


class _Builder:
    def __init__(self, title, steps):
        self._title, self._steps = title, steps

    def value(self, argument: str, value: Any, inside: bool = False) -> Any:
        """What a value stands for; `inside` an object, percentages of the training's steps are numbers."""
        if isinstance(value, list):
            return [self._entry(argument, entry, inside) for entry in value]
        if argument in NAMED or argument in LAYER_CLASSES:
            return [self._entry(argument, value, inside)] if value is not None else None
        return self._entry(argument, value, inside)

    def _entry(self, argument, value, inside):
        if isinstance(value, str) and argument in NAMED:
            return self._object(argument, value, None)
        if isinstance(value, str) and argument in LAYER_CLASSES:
            return self._class(argument, value, (keras.layers,))
        if isinstance(value, str) and inside and (match := PERCENT.fullmatch(value)):
            return round(float(match[1]) / 100 * self._steps())
        if isinstance(value, list):
            return [self._entry(argument, entry, inside) for entry in value]
        if not isinstance(value, Mapping):
            return value
        if _names_object(value):
            return self._object(argument, *next(iter(value.items())))
        return {key: self._entry(argument, entry, inside) for key, entry in value.items()}

    def _object(self, argument: str, name: str, settings: Any):
        cls = self._class(argument, name, (*PLACES.get(argument, ()), *EVERYWHERE))
        try:
            if settings is None:
                return cls()
            if isinstance(settings, Mapping) and _are_arguments(settings):
                return cls(**{key: self.value(str(key), value, True) for key, value in settings.items()})
            return cls(self.value(argument, settings, True))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self._title}: {name} in {argument!r}: {error}") from error

    def _class(self, argument, name, places) -> type:
        found = next((c for place in places if isinstance(c := getattr(place, name, None), type)), None)
        if found is None:
            known = [known for place in places for known in _classes(place)]
            raise ValueError(
                f"{self._title}: {argument!r} names the unknown class {name!r}. {did_you_mean(name, known)}"
            )
        return found


def _names_object(value: Mapping) -> bool:
    """Whether a mapping is `{ClassName: arguments}`; names of arguments begin with a small letter."""
    return len(value) == 1 and isinstance(name := next(iter(value)), str) and name[:1].isupper()


def _are_arguments(settings: Mapping) -> bool:
    """Whether the keys are arguments, and neither a class nor the steps of a staircase."""
    return not _names_object(settings) and not all(str(key).isdigit() for key in settings)


def _classes(place) -> Iterator[str]:
    return (name for name, value in vars(place).items() if isinstance(value, type) and name[:1].isupper())
