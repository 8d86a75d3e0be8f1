"""What a Keras model tells without running it on data: weights, MACs, saved size, memory."""

import gzip
import tempfile
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np

from tfsqueeze.core.checks import has_graph
from tfsqueeze.core.data import input_specs
from tfsqueeze.core.trace import layer_calls
from tfsqueeze.reporting.facts import Facts, LayerFacts
from tfsqueeze.reporting.graph_memory import graph_activation_bytes


def keras_facts(model: keras.Model, path: Path | None = None) -> Facts:
    """Collects the facts of a built Keras model.

    Args:
        model: any built model. It is not changed.
        path: the file or SavedModel folder it was loaded from; without it, or where the file holds the
            state of an optimizer too, the size is measured on a `.keras` file that is written for the
            purpose and removed.

    Example:
        >>> facts = keras_facts(model)
        >>> print(facts.parameters, facts.macs)
    """
    notes: list[str] = []
    layers = _layers(model, notes)
    file_bytes, gzip_bytes, size_of = _size_on_disk(model, path, notes)
    return Facts(
        kind="Keras model",
        parameters=sum(_size(weight) for weight in model.weights),
        nonzero=sum(_nonzero(weight) for weight in model.weights),
        macs=None if any(layer.macs is None for layer in layers) else sum(layer.macs for layer in layers),
        weight_bytes=sum(_size(w) * _bits(w.dtype) // 8 for w in model.weights),
        file_bytes=file_bytes,
        gzip_bytes=gzip_bytes,
        size_of=size_of,
        activation_bytes=graph_activation_bytes(model),
        layers=layers,
        notes=notes,
    )


def _layers(model, notes) -> list[LayerFacts]:
    """Facts per innermost layer, in order of the first call; layers without weights and MACs are left out."""
    totals = _macs_by_layer(model, notes)
    called = {key: layer for key, (layer, _) in totals.items()}
    owners = _weight_owners(model, called)
    ordered = {**called, **{key: layer for key, (layer, _) in owners.items()}}
    facts = []
    for key, layer in ordered.items():
        weights = owners.get(key, (layer, []))[1]
        count = totals[key][1] if key in totals else (0 if totals else None)
        if weights or count:
            facts.append(_layer_facts(layer, weights, count))
    return facts


def _macs_by_layer(model, notes) -> dict[int, tuple[keras.Operation, int]]:
    """MACs over all calls of each layer or operation; empty, with a note, if they cannot be known."""
    totals: dict[int, tuple[keras.Operation, int]] = {}
    try:
        if any(None in spec.shape[1:] for spec in input_specs(model)):
            notes.append("MACs are unknown: the model has free axes besides the batch.")
            return {}
        for call in layer_calls(model):
            totals[id(call.layer)] = (call.layer, call.macs + totals.get(id(call.layer), (None, 0))[1])
    except Exception as error:
        # Tracing runs the user's own code, which may fail in any way; the rest of the report stands.
        notes.append(f"MACs are unknown: {error}")
        return {}
    return totals


def _weight_owners(model, called) -> dict[int, tuple[keras.Layer, list]]:
    """Each weight once, with the layer it is reported under: the called layer that holds it, else its own."""
    owners: dict[int, tuple[keras.Layer, list]] = {}
    seen: set[int] = set()
    layers = list(model._flatten_layers(include_self=True, recursive=True))
    for layer in [*called.values(), *reversed(layers)]:
        fresh = [weight for weight in getattr(layer, "weights", ()) if id(weight) not in seen]
        seen.update(map(id, fresh))
        if fresh:
            owners[id(layer)] = (layer, fresh)
    return owners


def _layer_facts(layer, weights, count) -> LayerFacts:
    largest = max(weights, key=_size, default=None)
    return LayerFacts(
        name=layer.name,
        kind=type(layer).__name__,
        parameters=sum(map(_size, weights)),
        nonzero=sum(map(_nonzero, weights)),
        macs=count,
        dtype=keras.backend.standardize_dtype(largest.dtype) if largest is not None else "",
    )


def _size_on_disk(model, path: Path | None, notes) -> tuple[int | None, int | None, str]:
    if path is None or not _holds_optimizer(path):
        return _size_of_file(path) if path else _size_when_saved(model, notes)
    notes.append(
        f"{path.name} has {path.stat().st_size:,} bytes, with the state of the optimizer, which is left out."
    )
    return _size_when_saved(model, notes)


def _holds_optimizer(path: Path) -> bool:
    """Whether a `.h5` or `.keras` file has the optimizer's state beside the weights, twice their size."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as weights:
                return "optimizer" in h5py.File(weights)
        return path.is_file() and "optimizer_weights" in h5py.File(path)
    except (OSError, KeyError):
        return False


def _size_when_saved(model, notes) -> tuple[int | None, int | None, str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras")
        try:
            _without_optimizer(model).save(path)
        except Exception as error:
            notes.append(f"The size as a .keras file is unknown, the model does not save: {error}")
            return None, None, "nothing"
        if not has_graph(model) and getattr(model, "optimizer", None) is not None:
            notes.append("The .keras file includes the state of the optimizer.")
        return (*_size_of_file(path)[:2], "a .keras file of the model, without optimizer")


def _without_optimizer(model) -> keras.Model:
    """The same layers as a model that was never compiled, because a saved optimizer triples the size."""
    return keras.Model(model.inputs, model.outputs) if has_graph(model) else model


def _size_of_file(path: Path) -> tuple[int, int, str]:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    size_of = f"the {path.suffix} file" if path.is_file() else "the SavedModel folder"
    return sum(f.stat().st_size for f in files), sum(_gzip_size(f) for f in files), size_of


def _gzip_size(path: Path) -> int:
    return len(gzip.compress(path.read_bytes(), 6))


def _nonzero(weight) -> int:
    return int(np.count_nonzero(keras.ops.convert_to_numpy(weight)))


def _size(weight) -> int:
    return int(np.prod(weight.shape, dtype=np.int64))


def _bits(dtype) -> int:
    name = keras.backend.standardize_dtype(dtype)
    return 8 if name == "bool" else int("".join(filter(str.isdigit, name)) or 0)
