"""What is converted: a Keras model or SavedModel, written to disk once, and the function to compare with."""

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfsqueeze.core.checks import UnsupportedModelError, check_model
from tfsqueeze.core.data import InputSpec, input_specs, pack_inputs
from tfsqueeze.core.outputs import output_names
from tfsqueeze.export.precision import float32_compute
from tfsqueeze.export.quiet import quiet
from tfsqueeze.tflite.runner import in_batches

SIGNATURE = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY


@dataclass
class Source:
    """A SavedModel with one signature, ready for the converter.

    Attributes:
        folder: the SavedModel.
        specs: the inputs, with the batch size that is exported.
        function: the traced computation; takes and gives tensors by signature key.
        input_keys, output_keys: signature key by the name the user knows.
        signature: the signature's name in the SavedModel.
        model: the Keras model, where there is one.
        loops: whether the graph has loops over tensor lists (rolled recurrent layers).
        notes: what was done on the way that the user should know.
        trained_ranges: whether the graph rounds activations to ranges found in training.
        low_bits: whether some of its weights were trained with fewer than 8 bits.
        input_ranges: range of the values that inputs may take, by name, where it is known.
    """

    folder: str
    specs: list[InputSpec]
    function: Callable | None
    input_keys: dict[str, str]
    output_keys: dict[str, str]
    signature: str = SIGNATURE
    model: keras.Model | None = None
    loops: bool = False
    notes: list[str] = field(default_factory=list)
    trained_ranges: bool = False
    low_bits: bool = False
    input_ranges: dict[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def stored(
        cls, folder: str, signature: str, input_keys: dict[str, str], batch_size: int | None
    ) -> "Source":
        """A SavedModel on disk, to be converted and not to be run."""
        specs = [InputSpec(name, (batch_size,), "float32") for name in input_keys]
        return cls(folder, specs, None, input_keys, {}, signature)

    @property
    def batch_size(self) -> int | None:
        """The fixed batch size, or None if it is free."""
        sizes = [spec.shape[0] for spec in self.specs if spec.shape]
        return sizes[0] if sizes and None not in sizes else None

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs of the original by name, computed in float32 by TensorFlow."""

        def call(batch):
            results = self.function(**{self.input_keys[n]: tf.constant(a) for n, a in batch.items()})
            return {name: results[key].numpy() for name, key in self.output_keys.items()}

        return in_batches(call, {spec.name: inputs[spec.name] for spec in self.specs}, self.batch_size)


@contextlib.contextmanager
def keras_source(model: keras.Model, batch_size: int | None = None) -> Iterator[Source]:
    """Traces `model` in inference mode and writes it as a SavedModel, removed at the end of the block.

    Rolled recurrent layers cannot be converted with a free batch axis; they get a batch of 1, and a note.

    Raises:
        UnsupportedModelError: if the model was never built or takes strings.
    """
    check_model(model, "export_tflite")
    specs = _with_batch(input_specs(model), batch_size)
    with float32_compute(model) as switched:
        function, outputs = _trace_keras(model, specs)
        loops, notes = _has_loops(function), []
        if loops and specs[0].shape[0] is None:
            specs = _with_batch(specs, 1)
            function, outputs = _trace_keras(model, specs)
            notes.append("Exported with batch size 1: recurrent loops cannot have a free batch axis.")
    if switched:
        notes.append("Mixed precision was exported as float32.")
    with _saved(function, [variable.value for variable in model.variables], model) as folder:
        inputs = _keys([spec.name for spec in specs])
        yield Source(folder, specs, function, inputs, outputs, SIGNATURE, model, loops, notes)


@contextlib.contextmanager
def saved_model_source(folder, batch_size: int | None = None) -> Iterator[Source]:
    """Takes a SavedModel folder as it is, by its serving signature; only a fixed batch makes a copy of it."""
    with quiet():
        loaded = tf.saved_model.load(str(folder))
    name, signature = _serving_signature(loaded, folder)
    traced = signature.structured_input_signature[1]
    specs = [InputSpec(name, _shape(spec), spec.dtype.name) for name, spec in traced.items()]
    names = {name: name for name in signature.structured_outputs}
    inputs = {spec.name: spec.name for spec in specs}
    loops = _has_loops(signature)
    if batch_size is None and not (loops and any(spec.shape[0] is None for spec in specs)):
        yield Source(str(folder), specs, signature, inputs, names, name, None, loops)
        return
    specs = _with_batch(specs, batch_size or 1)
    spec_list = [tf.TensorSpec(spec.shape, spec.dtype, name=spec.name) for spec in specs]

    def serve(*tensors):
        return signature(**{spec.name: tensor for spec, tensor in zip(specs, tensors, strict=True)})

    function = tf.function(serve, input_signature=spec_list, autograph=False).get_concrete_function()
    notes = [] if batch_size else ["Exported with batch size 1: loops cannot have a free batch axis."]
    with _saved(function, [], loaded) as copy:
        yield Source(copy, specs, function, inputs, names, SIGNATURE, None, loops, notes)


def _trace_keras(model, specs) -> tuple[Callable, dict[str, str]]:
    keys = _keys([spec.name for spec in specs])
    signature = [tf.TensorSpec(spec.shape, spec.dtype, name=keys[spec.name]) for spec in specs]
    output_keys: dict[str, str] = {}

    def serve(*tensors):
        inputs = {spec.name: tensor for spec, tensor in zip(specs, tensors, strict=True)}
        outputs = model(pack_inputs(model, inputs), training=False)
        output_keys.update(_keys(output_names(model, outputs)))
        return dict(
            zip(output_keys.values(), map(tf.convert_to_tensor, keras.tree.flatten(outputs)), strict=True)
        )

    function = tf.function(serve, input_signature=signature, autograph=False)
    return function.get_concrete_function(), output_keys


def _keys(names: list[str]) -> dict[str, str]:
    """Signature keys that TensorFlow keeps as they are: identifiers, unique."""
    keys: dict[str, str] = {}
    for index, name in enumerate(names):
        key = re.sub(r"\W", "_", name, flags=re.ASCII)
        key = key if re.match(r"[A-Za-z]", key) else f"x{key}"
        keys[name] = f"{key}_{index}" if key in keys.values() else key
    return keys


@contextlib.contextmanager
def _saved(function, variables, owner) -> Iterator[str]:
    """Writes a SavedModel of `function` alone, which takes half the time of writing the whole model."""
    with tempfile.TemporaryDirectory(prefix="tfsqueeze-") as folder:
        module = tf.Module()
        module.weights = variables
        if not variables:
            module.owner = owner
        with quiet():
            try:
                tf.saved_model.save(module, folder, signatures={SIGNATURE: function})
            except (AssertionError, ValueError):
                # Look-up tables and other resources are not variables; tracking the model finds them.
                module.owner = owner
                tf.saved_model.save(module, folder, signatures={SIGNATURE: function})
        yield folder


def _serving_signature(loaded, folder):
    signatures = dict(loaded.signatures)
    if not signatures:
        raise UnsupportedModelError(
            f"The SavedModel {str(Path(folder))!r} has no signature to convert. Save it with "
            "`tf.saved_model.save(module, folder, signatures=module.call.get_concrete_function(...))`."
        )
    name = SIGNATURE if SIGNATURE in signatures else next(iter(signatures))
    return name, signatures[name]


def _with_batch(specs: list[InputSpec], batch_size: int | None) -> list[InputSpec]:
    for spec in specs:
        if spec.dtype == "string":
            raise UnsupportedModelError(
                f"Input {spec.name!r} takes strings, which .tflite kernels cannot process. Export the part "
                "of the model behind the text processing, which takes the token numbers."
            )
    if batch_size is None:
        return specs
    return [InputSpec(spec.name, (batch_size, *spec.shape[1:]), spec.dtype) for spec in specs]


def _shape(spec) -> tuple[int | None, ...]:
    if spec.shape.rank is None:
        raise UnsupportedModelError(f"Input {spec.name!r} of the SavedModel has an unknown number of axes.")
    return tuple(spec.shape)


def _has_loops(function) -> bool:
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for inner in graph.library.function for node in inner.node_def)]
    return any(node.op == "TensorListReserve" for node in nodes)
