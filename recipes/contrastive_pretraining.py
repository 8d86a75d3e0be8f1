"""Few labels: contrastive pre-training on all images, then distillation into a far smaller network.

An encoder first learns, without labels, which two distorted views show the same image (SimCLR). With the
few labels there are it becomes a classifier, and its answers to *all* images, which need no labels, teach
a narrower network.

\b
Data: CIFAR-10 in --data (`cifar10/cifar10_jpeg_60k.npz`), of which 1 % of the labels are used; without,
the embedded digits with ten labels per class.

\b
Examples:
  python recipes/contrastive_pretraining.py -o few
  tfsqueeze run recipes/contrastive_pretraining.yaml --model few/model.keras --train few/unlabelled.npz \\
      --validation few/validation.npz -o again

Source: Chen et al., Big Self-Supervised Models are Strong Semi-Supervised Learners, arXiv:2006.10029.
"""

import click
import keras
import numpy as np
import workbench
from image_classifier import cifar10, network
from keras import layers, ops

LABELS_PER_CLASS = 10


@click.command(help=__doc__)
@workbench.options("contrastive-pretraining")
def main(data, output, epochs, limit):
    source = workbench.real(data, "cifar10", "cifar10_jpeg_60k.npz")
    (x, y), validation = digits(limit) if source is None else cifar10(source, limit)
    x, validation = x.astype("float32"), (validation[0].astype("float32"), validation[1])
    few = few_of_each(y, max(LABELS_PER_CLASS, len(y) // 1000))
    labelled = x[few], y[few]
    np.savez(output / "unlabelled.npz", x=x)

    def build():
        model = network(x)
        model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
        pretrain(model, x, epochs or 30)
        return model

    model = workbench.begin(output, build, labelled, validation, epochs=epochs or 30)
    click.echo(f"{len(few)} of {len(x)} images have a label.")
    return workbench.run_steps(__file__, model, x, validation, output, epochs)


def digits(limit):
    """The embedded digits of 16 pixels, split."""
    return workbench.split(*workbench.digits(16), limit)


def few_of_each(labels, count: int) -> np.ndarray:
    """Places of the first `count` examples of each class."""
    return np.concatenate([np.flatnonzero(labels == label)[:count] for label in np.unique(labels)])


def pretrain(model, images, epochs: int) -> None:
    """Trains all of a classifier but its last layer without labels."""
    features = keras.Model(model.input, model.layers[-1].input)
    learner = Contrast(features, float(images.max()))
    learner.compile(keras.optimizers.Adam(1e-3))
    workbench.train(learner, images, epochs=epochs, title="Without labels")


class Contrast(keras.Model):
    """SimCLR: two views of an image are each other's answer among all views of the batch.

    Args:
        encoder: images -> features.
        white: the greatest value of a pixel.
        temperature: how sharply similarities are told apart; > 0.
    """

    def __init__(self, encoder: keras.Model, white: float = 1.0, temperature: float = 0.2):
        super().__init__()
        self.encoder, self.temperature = encoder, temperature
        self.project = keras.Sequential([layers.Dense(64, activation="relu"), layers.Dense(32)])
        shift = 0.15
        self.view = keras.Sequential(
            [
                layers.RandomTranslation(shift, shift, fill_mode="nearest"),
                layers.RandomZoom(shift, fill_mode="nearest"),
                layers.RandomRotation(0.04, fill_mode="nearest"),
                layers.RandomBrightness(0.2, value_range=(0, white)),
            ]
        )

    def call(self, images, training=False):
        views = ops.concatenate([self.view(images, training=True), self.view(images, training=True)])
        projected = ops.normalize(self.project(self.encoder(views, training=training)))
        count = ops.shape(images)[0]
        similar = ops.matmul(projected, ops.transpose(projected)) / self.temperature
        similar = similar - 1e9 * ops.eye(2 * count)
        answers = ops.concatenate([ops.arange(count, 2 * count), ops.arange(count)])
        losses = keras.losses.sparse_categorical_crossentropy(answers, similar, from_logits=True)
        self.add_loss(ops.mean(losses))
        return projected


if __name__ == "__main__":
    main()
