"""Time of a training step in mixed bfloat16 over that in float32, on this machine.

    python -m tests.benchmarks.bench_precision --steps 30

Two copies of the same network train in turn, step by step, so that whatever else the machine does slows both
alike. The data are random; the time of a step does not depend on them. Both clocks are shown: processor time
of all threads, and wall time.
"""

import argparse
import functools

import keras
import numpy as np
from keras import layers

import tfsqueeze as tfs
from tests.benchmarks.turns import ratios, take_turns
from tfsqueeze.precision import hardware


def convolutions():
    """A residual network for 32x32 images."""
    image = keras.Input((32, 32, 3))
    x = layers.Conv2D(64, 3, padding="same", activation="relu")(image)
    for width in (64, 128, 256):
        shortcut = layers.Conv2D(width, 1, strides=2)(x)
        x = layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.Add()([shortcut, layers.Conv2D(width, 3, padding="same")(x)])
    return keras.Model(image, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def depthwise():
    """MobileNetV2, half as wide."""
    return keras.applications.MobileNetV2((96, 96, 3), alpha=0.5, weights=None, classes=10)


def attention():
    """A transformer encoder of two layers."""
    x = sequence = keras.Input((64, 256))
    for _ in range(2):
        x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 64)(x, x))
        x = layers.LayerNormalization()(x + layers.Dense(256)(layers.Dense(1024, activation="gelu")(x)))
    return keras.Model(sequence, layers.Dense(10)(layers.GlobalAveragePooling1D()(x)))


def dense():
    """Three wide layers."""
    widths = [layers.Dense(1024, activation="relu") for _ in range(3)]
    return keras.Sequential([keras.Input((1024,)), *widths, layers.Dense(10)])


WARM_UP = 3
NETWORKS = {build.__name__: build for build in (convolutions, depthwise, attention, dense)}


def examples(model: keras.Model, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random inputs of a network, and zeros as its targets."""
    x = np.random.default_rng(0).normal(size=(count, *model.input_shape[1:])).astype("float32")
    return x, np.zeros((count, 10), "float32")


def compare(name: str, steps: int, batch_size: int) -> None:
    """Prints the ratio for one network."""
    keras.utils.set_random_seed(0)
    model = NETWORKS[name]()
    model.compile("adam", "mse", jit_compile=False)
    x, y = examples(model, batch_size * steps)

    def train(side, turn):
        side.fit(x, y, batch_size=batch_size, verbose=0, shuffle=False, callbacks=[turn])

    sides = [model, tfs.with_precision(model, "bfloat16")]
    single, half = take_turns([functools.partial(train, side) for side in sides])
    found = ratios(half, single, block=1, warm_up=WARM_UP).values()
    cells = [f"{middle:.2f} ({low:.2f}-{high:.2f})" for low, middle, high in found]
    milliseconds = np.median(single[WARM_UP:, -1]) * 1000
    print(f"| {name} | {milliseconds:.0f} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    arguments = parser.parse_args()
    print(f"bfloat16 in this CPU: {hardware.cpu_has_bfloat16()}; product {hardware.bfloat16_speedup():.1f}x")
    print("| network | float32 step, ms | bfloat16 / float32, processor | wall |\n|---|---:|---:|---:|")
    for name in arguments.networks:
        compare(name, arguments.steps, arguments.batch_size)


if __name__ == "__main__":
    main()
