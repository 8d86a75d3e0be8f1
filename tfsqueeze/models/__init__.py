"""Loading what users really have: Keras 2 and 3 files, SavedModel folders, tf_keras and tfmot models."""

__all__ = ["load_model"]


def __getattr__(name: str):
    """Gives `load_model` on first use: `import tfsqueeze` needs only the light `legacy_layers` of here."""
    if name != "load_model":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tfsqueeze.models.load import load_model

    return load_model
