"""Every callback, so that `tfs.callbacks.X` reads as in Keras."""

from tfsqueeze.clustering.callback import ClusteringCallback
from tfsqueeze.precision.overflow import OverflowCallback
from tfsqueeze.pruning.callback import PruningCallback
from tfsqueeze.pruning.channels.regularization import GroupRegularization
from tfsqueeze.quantization.callback import QuantizationCallback

__all__ = [
    "ClusteringCallback",
    "GroupRegularization",
    "OverflowCallback",
    "PruningCallback",
    "QuantizationCallback",
]
