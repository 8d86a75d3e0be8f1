"""Keyword spotting for a microcontroller: all integers, and how much flash and arena it takes.

A depthwise-separable network learns to live with 8-bit integers (quantization-aware training), is
exported with integers at both ends, and written as a C array. The report tells flash and the least tensor
arena.

\b
Data: the Free Spoken Digit Dataset in --data (`fsdd/fsdd_8k.npz`); without, six "words" of gliding tones
in noise, so that everything runs.

\b
Examples:
  python recipes/keyword_spotting.py -o board
  tfsqueeze run recipes/keyword_spotting.yaml --model board/model.keras --train board/train.npz \\
      --validation board/validation.npz -o again
"""

import itertools

import click
import keras
import numpy as np
import tensorflow as tf
import workbench
from keras import layers

import tfsqueeze as tfs

RATE = 8000
WORDS = ((400, 900), (900, 400), (600, 600), (400, 1600), (1600, 700), (1200, 1200))


@click.command(help=__doc__)
@workbench.options("keyword-spotting")
def main(data, output, epochs, limit):
    source = workbench.real(data, "fsdd", "fsdd_8k.npz")
    training, validation = tones(limit or 900) if source is None else spoken_digits(source, limit)
    classes = int(training[1].max()) + 1
    model = workbench.begin(
        output, lambda: network(training[0].shape[1:], classes), training, validation, epochs=epochs or 12
    )
    result = workbench.run_steps(__file__, model, training, validation, output, epochs)
    write_array(result.path, output / "model.cc")
    board = tfs.report(result.path, latency=False)
    click.echo(f"\nFlash for the model: {board.file_bytes:,} bytes; {output / 'model.cc'} holds it.")
    click.echo(f"Arena: {board.activation_bytes:,} bytes for tensors, and some KB for the runtime's records.")
    click.echo(f"Operators to link: {', '.join(sorted({operator.name for operator in board.operators}))}")
    return result


def spoken_digits(path, limit):
    """Features of spoken digits; the first five takes of each speaker are for validation."""
    source = np.load(path)
    audio = source["audio"]
    clips = [audio[a:b] / 32768.0 for a, b in itertools.pairwise(source["off"])]
    order = np.random.default_rng(0).permutation(len(clips))[:limit]
    x, y, held = (
        features([clips[i] for i in order]),
        source["y"].ravel()[order],
        source["take"].ravel()[order] < 5,
    )
    return (x[~held], y[~held]), (x[held], y[held])


def tones(count: int):
    """Clips of a second in which a tone glides from one pitch to another, at random loudness, in noise."""
    rng, time = np.random.default_rng(0), np.arange(RATE) / RATE
    labels = rng.integers(len(WORDS), size=count)
    clips = []
    for label in labels:
        first, last = np.array(WORDS[label]) * rng.uniform(0.9, 1.1)
        phase = 2 * np.pi * (first * time + (last - first) * time**2 / 2)
        clips.append(rng.uniform(0.2, 1) * np.sin(phase + rng.uniform(0, 6)) + rng.normal(0, 0.03, RATE))
    return workbench.split(features(clips), labels)


def features(clips) -> np.ndarray:
    """Log-mel spectrograms of the first second, shape (n, 61, 40, 1), about mean 0 and deviation 1."""
    parts = []
    for start in range(0, len(clips), 200):
        audio = np.zeros((min(200, len(clips) - start), RATE), "float32")
        for row, clip in zip(audio, clips[start : start + 200], strict=True):
            row[: min(len(clip), RATE)] = clip[:RATE]
        spectra = tf.abs(tf.signal.stft(audio, 256, 128, 256))
        mel = tf.signal.linear_to_mel_weight_matrix(40, 129, RATE, 60.0, 3800.0)
        parts.append(tf.math.log(spectra @ mel + 1e-3).numpy())
    return ((np.concatenate(parts)[..., None] + 3) / 2.5).astype("float32")


def network(shape, classes: int) -> keras.Model:
    """A small DS-CNN (Zhang et al., Hello Edge, arXiv:1711.07128)."""
    stack = [
        keras.Input(shape, name="features"),
        layers.Conv2D(24, (10, 4), (2, 2), padding="same", use_bias=False, name="stem"),
        layers.BatchNormalization(momentum=0.9),
        layers.ReLU(),
    ]
    for number in (1, 2):
        stack += [
            layers.DepthwiseConv2D(
                3, 2 if number == 1 else 1, padding="same", use_bias=False, name=f"deep{number}"
            ),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.Conv2D(32, 1, use_bias=False, name=f"point{number}"),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
        ]
    stack += [layers.GlobalAveragePooling2D(), layers.Dense(classes, activation="softmax", name="word")]
    model = keras.Sequential(stack)
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def write_array(path, target) -> None:
    """Writes a file's bytes as a C array, as TensorFlow Lite Micro takes a model."""
    content = path.read_bytes()
    rows = [", ".join(map(str, content[i : i + 24])) for i in range(0, len(content), 24)]
    body = ",\n  ".join(rows)
    target.write_text(
        f"alignas(16) const unsigned char model[] = {{\n  {body}\n}};\n"
        f"const unsigned int model_size = {len(content)};\n"
    )


if __name__ == "__main__":
    main()
