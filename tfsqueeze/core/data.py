"""Reading examples from whatever a user has: arrays, tuples, datasets, generators, dicts.

Everything that looks at data (calibration, parity, metrics, criteria) goes through `stream` or
`collect`, so each form is understood once and alike.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.models.functional import Functional

# Entries that a free axis is given where a model must be run on something.
FREE_SIZE = 32


@dataclass(frozen=True)
class InputSpec:
    """Name, shape (batch axis first, None where free) and NumPy dtype of one model input."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class Examples:
    """Inputs by name with their targets and sample weights, as NumPy arrays with a leading example axis."""

    inputs: dict[str, np.ndarray]
    targets: Any = None
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def __getitem__(self, index: slice) -> "Examples":
        def cut(tree):
            return keras.tree.map_structure(lambda array: array[index], tree)

        targets = None if self.targets is None else cut(self.targets)
        weights = None if self.weights is None else self.weights[index]
        return Examples(cut(self.inputs), targets, weights)

    def batches(self, size: int) -> Iterator["Examples"]:
        """Consecutive slices of at most `size` examples."""
        return (self[start : start + size] for start in range(0, len(self), size))


def input_specs(model: keras.Model) -> list[InputSpec]:
    """The inputs of a built Keras model, in call order.

    Raises:
        ValueError: if the model was never called on data, so that its inputs are unknown.
    """
    struct = input_struct(model)
    if struct is None:
        raise ValueError(
            f"The inputs of model {model.name!r} are unknown because it was never built. "
            "Call it once on data, or call `model.build(input_shape)`."
        )
    return [InputSpec(name, tuple(t.shape), t.dtype) for name, t in _named_tensors(struct)]


def pack_inputs(model: keras.Model, inputs: Mapping[str, Any]):
    """Arranges inputs by name (as in `Examples.inputs`) into the structure `model` is called on."""
    struct = input_struct(model)
    return keras.tree.pack_sequence_as(struct, [inputs[name] for name, _ in _named_tensors(struct)])


def stream(data, specs: list[InputSpec], *, batch_size: int = 32) -> Iterator[Examples]:
    """Reads `data` batch by batch.

    Args:
        data: a NumPy array or a dict or list of them (the inputs); a tuple `(x, y)` or
            `(x, y, sample_weight)` as in `model.fit`; a `tf.data.Dataset`, batched or not; a Keras
            `PyDataset`; any iterable of batches or of single examples, or a function that returns one.
        specs: the model's inputs, from `input_specs`.
        batch_size: number of examples per batch where `data` is not batched already.

    Yields:
        `Examples` with inputs cast to the dtypes of `specs`.

    Raises:
        ValueError: if the inputs are not as many, or not of the shape, that the model expects.
        TypeError: if `data` is of no known kind or not numeric.
    """
    if isinstance(data, Examples):
        yield from data.batches(batch_size)
    elif (whole := arrays(data, specs)) is not None:
        yield from (cast(part, specs) for part in whole.batches(batch_size))
    else:
        yield from _merge_single_examples(_elements(data), specs, batch_size)


def arrays(data, specs: list[InputSpec]) -> Examples | None:
    """All of `data` where it is arrays, neither copied nor cast; None where it must be read in order.

    Arrays mapped from files larger than memory stay on disk: `cast` what is cut from them.
    """
    if isinstance(data, Examples):
        return data
    return _as_given(data, specs) if _is_arrays(data, specs) else None


def cast(examples: Examples, specs: list[InputSpec]) -> Examples:
    """The same examples with inputs of the dtypes of `specs`."""
    dtypes = {spec.name: spec.dtype for spec in specs if spec.dtype != "string"}
    inputs = {
        name: array.astype(dtypes.get(name, array.dtype), copy=False)
        for name, array in examples.inputs.items()
    }
    return Examples(inputs, examples.targets, examples.weights)


def collect(data, specs: list[InputSpec], *, limit: int | None = None) -> Examples:
    """Reads up to `limit` examples of `data` into memory; forms and errors are those of `stream`.

    Raises:
        ValueError: also if there is not a single example.
    """
    parts, count = [], 0
    for part in stream(data, specs):
        parts.append(part)
        count += len(part)
        if limit is not None and count >= limit:
            break
    if count == 0:
        raise ValueError("The data is empty: not a single example could be read from it.")
    return _concatenate(parts)[: limit if limit is not None else count]


def random_examples(specs: list[InputSpec], count: int, *, seed: int = 0) -> Examples:
    """Random inputs of the given specs: normal for floats, small integers otherwise; free axes get 32."""
    rng = np.random.default_rng(seed)

    def draw(spec):
        shape = (count, *(FREE_SIZE if size is None else size for size in spec.shape[1:]))
        if spec.dtype.startswith(("int", "uint", "bool")):
            return rng.integers(0, 2, shape).astype(spec.dtype)
        return rng.normal(size=shape).astype(spec.dtype)

    return Examples({spec.name: draw(spec) for spec in specs})


def input_struct(model):
    """The structure of KerasTensors a model is called on; None if it is unknown."""
    functional = getattr(model, "_functional", None) or model
    if isinstance(functional, Functional):
        return functional._inputs_struct
    shapes = getattr(model, "_build_shapes_dict", None) or {}
    return _tensors_of_shapes(next(iter(shapes.values()), None), model.input_dtype)


def _tensors_of_shapes(shapes, dtype, name="input"):
    """KerasTensors for the (nested) shapes a subclassed model was built on, with a free batch axis."""
    if shapes is None:
        return None
    if isinstance(shapes, Mapping):
        return {key: _tensors_of_shapes(shape, dtype, key) for key, shape in shapes.items()}
    if all(size is None or isinstance(size, int) for size in shapes):
        return keras.KerasTensor((None, *shapes[1:]), dtype, name=name)
    return [_tensors_of_shapes(shape, dtype, f"{name}_{index}") for index, shape in enumerate(shapes)]


def _named_tensors(struct) -> list[tuple[str, keras.KerasTensor]]:
    """(name, tensor) in call order: dict keys if the inputs are a dict, else the Input layers' names."""
    if isinstance(struct, Mapping):
        return [(key, struct[key]) for key in sorted(struct)]
    return [(_layer_name(tensor), tensor) for tensor in keras.tree.flatten(struct)]


def _layer_name(tensor) -> str:
    history = getattr(tensor, "_keras_history", None)
    return history.operation.name if history else tensor.name


def _is_arrays(data, specs) -> bool:
    """Whether `data` holds all examples at once rather than one batch after the other."""
    if isinstance(data, tuple):
        return _is_arrays(data[0], specs) if len(data) in (1, 2, 3) else all(map(_is_array, data))
    if isinstance(data, Mapping):
        return all(_is_array(value) for value in data.values())
    if isinstance(data, list):
        whole = len(data) == len(specs) and all(_is_array(value) for value in data)
        return whole and all(np.ndim(v) == len(s.shape) for v, s in zip(data, specs, strict=True))
    return _is_array(data)


def _is_array(value) -> bool:
    return isinstance(value, np.ndarray) or tf.is_tensor(value)


def _elements(data) -> Iterable:
    if isinstance(data, keras.utils.PyDataset):
        return (data[i] for i in range(_length(data)))
    if isinstance(data, Callable) and not isinstance(data, Iterable):
        data = data()
    if not isinstance(data, Iterable) or isinstance(data, (str, bytes)):
        raise TypeError(
            "Expected NumPy arrays, a tuple (x, y), a tf.data.Dataset, a keras PyDataset, or an iterable of "
            f"batches. Received: {type(data)}."
        )
    return data


def _length(dataset: keras.utils.PyDataset) -> int:
    count = dataset.num_batches
    if count is None:
        raise ValueError("The PyDataset is endless (num_batches is None). Wrap it so that it has an end.")
    return count


def _merge_single_examples(elements, specs, batch_size) -> Iterator[Examples]:
    """Batches as they come; single examples (one axis fewer than the model's input) gathered into batches."""
    singles: list[Examples] = []
    for element in elements:
        inputs = _named_inputs(element[0] if isinstance(element, tuple) else element, specs)
        if all(np.ndim(inputs[spec.name]) == len(spec.shape) for spec in specs):
            yield _examples(element, specs)
            continue
        singles.append(_examples(_with_batch_axis(element), specs))
        if len(singles) == batch_size:
            yield _concatenate(singles)
            singles = []
    if singles:
        yield _concatenate(singles)


def _with_batch_axis(element):
    parts = element if isinstance(element, tuple) else (element,)
    return tuple(keras.tree.map_structure(lambda array: np.asarray(array)[None], part) for part in parts)


def _examples(element, specs) -> Examples:
    return cast(_as_given(element, specs), specs)


def _as_given(element, specs) -> Examples:
    parts = element if isinstance(element, tuple) else (element,)
    if len(parts) > 3:
        raise ValueError(f"A tuple means (x, y) or (x, y, sample_weight). Received {len(parts)} entries.")
    inputs, targets, weights = (*parts, None, None)[:3]
    named = _named_inputs(inputs, specs)
    given = {spec.name: _checked(named[spec.name], spec) for spec in specs}
    lengths = {name: len(array) for name, array in given.items()}
    if targets is not None:
        targets = keras.tree.map_structure(np.asarray, targets)
        lengths["targets"] = len(keras.tree.flatten(targets)[0])
    if len(set(lengths.values())) > 1:
        raise ValueError(f"Inputs and targets must have the same number of examples. Received: {lengths}.")
    return Examples(given, targets, None if weights is None else np.asarray(weights))


def _named_inputs(inputs, specs) -> dict[str, Any]:
    names = [spec.name for spec in specs]
    if isinstance(inputs, Mapping):
        missing = [name for name in names if name not in inputs]
        if missing:
            raise ValueError(f"The data lacks the model inputs {missing}. Received keys: {sorted(inputs)}.")
        return dict(inputs)
    values = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
    if len(values) != len(names):
        hint = "Pass several inputs as a list or as a dict; in a tuple the second entry means the targets."
        raise ValueError(f"The model has {len(names)} input(s) {names}. Received {len(values)}. {hint}")
    return dict(zip(names, values, strict=True))


def _checked(value, spec: InputSpec) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "buif" and not (array.dtype.kind in "SUO" and spec.dtype == "string"):
        raise TypeError(f"Input {spec.name!r} must be numeric ({spec.dtype}). Received dtype: {array.dtype}.")
    fits = array.ndim == len(spec.shape) and all(
        expected in (None, size) for expected, size in zip(spec.shape[1:], array.shape[1:], strict=True)
    )
    if not fits:
        raise ValueError(
            f"Input {spec.name!r} must have shape {_readable(spec.shape)}, the first axis counting examples. "
            f"Received: {array.shape}."
        )
    return array


def _readable(shape) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in ("n", *shape[1:])) + ")"


def _concatenate(parts: list[Examples]) -> Examples:
    def join(*arrays):
        return np.concatenate(arrays)

    inputs = {name: join(*(part.inputs[name] for part in parts)) for name in parts[0].inputs}
    targets = parts[0].targets
    if targets is not None:
        targets = keras.tree.map_structure(join, *(part.targets for part in parts))
    weights = None if parts[0].weights is None else join(*(part.weights for part in parts))
    return Examples(inputs, targets, weights)
