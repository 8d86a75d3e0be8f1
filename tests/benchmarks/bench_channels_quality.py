"""What removing channels costs in accuracy: ResNet8 on CIFAR-10, against uniform cuts and a new start.

    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_channels_quality resnet8 --seeds 0 1 2
    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_channels_quality vww

resnet8: the fine-tuned baseline is cut to half and to 30 % of its MACs, scored at once on the 10,000 test
images, and again after 6 epochs (Adam, cosine from 1e-3, batches of 128, flipped and cropped). "tfsqueeze"
repairs on 2,000 unlabelled training images; "gradual" cuts likewise, a third of the way before each of the
first three epochs; "no data" is the default without images, in one shot only. "uniform" removes the same
fraction of each group by l1, without repair; "new start" trains the architecture that tfsqueeze found in one
shot from new weights, for as long.
vww: the published MobileNet, half of its MACs in one shot, repaired on one half of the evaluation images and
scored on the other. Finished runs are kept in the cache folder and not repeated.
"""

import argparse
import functools
from pathlib import Path

import keras
import numpy as np

import tfsqueeze as tfs
from tests.benchmarks import cifar10
from tests.benchmarks.runs import Runs, mean_and_each
from tests.benchmarks.tiny import labelled
from tfsqueeze.core.new_weights import with_new_weights

EPOCHS = 6
EXAMPLES = 2000
ROUNDS = (1, 1, 4)
SIDES = ("tfsqueeze", "gradual", "no data", "uniform", "new start")


@keras.saving.register_keras_serializable(package="benchmark")
class CosineFrom(keras.optimizers.schedules.CosineDecay):
    """A cosine that goes on at a step in its middle, for a training in several parts."""

    def __init__(self, initial_learning_rate, decay_steps, begin):
        super().__init__(initial_learning_rate, decay_steps)
        self.begin = begin

    def __call__(self, step):
        return super().__call__(step + self.begin)

    def get_config(self):
        names = ("initial_learning_rate", "decay_steps", "begin")
        return {name: getattr(self, name) for name in names}


def small(side: str, model, macs: float, images, seed: int):
    """The model cut to a fraction of its MACs, in one shot."""
    if side == "uniform":
        return tfs.prune_channels(model, macs=macs, criterion="l1", scope="layer")
    if side == "no data":
        return tfs.prune_channels(model, macs=macs)
    found = tfs.prune_channels(model, macs=macs, data=images, seed=seed)
    return with_new_weights(found, seed) if side == "new start" else found


def gradually(model, train, macs: float, images, seed: int):
    """The model cut in rounds, within the epochs that the others train after the cut."""
    lengths, done = iter(ROUNDS), 0

    def fit(smaller):
        nonlocal done
        begin, done = done, done + next(lengths)
        schedule = CosineFrom(1e-3, cifar10.steps(train[0], EPOCHS), cifar10.steps(train[0], begin))
        smaller.compile(keras.optimizers.Adam(schedule), "sparse_categorical_crossentropy", ["accuracy"])
        smaller.fit(cifar10.batches(*train, seed + begin), epochs=done - begin, verbose=0)

    return tfs.prune_channels_gradually(model, fit, macs=macs, rounds=len(ROUNDS), data=images, seed=seed)


def resnet8(cache: Path, data, seed: int, side: str, macs: float) -> tuple[float, ...]:
    """Accuracy in one shot, and after training: what there is of both."""
    train, (x, y) = data
    images = train[0][:EXAMPLES].astype("float32")
    model, x = cifar10.baseline(cache, train, seed), x.astype("float32")
    keras.utils.set_random_seed(seed)
    if side == "gradual":
        model = gradually(model, train, macs, images, seed)
        return (model.evaluate(x, y, verbose=0, batch_size=500)[1],)
    model = small(side, model, macs, images, seed)
    cifar10.compiled(model, cifar10.steps(train[0], EPOCHS))
    at_once = model.evaluate(x, y, verbose=0, batch_size=500)[1]
    if side == "no data":
        return (at_once,)
    model.fit(cifar10.batches(*train, seed), epochs=EPOCHS, verbose=0)
    return at_once, model.evaluate(x, y, verbose=0, batch_size=500)[1]


def run_resnet8(arguments) -> None:
    """Runs what was not run before, and prints the table after each seed."""
    data = cifar10.load(arguments.cache)
    runs = Runs(arguments.cache / "channels-resnet8.json")
    for seed in arguments.seeds:
        for macs in arguments.macs:
            for side in arguments.sides:
                run = functools.partial(resnet8, arguments.cache, data, seed, side, macs)
                runs.measure((f"{macs:.0%}", side), seed, run)
        print("| MACs kept | | at once | after 6 epochs |\n|---|---|---|---|")
        for (macs, side), accuracies in runs.rows().items():
            cells = ["-"] * (side == "gradual") + [mean_and_each(seeds) for seeds in accuracies]
            print(f"| {macs} | {side} | {' | '.join(cells)} |", flush=True)


def run_vww(arguments) -> None:
    """Prints the accuracy on the half that was not used for the repair."""
    model, x, y = labelled("vww")
    order = np.random.default_rng(arguments.seeds[0]).permutation(len(x))
    x, y = x[order], y[order]
    used, held_out = x[:500], (x[500:], y[500:])
    cuts = {"unpruned": model}
    for side in ("tfsqueeze", "no data", "uniform"):
        cuts[side] = small(side, model, 0.5, used, arguments.seeds[0])
    for name, cut in cuts.items():
        guesses = cut.predict(held_out[0], verbose=0).argmax(1)
        print(f"{name}: {(guesses == held_out[1]).mean():.3f}", flush=True)


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["resnet8", "vww"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--macs", type=float, nargs="+", default=[0.5, 0.3])
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES))
    parser.add_argument("--cache", type=Path, default=Path("benchmark-cache"), help="for data and results")
    arguments = parser.parse_args()
    {"resnet8": run_resnet8, "vww": run_vww}[arguments.what](arguments)


if __name__ == "__main__":
    main()
