"""The Distiller: a Keras model that trains a student by a teacher."""

import contextlib
import inspect
from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf
from keras import ops
from keras.src.losses.loss import unscale_loss_for_distribution

from tfsqueeze.core.images import fit_images
from tfsqueeze.distillation import label_loss, loss_list, settings
from tfsqueeze.distillation.loss_list import Losses
from tfsqueeze.distillation.output_pairs import outputs_of, pair_outputs, plain_map
from tfsqueeze.distillation.regression import Regression
from tfsqueeze.distillation.settings import Setting
from tfsqueeze.distillation.soft_labels import SoftLabels
from tfsqueeze.distillation.soft_targets import SoftTargets
from tfsqueeze.distillation.stored_teacher import StoredTeacher
from tfsqueeze.distillation.structures import part_of, scaling_policy
from tfsqueeze.distillation.student_model import StudentModel, check_roles
from tfsqueeze.distillation.teacher_check import TeacherCheck, TeacherCheckCallback
from tfsqueeze.distillation.teaching import Batch, Pass, Teaching

Activations = str | Mapping[str, str] | None


@keras.saving.register_keras_serializable(package="tfsqueeze")
class Distiller(StudentModel):
    """Trains `student` on the labels and on what `teacher` makes of the same inputs.

    loss = (1 - alpha) * compiled loss + alpha * sum of weight * distillation loss + the student's own losses

    It is compiled, fitted, evaluated, saved and loaded as any model; `predict` and `evaluate` are the
    student's alone, and `.student` is the plain trained model. Each network runs once per step, however
    many losses there are; the teacher in inference mode, its variables never trained and its `trainable`
    flags as they were. Logs gain "label_loss", "distillation_loss" (before `alpha`) and, where `losses`
    are given, one entry for each. Labels may be missing: then the teacher alone teaches.

    Args:
        student: a built model, to be trained.
        teacher: a built model of the same outputs, or of any where features or relations are compared. Its
            image inputs may be of another size: images are resized in the graph to what each network takes.
            Several teachers as `tfs.distillation.Teachers`, stored answers as `tfs.distillation.SoftLabels`.
        losses: a `tfs.distillation` or `keras.distillation` loss, or a list of losses and (loss, weight)
            pairs. None means soft targets for classes, and squared differences for outputs whose compiled
            loss is a regression's.
        alpha: weight of the teacher's losses in [0, 1]: 0 is labels only (the teacher does not run), 1 the
            teacher only. A number, a `tfs.schedules` or `keras.optimizers.schedules` object over the steps
            of the optimizer, or a dict of these by the student's output names.
        temperature: softens both networks' probabilities; > 0, or a schedule.
        class_map: for each of the student's classes the index of the teacher's, where order or number
            differ; a list, or a dict of lists by output.
        student_activation: "softmax", "sigmoid" or "linear" (logits), or a dict by output; None to read it
            from the last layer; where that does not show it, from what the network makes of random inputs.
        teacher_activation: the same for the teacher.
        name: of this model.

    Attributes:
        student, teacher: the two models, as given.
        adapters: layers learned along for `Features`, by the name of the loss; no part of the student.

    Raises:
        TypeError: if student or teacher is no `keras.Model`, or a loss no loss.
        ValueError: if a setting is out of range, outputs do not match, or a layer is not there.

    Example:
        >>> distiller = tfs.Distiller(student, teacher, alpha=0.9, temperature=4.0)
        >>> distiller.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        >>> distiller.fit(x, y, epochs=10)
        >>> distiller.student.save("student.keras")

    Source: Hinton, Vinyals & Dean, Distilling the Knowledge in a Neural Network, arXiv:1503.02531.
    """

    def __init__(
        self,
        student: keras.Model,
        teacher: keras.Model | SoftLabels,
        losses: Losses = None,
        *,
        alpha: Setting | Mapping[str, Setting] = 0.9,
        temperature: Setting = 4.0,
        class_map: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
        student_activation: Activations = None,
        teacher_activation: Activations = None,
        name: str = "distiller",
    ):
        if isinstance(teacher, SoftLabels):
            teacher = teacher.as_model()
        check_roles(student, teacher)
        super().__init__(name=name, dtype=scaling_policy([student]), autocast=False)
        self.student, self.teacher = student, teacher
        self._distribute_strategy = student._distribute_strategy or self._distribute_strategy
        self._given = loss_list.read_losses(losses)
        self._alpha = settings.check_alpha(alpha)
        self._temperature = settings.check_temperature(temperature)
        own = outputs_of(student, student_activation)
        settings.check_alpha_names(self._alpha, [output.name for output in own])
        pairs = pair_outputs(own, outputs_of(teacher, teacher_activation), class_map)
        self._options = {
            "class_map": plain_map(class_map),
            "student_activation": student_activation,
            "teacher_activation": teacher_activation,
        }
        kinds = [loss for loss, _ in self._given] or [SoftTargets()]
        self._teaching = Teaching(student, teacher, kinds, pairs)
        with self.distribute_strategy.scope():
            self._make_state()
        self._is_evaluating = False
        self.built = True

    def _make_state(self) -> None:
        names = loss_list.metric_names(self._given)
        self._label_tracker = keras.metrics.Mean(name="label_loss")
        self._teacher_tracker = keras.metrics.Mean(name="distillation_loss")
        self._loss_trackers = [keras.metrics.Mean(name=name) for name in names]
        adapters = {
            name: self._teaching.adapter(loss) for name, (loss, _) in zip(names, self._given, strict=True)
        }
        self.adapters = {name: layer for name, layer in adapters.items() if layer is not None}
        outputs = self._teaching.names
        self._teacher_checks = [
            TeacherCheck(f"{self.teacher.name!r}" + (f" ({name!r})" if len(outputs) > 1 else ""))
            for name in outputs
        ]

    def call(self, inputs, training=None, with_features=False):
        """The student's outputs; with features, a pair of these and the features by layer."""
        inputs = fit_images(self.student, inputs)
        if with_features:
            return self._teaching.run_student(inputs, training)
        return self.student(inputs, training=training)

    def train_step(self, data):
        """One step: each network once, then the joint loss."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        taught = self._teaching.run_teacher(self._lesson(x, y)) if self._is_taught else None
        y = self._labels(y)
        with tf.GradientTape() as tape:
            y_pred, features = self(x, training=True, with_features=True)
            own = Pass(keras.tree.flatten(y_pred), features)
            loss = self._joint_loss(y, y_pred, sample_weight, own, taught)
            scaled = self.optimizer.scale_loss(loss)
        self._track(self._loss_tracker, loss, own)
        variables = self.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(scaled, variables), variables, strict=True))
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def _joint_loss(self, y, y_pred, sample_weight, own: Pass, taught: Pass | None):
        alphas = self._alphas()
        parts = [self._aggregate_additional_loss(loss) for loss in self.losses]
        if y is not None and self._compile_loss is not None:
            labels, scaled = label_loss.by_output(
                self._compile_loss, y, y_pred, sample_weight, alphas, self._teaching.names
            )
            self._track(self._label_tracker, labels, own)
            parts.append(scaled)
        if taught is not None:
            temperature = settings.value_at(self._temperature, self.optimizer.iterations)
            parts.append(self._teacher_loss(own, taught, Batch(y, sample_weight, temperature), alphas))
        if not parts:
            raise ValueError("No loss to compute: alpha=0 needs labels and a `loss` in compile().")
        return ops.sum(ops.stack([ops.cast(part, "float32") for part in parts]))

    def _teacher_loss(self, own, taught, batch, alphas):
        """The sum over losses and outputs, each output under its own alpha."""
        total = scaled = 0.0
        common = sum(alphas) / len(alphas)
        default = self._teaching.default_losses(self.loss)
        for index, (loss, weight) in enumerate(self._given or [(loss, 1.0) for loss in default]):
            adapter = self.adapters.get(self._loss_trackers[index].name) if self._given else None
            terms = self._teaching.terms(loss, adapter, own, taught, batch)
            value = sum(term.value for term in terms)
            if self._given:
                self._track(self._loss_trackers[index], value, own)
            total += weight * value
            scaled += sum(
                weight * term.value * (common if term.output is None else alphas[term.output])
                for term in terms
            )
        self._track(self._teacher_tracker, total, own)
        for index, (check, kind) in enumerate(zip(self._teacher_checks, default, strict=True)):
            if self._teaching.pairs[index].is_comparable and not isinstance(kind, Regression):
                check.update(self._teaching.comparison(index, own, taught, batch))
        return scaled

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss on the labels and the student's own losses; the teacher has no part in it."""
        y = self._labels(y)
        if y is not None and self._compile_loss is not None:
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        own = [self._aggregate_additional_loss(loss) for loss in self.losses]
        return ops.sum(ops.stack(own)) if own else ops.zeros(())

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """The compiled metrics of the student's predictions; without labels they stand still."""
        y = self._labels(y)
        if y is None:
            return self.get_metrics_result()
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def get_metrics_result(self):
        """Metrics by name; those of the teacher's losses only in training."""
        teaching = [self._label_tracker, self._teacher_tracker, *self._loss_trackers]
        results = {}
        for metric in self.metrics:
            is_idle = self._is_evaluating and any(metric is tracker for tracker in teaching)
            if is_idle or (metric is self._compile_metrics and not metric.built):
                continue
            result = metric.result()
            results.update(result if isinstance(result, dict) else {metric.name: result})
        return results

    def fit(self, *args, **kwargs):
        """As `keras.Model.fit`; after the first epoch it warns if the teacher is no better than chance."""
        given = inspect.signature(super().fit).bind(*args, **kwargs).arguments
        if isinstance(self.teacher, StoredTeacher) and given.get("class_weight"):
            given["x"] = self.teacher.weighted(given["x"], given.pop("class_weight"))
        check = TeacherCheckCallback(self._teacher_checks)
        if isinstance(given.get("callbacks"), keras.callbacks.CallbackList):
            given["callbacks"].append(check)
        else:
            given["callbacks"] = [*keras.tree.flatten(given.get("callbacks") or []), check]
        return super().fit(**given)

    def evaluate(self, *args, **kwargs):
        """As `keras.Model.evaluate`, of the student alone: the loss is that on the labels."""
        with self._evaluating():
            return super().evaluate(*args, **kwargs)

    def test_on_batch(self, *args, **kwargs):
        """As `keras.Model.test_on_batch`, of the student alone."""
        with self._evaluating():
            return super().test_on_batch(*args, **kwargs)

    @contextlib.contextmanager
    def _evaluating(self):
        self._is_evaluating = True
        try:
            yield
        finally:
            self._is_evaluating = False

    def get_config(self):
        """The constructor's arguments, both models included."""
        pack = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "student": pack(self.student),
            "teacher": pack(self.teacher),
            "losses": [[pack(loss), weight] for loss, weight in self._given] or None,
            **settings.packed(self._alpha, self._temperature),
            **self._options,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes the distiller again; weights follow when it is loaded from a file."""
        with keras.saving.custom_object_scope(custom_objects or {}):
            unpack = keras.saving.deserialize_keras_object
            models = {role: unpack(config[role]) for role in ("student", "teacher")}
            losses = [(unpack(loss), weight) for loss, weight in config["losses"] or []] or None
        return cls(**{**settings.unpacked(config), **models, "losses": losses})

    def _lesson(self, x, y):
        """What the teacher is called on."""
        if isinstance(self.teacher, StoredTeacher):
            return self.teacher.answers(y)
        return fit_images(self.teacher, x)

    def _labels(self, y):
        return self.teacher.labels(y) if isinstance(self.teacher, StoredTeacher) else y

    @property
    def _is_taught(self) -> bool:
        alpha = self._alpha
        return any(value != 0 for value in alpha.values()) if isinstance(alpha, Mapping) else alpha != 0

    def _alphas(self) -> list:
        """The weight of the teacher's loss for each output, at the present step."""
        names = self._teaching.names
        step = self.optimizer.iterations
        return [settings.value_at(part_of(self._alpha, names, i), step) for i in range(len(names))]

    def _track(self, tracker, value, own: Pass) -> None:
        """Keeps the mean over examples, as Keras does with the loss."""
        tracker.update_state(unscale_loss_for_distribution(value), sample_weight=ops.shape(own.outputs[0])[0])
