"""One step of a recipe: a verb and its arguments, plain data in every form it is written in."""

import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tfsqueeze.recipe.objects import check_objects
from tfsqueeze.recipe.verbs import check_arguments, check_verb, first_argument


@dataclass(frozen=True)
class Step:
    """A verb with its keyword arguments.

    Attributes:
        number: its place in the recipe, from 1.
        verb: the name of a tfsqueeze verb, such as "prune".
        arguments: plain data by argument name.
    """

    number: int
    verb: str
    arguments: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, number: int, written: Any) -> "Step":
        """Reads a step as it is written in a recipe, and checks it.

        Args:
            number: its place, from 1.
            written: a verb's name; or a mapping of it to a mapping of arguments, to its first argument
                alone, or to None.

        Raises:
            TypeError: if it is written in no such form, or holds what is no plain data.
            ValueError: if there is no such verb or argument, or one is missing.
        """
        if isinstance(written, Step):
            written = written.to_dict()
        if isinstance(written, str):
            written = {written: None}
        if not isinstance(written, Mapping) or len(written) != 1:
            raise TypeError(
                f"Step {number} must be the name of a verb, or a mapping of one name to its arguments, as in "
                f'{{"prune": {{"sparsity": 0.8}}}}. Received: {written!r}.'
            )
        name, value = next(iter(written.items()))
        verb = check_verb(name, f"Step {number}")
        step = cls(number, verb, _arguments(verb, value, number))
        check_arguments(verb, step.arguments, step.title)
        check_objects(step.arguments, step.title)
        return step

    @property
    def title(self) -> str:
        """How messages name it: "Step 3 (prune)"."""
        return f"Step {self.number} ({self.verb})"

    def to_dict(self) -> dict[str, Any] | str:
        """The step as `of` reads it."""
        return {self.verb: self.arguments} if self.arguments else self.verb

    def __str__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"{self.verb}({settings})"


def _arguments(verb: str, value, number: int) -> dict[str, Any]:
    title = f"Step {number} ({verb})"
    if value is None:
        return {}
    first = first_argument(verb)
    if isinstance(value, Mapping) and not _is_first_argument(value):
        return plain(value, title)
    if first is None:
        raise ValueError(f"{title} takes no value. Received: {value!r}.")
    return {first: plain(value, title)}


def _is_first_argument(value: Mapping) -> bool:
    """Whether a mapping is an object, `quantize_aware: {QuantizationConfig: ...}`, rather than arguments."""
    return len(value) == 1 and str(next(iter(value)))[:1].isupper()


def plain(value: Any, title: str) -> Any:
    """The value with tuples as lists and NumPy numbers as Python's.

    Raises:
        TypeError: if something in it is no number, text, list, mapping or None.
    """
    if value is None or isinstance(value, (bool, str, int, float)):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, (list, tuple)):
        return [plain(entry, title) for entry in value]
    if isinstance(value, Mapping):
        return {key if isinstance(key, int) else str(key): plain(v, title) for key, v in value.items()}
    raise TypeError(
        f"{title}: a recipe holds plain data (numbers, text, lists, mappings). Received: {value!r}. Write an "
        "object by its class and arguments, such as {'PruningCallback': {'schedule': 0.8}}; give data to "
        "`run(train=..., validation=...)`."
    )
