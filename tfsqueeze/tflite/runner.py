"""Runs a `.tflite` file with the real interpreter, floats in and floats out."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tfsqueeze.tflite.file import read
from tfsqueeze.tflite.structure import Tensor, TFLiteFile


@dataclass(frozen=True)
class Port:
    """One input or output of a file: its name in the signature and the tensor behind it.

    Attributes:
        name: the name in the signature (the Keras input or output name).
        index: the tensor's index in the interpreter.
        shape: sizes, -1 where free.
        dtype: NumPy dtype name in the file ("float32", "int8", ...; "str_" for strings).
        scale, zero_point: quantization of an integer port; scale 0 means plain numbers.
    """

    name: str
    index: int
    shape: tuple[int, ...]
    dtype: str
    scale: float = 0.0
    zero_point: int = 0

    def quantize(self, values: np.ndarray) -> np.ndarray:
        """Real numbers to what the file stores: rounded and clipped to the integer range if quantized."""
        if not self.scale:
            return np.asarray(values).astype(self.dtype, copy=False)
        limits = np.iinfo(self.dtype)
        levels = np.round(np.asarray(values, np.float32) / self.scale) + self.zero_point
        return np.clip(levels, limits.min, limits.max).astype(self.dtype)

    def dequantize(self, values: np.ndarray) -> np.ndarray:
        """What the file computes to real numbers; unquantized values are returned as they are."""
        if not self.scale:
            return values
        return ((values.astype(np.float32) - self.zero_point) * self.scale).astype(np.float32)


class Runner:
    """An interpreter around one `.tflite` file.

    Args:
        source: path, bytes or `TFLiteFile`.
        num_threads: threads of the CPU kernels.
        delegate: whether the default CPU delegate (XNNPACK) may take over operators.
        keep_tensors: whether every intermediate tensor can be read afterwards (slower; no delegate).

    Attributes:
        file: the parsed file.
        interpreter: the `ai_edge_litert` interpreter (TensorFlow's own for files with select-TF ops).
        inputs, outputs: `Port`s in the order of the file.

    Raises:
        ValueError: if the file is corrupt or the interpreter refuses it.

    Example:
        >>> Runner("model.tflite").run({"image": images})["probabilities"].argmax(-1)
    """

    def __init__(self, source, num_threads: int = 1, *, delegate: bool = True, keep_tensors: bool = False):
        self.file: TFLiteFile = read(source)
        self.interpreter = _interpreter(self.file, num_threads, delegate and not keep_tensors, keep_tensors)
        self.inputs, self.outputs = ports(self.file)
        self._shapes: dict[str, tuple[int, ...]] = {}

    @property
    def batch_size(self) -> int | None:
        """The fixed number of examples per run, or None where it is free."""
        sizes = [port.shape[0] for port in self.inputs if port.shape]
        return None if not sizes or -1 in sizes else sizes[0]

    def run(self, inputs: Mapping[str, np.ndarray], *, batch_size: int = 32) -> dict[str, np.ndarray]:
        """Runs the file on examples, in pieces.

        Args:
            inputs: real numbers by input name (as in `Examples.inputs`), each of shape (n, ...). Quantized
                inputs are quantized here.
            batch_size: examples per run where the batch axis is free; a fixed one is kept, and the last
                piece filled up.

        Returns:
            Arrays by output name, the first axis counting examples, dequantized to float32.

        Raises:
            ValueError: if inputs are missing, are of unequal length, empty or of a wrong shape.
        """
        return in_batches(self.invoke, self._check(inputs), self.batch_size, batch_size)

    def invoke(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One run of the interpreter on one batch of real numbers; state of recurrent files starts anew."""
        self.set_inputs(inputs)
        self._guarded(self.interpreter.invoke, "run")
        return {port.name: port.dequantize(self.interpreter.get_tensor(port.index)) for port in self.outputs}

    def set_inputs(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Copies one batch in, resized to and quantized; `interpreter.invoke()` comes next."""
        values = {port.name: port.quantize(inputs[port.name]) for port in self.inputs}
        shapes = {name: value.shape for name, value in values.items()}
        if shapes != self._shapes:
            for port in self.inputs:
                if -1 in port.shape:
                    self.interpreter.resize_tensor_input(port.index, shapes[port.name])
            self._guarded(self.interpreter.allocate_tensors, f"be prepared for inputs of shape {shapes}")
            self._shapes = shapes
        if any(tensor.is_variable for tensor in self.file.main.tensors):
            self.interpreter.reset_all_variables()
        for port in self.inputs:
            self.interpreter.set_tensor(port.index, values[port.name])

    def _check(self, inputs) -> dict[str, np.ndarray]:
        names = [port.name for port in self.inputs]
        missing = [name for name in names if name not in inputs]
        if missing:
            raise ValueError(
                f"The file's inputs are {names}. Missing: {missing}. Received: {sorted(inputs)}."
            )
        arrays = {name: np.asarray(inputs[name]) for name in names}
        for port in self.inputs:
            _check_shape(arrays[port.name], port)
        if len({len(array) for array in arrays.values()}) > 1:
            lengths = {name: len(array) for name, array in arrays.items()}
            raise ValueError(f"All inputs must have the same number of examples. Received: {lengths}.")
        return arrays

    def _guarded(self, action, what: str) -> None:
        try:
            action()
        except RuntimeError as error:
            raise ValueError(f"The .tflite file cannot {what}: {error}") from error


def ports(file: TFLiteFile) -> tuple[list[Port], list[Port]]:
    """The inputs and outputs of a file, by the names in its signature."""
    tensors = file.main.tensors
    inputs = [_port(name, index, tensors[index]) for name, index in file.signature.inputs.items()]
    return inputs, [_port(name, index, tensors[index]) for name, index in file.signature.outputs.items()]


def _interpreter(file: TFLiteFile, num_threads: int, delegate: bool, keep_tensors: bool):
    module = _interpreter_module(file)
    resolver = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return module.Interpreter(
                model_content=file.content,
                num_threads=num_threads,
                experimental_op_resolver_type=module.OpResolverType.AUTO if delegate else resolver,
                experimental_preserve_all_tensors=keep_tensors,
            )
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"The interpreter refuses the .tflite file: {error}") from error


def _interpreter_module(file: TFLiteFile):
    if any(operator.is_select_tf for subgraph in file.subgraphs for operator in subgraph.operators):
        # Only TensorFlow's own build links the Flex delegate that runs select-TF operators.
        from tensorflow.lite.python import interpreter

        return interpreter
    from ai_edge_litert import interpreter

    return interpreter


def _port(name: str, index: int, tensor: Tensor) -> Port:
    dtype = "str_" if tensor.dtype == "STRING" else tensor.dtype.lower()
    scale = float(tensor.scale[0]) if tensor.is_quantized else 0.0
    zero_point = int(tensor.zero_point[0]) if tensor.zero_point.size else 0
    return Port(name, index, tensor.shape, dtype, scale, zero_point)


def _check_shape(array: np.ndarray, port: Port) -> None:
    expected = ("n", *("any" if size == -1 else size for size in port.shape[1:]))
    # Resizing to an empty batch aborts the whole process inside the interpreter.
    fits = array.ndim == len(port.shape) and array.size > 0
    if not fits or any(w not in (-1, g) for w, g in zip(port.shape[1:], array.shape[1:], strict=True)):
        shape = "(" + ", ".join(map(str, expected)) + ")"
        raise ValueError(f"Input {port.name!r} must have shape {shape}, n >= 1. Received: {array.shape}.")


def in_batches(call, inputs: Mapping[str, np.ndarray], fixed: int | None, size: int = 32):
    """Maps `call` over examples in batches and joins the results.

    Args:
        call: takes and returns a dict of arrays.
        inputs: arrays by name, the first axis counting examples.
        fixed: the only batch size `call` accepts (the last batch is filled up, the filling cut off
            again), or None if any will do.
        size: examples per batch where `fixed` is None.
    """
    count = len(next(iter(inputs.values()))) if inputs else 1
    step, pieces = fixed or size, []
    for start in range(0, count, step):
        batch = {name: array[start : start + step] for name, array in inputs.items()}
        kept = min(step, count - start)
        if fixed and kept < fixed:
            outputs = call({name: _fill(array, fixed) for name, array in batch.items()})
            pieces.append({name: np.atleast_1d(array)[:kept] for name, array in outputs.items()})
        else:
            pieces.append({name: np.atleast_1d(array) for name, array in call(batch).items()})
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def _fill(array: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])
