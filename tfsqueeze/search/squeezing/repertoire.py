"""The techniques that apply to a model: the space of a search, and the recipe of each point in it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from tfsqueeze.core.data import Examples
from tfsqueeze.quantization.calibrate import calibrate
from tfsqueeze.search.squeezing.techniques import (
    CHANNELS,
    CLUSTERING,
    FLOAT,
    FORMATS,
    INTEGERS,
    QUANTIZATION,
    SPARED,
    SPARING,
    STRUCTURE,
    Technique,
)

#: Inputs that a technique is tried on, to see whether it applies.
TRIED_ON = 32
#: Inputs that the quick candidates are calibrated on.
QUICK_SAMPLES = 256


@dataclass(frozen=True)
class Repertoire:
    """The techniques that apply to a model.

    Attributes:
        structure: those that change weights or layers, in the order they are applied in.
        formats: the formats of the file, at least one.
        is_calibrated: whether integer formats are calibrated before the export.
        skipped: why others are left out, by name.
        sensitive: paths of layers that may be left alone, the most sensitive first.
    """

    structure: tuple[Technique, ...]
    formats: tuple[str, ...]
    is_calibrated: bool
    skipped: dict[str, str]
    sensitive: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, model: keras.Model, data: Examples, wanted: Sequence[str] | None, objective: Collection[str]
    ) -> "Repertoire":
        """Tries every technique on the model, at its mildest.

        Args:
            model: what is to be squeezed.
            data: typical inputs.
            wanted: names of techniques; None for all.
            objective: names of the quantities that are to become small.
        """
        few = data[:TRIED_ON]
        reasons = {one.name: _reason_against(one, model, few, wanted, objective) for one in STRUCTURE}
        structure = tuple(one for one in STRUCTURE if reasons[one.name] is None)
        skipped = {name: reason for name, reason in reasons.items() if reason}
        if wanted is not None and QUANTIZATION not in wanted:
            return cls(structure, (FLOAT,), False, {**skipped, QUANTIZATION: "not asked for"})
        try:
            calibrate(model, few, "int8", rounding="nearest", samples=TRIED_ON)
        except (ValueError, TypeError) as error:
            skipped[QUANTIZATION] = f"without calibration and int4: {first_line(error)}"
            return cls(structure, ("int8", "float16"), False, skipped)
        return cls(structure, FORMATS, True, skipped)

    @property
    def can_spare(self) -> bool:
        """Whether some technique can leave layers alone."""
        return any(one.is_sparing for one in self.structure) or "int4" in self.formats

    def space(self) -> dict[str, list]:
        """The options by technique."""
        counts = [count for count in SPARED if count <= len(self.sensitive) // 2]
        return {
            **{one.name: list(one.options) for one in self.structure},
            **({SPARING: counts} if len(counts) > 1 else {}),
            QUANTIZATION: list(self.formats),
        }

    def starting_points(self) -> list[dict[str, Any]]:
        """Settings worth trying first: the first format, ever fewer channels, the other formats between."""
        rest = {name: options[0] for name, options in self.space().items()}
        first, *others = ({**rest, QUANTIZATION: form} for form in self.formats)
        kept = (0.5, 0.1, 0.25, 0.04) if CHANNELS in self.structure else ()
        fewer = [{**first, CHANNELS.name: part} for part in kept]
        return [first, *fewer[:2], *others, *fewer[2:]]

    def changes(self, setting: dict[str, Any]) -> list[dict]:
        """The recipe's steps that change weights or layers."""
        spared = self._spared(setting)
        select = {"select": {"Select": {"skip": spared}}} if spared else {}
        return [step for one in self.structure for step in one.steps(setting[one.name], select)]

    def calibration(self, setting: dict[str, Any], *, quick: bool = False) -> list[dict]:
        """The recipe's steps that round to integers, if there are any.

        Args:
            setting: an option for each technique.
            quick: reads few inputs.
        """
        form = setting[QUANTIZATION]
        if form not in INTEGERS or not self.is_calibrated:
            return []
        options: dict[str, Any] = {"config": form}
        if setting.get(CLUSTERING.name):
            # Both would give weights that share a value values of their own.
            options |= {"equalize": False, "rounding": "nearest"}
        if form == "int4" and (spared := self._spared(setting)):
            options["overrides"] = dict.fromkeys(spared, "int8")
        if quick:
            options["samples"] = QUICK_SAMPLES
        return [{"calibrate": options}]

    def export(self, setting: dict[str, Any]) -> list[dict]:
        """The recipe's step that writes the file."""
        form = setting[QUANTIZATION]
        return [{"export_tflite": {"quantize": None if form == FLOAT else form, "path": "model.tflite"}}]

    def _spared(self, setting: dict[str, Any]) -> list[str]:
        return list(self.sensitive[: setting.get(SPARING, 0)])


def first_line(error: Exception) -> str:
    """An error's message, short enough for a list of reasons."""
    return str(error).splitlines()[0][:200]


def _reason_against(technique: Technique, model, data, wanted, objective) -> str | None:
    if wanted is not None and technique.name not in wanted:
        return "not asked for"
    if not set(objective) & set(technique.serves):
        return f"does not change the {', '.join(objective)} of a file"
    try:
        technique.mildest(model, data)
    except (ValueError, TypeError) as error:
        return first_line(error)
    return None
