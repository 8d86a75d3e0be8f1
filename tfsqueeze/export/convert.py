"""TensorFlow's own converter: SavedModel to `.tflite`, float or quantized."""

import re
from collections.abc import Iterator

import tensorflow as tf

from tfsqueeze.core.checks import UnsupportedModelError
from tfsqueeze.core.data import Examples
from tfsqueeze.export.quiet import quiet
from tfsqueeze.export.simplify import fold_batch_reshapes
from tfsqueeze.export.source import Source

_INT16_ACTIVATIONS = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
_IO_TYPES = {"float32": tf.float32, "int8": tf.int8, "uint8": tf.uint8, "int16": tf.int16}


class Converter:
    """One SavedModel, converted as often as variants are wanted; it is loaded once.

    Attributes:
        float_content: a float file, known after the first float or calibrated conversion.
        select_ops: whether operators of TensorFlow itself had to be allowed.
    """

    def __init__(self, source: Source, *, allow_select_ops: bool = True):
        self.source = source
        self.float_content: bytes | None = None
        self.select_ops = False
        self._allow_select_ops = allow_select_ops
        self._converter = None

    def convert(
        self, quantize: str | None, samples: Examples | None = None, io_dtype: str = "float32"
    ) -> bytes:
        """Converts to one variant.

        Args:
            quantize: None, "float16", "dynamic", "int8" or "int16x8".
            samples: calibration examples for "int8" and "int16x8".
            io_dtype: type of the file's inputs and outputs.

        Raises:
            UnsupportedModelError: if an operator cannot be converted; the message names it and its layer.
        """
        converter = self._configured(quantize, samples, io_dtype)
        try:
            content = self._run(converter)
        except UnsupportedOperators as error:
            if self.select_ops or not self._allow_select_ops:
                raise error.readable(self._allow_select_ops) from error
            self.select_ops = True
            return self.convert(quantize, samples, io_dtype)
        if quantize is None:
            self.float_content = content
        return content

    def float(self) -> bytes:
        """The float file, converted if it is not known yet."""
        return self.float_content or self.convert(None)

    def _configured(self, quantize, samples, io_dtype):
        if self._converter is None:
            with quiet():
                self._converter = tf.lite.TFLiteConverter.from_saved_model(
                    self.source.folder, signature_keys=[self.source.signature]
                )
            self._keep_float_content(self._converter)
        converter = self._converter
        operators = {tf.lite.OpsSet.TFLITE_BUILTINS}
        if quantize == "int16x8":
            operators.add(_INT16_ACTIVATIONS)
        if self.select_ops:
            operators.add(tf.lite.OpsSet.SELECT_TF_OPS)
        converter.target_spec.supported_ops = operators
        converter.target_spec.supported_types = {tf.float16} if quantize == "float16" else set()
        converter.optimizations = set() if quantize is None else {tf.lite.Optimize.DEFAULT}
        converter.representative_dataset = None if samples is None else lambda: self._feed(samples)
        converter.inference_input_type = converter.inference_output_type = _IO_TYPES[io_dtype]
        return converter

    def _feed(self, samples: Examples) -> Iterator[dict]:
        for batch in samples.batches(self.source.batch_size or 1):
            if self.source.batch_size in (None, len(batch)):
                yield {self.source.input_keys[name]: array for name, array in batch.inputs.items()}

    def _keep_float_content(self, converter) -> None:
        """Keeps the float file that a calibrated conversion goes through, which spares converting twice."""
        quantize = getattr(converter, "_quantize", None)
        if quantize is None:
            return

        def keeping(content, *args, **kwargs):
            self.float_content = self.float_content or fold_batch_reshapes(bytes(content))
            return quantize(content, *args, **kwargs)

        converter._quantize = keeping

    def _run(self, converter) -> bytes:
        with quiet() as chatter:
            try:
                return fold_batch_reshapes(bytes(converter.convert()))
            except Exception as error:
                failure = error
        raise UnsupportedOperators(f"{failure}\n{chatter.text}") from failure


class UnsupportedOperators(Exception):
    """The converter gave up; carries all it printed."""

    def readable(self, allowed_select_ops: bool) -> UnsupportedModelError:
        """The error for the user: operators and layers, and what to do."""
        text = str(self)
        flex = sorted(set(re.findall(r"\(Flex(\w+)\)", text)))
        if flex:
            return UnsupportedModelError(
                f"Calibration cannot run TensorFlow's own operators ({', '.join(flex)}). Replace them, or "
                'use quantize="dynamic", which needs no calibration.'
            )
        operators = sorted(set(re.findall(r"'(tf\.\w+)' op is neither", text)))
        if not operators:
            operators = sorted(set(re.findall(r"error: '(\w+\.\w+)' op", text)))
        layers = _layers_in(text)
        where = f" in {', '.join(layers)}" if layers else ""
        if not operators:
            reason = text.strip().splitlines()[0] if text.strip() else "no reason given"
            return UnsupportedModelError(f"The model cannot be converted to .tflite{where}: {reason}")
        remedy = (
            "Replace it by operations that .tflite knows, or take it out of the exported model."
            if allowed_select_ops
            else "Pass allow_select_ops=True to run it with TensorFlow's own kernels, or replace it."
        )
        return UnsupportedModelError(
            f"No .tflite operator exists for {', '.join(operators)}{where}. {remedy}"
        )


def _layers_in(text: str) -> list[str]:
    """Layer paths in the locations the converter prints, such as `"model_1/dense_1/MatMul@..."`."""
    found = re.findall(r'loc\("([^"@]+)', text) + re.findall(r'"([^"@/\s]+/[^"@\s]+)@', text)
    found += re.findall(r'"([\w./-]+/[\w./-]+)"', text)
    layers = []
    for location in found:
        path = location.split(";")[0].rsplit("/", 1)[0]
        if path and path not in layers and "StatefulPartitionedCall" not in path and ".py" not in path:
            layers.append(path)
    return layers[:5]
