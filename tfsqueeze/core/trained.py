"""Which model a training is about."""

import keras


def trained_model(model: keras.Model) -> keras.Model:
    """The model whose weights a training changes: the student inside a distiller, or the model itself.

    A wrapper that trains another model names it `student`, as `tfs.Distiller` and Keras' own do.

    Args:
        model: what `fit` was called on.
    """
    inner = getattr(model, "student", None)
    return trained_model(inner) if isinstance(inner, keras.Model) else model
