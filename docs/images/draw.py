"""Draws the pictures of the documentation, on a small network for real handwritten digits.

    python docs/images/draw.py [folder]

`quickstart.png` is what `tfsqueeze quickstart` draws.
"""

import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
from sklearn.datasets import load_digits

import tfsqueeze as tfs

layers = keras.layers


def digits():
    """Training and test images of 8x8 pixels in [0, 1], with labels."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images = (images[order] / 16).astype("float32").reshape(-1, 8, 8, 1)
    labels = labels[order]
    return (images[:-360], labels[:-360]), (images[-360:], labels[-360:])


def network() -> keras.Model:
    """A small residual network."""
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(24, 3, padding="same", use_bias=False, name="stem")(image)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    for number, (filters, stride) in enumerate(((24, 1), (48, 2)), 1):
        y = layers.Conv2D(filters, 3, stride, padding="same", use_bias=False, name=f"conv{number}a")(x)
        y = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(y))
        y = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv{number}b")(y)
        y = layers.BatchNormalization(momentum=0.9)(y)
        if stride > 1:
            x = layers.Conv2D(filters, 1, stride, name=f"shortcut{number}")(x)
        x = layers.ReLU()(layers.Add(name=f"add{number}")([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(10, activation="softmax", name="label")(x), name="digits")
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def draw(folder: Path) -> None:
    """Trains the network and writes every picture to `folder`."""
    keras.utils.set_random_seed(0)
    train, test = digits()
    model = network()
    model.fit(*train, epochs=15, batch_size=64, verbose=2)

    pruned = tfs.prune(model, 0.8, scope="global")
    tfs.plot_weights({"trained": model, "80 % pruned": pruned}, folder / "weights.png")
    patterns = {"unstructured": "unstructured", "2:4": "2:4", "blocks of 4x4": (4, 4)}
    halves = {name: tfs.prune(model, 0.5, pattern=pattern) for name, pattern in patterns.items()}
    tfs.plot_masks(halves, folder / "masks.png", select="shortcut2")
    small = tfs.prune_channels(model, macs=0.5, data=train[0][:500])
    tfs.plot_channels(model, small, folder / "channels.png")

    tfs.sensitivity(model, test).plot(folder / "sensitivity.png")
    tfs.quantization_errors(model, train[0][:200], "int4").plot(folder / "errors.png")
    steps = [{"prune_channels": {"macs": 0.5}}, {"distil": {"epochs": 5, "batch_size": 64}}]
    steps += [{"calibrate": "int8"}, {"export_tflite": "int8"}, "compare"]
    with tempfile.TemporaryDirectory() as place:
        result = tfs.Recipe(steps).run(model, train=train, validation=test, output=place)
        result.plot(folder / "steps.png")


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
