"""Self-distillation: the end of a network teaches exits along its way."""

from collections.abc import Sequence

import keras
import tensorflow as tf
from keras import ops
from keras.src.losses.loss import unscale_loss_for_distribution

from tfsqueeze.core.checks import check_graph, did_you_mean
from tfsqueeze.core.images import fit_images
from tfsqueeze.core.rewrite import copy_compile, rewrite
from tfsqueeze.distillation import exit_heads, settings
from tfsqueeze.distillation.capture import Capture
from tfsqueeze.distillation.exit_places import regular_places
from tfsqueeze.distillation.features import Features
from tfsqueeze.distillation.loss import pooled
from tfsqueeze.distillation.output_pairs import outputs_of, pair_outputs
from tfsqueeze.distillation.reduction import common_weights, weighted_mean
from tfsqueeze.distillation.settings import Setting
from tfsqueeze.distillation.structures import placeholders, scaling_policy
from tfsqueeze.distillation.teaching import Batch, Pass, Teaching


@keras.saving.register_keras_serializable(package="tfsqueeze")
class SelfDistillation(keras.Model):
    """Trains a model with exits along its way, which its own end teaches; no other teacher is needed.

    loss = compiled loss of the end
           + sum over exits of (1 - alpha) * compiled loss + alpha * T^2 KL(p_T(end) || p_T(exit))
                               + hint_weight * mean over channels of (features(exit) - features(end))^2

    What the exits learn makes the early layers better, so the plain model gains; and the model can end at
    an exit. No gradient flows into the end as a teacher. `predict`, the loss in `evaluate` and the compiled
    metrics are those of the plain model; logs gain each exit's loss on the labels ("block1_loss").

    Args:
        student: a built Sequential or Functional model, trained or not.
        exits: names or paths ("backbone/conv3") of the layers after which there is an exit; or a number of
            exits, placed after equal shares of the multiply-accumulates.
        hints: name of a layer whose features, averaged over positions, those of the exits imitate, such as
            the last pooling; None for outputs alone.
        hint_weight: weight of the hints; >= 0.
        bottleneck: makes the small network of an exit: a function of the shape of its features (batch axis
            first) that returns a layer, on which the exit's classifier is put. None for a separable
            convolution with normalisation and pooling on images, a dense layer with pooling on others.
        alpha: weight of the end as a teacher in [0, 1]; a number or a schedule.
        temperature: > 0; a number or a schedule.
        name: of this model.

    Attributes:
        student: the plain model, as given.
        exits: the paths of the exits' layers, in order.

    Raises:
        UnsupportedModelError: if the model has no graph.
        ValueError: if a layer is not there, a setting out of range, or features do not fit.

    Example:
        >>> own = tfs.distillation.SelfDistillation(model, exits=3)
        >>> own.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        >>> own.fit(x, y, epochs=10)
        >>> own.student.save("whole.keras")
        >>> own.ending_at(own.exits[1]).save("short.keras")

    Source: Zhang et al., Be Your Own Teacher, arXiv:1905.08094, eq. 3-6; the hints on pooled features, as in
    the authors' code.
    """

    def __init__(
        self,
        student: keras.Model,
        exits: int | Sequence[str] = 3,
        *,
        hints: str | None = None,
        hint_weight: float = 0.1,
        bottleneck: exit_heads.Bottleneck | None = None,
        alpha: Setting = 0.3,
        temperature: Setting = 3.0,
        name: str = "self_distillation",
    ):
        check_graph(student, "SelfDistillation()")
        super().__init__(name=name, dtype=scaling_policy([student]), autocast=False)
        self.student = student
        self._distribute_strategy = student._distribute_strategy or self._distribute_strategy
        self._alpha = settings.check_alpha(alpha)
        self._temperature = settings.check_temperature(temperature)
        self.exits = _places(student, exits)
        self._hints, self._hint_weight = hints, _check_weight(hint_weight)
        self._capture = Capture(student, {*self.exits, *([hints] if hints else [])}, "student")
        self._described = outputs_of(student)
        pairs = pair_outputs(self._described, self._described)
        self._teaching = Teaching(student, student, [], pairs)
        with self.distribute_strategy.scope():
            self._make_heads(bottleneck)
            self._trackers = [keras.metrics.Mean(name=f"{_plain(place)}_loss") for place in self.exits]
        self.built = True

    def _make_heads(self, bottleneck) -> None:
        self.bottlenecks, self.classifiers, self.adapters = [], [], []
        for place in self.exits:
            shape = self._capture.shape(place)
            layer = self._plain_bottleneck(place, shape) if bottleneck is None else bottleneck(shape)
            self.bottlenecks.append(exit_heads.built(layer, shape))
            features = layer.compute_output_shape(shape)
            heads = [exit_heads.classifier(features, output, place) for output in self._described]
            self.classifiers.append([exit_heads.built(head, features) for head in heads])
            if self._hints:
                target = self._capture.shape(self._hints)
                own, wanted = ((None, size[-1]) for size in (features, target))
                adapter = Features(place, self._hints).adapter(own, wanted) or keras.layers.Identity()
                self.adapters.append(exit_heads.built(adapter, own))

    def _plain_bottleneck(self, place, shape):
        width = (self._capture.shape(self._hints) if self._hints else shape)[-1]
        is_pooled = all(len(output.shape) == 2 for output in self._described)
        return exit_heads.plain_bottleneck(shape, width, is_pooled, f"{_plain(place)}_bottleneck")

    def call(self, inputs, training=None, with_exits=False):
        """The plain model's outputs; with exits, also each exit's outputs and features, and the hints."""
        inputs = fit_images(self.student, inputs)
        if not with_exits:
            return self.student(inputs, training=training)
        outputs, found = self._capture(inputs, training)
        features = [
            layer(found[place], training=training)
            for layer, place in zip(self.bottlenecks, self.exits, strict=True)
        ]
        answers = [
            [head(value) for head in heads] for heads, value in zip(self.classifiers, features, strict=True)
        ]
        hints = [found[self._hints]] if self._hints else []
        return outputs, answers, features, hints

    def train_step(self, data):
        """One step: the model and its exits once, then the joint loss."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if self._compile_loss is None or y is None:
            raise ValueError(
                "SelfDistillation needs labels and a `loss` in compile(): its end learns from them."
            )
        batch = Batch(y, sample_weight, settings.value_at(self._temperature, self.optimizer.iterations))
        with tf.GradientTape() as tape:
            y_pred, *exits = self(x, training=True, with_exits=True)
            loss = self._joint_loss(batch, y_pred, *exits)
            scaled = self.optimizer.scale_loss(loss)
        self._track(self._loss_tracker, loss, y_pred)
        variables = self.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(scaled, variables), variables, strict=True))
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def _joint_loss(self, batch: Batch, y_pred, answers, features, hints):
        alpha = settings.value_at(self._alpha, self.optimizer.iterations)
        end = Pass(keras.tree.flatten(y_pred), {}).frozen()
        parts = [self._aggregate_additional_loss(loss) for loss in self.losses]
        parts.append(self._compile_loss(batch.labels, y_pred, batch.sample_weight))
        hard = self._on_labels(batch.labels, y_pred, answers, batch.sample_weight)
        for outputs, on_labels in zip(answers, hard, strict=True):
            taught = [
                term.value
                for loss in self._teaching.default_losses(self.loss)
                for term in self._teaching.terms(loss, None, Pass(outputs, {}), end, batch)
            ]
            parts += [(1 - alpha) * on_labels, alpha * sum(taught)]
        for hint in hints:
            parts += [self._hint_weight * value for value in self._hinted(hint, features, batch)]
        return ops.sum(ops.stack([ops.cast(part, "float32") for part in parts]))

    def _on_labels(self, y, y_pred, answers, sample_weight) -> list:
        """The compiled loss of each exit, kept for the logs."""
        packed = [keras.tree.pack_sequence_as(y_pred, outputs) for outputs in answers]
        values = [self._compile_loss(y, outputs, sample_weight) for outputs in packed]
        for tracker, value in zip(self._trackers, values, strict=True):
            self._track(tracker, value, y_pred)
        return values

    def test_step(self, data):
        """The plain model's loss and metrics, and each exit's loss."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y_pred, answers, *_ = self(x, training=False, with_exits=True)
        loss = self.compute_loss(x, y, y_pred, sample_weight, training=False)
        self._track(self._loss_tracker, loss, y_pred)
        if y is not None and self._compile_loss is not None:
            self._on_labels(y, y_pred, answers, sample_weight)
        return self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def _hinted(self, hint, features, batch: Batch):
        target = ops.stop_gradient(ops.cast(pooled(hint), "float32"))
        weights = common_weights(batch.sample_weight)
        for adapter, value in zip(self.adapters, features, strict=True):
            own = ops.cast(adapter(pooled(value)), "float32")
            yield weighted_mean(Features().compare(own, target), weights)

    def _track(self, tracker, value, y_pred) -> None:
        count = ops.shape(keras.tree.flatten(y_pred)[0])[0]
        tracker.update_state(unscale_loss_for_distribution(value), sample_weight=count)

    def ending_at(self, place: str) -> keras.Model:
        """A new plain model that ends at an exit, compiled as this one; its layers after it are gone.

        Args:
            place: one of `exits`.

        Raises:
            ValueError: if there is no exit.
        """
        if place not in self.exits:
            raise ValueError(
                f"There is no exit at {place!r}. {did_you_mean(str(place), self.exits)} "
                f"There are {self.exits}."
            )
        twin, index = rewrite(self.student), self.exits.index(place)
        inputs = placeholders(twin)
        outputs, found = Capture(twin, {place}, "student")(inputs, training=None)
        features = self.bottlenecks[index](found[place])
        answers = [head(features) for head in self.classifiers[index]]
        whole = keras.Model(inputs, keras.tree.pack_sequence_as(outputs, answers), name=self.student.name)
        # A second copy has no trace of what comes after the exit.
        short = rewrite(whole)
        copy_compile(self, short)
        return short

    def get_config(self):
        """The constructor's arguments, the student and the exits' bottlenecks included."""
        pack = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "student": pack(self.student),
            "exits": list(self.exits),
            "hints": self._hints,
            "hint_weight": self._hint_weight,
            "bottleneck": [pack(layer) for layer in self.bottlenecks],
            **settings.packed(self._alpha, self._temperature),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes the model again; weights follow when it is loaded from a file."""
        unpack = keras.saving.deserialize_keras_object
        with keras.saving.custom_object_scope(custom_objects or {}):
            student = unpack(config["student"])
            stored = iter([unpack(layer) for layer in config["bottleneck"]])
        bottleneck = {"bottleneck": lambda shape: next(stored)}
        return cls(**{**settings.unpacked(config), **bottleneck, "student": student})


def _places(student, exits) -> list[str]:
    if isinstance(exits, int) and not isinstance(exits, bool) and exits > 0:
        return regular_places(student, exits)
    named = [exits] if isinstance(exits, str) else exits
    if not isinstance(named, (list, tuple)) or not named or len(set(named)) < len(named):
        raise ValueError(
            "`exits` is a number of exits >= 1, or a list of the names of different layers. "
            f"Received: exits={exits!r}."
        )
    return list(named)


def _check_weight(weight) -> float:
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < float("inf"):
        raise ValueError(f"`hint_weight` must be a number >= 0. Received: hint_weight={weight!r}.")
    return float(weight)


def _plain(place: str) -> str:
    return place.replace("/", "_")
