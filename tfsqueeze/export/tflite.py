"""`export_tflite`: a model to a verified `.tflite` file."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras

from tfsqueeze.core.checks import UnsupportedModelError, check_choice, check_positive
from tfsqueeze.core.constant_features import constant_features, constant_features_settled
from tfsqueeze.core.files import check_writable
from tfsqueeze.core.trained import trained_model
from tfsqueeze.export import trained_quantization
from tfsqueeze.export.calibration import check_data_given, has_integer_activations
from tfsqueeze.export.exporter import SPARSE_KINDS, Exporter
from tfsqueeze.export.result import ExportResult
from tfsqueeze.export.source import Source, keras_source, saved_model_source

QUANTIZE = (None, "float16", "dynamic", "int8", "int16x8", "int4")
BACKENDS = ("auto", "converter", "litert-quantizer")
_STORED, _TRAINED, _SETTLED, _PLAIN = "stored", "trained", "settled", "plain"
_INTEGER_IO = {"int8": ("int8", "uint8"), "int16x8": ("int16",), "int4": ("int8",)}


def export_tflite(
    model,
    path,
    *,
    quantize: str | None = None,
    representative_data=None,
    backend: str = "auto",
    io_dtype: str = "float32",
    batch_size: int | None = None,
    samples: int = 200,
    allow_float: bool = False,
    allow_select_ops: bool = True,
    sparse: str | bool = "auto",
    seed: int = 0,
) -> ExportResult:
    """Exports a model to a `.tflite` file and checks the file against the model.

    The file is run by the real interpreter on some of the representative data (or on random input) and its
    outputs are compared with the model's; a poor match warns. The model is left as it is.

    Args:
        model: a built `keras.Model` of any kind, of a distiller the student, a path to a saved one
            (`.keras`, `.h5`, SavedModel), or a SavedModel folder without Keras in it.
        path: the `.tflite` file to write. An existing file is replaced only when everything succeeded.
        quantize: None (float32); "float16" (weights); "dynamic" (8-bit weights, activations quantized as
            they come); "int8" (full integer); "int16x8" (16-bit activations, 8-bit weights); "int4" (4-bit
            weights where a kernel exists, 8-bit elsewhere; with data also 8-bit activations).
        representative_data: typical inputs for calibration, in any form `model.fit` takes; needed for "int8"
            and "int16x8", but not for "int8" and "int4" of a model from `tfs.quantize_aware` or
            `tfs.calibrate`, whose ranges are set, nor for "int16x8" if they were set for 16 bits.
        backend: "converter" (TensorFlow's), "litert-quantizer", or "auto", which tries both where both can
            and keeps what matches the model better.
        io_dtype: type of the file's inputs and outputs: "float32", or "int8", "uint8" (for "int8"), or
            "int16" (for "int16x8").
        batch_size: None keeps the model's (usually free); a number fixes it.
        samples: most examples to calibrate on.
        allow_float: whether an integer `io_dtype` may go with operators that stay float inside.
        allow_select_ops: whether operators without a `.tflite` kernel may use TensorFlow's.
        sparse: whether pruned kernels are stored as their non-zero values, for `quantize` None and
            "float16": "auto", if the file becomes at least a fifth smaller; True, each kernel for which it
            saves bytes; False, never, for runtimes without the DENSIFY operator (microcontrollers). Outputs
            and memory when running are those of a dense file. Integer files are never sparse: zip them.
        seed: of the random input, where there is no data.

    Returns:
        An `ExportResult`; print it for a summary.

    Raises:
        ValueError: if an option, the data or the path does not fit, or the file would be wrong.
        UnsupportedModelError: if the model cannot be converted; names the operator and the layer.

    Example:
        >>> result = tfs.export_tflite(model, "model.tflite", quantize="int8", representative_data=images)
        >>> print(result)
    """
    _check_request(quantize, backend, io_dtype, batch_size)
    _check_sparse(sparse, quantize)
    target = check_writable(path)
    model = _loaded(model)
    if not trained_quantization.covers(model, quantize):
        check_data_given(representative_data, quantize, io_dtype)
    with _open_source(model, batch_size, _form(model, quantize, io_dtype), quantize) as source:
        exporter = Exporter(
            source,
            representative_data,
            backend=backend,
            samples=samples,
            allow_float=allow_float,
            allow_select_ops=allow_select_ops,
            sparse=sparse,
            seed=seed,
        )
        return exporter.write(target, quantize, io_dtype)


def export_variants(
    model,
    folder,
    variants: Sequence[str | None] = (None, "float16", "int8"),
    *,
    representative_data=None,
    backend: str = "auto",
    batch_size: int | None = None,
    **options,
) -> dict[str, ExportResult]:
    """Exports several variants of one model; it is traced, written and loaded once for all of them.

    Args:
        model: as in `export_tflite`.
        folder: where the files go, as `<variant>.tflite` ("float32.tflite" for None).
        variants: values of `quantize`.
        representative_data, backend, batch_size: as in `export_tflite`.
        **options: `samples`, `allow_float`, `allow_select_ops`, `sparse`, `seed` of `export_tflite`.

    Returns:
        `ExportResult` by variant, the float32 file's under "float32".

    Example:
        >>> export_variants(model, "exported", [None, "int8"], representative_data=images)["int8"].bytes
    """
    model = _loaded(model)
    forms = {variant: _form(model, variant) for variant in variants}
    for variant, form in forms.items():
        _check_request(variant, backend, "float32", batch_size)
        if form != _TRAINED:
            check_data_given(representative_data, variant)
        _check_sparse(options.get("sparse", "auto"), variant)
    targets = {
        variant or "float32": check_writable(Path(folder) / f"{variant or 'float32'}.tflite")
        for variant in variants
    }
    results = {}
    for form in sorted(set(forms.values())):
        alike = [variant for variant in forms if forms[variant] == form]
        with _open_source(model, batch_size, form, alike[0]) as source:
            exporter = Exporter(source, representative_data, backend=backend, **options)
            results |= {v or "float32": exporter.write(targets[v or "float32"], v) for v in alike}
    return {name: results[name] for name in targets}


def _check_request(quantize, backend: str, io_dtype: str, batch_size: int | None) -> None:
    check_choice("quantize", quantize, QUANTIZE)
    check_choice("backend", backend, BACKENDS)
    check_choice("io_dtype", io_dtype, ("float32", "int8", "uint8", "int16"))
    if batch_size is not None:
        check_positive("batch_size", batch_size, remedy="None keeps the batch axis free.")
    possible = ("float32", *_INTEGER_IO.get(quantize, ()))
    if io_dtype not in possible:
        raise ValueError(
            f"quantize={quantize!r} goes with io_dtype {' or '.join(map(repr, possible))}. "
            f"Received: io_dtype={io_dtype!r}. Integer inputs need integer activations: use quantize="
            f"{'int16x8' if io_dtype == 'int16' else 'int8'!r}."
        )
    if backend == "litert-quantizer" and io_dtype == "uint8":
        raise ValueError('io_dtype="uint8" needs the converter. Use backend="auto" or io_dtype="int8".')
    if backend == "converter" and quantize == "int4":
        raise ValueError('The converter has no 4-bit weights. Use backend="auto" or "litert-quantizer".')


def _check_sparse(sparse, quantize) -> None:
    check_choice("sparse", sparse, ("auto", True, False))
    if sparse is True and quantize not in SPARSE_KINDS:
        raise ValueError(
            f'sparse=True goes with quantize=None or "float16". Received: quantize={quantize!r}. The '
            'interpreter\'s default kernels refuse sparse integers: use sparse="auto", and zip the file.'
        )


def _form(model, quantize: str | None, io_dtype: str = "float32") -> str:
    """In which form the variant is made from `model`; those of one form are made from one source."""
    if not isinstance(model, keras.Model):
        return _STORED
    if trained_quantization.covers(model, quantize):
        return _TRAINED
    is_rounded = has_integer_activations(quantize, io_dtype)
    return _SETTLED if is_rounded and constant_features(model) else _PLAIN


@contextlib.contextmanager
def _open_source(model, batch_size: int | None, form: str, quantize: str | None) -> Iterator[Source]:
    """A Keras model as it is, a quantization-aware one as its file will compute, a SavedModel directly."""
    if form == _STORED:
        with saved_model_source(model, batch_size) as source:
            yield source
    elif form == _TRAINED:
        with trained_quantization.trained_source(model, batch_size, quantize) as source:
            yield source
    elif form == _SETTLED:
        features = constant_features(model)
        with constant_features_settled(model), keras_source(model, batch_size) as source:
            source.notes.append(f"Features that never varied are not scaled up: {features}.")
            yield source
    else:
        with keras_source(trained_quantization.without(model), batch_size) as source:
            yield source


def _loaded(model):
    """The Keras model in a file or folder; the path of a SavedModel to be converted by its signature."""
    if isinstance(model, keras.Model):
        return trained_model(model)
    from tfsqueeze.models.file_kind import file_kind
    from tfsqueeze.models.load import load_model

    kind = file_kind(model).name if isinstance(model, (str, os.PathLike)) else ""
    if kind == "graph":
        return model
    try:
        return trained_model(load_model(model))
    except UnsupportedModelError:
        # A SavedModel computes without its Keras layers being known.
        if kind == "saved_model":
            return model
        raise
