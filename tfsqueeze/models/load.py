"""`load_model`: one verb for every kind of file and model a user has."""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras

from tfsqueeze.core.checks import UnsupportedModelError
from tfsqueeze.models import legacy
from tfsqueeze.models.file_kind import FileKind, brief, file_kind
from tfsqueeze.models.port_compile import mend_metrics
from tfsqueeze.models.weights_file import load_weights_into_copy

_CHANGED_MEANING = (b"hard_sigmoid",)
_LAMBDA_BYTECODE = b'"function_type": "lambda"'
_UNKNOWN_CLASS = (
    r"Unknown [a-z ]+: ['\"]?(?P<name>[A-Za-z_][\w>.]*)",
    r"Cannot deserialize object of type `(?P<name>[A-Za-z_][\w>.]*)`",
    r"Received: layer=(?P<name>[A-Za-z_][\w>.]*) of type <class 'str'>",
    r"Could not (?:locate|find) (?:class|function|object) '?(?P<name>[A-Za-z_][\w>.]*)'?",
)


def load_model(
    path_or_model: str | os.PathLike | Any,
    *,
    custom_objects: Mapping[str, Any] | None = None,
    safe_mode: bool = True,
    architecture: keras.Model | None = None,
) -> keras.Model:
    """Loads any saved Keras model, of Keras 2 or 3, as a Keras 3 model.

    What Keras 3 refuses is read with `tf_keras` and ported layer by layer, with weights, sharing,
    nesting and names; the port must give the same outputs on random input. Pruned, clustered and
    quantization-aware models of tensorflow_model_optimization (tfmot) come back without its wrappers: pruned
    weights are zero, clustered weights are their centroids, and quantized layers have the float
    weights they were trained with (so outputs differ from the fake-quantized ones by the quantization error).

    Args:
        path_or_model: a `.keras` file, a `.h5`/`.hdf5` file, a SavedModel folder, a `tf_keras` model
            (also with tfmot's wrappers), or a `keras.Model`, which is returned as it is. A file's kind is
            told by its content, not its name.
        custom_objects: classes and functions by the names the file knows them under. For layers of
            Keras 2 files, Keras 3 classes with the same configuration and weights.
        safe_mode: refuse Lambda layers saved as Python bytecode, which run arbitrary code when loaded.
        architecture: for a file that holds only weights, a `keras.Model` of the structure they were saved
            from. It is not changed.

    Returns:
        A `keras.Model`. Loss, metrics and optimizer settings are kept where Keras 3 has them; else
        the model is not compiled.

    Raises:
        ValueError: if there is no model at that path, the file is damaged, holds only weights or an
            unknown custom class, or is unsafe; the message says what it is and what to do.
        UnsupportedModelError: if a Keras 2 model cannot be ported; names the first layer that cannot.
        TypeError: if `path_or_model` is neither a path nor a model.

    Example:
        >>> model = tfs.load_model("mobilenet_v1.h5")
        >>> model = tfs.load_model("pruned_by_tfmot.h5")
        >>> model = tfs.load_model("checkpoint.weights.h5", architecture=build_model())
    """
    custom_objects = dict(custom_objects or {})
    if isinstance(path_or_model, keras.Model):
        return path_or_model
    if legacy.is_legacy_model(path_or_model):
        with legacy.undisturbed():
            return _port(path_or_model, custom_objects)
    if not isinstance(path_or_model, (str, os.PathLike)):
        raise TypeError(
            "load_model() expects a path, a `keras.Model` or a `tf_keras.Model`. "
            f"Received: {type(path_or_model)}."
        )
    kind = file_kind(path_or_model)
    with legacy.undisturbed():
        return _load(kind, custom_objects, safe_mode, architecture)


def _load(kind: FileKind, custom_objects, safe_mode, architecture):
    if kind.name in ("h5_weights", "checkpoint"):
        return load_weights_into_copy(kind, architecture)
    if kind.name == "graph":
        raise UnsupportedModelError(
            f"The SavedModel {str(kind.path)!r} holds a TensorFlow graph and no Keras layers, so it cannot "
            "become a Keras model. `tfs.export_tflite(folder, ...)` converts it directly."
        )
    if kind.name == "saved_model" or _needs_keras_2(kind):
        return _read_and_port(kind, custom_objects, safe_mode)
    try:
        return _read_with_keras_3(kind, custom_objects, safe_mode)
    except Exception as error:
        if kind.keras_version.startswith("3") or _is_refused_code(error):
            raise _explained(kind, error) from error
    return _read_and_port(kind, custom_objects, safe_mode)


def _needs_keras_2(kind: FileKind) -> bool:
    """Keras 3 reads some Keras 2 files without complaint but computes something else."""
    if kind.keras_version.startswith("3"):
        return False
    return legacy.mentions_tfmot(kind.config) or any(word in kind.config for word in _CHANGED_MEANING)


def _read_with_keras_3(kind, custom_objects, safe_mode):
    suffix = {"keras": ".keras", "h5": ".h5"}[kind.name]
    with named(kind.path, suffix) as path:
        settings = {"custom_objects": {**_short_names(), **custom_objects}, "safe_mode": safe_mode}
        try:
            return mend_metrics(keras.models.load_model(path, **settings))
        except Exception:
            return keras.models.load_model(path, compile=False, **settings)


def _short_names() -> dict:
    """Losses by the short names that `compile` takes: Keras writes these to `.h5` and cannot read them."""
    return {name: keras.losses.get(name) for name in ("mse", "mae", "mape", "msle", "kld")}


def _read_and_port(kind, custom_objects, safe_mode):
    suffix = {"keras": ".keras", "h5": ".h5", "saved_model": ""}[kind.name]
    if safe_mode and _LAMBDA_BYTECODE in kind.config:
        raise _refused_code(kind)
    tfmot = legacy.mentions_tfmot(kind.config)
    try:
        with named(kind.path, suffix) as path:
            model = legacy.read_with_tf_keras(path, custom_objects, safe_mode=safe_mode, tfmot=tfmot)
    except Exception as error:
        raise _explained(kind, error) from error
    if not legacy.is_legacy_model(model):
        raise UnsupportedModelError(
            f"The SavedModel {str(kind.path)!r} holds Keras objects but no Keras model. "
            "`tfs.export_tflite(folder, ...)` converts it directly."
        )
    return _port(model, custom_objects)


def _port(model, custom_objects):
    from tfsqueeze.models.port import Port, check_legacy_graph, port_model
    from tfsqueeze.models.port_check import check_port
    from tfsqueeze.models.port_compile import copy_compile_settings
    from tfsqueeze.models.strip_tfmot import changes_outputs

    check_legacy_graph(model)
    port = Port(custom_objects)
    with legacy.unchanged(model):
        new = port_model(model, port)
        if not any(map(changes_outputs, port.stripped)):
            check_port(model, new, port)
    copy_compile_settings(model, new, custom_objects)
    return new


def _is_refused_code(error: Exception) -> bool:
    return "safe_mode" in str(error) or "unsafe" in str(error).lower()


def _refused_code(kind: FileKind) -> ValueError:
    return ValueError(
        f"{str(kind.path)!r} contains a Lambda layer or function saved as Python bytecode, which could run "
        "any code on this machine. If you trust where the file comes from, pass safe_mode=False."
    )


def _explained(kind: FileKind, error: Exception) -> ValueError:
    """The error of a reader in words that say what the file is and what to do."""
    if _is_refused_code(error):
        return _refused_code(kind)
    for pattern in _UNKNOWN_CLASS:
        found = re.search(pattern, str(error))
        if found:
            name = found["name"]
            return ValueError(
                f"{str(kind.path)!r} uses {name!r}, which Keras does not know. Pass your class or function "
                f"of that name: custom_objects={{{name!r}: {name.split('>')[-1]}}}."
            )
    return ValueError(
        f"{str(kind.path)!r} could not be read as a Keras model: {brief(error)} If it was copied or "
        "downloaded, check that it is complete; else save the model again as `.keras`."
    )


@contextlib.contextmanager
def named(path: Path, suffix: str) -> Iterator[Path]:
    """A path to the same content that ends in `suffix`, as Keras goes by the name of a file."""
    if not suffix or path.name.endswith(suffix) or path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / f"{path.stem}{suffix}"
        try:
            link.symlink_to(path.absolute())
        except OSError:
            shutil.copyfile(path, link)
        yield link
