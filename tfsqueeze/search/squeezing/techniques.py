"""The techniques that a search composes: what each may be set to, and the recipe's steps it stands for."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from tfsqueeze.architecture.factorize import factorize
from tfsqueeze.architecture.input_size import with_input_size
from tfsqueeze.architecture.separable import to_separable
from tfsqueeze.core.data import Examples
from tfsqueeze.pruning.channels.one_shot import prune_channels
from tfsqueeze.pruning.depth import prune_depth
from tfsqueeze.pruning.one_shot import prune
from tfsqueeze.quantization.calibrate import calibrate
from tfsqueeze.search.squeezing.objectives import QUANTITIES

#: Inputs that a technique is tried on, to see whether it applies.
TRIED_ON = 32
#: Inputs that the quick candidates are calibrated on.
QUICK_SAMPLES = 256


@dataclass(frozen=True)
class Technique:
    """One dimension of the search.

    Attributes:
        name: such as "channels".
        options: what it may be set to; the first leaves the model as it is, if it can.
        steps: the recipe's steps for an option.
        mildest: raises where the technique does not apply to a model.
        serves: what it makes smaller, of the objective's quantities.
    """

    name: str
    options: tuple
    steps: Callable[[Any], list[dict]]
    mildest: Callable[[keras.Model, Examples], Any]
    serves: tuple[str, ...] = tuple(QUANTITIES)


DEPTH = Technique(
    "depth",
    (0, 1, 2, 3),
    lambda blocks: [{"prune_depth": {"blocks": blocks}}] if blocks else [],
    lambda model, data: prune_depth(model, blocks=1, data=data),
)
CHANNELS = Technique(
    "channels",
    (1.0, 0.75, 0.5, 0.35, 0.25, 0.15, 0.1, 0.06, 0.04),
    lambda kept: [{"prune_channels": {"macs": kept}}] if kept < 1 else [],
    lambda model, data: prune_channels(model, macs=0.9),
)
SEPARABLE = Technique(
    "separable",
    (False, True),
    lambda is_on: ["to_separable"] if is_on else [],
    lambda model, data: to_separable(model),
)
LOW_RANK = Technique(
    "low_rank",
    (1.0, 0.7, 0.5, 0.35),
    lambda kept: [{"factorize": {"macs": kept}}] if kept < 1 else [],
    lambda model, data: factorize(model, macs=0.9),
)
PRUNING = Technique(
    "pruning",
    (0.0, 0.5, 0.7, 0.85, 0.93),
    lambda sparsity: [{"prune": {"sparsity": sparsity, "scope": "lamp", "data": None}}] if sparsity else [],
    lambda model, data: prune(model, 0.5),
)
RESOLUTION = Technique(
    "resolution",
    (1.0, 0.75, 0.5),
    lambda scale: [{"with_input_size": {"size": scale, "keep_input": True}}] if scale < 1 else [],
    lambda model, data: with_input_size(model, 0.5, keep_input=True),
    ("macs", "memory", "latency"),
)
STRUCTURE = (RESOLUTION, DEPTH, CHANNELS, SEPARABLE, LOW_RANK, PRUNING)
QUANTIZATION = "quantization"
FORMATS = ("int8", "int4", "float16")
INTEGERS = ("int8", "int4")
FLOAT = "float32"
NAMES = (*(technique.name for technique in STRUCTURE), QUANTIZATION)


@dataclass(frozen=True)
class Repertoire:
    """The techniques that apply to a model.

    Attributes:
        structure: those that change weights or layers, in the order they are applied in.
        formats: the formats of the file, at least one.
        is_calibrated: whether integer formats are calibrated before the export.
        skipped: why others are left out, by name.
    """

    structure: tuple[Technique, ...]
    formats: tuple[str, ...]
    is_calibrated: bool
    skipped: dict[str, str]

    @classmethod
    def of(
        cls, model: keras.Model, data: Examples, wanted: Sequence[str] | None, objective: Collection[str]
    ) -> "Repertoire":
        """Tries every technique on the model, at its mildest.

        Args:
            model: what is to be squeezed.
            data: typical inputs.
            wanted: names of techniques, of `NAMES`; None for all.
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
            skipped[QUANTIZATION] = f"without calibration and int4: {_first_line(error)}"
            return cls(structure, ("int8", "float16"), False, skipped)
        return cls(structure, FORMATS, True, skipped)

    def space(self) -> dict[str, list]:
        """The options by technique."""
        return {one.name: list(one.options) for one in self.structure} | {QUANTIZATION: list(self.formats)}

    def starting_points(self) -> list[dict[str, Any]]:
        """Settings worth trying first: the first format, ever fewer channels, the other formats between."""
        rest = {one.name: one.options[0] for one in self.structure}
        first, *others = ({**rest, QUANTIZATION: form} for form in self.formats)
        kept = (0.5, 0.1, 0.25, 0.04) if CHANNELS in self.structure else ()
        fewer = [{**first, "channels": part} for part in kept]
        return [first, *fewer[:2], *others, *fewer[2:]]

    def steps(self, setting: dict[str, Any], training: dict | None = None, *, quick: bool = False) -> list:
        """The recipe's steps for a setting.

        Args:
            setting: an option for each technique.
            training: the step between the changes and the format that trains, or None.
            quick: calibrates on few inputs.
        """
        steps = [step for one in self.structure for step in one.steps(setting[one.name])]
        steps += [training] if training else []
        form = setting[QUANTIZATION]
        if form in INTEGERS and self.is_calibrated:
            options = {"config": form, **({"samples": QUICK_SAMPLES} if quick else {})}
            steps.append({"calibrate": options})
        return [
            *steps,
            {"export_tflite": {"quantize": None if form == FLOAT else form, "path": "model.tflite"}},
        ]


def _reason_against(technique: Technique, model, data, wanted, objective) -> str | None:
    if wanted is not None and technique.name not in wanted:
        return "not asked for"
    if not set(objective) & set(technique.serves):
        return f"does not change the {', '.join(objective)} of a file"
    try:
        technique.mildest(model, data)
    except (ValueError, TypeError) as error:
        return _first_line(error)
    return None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200]
