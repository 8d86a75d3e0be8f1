"""Augmented data in compressed training: RandAugment, MixUp and CutMix while pruning and distilling.

What a small network can learn from few images is soon exhausted; a teacher's answers to distorted and
mixed images are new every time. The layers are Keras's own, in the `tf.data` pipeline, so that nothing of
them is in the model.

\b
Data: CIFAR-10 in --data (`cifar10/cifar10_jpeg_60k.npz`); without, the embedded digits as colour images.

\b
Examples:
  python recipes/augmentation.py -o augmented
  tfsqueeze run recipes/augmentation.yaml --model augmented/model.keras --train augmented/train.npz \\
      --validation augmented/validation.npz -o plain        (the same without augmentation, to compare)
"""

import click
import keras
import numpy as np
import tensorflow as tf
import workbench
from image_classifier import cifar10, network
from keras import layers


@click.command(help=__doc__)
@workbench.options("augmentation")
def main(data, output, epochs, limit):
    source = workbench.real(data, "cifar10", "cifar10_jpeg_60k.npz")
    training, validation = digits(limit) if source is None else cifar10(source, limit)
    classes = int(training[1].max()) + 1
    training, validation = (
        (x.astype("float32"), keras.utils.to_categorical(y, classes)) for x, y in (training, validation)
    )

    def build():
        model = network(training[0])
        model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
        return model

    model = workbench.begin(output, build, training, validation, epochs=epochs or 10)
    plot_examples(training, output / "augmented.png")
    return workbench.run_steps(__file__, model, augmented(*training), validation, output, epochs)


def digits(limit):
    """The embedded digits as colour images of 16 pixels, 0 to 255, split."""
    images, labels = workbench.digits(16, channels=3)
    return workbench.split(255 * images, labels, limit)


def augmented(images, labels, seed: int = 0) -> tf.data.Dataset:
    """Batches distorted by RandAugment, every second one mixed by MixUp, the others by CutMix.

    Args:
        images: colour images, 0 to 255, shape (n, height, width, 3).
        labels: one-hot, shape (n, classes), as the mixed ones are between classes.
        seed: of order and distortions.
    """
    distort = layers.RandAugment((0, 255), num_ops=2, factor=0.2, seed=seed)
    mix, cut = layers.MixUp(0.2, seed=seed), layers.CutMix(1.0, seed=seed)

    def augment(index, batch):
        batch = {"images": distort(batch["images"]), "labels": batch["labels"]}
        return tf.cond(index % 2 == 0, lambda: mix(batch), lambda: cut(batch))

    dataset = tf.data.Dataset.from_tensor_slices({"images": images, "labels": labels.astype("float32")})
    dataset = dataset.shuffle(len(images), seed=seed).batch(workbench.BATCH_SIZE, drop_remainder=True)
    dataset = dataset.enumerate().map(augment, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.map(lambda batch: (batch["images"], batch["labels"])).prefetch(2)


def plot_examples(training, path) -> None:
    """Draws two augmented batches' first images, a look that finds mistakes that no test would."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.2), layout="constrained")
    axes = figure.subplots(2, 8)
    for row, (images, _) in zip(axes, augmented(*training).take(2), strict=True):
        for axis, image in zip(row, np.asarray(images), strict=False):
            axis.imshow(np.clip(image, 0, 255).astype("uint8"))
            axis.set_axis_off()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
