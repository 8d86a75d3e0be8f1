"""A model that holds others and trains only one of them."""

import keras

from tfsqueeze.core.checks import check_model


class StudentModel(keras.Model):
    """What of a distiller is trained: its `student` and the `adapters` of its losses."""

    @property
    def losses(self):
        """The student's own losses: regularisers and what its layers add."""
        return self.student.losses

    @property
    def trainable_variables(self):
        """The student's and the adapters'; never the teacher's."""
        return self.trainable_weights

    @property
    def trainable_weights(self):
        """The student's and the adapters'; never the teacher's."""
        if not self.trainable:
            return []
        layers = [self.student, *self.adapters.values()]
        return [variable for layer in layers for variable in layer.trainable_weights]

    @property
    def non_trainable_variables(self):
        """All others, the teacher's too."""
        return _without(self.variables, self.trainable_weights)

    @property
    def non_trainable_weights(self):
        """All others, the teacher's too."""
        return _without(self.weights, self.trainable_weights)

    def export(self, *args, **kwargs):
        """As `keras.Model.export`, of the student alone."""
        return self.student.export(*args, **kwargs)


def check_models(models, verb: str) -> list[keras.Model]:
    """Returns several built models as a list, or raises what is wrong."""
    if not isinstance(models, (list, tuple)):
        raise TypeError(f"{verb} takes a list of models. Received: {type(models)}.")
    return [check_model(model, verb) for model in models]


def check_roles(student, teacher) -> None:
    """Raises if student and teacher are no two different built models."""
    check_model(student, "Distiller()")
    check_model(teacher, "Distiller()")
    if student is teacher:
        raise ValueError(
            "Student and teacher are the same model, so the teacher would change with the student. Make the "
            "student a copy first, such as keras.models.clone_model(teacher), or compress it."
        )


def _without(variables, others):
    ids = {id(variable) for variable in others}
    return [variable for variable in variables if id(variable) not in ids]
