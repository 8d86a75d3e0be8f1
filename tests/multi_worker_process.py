"""One of several that train together: `python -m tests.multi_worker_process FOLDER INDEX PORT PORT`.

It writes what it has at the end to FOLDER/INDEX.npz.
"""

import json
import os
import sys
from pathlib import Path

ALL = 64


def main(folder, index, *ports):
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    os.environ["TF_CONFIG"] = json.dumps(
        {"cluster": cluster, "task": {"type": "worker", "index": int(index)}}
    )
    import keras
    import numpy as np
    import tensorflow as tf

    import tfsqueeze as tfs

    # The strategy comes first: it starts the server of this process.
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    keras.utils.set_random_seed(0)
    x, y = examples()
    with strategy.scope():
        plain, student, teacher = network(4), network(4), network(8)
        distiller = tfs.Distiller(student, teacher)
        for model in (plain, distiller):
            model.compile(keras.optimizers.SGD(0.1), "mse", metrics=["mae"])
    with tfs.multi_worker_fit():
        logs = plain.fit(x, y, batch_size=ALL, epochs=2, validation_data=(x, y), verbose=0).history
        distiller.fit(x, y, batch_size=16, epochs=2, callbacks=[tfs.PruningCallback(0.5)], verbose=0)
        predicted = plain.predict(x, verbose=0)
    np.savez(
        Path(folder) / f"{index}.npz",
        predicted=predicted,
        losses=[*logs["loss"], *logs["val_loss"]],
        plain=np.concatenate([weight.ravel() for weight in plain.get_weights()]),
        student=np.concatenate([weight.ravel() for weight in student.get_weights()]),
        zeros=[np.mean(kernel == 0) for kernel in student.get_weights()[::2]],
    )


def examples():
    """Inputs and targets."""
    import numpy as np

    x = np.random.default_rng(0).normal(size=(ALL, 6)).astype("float32")
    return x, x[:, :1] * x[:, 1:2]


def network(width):
    """Two layers."""
    import keras

    layers = [keras.layers.Dense(width, activation="tanh"), keras.layers.Dense(1)]
    return keras.Sequential([keras.layers.Input((6,)), *layers])


if __name__ == "__main__":
    main(*sys.argv[1:])
