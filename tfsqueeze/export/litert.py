"""The `litert-quantizer` back-end: quantizes a float `.tflite` file."""

import numpy as np

from tfsqueeze.core.data import Examples
from tfsqueeze.export.quiet import quiet
from tfsqueeze.tflite.runner import Runner

BACKEND = "litert-quantizer"
_FOUR_BIT_OPERATORS = ("CONV_2D", "FULLY_CONNECTED", "EMBEDDING_LOOKUP")
_ACTIVATION_BITS = {"int8": 8, "int16x8": 16}


def quantize_float_file(
    content: bytes,
    quantize: str,
    samples: Examples | None,
    input_keys,
    io_dtype: str,
    algorithm: str = "minmax",
) -> bytes:
    """Quantizes a float file.

    Args:
        content: a float `.tflite` file.
        quantize: "dynamic", "int8", "int16x8", or "int4" (4-bit weights where a kernel exists, 8-bit
            elsewhere, float activations).
        samples: calibration examples for "int8" and "int16x8".
        input_keys: key in the file's signature by the name in `samples`.
        io_dtype: "float32", or the activations' integer type.
        algorithm: how weight scales are chosen: "minmax", "octav" or "mse".

    Raises:
        ValueError: if the quantizer cannot quantize the file, with its reason.
    """
    from litert_quantizer import quantizer

    with quiet():
        try:
            worker = quantizer.Quantizer(bytearray(content), _recipe(quantize, io_dtype, algorithm))
            ranges = _ranges(content, samples, input_keys) if quantize in _ACTIVATION_BITS else None
            return bytes(worker.quantize(ranges, enable_progress_report=False).quantized_model)
        except (KeyError, IndexError, TypeError, AttributeError, NotImplementedError, RuntimeError) as error:
            raise ValueError(f"litert-quantizer cannot quantize this model to {quantize}: {error}") from error


def _recipe(quantize: str, io_dtype: str, algorithm: str):
    from litert_quantizer import qtyping, recipe_manager
    from litert_quantizer.algorithm_manager import AlgorithmName

    names = {
        "minmax": AlgorithmName.MIN_MAX_UNIFORM_QUANT,
        "octav": AlgorithmName.OCTAV,
        "mse": AlgorithmName.MSE,
    }
    operation = qtyping.TFLOperationName
    recipe = recipe_manager.RecipeManager()
    if quantize in _ACTIVATION_BITS:
        bits = _ACTIVATION_BITS[quantize]
        recipe.add_static_config(".*", operation.ALL_SUPPORTED, bits, 8)
        if io_dtype == "float32":
            for port in (operation.INPUT, operation.OUTPUT):
                recipe.add_quantization_config(".*", port, algorithm_key=AlgorithmName.NO_QUANTIZE)
        return recipe.get_quantization_recipe()
    recipe.add_dynamic_config(".*", operation.ALL_SUPPORTED, 8, algorithm_key=names["minmax"])
    if quantize == "int4":
        for name in _FOUR_BIT_OPERATORS:
            recipe.add_dynamic_config(".*", operation[name], 4, algorithm_key=names[algorithm])
    return recipe.get_quantization_recipe()


def _ranges(content: bytes, samples: Examples, input_keys) -> dict[str, dict[str, np.ndarray]]:
    """Smallest and greatest value of every computed tensor; the quantizer's own moving average clips them."""
    runner = Runner(content, keep_tensors=True)
    tensors = runner.file.main.tensors
    computed = {i for operator in runner.file.main.operators for i in operator.outputs}
    watched = sorted(computed | set(runner.file.main.inputs))
    ranges: dict[str, dict[str, np.ndarray]] = {}
    for batch in samples.batches(runner.batch_size or 8):
        if runner.batch_size not in (None, len(batch)):
            break
        runner.invoke({input_keys[name]: array for name, array in batch.inputs.items()})
        for index in watched:
            if tensors[index].dtype == "FLOAT32":
                _widen(ranges, tensors[index].name, runner.interpreter.get_tensor(index))
    return ranges


def _widen(ranges, name: str, values: np.ndarray) -> None:
    low, high = values.min(keepdims=True), values.max(keepdims=True)
    known = ranges.setdefault(name, {"min": low, "max": high})
    known["min"], known["max"] = np.minimum(known["min"], low), np.maximum(known["max"], high)
