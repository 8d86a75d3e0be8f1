"""The verbs a step can name, and what of their arguments the run supplies."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from tfsqueeze.architecture.backbone import swap_backbone
from tfsqueeze.architecture.factorize import factorize
from tfsqueeze.architecture.input_size import with_input_size
from tfsqueeze.architecture.output_size import downsample_output
from tfsqueeze.architecture.separable import to_separable
from tfsqueeze.clustering.one_shot import cluster
from tfsqueeze.clustering.pack import pack
from tfsqueeze.clustering.product import product_quantize
from tfsqueeze.core.checks import did_you_mean
from tfsqueeze.distillation.width import scale_width
from tfsqueeze.export.tflite import export_tflite
from tfsqueeze.models.load import load_model
from tfsqueeze.precision.conversion import with_precision
from tfsqueeze.pruning.channels.one_shot import prune_channels
from tfsqueeze.pruning.depth import prune_depth
from tfsqueeze.pruning.one_shot import prune
from tfsqueeze.quantization.aware import quantize_aware
from tfsqueeze.quantization.calibrate import calibrate
from tfsqueeze.quantization.strip import strip_quantization
from tfsqueeze.recipe.training import distil, fine_tune
from tfsqueeze.reporting.compare import compare
from tfsqueeze.reporting.report import report

VERBS: dict[str, Callable] = {
    verb.__name__: verb
    for verb in (
        load_model,
        prune,
        prune_channels,
        prune_depth,
        to_separable,
        factorize,
        with_input_size,
        downsample_output,
        swap_backbone,
        scale_width,
        cluster,
        product_quantize,
        quantize_aware,
        calibrate,
        strip_quantization,
        with_precision,
        fine_tune,
        distil,
        export_tflite,
        pack,
        report,
        compare,
    )
}
TRAINING = ("fine_tune", "distil")
REPORTING = ("report", "compare")
#: Arguments that stand for the run's own models; a step cannot set them.
MODELS = ("model", "models")
#: Arguments that take one of the run's data sets, with the one they take by default.
DATA = {"data": "calibration", "representative_data": "calibration", "train": "train", "validation": None}
ROLES = ("train", "validation", "calibration")
#: Other arguments that the run fills where the step does not.
FILLED = ("path", "seed", "teacher")


def parameters(verb: str) -> dict[str, inspect.Parameter]:
    """The parameters of a verb that a step can set, in order; those that the run fills come last."""
    all_of_them = inspect.signature(VERBS[verb]).parameters
    settable = {name: p for name, p in all_of_them.items() if name not in MODELS}
    return dict(sorted(settable.items(), key=lambda entry: entry[0] in {*DATA, *FILLED}))


def first_argument(verb: str) -> str | None:
    """The argument that a value written alone stands for: `prune: 0.8` is `prune: {sparsity: 0.8}`."""
    return next((name for name in parameters(verb) if name not in {*DATA, *FILLED}), None)


def default_role(verb: str, argument: str) -> str | None:
    """The data set an argument takes where the step names none."""
    return "validation" if verb in REPORTING else DATA[argument]


def takes(verb: str, argument: str) -> bool:
    """Whether a verb has an argument."""
    return argument in inspect.signature(VERBS[verb]).parameters


def check_verb(name: Any, where: str) -> str:
    """Returns `name` if there is such a verb; raises ValueError with the close ones otherwise."""
    if name not in VERBS:
        hint = did_you_mean(str(name), VERBS)
        raise ValueError(f"{where}: there is no step {name!r}. {hint} Steps: {', '.join(VERBS)}.")
    return name


def check_arguments(verb: str, arguments: Mapping[str, Any], where: str) -> None:
    """Raises ValueError if the verb has no such arguments, or lacks one it cannot do without."""
    known = parameters(verb)
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values())
    named = {name: p for name, p in known.items() if p.kind is not inspect.Parameter.VAR_KEYWORD}
    unknown = [name for name in arguments if name not in named]
    if unknown and not takes_any:
        hint = did_you_mean(str(unknown[0]), named)
        raise ValueError(f"{where}: unknown argument {unknown[0]!r}. {hint} It takes: {', '.join(named)}.")
    missing = [
        name
        for name, p in named.items()
        if p.default is p.empty and name not in arguments and name not in {*DATA, *FILLED}
    ]
    if missing:
        raise ValueError(
            f"{where}: the argument {missing[0]!r} is missing. Write it as "
            f"`{verb}: {{{missing[0]}: ...}}`. It takes: {', '.join(named)}."
        )
