"""Anomaly detection: an autoencoder that knows the normal, pruned and in integers, judged by its ROC curve.

An autoencoder learns to reproduce normal examples; what it reproduces badly is an anomaly. Integers cost
these networks more than classifiers, as the score *is* the error of the outputs: so the report shows the
area under the ROC curve of every file.

\b
Data: machine sounds in --data (`mlperf_tiny/eval/ad01.npz`, log-mel frames), 60 % of the normal clips for
training, with MLPerf Tiny's autoencoder if it is there too; without,
scikit-learn's digits, where 0, 4 and 6 are normal.

\b
Examples:
  python recipes/anomaly_detection.py -o detector
  tfsqueeze run recipes/anomaly_detection.yaml --model detector/model.keras --train detector/train.npz \\
      --validation detector/validation.npz -o again
"""

import click
import keras
import numpy as np
import workbench
from keras import layers

from tfsqueeze.tflite.runner import Runner

FRAMES, STRIDE = 5, 14
NORMAL = (0, 4, 6)


@click.command(help=__doc__)
@workbench.options("anomaly-detection")
def main(data, output, epochs, limit):
    source = workbench.real(data, "mlperf_tiny", "eval", "ad01.npz")
    clips, is_anomaly, normal = digits() if source is None else sounds(source)
    normal = normal[:limit]
    training, validation = workbench.split(normal, normal)
    published = None if source is None else data / "mlperf_tiny" / "models" / "ad01.h5"

    def build():
        is_published = published is not None and published.exists()
        size = normal.shape[-1]
        model = keras.models.load_model(published, compile=False) if is_published else network(size)
        model.compile(keras.optimizers.Adam(2e-3), "mse", metrics=["mse"])
        return model

    model = workbench.begin(output, build, training, validation, epochs=epochs or 30)
    result = workbench.run_steps(__file__, model, training, validation, output, epochs)
    scores = {"float": area(lambda x: model.predict(x, verbose=0), clips, is_anomaly)}
    scores |= {path.name: area(runner(path), clips, is_anomaly) for path in result.paths}
    workbench.tell_scores("area under the ROC curve", scores, output)
    return result


def sounds(path):
    """Windows of five frames by clip, which clips are anomalies, and training windows of normal clips."""
    source = np.load(path)
    starts = range(0, source["x"].shape[1] - FRAMES + 1, STRIDE)
    clips = np.stack([source["x"][:, i : i + FRAMES].reshape(len(source["x"]), -1) for i in starts], 1)
    clips = clips.astype("float32")
    normal = np.flatnonzero(source["y"].ravel() == 0)
    taught = np.random.default_rng(0).permutation(normal)[: round(0.6 * len(normal))]
    held = np.setdiff1d(np.arange(len(clips)), taught)
    windows = np.random.default_rng(0).permutation(clips[taught].reshape(-1, clips.shape[-1]))
    return clips[held], source["y"].ravel()[held] == 1, windows


def digits():
    """The same of the embedded digits, an image being a clip of one window."""
    images, labels = workbench.digits()
    images, is_normal = images.reshape(-1, 1, 64), np.isin(labels, NORMAL)
    taught = np.flatnonzero(is_normal)[: round(0.6 * is_normal.sum())]
    held = np.setdiff1d(np.arange(len(images)), taught)
    return images[held], ~is_normal[held], images[taught, 0]


def network(size: int) -> keras.Model:
    """The autoencoder of MLPerf Tiny, as wide as the input asks for."""
    width = 128 if size > 128 else 48
    stack = [keras.Input((size,), name="frames")]
    for name, units in (("down1", width), ("down2", width), ("code", 8), ("up1", width), ("up2", width)):
        stack += [
            layers.Dense(units, use_bias=False, name=name),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
        ]
    return keras.Sequential([*stack, layers.Dense(size, name="again")])


def runner(path):
    """A function that runs a `.tflite` file on a batch."""
    file = Runner(path)
    return lambda x: next(iter(file.run({file.inputs[0].name: x}).values()))


def area(predict, clips, is_anomaly) -> float:
    """Area under the ROC curve of the mean squared error of each clip's windows."""
    from sklearn.metrics import roc_auc_score

    again = predict(clips.reshape(-1, clips.shape[-1])).reshape(clips.shape)
    return float(roc_auc_score(is_anomaly, np.square(again - clips).mean((1, 2))))


if __name__ == "__main__":
    main()
