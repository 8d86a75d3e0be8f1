"""The data sets of a run: training, validation, calibration; given in memory or named as files."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfsqueeze.core import data_files
from tfsqueeze.core.data import Examples, collect, input_specs, pack_inputs
from tfsqueeze.core.resuming import arrays_digest
from tfsqueeze.core.scaling import parse_scale
from tfsqueeze.recipe.training_data import resized
from tfsqueeze.recipe.verbs import ROLES
from tfsqueeze.reporting.subjects import KerasSubject

#: Examples drawn from the training data to calibrate on where none are given.
CALIBRATION_EXAMPLES = 2048


@dataclass(frozen=True)
class RunData:
    """Data by role; None where there is none.

    Attributes:
        train: in any form that `model.fit` takes.
        validation: examples with targets, in memory.
        calibration: typical inputs, labelled where the source is.
    """

    train: Any = None
    validation: Examples | None = None
    calibration: Examples | None = None

    @classmethod
    def read(cls, model: keras.Model, sources: Mapping[str, Any], *, scale=None, seed: int = 0) -> "RunData":
        """Reads what is needed into memory.

        Args:
            model: the model whose inputs the data is for.
            sources: by role, data in any form or the path of an `.npz` file or image folder.
            scale: text such as "1/255", for data read from files.
            seed: of the draw of calibration examples.

        Raises:
            ValueError: if a file cannot be read, or the data does not fit the model.
        """
        given = {role: _opened(sources.get(role), role, model, scale) for role in ROLES}
        specs = input_specs(model)
        if given["validation"] is not None:
            given["validation"] = collect(given["validation"], specs)
        if given["calibration"] is not None:
            given["calibration"] = collect(given["calibration"], specs)
        elif given["train"] is not None:
            given["calibration"] = _drawn(given["train"], specs, seed)
        return cls(**given)

    def of(self, role: str, model: keras.Model) -> Any:
        """The data of a role, its images resized to the input of `model`."""
        found = getattr(self, role)
        return fitted(model, found) if isinstance(found, Examples) else found

    def digest(self) -> str:
        """Text that tells this data from other; of a stream it knows the form alone."""
        return arrays_digest([np.str_(_digest(getattr(self, role))) for role in ROLES])


def fitted(model: keras.Model, examples: Examples) -> Examples:
    """The examples with images resized to the input of `model`."""
    names = [spec.name for spec in input_specs(model)]
    packed = pack_inputs(model, examples.inputs)
    arrays = keras.tree.flatten(resized(model, packed))
    return replace(examples, inputs=dict(zip(names, arrays, strict=True)))


def _opened(source, role, model, scale) -> Any:
    if not isinstance(source, str):
        return source
    return data_files.read_examples(
        source,
        input_specs(model),
        outputs=KerasSubject(model).output_names,
        scale=None if scale is None else parse_scale(scale),
        with_targets=role != "calibration",
    )


def _drawn(train, specs, seed: int) -> Examples | None:
    if not isinstance(train, (Examples, tuple, np.ndarray, dict)):
        return collect(train, specs, limit=CALIBRATION_EXAMPLES)
    examples = collect(train, specs)
    if len(examples) <= CALIBRATION_EXAMPLES:
        return examples
    rng = np.random.default_rng(seed)
    return examples[np.sort(rng.choice(len(examples), CALIBRATION_EXAMPLES, replace=False))]


def _digest(data) -> str:
    if isinstance(data, Examples):
        return arrays_digest([data.inputs, data.targets, data.weights])
    if isinstance(data, tf.data.Dataset):
        return f"{data.element_spec} {data.cardinality()}"
    if isinstance(data, (tuple, np.ndarray, dict, list)):
        return arrays_digest(data)
    return type(data).__qualname__
