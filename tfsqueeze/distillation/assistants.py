"""Teacher assistants: a chain of students, each the teacher of the next."""

import numbers
from collections.abc import Callable, Sequence

import keras

from tfsqueeze.core.checks import check_model
from tfsqueeze.distillation.distiller import Distiller
from tfsqueeze.distillation.width import scale_width


def teach_in_turn(
    teacher: keras.Model,
    students: Sequence[keras.Model | float],
    train: Callable[[Distiller, int], object],
    **options,
) -> keras.Model:
    """Lets each student learn from the one before it, and returns the last.

    A student much smaller than its teacher learns more from an assistant of a size in between.

    Args:
        teacher: the teacher of the first student.
        students: built models from the largest to the smallest; a number stands for the teacher scaled to
            that width (see `tfs.scale_width`).
        train: called as `train(distiller, index)` for each student in turn; compiles and fits it.
        **options: of every `tfs.Distiller`, such as `losses`, `alpha` and `temperature`.

    Returns:
        The last student, trained.

    Raises:
        ValueError: if there are no students.
        TypeError: if `train` cannot be called, or a student is neither a model nor a number.

    Example:
        >>> def train(distiller, index):
        ...     distiller.compile("adam", "sparse_categorical_crossentropy")
        ...     distiller.fit(x, y, epochs=5)
        >>> student = teach_in_turn(teacher, [0.7, 0.5], train)

    Source: Mirzadeh et al., Improved Knowledge Distillation via Teacher Assistant, arXiv:1902.03393.
    """
    check_model(teacher, "teach_in_turn()")
    if not isinstance(students, (list, tuple)):
        raise TypeError(f"`students` must be a list of models and widths. Received: {students!r}.")
    if not students:
        raise ValueError("`students` must list at least one model or width. Received none.")
    if not callable(train):
        raise TypeError(f"`train` must be a function of a distiller and an index. Received: {train!r}.")
    models = [_student(teacher, student) for student in students]
    for index, student in enumerate(models):
        train(Distiller(student, models[index - 1] if index else teacher, **options), index)
    return models[-1]


def _student(teacher, student) -> keras.Model:
    if isinstance(student, numbers.Real) and not isinstance(student, bool):
        return scale_width(teacher, student)
    return check_model(student, "teach_in_turn()")
