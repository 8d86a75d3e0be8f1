"""Loading what users really have: Keras 2 and 3 files, SavedModel folders, tf_keras and tfmot models."""

from tfsqueeze.models.load import load_model

__all__ = ["load_model"]
