"""Every callback, so that `tfs.callbacks.X` reads as in Keras."""

from tfsqueeze.pruning.callback import PruningCallback

__all__ = ["PruningCallback"]
