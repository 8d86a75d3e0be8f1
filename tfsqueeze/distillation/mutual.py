"""Mutual learning: a cohort of students that teach each other, without a teacher."""

from collections.abc import Sequence

import keras
from keras import ops
from keras.src.losses.loss import unscale_loss_for_distribution

from tfsqueeze.core.images import fit_images
from tfsqueeze.distillation import settings
from tfsqueeze.distillation.output_pairs import outputs_of, pair_outputs
from tfsqueeze.distillation.settings import Setting
from tfsqueeze.distillation.soft_targets import SoftTargets
from tfsqueeze.distillation.structures import scaling_policy
from tfsqueeze.distillation.student_model import check_models
from tfsqueeze.distillation.teaching import Batch, Pass, Teaching


@keras.saving.register_keras_serializable(package="tfsqueeze")
class MutualLearning(keras.Model):
    """Trains several students together; each learns from the labels and from all others.

    loss of student i = (1 - alpha) * compiled loss + alpha * mean over j of T^2 KL(p_T(j) || p_T(i)),
    summed over the students; no gradient flows into the one that teaches. It is compiled with the loss and
    metrics of one student; `predict` returns the list of all students' outputs. Logs gain each student's
    loss on the labels ("student_0_loss"); compiled metrics are means over the cohort.

    Args:
        students: two or more different built models with outputs of the same classes.
        alpha: weight of the others in [0, 1]; a number or a schedule.
        temperature: > 0; a number or a schedule.
        name: of this model.

    Attributes:
        students: the models, as given.

    Raises:
        ValueError: if there are no two different students, or their outputs do not match.

    Example:
        >>> cohort = tfs.distillation.MutualLearning([small, other])
        >>> cohort.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        >>> cohort.fit(x, y, epochs=10)

    Source: Zhang et al., Deep Mutual Learning, arXiv:1706.00384.
    """

    def __init__(
        self,
        students: Sequence[keras.Model],
        *,
        alpha: Setting = 0.5,
        temperature: Setting = 1.0,
        name: str = "mutual_learning",
    ):
        students = check_models(students, "MutualLearning()")
        if len({id(student) for student in students}) < max(len(students), 2):
            raise ValueError(
                f"MutualLearning() takes two or more different models. Received: {_names(students)}."
            )
        super().__init__(name=name, dtype=scaling_policy(students), autocast=False)
        self.students = students
        self._distribute_strategy = students[0]._distribute_strategy or self._distribute_strategy
        self._alpha = settings.check_alpha(alpha)
        self._temperature = settings.check_temperature(temperature)
        self._lessons = _lessons(self.students)
        with self.distribute_strategy.scope():
            self._trackers = [keras.metrics.Mean(name=f"student_{i}_loss") for i in range(len(students))]
        self.built = True

    def call(self, inputs, training=None):
        """The outputs of every student, in a list."""
        return [student(fit_images(student, inputs), training=training) for student in self.students]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The sum of all students' losses; in evaluation that on the labels alone."""
        if self._compile_loss is None or y is None:
            raise ValueError("MutualLearning needs labels and a `loss` in compile(): nobody else knows them.")
        own = sum(self._aggregate_additional_loss(loss) for loss in self.losses) if self.losses else 0.0
        hard = [self._compile_loss(y, outputs, sample_weight) for outputs in y_pred]
        count = ops.shape(keras.tree.flatten(y_pred)[0])[0]
        for tracker, value in zip(self._trackers, hard, strict=True):
            tracker.update_state(unscale_loss_for_distribution(value), sample_weight=count)
        if not training:
            return sum(hard) + own
        alpha = settings.value_at(self._alpha, self.optimizer.iterations)
        return (1 - alpha) * sum(hard) + alpha * self._learned_from_others(y, y_pred, sample_weight) + own

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """The compiled metrics, over the predictions of all students."""
        if self._compile_metrics is not None:
            for outputs in y_pred:
                self._compile_metrics.update_state(y, outputs, sample_weight)
        return self.get_metrics_result()

    def _learned_from_others(self, y, y_pred, sample_weight):
        temperature = settings.value_at(self._temperature, self.optimizer.iterations)
        batch = Batch(y, sample_weight, temperature)
        passes = [Pass(keras.tree.flatten(outputs), {}) for outputs in y_pred]
        terms = [
            term.value
            for (learner, other), lesson in self._lessons.items()
            for loss in lesson.default_losses(self.loss)
            for term in lesson.terms(loss, None, passes[learner], passes[other].frozen(), batch)
        ]
        return sum(terms) / (len(self.students) - 1)

    def get_config(self):
        """The constructor's arguments, the students included."""
        return {
            "name": self.name,
            "students": [keras.saving.serialize_keras_object(student) for student in self.students],
            **settings.packed(self._alpha, self._temperature),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes the cohort again; weights follow when it is loaded from a file."""
        with keras.saving.custom_object_scope(custom_objects or {}):
            students = [keras.saving.deserialize_keras_object(student) for student in config["students"]]
        return cls(**{**settings.unpacked(config), "students": students})


def _lessons(students) -> dict[tuple[int, int], Teaching]:
    """What each student learns from each other one."""
    described = [outputs_of(student) for student in students]
    indices = range(len(students))
    return {
        (i, j): Teaching(students[i], students[j], [SoftTargets()], pair_outputs(described[i], described[j]))
        for i in indices
        for j in indices
        if i != j
    }


def _names(students) -> list[str]:
    return [student.name for student in students]
