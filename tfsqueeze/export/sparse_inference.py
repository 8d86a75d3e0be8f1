"""`check_sparse_inference`: which layers run faster when pruned, and why the others do not."""

import os
from dataclasses import asdict, dataclass

import keras
import numpy as np

from tfsqueeze.core.layer_info import kernels
from tfsqueeze.core.select import walk
from tfsqueeze.export.convert import Converter
from tfsqueeze.export.source import keras_source
from tfsqueeze.pruning.patterns import as_matrix
from tfsqueeze.reporting.presentation import Presentation
from tfsqueeze.reporting.tables import Table
from tfsqueeze.tflite.file import read
from tfsqueeze.tflite.structure import Operator, Tensor
from tfsqueeze.tflite.xnnpack import LEAST_ZEROS, SparseRegions

_SAME_DIRECTION = 0.999


@dataclass(frozen=True)
class LayerSparseInference:
    """What XNNPACK can do with one layer that has a kernel.

    Attributes:
        name: path of the Keras layer, or of the tensor where no layer is known.
        operator: the layer's operator in the `.tflite` file.
        sparsity: fraction of zeros in its kernel.
        prunable: whether its zeros can make it faster: a 1x1 convolution in a region that fits.
        runs_sparse: whether they do now: the region's 1x1 kernels have more than two thirds zeros.
        reason: why not, or what it is in a region that fits.
    """

    name: str
    operator: str
    sparsity: float
    prunable: bool
    runs_sparse: bool
    reason: str


@dataclass(frozen=True, repr=False)
class SparseInference(Presentation):
    """Result of `check_sparse_inference`; print it for a table.

    Attributes:
        name: of the model or file.
        layers: one entry per layer with a kernel, in the order of execution.
    """

    name: str
    layers: list[LayerSparseInference]

    @property
    def select(self) -> list[str]:
        """Paths of the layers worth pruning for speed, for the `select` of `PruningCallback` and `prune`.

        Raises:
            ValueError: if there is none, with the most frequent reason.
        """
        chosen = list(dict.fromkeys(layer.name for layer in self.layers if layer.prunable))
        if not chosen:
            reasons = [layer.reason for layer in self.layers] or ["it has no layer with a kernel"]
            raise ValueError(
                f"No layer of {self.name!r} can run with XNNPACK's sparse kernels: "
                f"{max(reasons, key=reasons.count)}."
            )
        return chosen

    @property
    def runs_sparse(self) -> bool:
        """Whether any layer runs with sparse kernels as it is."""
        return any(layer.runs_sparse for layer in self.layers)

    def tables(self) -> list[Table]:
        """One table: a row per layer."""
        rows = [[layer.name, _state(layer), layer.reason, f"{layer.sparsity:.1%}"] for layer in self.layers]
        note = (
            f"XNNPACK runs a region sparse once more than {LEAST_ZEROS:.0%} of its 1x1 kernels are zero and "
            "the float file is stored sparse; on x86 with AVX it keeps to dense kernels, which are faster."
        )
        title = f"Sparse inference of {self.name}"
        return [Table(title, ["layer", "sparse", "why", "zeros"], rows, [note], text_columns=3)]

    def to_dict(self) -> dict:
        """Plain data of everything shown."""
        return {"name": self.name, "layers": [asdict(layer) for layer in self.layers]}


def check_sparse_inference(model) -> SparseInference:
    """Tells which layers XNNPACK (the CPU kernels of TFLite and LiteRT) can run sparse, and why not others.

    The model is converted to a float `.tflite` file, not written, and its operators are held against
    XNNPACK's rules: 1x1 convolutions, in a part of the network that begins with a 3x3 convolution of stride 2
    on 3 channels and ends with global average pooling. As tfmot's `PruneForLatencyOnXNNPack`, but it tells
    what each layer can do instead of refusing the model, and takes any model. Sparse kernels are for ARM and
    WebAssembly: on x86 processors with AVX, XNNPACK itself keeps to the dense ones.

    Args:
        model: a built `keras.Model` of any kind, trained or not, or a path to a `.tflite` file.

    Returns:
        A `SparseInference`: `.layers`, and `.select`, which prunes only what gets faster.

    Raises:
        UnsupportedModelError: if the model cannot be converted.

    Example:
        >>> found = tfs.check_sparse_inference(model)
        >>> print(found)
        >>> model.fit(x, y, callbacks=[tfs.PruningCallback(schedule, select=found.select)])
    """
    if not isinstance(model, keras.Model):
        file, names = read(model), {}
        return _checked(
            os.path.basename(model) if isinstance(model, (str, os.PathLike)) else "file", file, names
        )
    with keras_source(model) as source:
        file = read(Converter(source).float())
    matrices = {
        named.path: [as_matrix(variable.numpy(), kernel) for kernel, variable in kernels(named.layer)]
        for named in walk(model)
    }
    return _checked(model.name, file, matrices)


def _checked(name: str, file, matrices: dict[str, list[np.ndarray]]) -> SparseInference:
    regions = SparseRegions(file.main)
    weighted = [
        (operator, regions.verdicts[position], regions.kernel(operator))
        for position, operator in enumerate(file.main.operators)
        if position in regions.verdicts and regions.kernel(operator) is not None
    ]
    pointwise: dict[int, list[np.ndarray]] = {}
    for operator, verdict, kernel in weighted:
        if regions.is_pointwise(operator):
            pointwise.setdefault(verdict.region, []).append(kernel.values())
    zeros = {
        region: _zeros(np.concatenate([k.ravel() for k in found])) for region, found in pointwise.items()
    }
    taken: set[str] = set()
    tensors = [_tensor_name(operator, file) for operator, _, _ in weighted]
    paths = [
        _layer(kernel, operator, matrices, taken) or tensor
        for (operator, _, kernel), tensor in zip(weighted, tensors, strict=True)
    ]
    layers = []
    for path, (operator, verdict, kernel) in zip(paths, weighted, strict=True):
        prunable = bool(verdict.role) and regions.is_pointwise(operator)
        runs = prunable and zeros[verdict.region] > LEAST_ZEROS
        reason = verdict.reason or _part(prunable, runs, zeros.get(verdict.region))
        for tensor, known in zip(tensors, paths, strict=True):
            reason = reason.replace(repr(tensor), repr(known))
        layers.append(
            LayerSparseInference(path, operator.name, _zeros(kernel.values()), prunable, runs, reason)
        )
    return SparseInference(name, layers)


def _zeros(values: np.ndarray) -> float:
    return 1 - np.count_nonzero(values) / values.size


def _part(prunable: bool, runs: bool, zeros: float | None) -> str:
    if not prunable:
        return "part of a region that fits; stays dense"
    return "" if runs else f"1x1 convolutions of its region have {zeros:.0%} zeros"


def _state(layer: LayerSparseInference) -> str:
    if layer.runs_sparse:
        return "yes"
    return "when pruned" if layer.prunable else "no"


def _tensor_name(operator: Operator, file) -> str:
    return file.main.tensors[operator.outputs[0]].name.split(";")[0]


def _layer(kernel: Tensor, operator: Operator, matrices, taken: set[str]) -> str | None:
    """The layer whose kernel the file's is: the same but for a factor per output, from batch normalisation.

    Tensor names do not tell: the converter numbers and joins them.
    """
    outputs = kernel.values().astype("float32")
    rows = outputs.reshape(-1, outputs.shape[-1]).T if operator.name.startswith("DEPTHWISE") else outputs
    rows = rows.reshape(len(rows), -1)
    alike = [path for path, known in matrices.items() if any(rows.shape == m.T.shape for m in known)]
    found = [path for path in alike if any(_same(rows, matrix.T) for matrix in matrices[path])]
    # Normalisation before a layer scales its inputs, not its outputs; then the shape must do.
    found = found or [path for path in alike if path not in taken]
    chosen = next((path for path in found if path not in taken), found[0] if found else None)
    taken.add(chosen)
    return chosen


def _same(rows: np.ndarray, others: np.ndarray) -> bool:
    if rows.shape != others.shape:
        return False
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(others, axis=1)
    products = np.abs(np.einsum("ij,ij->i", rows, others.astype("float32")))
    return bool((products >= _SAME_DIRECTION * lengths).all())
