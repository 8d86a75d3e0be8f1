"""Which model a training is about."""

import keras


def trained_model(model: keras.Model) -> keras.Model:
    """The model whose weights a training changes: the student inside a distiller, or the model itself.

    A wrapper that trains another model names it `student`, as `tfs.Distiller` and Keras' own do.

    Args:
        model: what `fit` was called on.
    """
    inner = students_of(model).get("student")
    return model if inner is None else trained_model(inner)


def students_of(model: keras.Model) -> dict[str, keras.Model]:
    """The models that a wrapper trains, by where it has them: "student", or "students[0]" and so on."""
    several = getattr(model, "students", None)
    several = several if isinstance(several, (list, tuple)) else ()
    places = {f"students[{index}]": inner for index, inner in enumerate(several)}
    places["student"] = getattr(model, "student", None)
    return {place: inner for place, inner in places.items() if isinstance(inner, keras.Model)}
