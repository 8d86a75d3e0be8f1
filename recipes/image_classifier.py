"""An image classifier for a phone: fewer channels, taught by its whole self, in integers.

Half of the multiplications go first, as that is what makes a phone faster; what is left learns from the
uncut network; then weights and activations become 8-bit integers, repaired layer by layer.

\b
Data: CIFAR-10 in --data (`cifar10/cifar10_jpeg_60k.npz`), with MLPerf Tiny's trained ResNet8 if it is
there too; without, scikit-learn's digits.

\b
Examples:
  python recipes/image_classifier.py -o phone
  tfsqueeze run recipes/image_classifier.yaml --model phone/model.keras --train phone/train.npz \\
      --validation phone/validation.npz -o again
"""

import click
import keras
import numpy as np
import workbench
from keras import layers


@click.command(help=__doc__)
@workbench.options("image-classifier")
def main(data, output, epochs, limit):
    source = workbench.real(data, "cifar10", "cifar10_jpeg_60k.npz")
    training, validation = digits(limit) if source is None else cifar10(source, limit)
    published = None if source is None else data / "mlperf_tiny" / "models" / "pretrainedResnet.h5"

    def build():
        is_published = published is not None and published.exists()
        model = keras.models.load_model(published, compile=False) if is_published else network(training[0])
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    model = workbench.begin(output, build, training, validation, epochs=epochs or 10)
    return workbench.run_steps(__file__, model, training, validation, output, epochs)


def digits(limit):
    """The embedded digits, split."""
    return workbench.split(*workbench.digits(), limit)


def cifar10(path, limit):
    """CIFAR-10's training and test images, decoded, 0 to 255."""
    source = np.load(path)
    return [
        (workbench.decoded(source, part, limit), source[f"y_{part}"].ravel()[:limit])
        for part in ("train", "test")
    ]


def network(images) -> keras.Model:
    """A small residual network."""
    image = keras.Input(images.shape[1:], name="image")
    x = layers.Conv2D(24, 3, padding="same", use_bias=False, name="stem")(image)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    for number, (filters, stride) in enumerate(((24, 1), (48, 2)), 1):
        y = layers.Conv2D(filters, 3, stride, padding="same", use_bias=False, name=f"conv{number}a")(x)
        y = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(y))
        y = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv{number}b")(y)
        y = layers.BatchNormalization(momentum=0.9)(y)
        if x.shape != y.shape:
            x = layers.Conv2D(filters, 1, stride, name=f"shortcut{number}")(x)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(10, activation="softmax", name="label")(x))


if __name__ == "__main__":
    main()
