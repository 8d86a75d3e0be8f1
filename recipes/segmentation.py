"""Segmentation at half resolution: the dearest stage of a decoder left out, and what that costs in IoU.

The last stage of a U-Net works on the most pixels and often decides little. It is left out, the scores
are up-sampled instead, and the shortened network learns from the whole one.

\b
Data: CamVid road scenes in --data (`camvid/camvid_240x180.npz`, 11 classes); without, scenes of embedded
digits, whose pixels are background, round digits (0, 6, 8, 9) or others.

\b
Examples:
  python recipes/segmentation.py -o half
  tfsqueeze run recipes/segmentation.yaml --model half/model.keras --train half/train.npz \\
      --validation half/validation.npz -o again
"""

import click
import keras
import numpy as np
import workbench
from keras import layers

ROUND = (0, 6, 8, 9)
VOID = 11


@click.command(help=__doc__)
@workbench.options("segmentation")
def main(data, output, epochs, limit):
    source = workbench.real(data, "camvid", "camvid_240x180.npz")
    training, validation = scenes(limit or 400) if source is None else camvid(source, limit)
    classes = max(int(masks[masks != VOID].max()) for _, masks in (training, validation)) + 1
    model = workbench.begin(
        output, lambda: network(training[0].shape[1:], classes), training, validation, epochs=epochs or 15
    )
    result = workbench.run_steps(__file__, model, training, validation, output, epochs)
    return result


def scenes(count: int, size: int = 32):
    """Images of four digits each at random places in faint noise, with a class per pixel."""
    rng, (digits, labels) = np.random.default_rng(0), workbench.digits(12)
    images = rng.uniform(0, 0.15, (count, size, size, 1)).astype("float32")
    masks = np.zeros((count, size, size), "uint8")
    for image, mask in zip(images, masks, strict=True):
        for quadrant in range(4):
            chosen = rng.integers(len(digits))
            top, left = rng.integers(0, 5, 2) + 16 * np.array(divmod(quadrant, 2))
            place = np.s_[top : top + 12, left : left + 12]
            image[place] = np.maximum(image[place], digits[chosen])
            mask[place][digits[chosen][..., 0] > 0.35] = 1 if labels[chosen] in ROUND else 2
    return workbench.split(images, masks)


def camvid(path, limit):
    """Road scenes as float images in [0, 1], 176 x 240, and their classes, or VOID."""
    source, parts = np.load(path), []
    for part in ("train", "test"):
        images = workbench.decoded(source, part, limit)
        masks = source[f"y_{part}"][:limit]
        # U-Nets halve twice here: 180 rows would not meet again.
        parts.append(((images[:, :176] / 255).astype("float32"), masks[:, :176]))
    return parts


def network(shape, classes: int) -> keras.Model:
    """A small U-Net."""

    def convolve(x, filters, name):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=name)(x)
        return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))

    image = keras.Input(shape, name="image")
    first = convolve(image, 16, "down1")
    second = convolve(layers.MaxPooling2D()(first), 32, "down2")
    x = convolve(layers.MaxPooling2D()(second), 48, "bottom")
    x = convolve(layers.Concatenate()([layers.UpSampling2D()(x), second]), 32, "up2")
    x = convolve(layers.Concatenate()([layers.UpSampling2D()(x), first]), 16, "up1")
    model = keras.Model(image, layers.Conv2D(classes, 1, activation="softmax", name="mask")(x))
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=VOID)
    metric = keras.metrics.MeanIoU(classes, ignore_class=VOID, sparse_y_pred=False, name="mean_iou")
    model.compile(keras.optimizers.Adam(5e-3), loss, metrics=[metric])
    return model


if __name__ == "__main__":
    main()
