"""Reading examples from files: `.npz` and `.npy` arrays, and folders of images."""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from tfsqueeze.core.data import Examples, InputSpec, collect
from tfsqueeze.core.image_folder import read_images

INPUT_KEYS = ("x", "x_test", "x_val", "x_train", "images", "inputs", "input", "features", "data", "arr_0")
TARGET_KEYS = ("y", "y_test", "y_val", "y_train", "labels", "label", "targets", "target", "arr_1")
FORMS = (
    "an .npz file with keys x (or the names of the model's inputs) and, for scores, y (or the names of its "
    "outputs); x_test/y_test, x_train/y_train and images/labels are understood too; an .npy file with the "
    "inputs; or a folder of images, with one sub-folder per class for scores"
)


def read_examples(
    path,
    specs: list[InputSpec],
    *,
    outputs: list[str] | None = None,
    scale: Callable[[np.ndarray], np.ndarray] | None = None,
    limit: int | None = None,
    with_targets: bool = False,
    seed: int = 0,
) -> Examples:
    """Reads inputs, and targets where there are any, from a file or a folder.

    Args:
        path: an `.npz` file, an `.npy` file, or a folder of images (.png, .jpg, .bmp, ...). Images are
            resized to the model's input and made grey for one channel; sub-folders, sorted by name,
            are the classes 0, 1, 2, ...
        specs: the model's inputs, from `core.data.input_specs`.
        outputs: the model's output names, under which targets are looked for in an `.npz` file.
        scale: applied to float inputs, such as `parse_scale("1/255")`; None feeds values as stored.
        limit: the most examples to take, drawn at random because files are often sorted by class.
        with_targets: whether targets must be there.
        seed: of the random draw.

    Raises:
        ValueError: if the file is missing, damaged, lacks inputs or targets, or holds nothing.

    Example:
        >>> read_examples("calibration.npz", input_specs(model), scale=parse_scale("1/255"), limit=200)
    """
    path = Path(path)
    if path.is_dir():
        examples = read_images(path, specs, limit=limit, seed=seed)
    elif path.suffix.lower() in (".npz", ".npy"):
        examples = _drawn(_read_arrays(path, specs, outputs or []), limit, seed)
    else:
        what = "has another ending" if path.exists() else "does not exist"
        raise ValueError(f"Cannot read data from {str(path)!r}, which {what}. Expected {FORMS}.")
    if with_targets and examples.targets is None:
        raise ValueError(f"{str(path)!r} has no targets to score against. Expected {FORMS}.")
    inputs = collect(_prepared(examples.inputs, specs, scale), specs).inputs
    return Examples(inputs, examples.targets)


def _read_arrays(path: Path, specs, outputs) -> Examples:
    arrays = _load(path)
    if not isinstance(arrays, Mapping):
        return Examples({_only(specs, path).name: arrays})
    inputs = _find_inputs(arrays, specs, path)
    targets = _find_targets(arrays, outputs, inputs)
    lengths = {name: len(array) for name, array in inputs.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"The inputs in {str(path)!r} must be equally many. Received: {lengths}.")
    return Examples(inputs, targets)


def _load(path: Path):
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return {key: loaded[key] for key in loaded.files}
    except FileNotFoundError as error:
        raise ValueError(f"The data file {str(path)!r} does not exist.") from error
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"Cannot read {str(path)!r}: {error}. It must hold plain numeric arrays, saved with "
            "np.savez(path, x=x, y=y) or np.save(path, x)."
        ) from error


def _find_inputs(arrays, specs, path) -> dict[str, np.ndarray]:
    names = [spec.name for spec in specs]
    if all(name in arrays for name in names):
        return {name: arrays[name] for name in names}
    known = [key for key in INPUT_KEYS if key in arrays]
    if len(names) == 1 and (known or len(arrays) == 1):
        return {names[0]: arrays[known[0] if known else next(iter(arrays))]}
    raise ValueError(
        f"{str(path)!r} has the keys {sorted(arrays)}, but the model's inputs are {names}. Expected {FORMS}."
    )


def _find_targets(arrays, outputs, inputs):
    if len(outputs) > 1:
        return {name: arrays[name] for name in outputs if name in arrays} or None
    count = len(next(iter(inputs.values())))
    fitting = [
        k for k in (*outputs, *TARGET_KEYS) if k in arrays and k not in inputs and _rows(arrays[k]) == count
    ]
    return arrays[fitting[0]] if fitting else None


def _rows(array) -> int:
    return len(array) if np.ndim(array) else 0


def _drawn(examples: Examples, limit, seed) -> Examples:
    if len(examples) == 0:
        raise ValueError("The data is empty: there is not a single example in it.")
    if limit is None or len(examples) <= limit:
        return examples
    chosen = np.sort(np.random.default_rng(seed).choice(len(examples), limit, replace=False))
    return examples[chosen]


def _prepared(inputs, specs, scale) -> dict[str, np.ndarray]:
    prepared = {}
    for spec in specs:
        array = np.asarray(inputs[spec.name])
        if array.ndim == len(spec.shape) - 1 and spec.shape[-1] == 1:
            # Grey images are usually stored without their one channel.
            array = array[..., None]
        is_float = spec.dtype.startswith(("float", "bfloat"))
        prepared[spec.name] = scale(array) if scale is not None and is_float else array
    return prepared


def _only(specs, path) -> InputSpec:
    if len(specs) != 1:
        names = [spec.name for spec in specs]
        raise ValueError(
            f"{str(path)!r} holds one array, but the model has the inputs {names}. Use an .npz file."
        )
    return specs[0]
