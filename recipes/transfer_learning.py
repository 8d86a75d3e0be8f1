"""Transfer learning with a lighter backbone: the same head on a network of a fraction of the weights.

A classifier on a `keras.applications` backbone gets a lighter one under its head, which learns from the
heavy one. What the new backbone expects of its inputs is converted at its entrance.

\b
Data: CIFAR-10 in --data (`cifar10/cifar10_jpeg_60k.npz`); without, the embedded digits as colour images.
--weights imagenet downloads trained backbones; without, both begin anew, which shows the way but not the
accuracy.

\b
Examples:
  python recipes/transfer_learning.py --weights imagenet -o lighter
  tfsqueeze run recipes/transfer_learning.yaml --model lighter/model.keras --train lighter/train.npz \\
      --validation lighter/validation.npz -o again
"""

import click
import keras
import workbench
from image_classifier import cifar10
from keras import layers

SIZE = 32


@click.command(help=__doc__)
@click.option("--weights", type=click.Choice(["imagenet"]), help="Begin with trained backbones (a download).")
@workbench.options("transfer-learning")
def main(data, output, epochs, limit, weights):
    source = workbench.real(data, "cifar10", "cifar10_jpeg_60k.npz")
    training, validation = digits(limit) if source is None else cifar10(source, limit)
    model = workbench.begin(output, lambda: network(weights), training, validation, epochs=epochs or 6)
    return workbench.run_steps(
        __file__, model, training, validation, output, epochs, swap_backbone={"weights": weights}
    )


def digits(limit):
    """The embedded digits as colour images of 32 pixels, 0 to 255, split."""
    images, labels = workbench.digits(SIZE, channels=3)
    return workbench.split(255 * images, labels, limit)


def network(weights) -> keras.Model:
    """A MobileNet with its own scaling of the input, and a head."""
    backbone = keras.applications.MobileNet((SIZE, SIZE, 3), alpha=0.5, include_top=False, weights=weights)
    image = keras.Input((SIZE, SIZE, 3), name="image")
    x = backbone(layers.Rescaling(1 / 127.5, offset=-1)(image))
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, layers.Dense(10, activation="softmax", name="label")(x))
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


if __name__ == "__main__":
    main()
