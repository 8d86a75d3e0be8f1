"""Which output of the teacher teaches which output of the student, and how they are brought together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops
from keras.src.backend import compute_output_spec

from tfsqueeze.core.checks import check_choice, did_you_mean, has_graph
from tfsqueeze.core.data import input_struct
from tfsqueeze.core.outputs import output_names
from tfsqueeze.distillation.activations import ACTIVATIONS, activation_of, seen_activations
from tfsqueeze.distillation.loss import resized


@dataclass(frozen=True)
class Output:
    """One output of a model: its name, shape (batch axis first) and activation."""

    name: str
    shape: tuple
    activation: str


@dataclass(frozen=True)
class OutputPair:
    """An output of the student with the position of the teacher's output that teaches it.

    Attributes:
        student, teacher: the two outputs.
        teacher_index: position among the teacher's flattened outputs.
        class_map: for each of the student's classes the index of the teacher's, or None.
    """

    student: Output
    teacher: Output
    teacher_index: int
    class_map: tuple[int, ...] | None = None

    @property
    def is_comparable(self) -> bool:
        """Whether both have the same number of classes or values."""
        student, teacher = self.student.shape, self.teacher.shape
        classes = teacher[-1] if self.class_map is None else len(self.class_map)
        return len(student) == len(teacher) and student[-1] == classes

    def check(self) -> None:
        """Raises ValueError if the two cannot be compared."""
        student, teacher = self.student.shape, self.teacher.shape
        if len(student) != len(teacher):
            raise ValueError(
                f"Output {self.student.name!r} of the student has shape {student}, the teacher's "
                f"{self.teacher.name!r} {teacher}: there are answers for each example here and for each "
                "position there. Pool one of them, or compare features instead, such as losses="
                "tfs.distillation.RelationalDistance()."
            )
        if not self.is_comparable:
            raise ValueError(
                f"Output {self.student.name!r} of the student has shape {student}, the teacher's "
                f"{self.teacher.name!r} {teacher}. The last axes must agree. Give `class_map`, for each of "
                "the student's classes the index of the teacher's; or end the student with a layer of "
                f"{teacher[-1]} units; or compare features instead, such as losses=tfs.distillation."
                "RelationalDistance()."
            )
        positions = zip(student[1:-1], teacher[1:-1], strict=True)
        if len(student) != 4 and any(None not in sizes and sizes[0] != sizes[1] for sizes in positions):
            raise ValueError(
                f"Output {self.student.name!r} has shape {student} in the student, {teacher} in the teacher: "
                "the positions must be as many. Only images are resized."
            )

    def aligned(self, teacher, student):
        """The teacher's output in the student's class order and, for images, size."""
        if self.class_map is not None:
            teacher = _keeping_logits(lambda x: ops.take(x, list(self.class_map), axis=-1), teacher)
        if len(teacher.shape) == 4:
            teacher = _keeping_logits(lambda x: resized(x, student), teacher)
        return teacher


def outputs_of(model: keras.Model, activations=None) -> list[Output]:
    """The outputs of a built model, in the order of `keras.tree.flatten`.

    Args:
        model: any built model.
        activations: "softmax", "sigmoid" or "linear" for all outputs, a dict of these by output, or None
            to read them from the last layers, and where these do not show it from what random inputs give.
    """
    struct = (getattr(model, "_functional", None) or model)._outputs_struct if has_graph(model) else None
    if struct is None:
        struct = compute_output_spec(lambda inputs: model(inputs, training=False), input_struct(model))
    tensors, names = keras.tree.flatten(struct), output_names(model, struct)
    told = activations if isinstance(activations, Mapping) else dict.fromkeys(names, activations)
    check_names(told, names, "activations")
    for name in names:
        check_choice("activation", told.get(name), (None, *ACTIVATIONS))
    known = [told.get(name) or activation_of(tensor) for name, tensor in zip(names, tensors, strict=True)]
    if None in known:
        known = [one or other for one, other in zip(known, seen_activations(model, len(known)), strict=True)]
    return [
        Output(name, tuple(tensor.shape), activation)
        for name, tensor, activation in zip(names, tensors, known, strict=True)
    ]


def pair_outputs(student: list[Output], teacher: list[Output], class_map=None) -> list[OutputPair]:
    """Pairs outputs by name if the teacher has all of the student's, else by position.

    Raises:
        ValueError: if there are not as many and the names do not say which is which.
    """
    names = [output.name for output in teacher]
    by_name = all(output.name in names for output in student)
    if not by_name and len(student) != len(teacher):
        raise ValueError(
            f"The student has outputs {[output.name for output in student]}, the teacher {names}. Give the "
            "student's outputs names that the teacher has, or both as many outputs."
        )
    maps = class_map if isinstance(class_map, Mapping) else {output.name: class_map for output in student}
    check_names(maps, [output.name for output in student], "class_map")
    pairs = []
    for position, output in enumerate(student):
        index = names.index(output.name) if by_name else position
        mapping = _checked_map(maps.get(output.name), teacher[index])
        pairs.append(OutputPair(output, teacher[index], index, mapping))
    return pairs


def plain_map(class_map):
    """A class map, or one by output, as lists that JSON can hold."""
    if isinstance(class_map, Mapping):
        return {name: plain_map(part) for name, part in class_map.items()}
    return class_map if class_map is None else [_plain(index) for index in class_map]


def check_names(given, names: list[str], argument: str) -> None:
    """Raises ValueError if one of the given output names is not among `names`."""
    for name in given:
        if name not in names:
            raise ValueError(
                f"`{argument}` names the output {name!r}, which the model does not have. "
                f"{did_you_mean(str(name), names)} It has {names}."
            )


def _checked_map(class_map, teacher: Output):
    if class_map is None:
        return None
    classes = teacher.shape[-1]
    is_list = isinstance(class_map, (Sequence, np.ndarray)) and not isinstance(class_map, str)
    if not is_list or not all(
        isinstance(index, int) and 0 <= index < classes for index in map(_plain, class_map)
    ):
        raise ValueError(
            "`class_map` lists, for each of the student's classes, the index of the teacher's class, from 0 "
            f"to {classes - 1}. Received: {class_map}."
        )
    return tuple(map(_plain, class_map))


def _plain(index):
    return int(index) if hasattr(index, "__index__") else index


def _keeping_logits(function, output):
    """Applies a map of classes or positions to an output and to the logits Keras remembers of it."""
    mapped = function(output)
    if mapped is not output and hasattr(output, "_keras_logits"):
        mapped._keras_logits = function(output._keras_logits)
    return mapped
