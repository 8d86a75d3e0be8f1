"""All of it in order: prune, distil, quantize, export; smaller than any of them alone.

Channels go first (they make everything after cheaper), then single weights while the uncut network
teaches, then integers, again taught, with the zeros held. The picture shows what each step left.

\b
Data: `train.npz` and `validation.npz` with x and y in --data, and `model.keras` if there is one already;
without, scikit-learn's digits.

\b
Examples:
  python recipes/prune_distil_quantize.py -o all
  tfsqueeze run recipes/prune_distil_quantize.yaml --model yours.h5 --train train.npz \\
      --validation test.npz -o all
"""

import click
import keras
import numpy as np
import workbench
from keras import layers

import tfsqueeze as tfs


@click.command(help=__doc__)
@workbench.options("prune-distil-quantize")
def main(data, output, epochs, limit):
    own = workbench.real(data, "train.npz")
    training, validation = workbench.split(*workbench.digits(), limit) if own is None else pair(data, limit)

    def build():
        given = None if own is None else data / "model.keras"
        return tfs.load_model(given) if given is not None and given.exists() else network(*training)

    model = workbench.begin(output, build, training, validation, epochs=epochs or 10)
    return workbench.run_steps(__file__, model, training, validation, output, epochs)


def pair(folder, limit):
    """Training and validation examples of the user's own."""
    files = [np.load(folder / name) for name in ("train.npz", "validation.npz")]
    return [(file["x"][:limit], file["y"][:limit]) for file in files]


def network(x, y) -> keras.Model:
    """A plain convolutional network for images."""
    stack = [keras.Input(x.shape[1:], name="image")]
    for number, filters in enumerate((32, 64), 1):
        stack += [
            layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv{number}"),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
        ]
    classes = int(y.max()) + 1
    stack += [layers.MaxPooling2D(), layers.Flatten(), layers.Dense(64, activation="relu", name="dense")]
    model = keras.Sequential([*stack, layers.Dense(classes, activation="softmax", name="label")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


if __name__ == "__main__":
    main()
