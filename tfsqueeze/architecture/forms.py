"""Which forms a layer can take, and why others take none."""

import keras
import numpy as np
from keras import layers

from tfsqueeze.architecture.canonical_form import CanonicalForm
from tfsqueeze.architecture.form import Form
from tfsqueeze.architecture.matrix_form import EmbeddingForm, MatrixForm
from tfsqueeze.architecture.moments import Moments
from tfsqueeze.architecture.spatial_form import SpatialForm
from tfsqueeze.architecture.successors import has_own_call
from tfsqueeze.architecture.tucker_form import TuckerForm
from tfsqueeze.core.layer_info import kernels
from tfsqueeze.core.linear_view import linear_view

METHODS = ("auto", "spatial", "tucker", "cp")

_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
_MATRICES = (layers.Dense, layers.EinsumDense)


def unsupported(layer: keras.Layer, method: str = "auto") -> str | None:
    """Why a layer cannot be factorized, by its kind and settings; None if it can.

    Args:
        layer: any layer.
        method: one of `METHODS`.
    """
    kind = type(layer).__name__
    if not isinstance(layer, (*_CONVOLUTIONS, *_TRANSPOSED, *_MATRICES, layers.Embedding)):
        return _of_no_known_kind(layer)
    if has_own_call(layer):
        return f"{kind} computes something of its own"
    if (
        not kernels(layer)
        or getattr(layer, "lora_enabled", False)
        or getattr(layer, "quantization_mode", None)
    ):
        return "its kernel is not stored, but computed (quantized or adapted)"
    if getattr(layer, "groups", 1) > 1:
        return f"grouped ({layer.groups} groups)"
    if not isinstance(layer, layers.Embedding) and linear_view(layer) is None:
        return "its output is not in the order that a product of two matrices has"
    if not _kinds(layer, method):
        return f"method={method!r} does not know its settings"
    return None


def _of_no_known_kind(layer) -> str:
    kind = type(layer).__name__
    if isinstance(layer, (layers.DepthwiseConv1D, layers.DepthwiseConv2D)):
        return "depthwise: each channel has a filter of its own"
    if isinstance(layer, (layers.SeparableConv1D, layers.SeparableConv2D)):
        return "separable: it is a product already"
    return f"{kind} is not factorized"


def forms(layer: keras.Layer, method: str, moments: Moments | None) -> list[Form]:
    """The forms a supported layer can take.

    Args:
        layer: a layer that is not `unsupported`.
        method: how convolutions with a window are taken apart: "auto" for "spatial" and "tucker".
        moments: of what it receives, or None.
    """
    second = None if moments is None else moments.second
    if isinstance(layer, layers.Embedding):
        return [EmbeddingForm(layer, second)]
    if _is_matrix(layer):
        return [MatrixForm(layer, second)]
    channels: np.ndarray | None = None if second is None else second[0]
    return [kind(layer, channels) for kind in _kinds(layer, method)]


def _kinds(layer, method) -> list[type]:
    """The forms of `method` that know the layer's settings."""
    if isinstance(layer, layers.Embedding) or _is_matrix(layer):
        return [MatrixForm]
    known: list[type] = []
    is_flat = isinstance(layer, layers.Conv2D) and min(layer.kernel_size) > 1
    if method in ("auto", "spatial") and is_flat:
        known.append(SpatialForm)
    if method in ("auto", "tucker"):
        known.append(TuckerForm)
    has_depthwise = isinstance(layer, (layers.Conv1D, layers.Conv2D)) and len(set(layer.strides)) == 1
    if method == "cp" and has_depthwise and layer.padding != "causal":
        known.append(CanonicalForm)
    return known


def _is_matrix(layer) -> bool:
    if isinstance(layer, _MATRICES):
        return True
    return isinstance(layer, _CONVOLUTIONS) and set(layer.kernel_size) == {1}
