"""The `litert-quantizer` back-end: quantizes a float `.tflite` file."""

import re
from collections.abc import Iterator, Mapping

import numpy as np

from tfsqueeze.core.data import Examples
from tfsqueeze.export.quiet import quiet
from tfsqueeze.tflite.file import read
from tfsqueeze.tflite.runner import Runner

BACKEND = "litert-quantizer"
FOUR_BIT_OPERATORS = ("CONV_2D", "FULLY_CONNECTED", "EMBEDDING_LOOKUP")
TRIMMED = (0.0, 0.05, 0.1)
_WEIGHT_SCALES = ("min-max", "octav", "mse")
_ACTIVATION_BITS = {"int8": 8, "int16x8": 16}
_QUANTIZER_ERRORS = (
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
)


def quantized_files(
    content: bytes, quantize: str, samples: Examples | None, input_keys: Mapping[str, str], io_dtype: str
) -> Iterator[tuple[str, bytes]]:
    """Quantizes a float file in the ways worth comparing.

    Args:
        content: a float `.tflite` file.
        quantize: "dynamic", "int8", "int16x8", or "int4" (4-bit weights where a kernel exists, 8-bit
            elsewhere and in the first and last of them, float activations).
        samples: calibration examples for "int8" and "int16x8".
        input_keys: key in the file's signature by the name in `samples`.
        io_dtype: "float32", or the activations' integer type.

    Yields:
        What distinguishes the file ("" if there is only one), and its content.

    Raises:
        ValueError: if the quantizer cannot quantize the file, with its reason.
    """
    if quantize == "int4":
        for algorithm in _WEIGHT_SCALES:
            yield f"{algorithm} scales", _quantized(content, _four_bit_recipe(content, algorithm), quantize)
    elif quantize in _ACTIVATION_BITS:
        with quiet():
            extremes = example_extremes(content, samples, input_keys)
        recipe = _static_recipe(quantize, io_dtype)
        for trimmed in TRIMMED if quantize == "int8" else TRIMMED[:1]:
            name = f"{trimmed:.0%} of examples trimmed" if trimmed else "full ranges"
            yield name, _quantized(content, recipe, quantize, ranges(extremes, trimmed))
    else:
        yield "", _quantized(content, _dynamic_recipe().get_quantization_recipe(), quantize)


def _quantized(content: bytes, recipe, quantize: str, measured=None) -> bytes:
    from litert_quantizer import quantizer

    with quiet():
        try:
            worker = quantizer.Quantizer(bytearray(content), recipe)
            return bytes(worker.quantize(measured, enable_progress_report=False).quantized_model)
        except _QUANTIZER_ERRORS as error:
            raise ValueError(f"litert-quantizer cannot quantize this model to {quantize}: {error}") from error


def _static_recipe(quantize: str, io_dtype: str):
    from litert_quantizer import qtyping, recipe_manager
    from litert_quantizer.algorithm_manager import AlgorithmName

    recipe = recipe_manager.RecipeManager()
    operation = qtyping.TFLOperationName
    recipe.add_static_config(".*", operation.ALL_SUPPORTED, _ACTIVATION_BITS[quantize], 8)
    if io_dtype == "float32":
        for port in (operation.INPUT, operation.OUTPUT):
            recipe.add_quantization_config(".*", port, algorithm_key=AlgorithmName.NO_QUANTIZE)
    return recipe.get_quantization_recipe()


def _dynamic_recipe():
    from litert_quantizer import qtyping, recipe_manager

    recipe = recipe_manager.RecipeManager()
    recipe.add_dynamic_config(".*", qtyping.TFLOperationName.ALL_SUPPORTED, 8)
    return recipe


def _four_bit_recipe(content: bytes, algorithm: str):
    """4 bits but for the first and the last weighted operator, whose few weights cost most accuracy."""
    from litert_quantizer import qtyping
    from litert_quantizer.algorithm_manager import AlgorithmName

    key = AlgorithmName.MIN_MAX_UNIFORM_QUANT if algorithm == "min-max" else AlgorithmName[algorithm.upper()]
    operation = qtyping.TFLOperationName
    recipe = _dynamic_recipe()
    for name in FOUR_BIT_OPERATORS:
        recipe.add_dynamic_config(".*", operation[name], 4, algorithm_key=key)
    main = read(content).main
    weighted = [o.outputs[0] for o in main.operators if o.name in ("CONV_2D", "FULLY_CONNECTED")]
    if len(weighted) > 2:
        for index in (weighted[0], weighted[-1]):
            recipe.add_dynamic_config(re.escape(main.tensors[index].name), operation.ALL_SUPPORTED, 8)
    return recipe.get_quantization_recipe()


def example_extremes(content: bytes, samples: Examples, input_keys: Mapping[str, str]):
    """Smallest and greatest value of each computed float tensor, for each run of the calibration.

    Returns:
        By tensor name: an array (runs, 2) and the tensor's number of axes.
    """
    runner = Runner(content, keep_tensors=True)
    tensors = runner.file.main.tensors
    computed = {index for operator in runner.file.main.operators for index in operator.outputs}
    watched = [i for i in sorted(computed | set(runner.file.main.inputs)) if tensors[i].dtype == "FLOAT32"]
    found: dict[str, list] = {tensors[index].name: [] for index in watched}
    for batch in samples.batches(runner.batch_size or 1):
        if runner.batch_size not in (None, len(batch)):
            break
        runner.invoke({input_keys[name]: array for name, array in batch.inputs.items()})
        for index in watched:
            values = runner.interpreter.get_tensor(index)
            if values.size:
                found[tensors[index].name].append((values.min(), values.max()))
    axes = {tensors[index].name: len(tensors[index].shape) for index in watched}
    return {name: (np.array(extremes), axes[name]) for name, extremes in found.items() if extremes}


def ranges(extremes, trimmed: float) -> dict[str, dict[str, np.ndarray]]:
    """The range of each tensor that holds all but the `trimmed` fraction of the examples' extremes.

    Clipping the few greatest values makes the steps finer for all others, which often costs less than it
    gains; 0 clips nothing.
    """

    def shaped(value, axes):
        return np.full((1,) * axes, value, np.float32)

    return {
        name: {
            "min": shaped(np.quantile(pairs[:, 0], trimmed), axes),
            "max": shaped(np.quantile(pairs[:, 1], 1 - trimmed), axes),
        }
        for name, (pairs, axes) in extremes.items()
    }
