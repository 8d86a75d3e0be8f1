"""Separable and low-rank layers: what they cost in accuracy, at once and after training.

    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_architecture resnet8 --seeds 0 1 2
    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_architecture files
    TFSQUEEZE_DATA=... python -m tests.benchmarks.bench_architecture one-shot

resnet8: the fine-tuned ResNet8 on CIFAR-10 becomes separable, or is factorized to half of its MACs, with
2,000 unlabelled training images; scored on the 10,000 test images at once and after 1 and 6 epochs (Adam,
cosine from 1e-3, batches of 128, flipped and cropped; one cosine for each length). "random start" is the same
separable architecture with new weights in the replaced layers, the others trained as they were.
files: their sizes and latencies, in alternation, beside those of ResNet8.
one-shot: the published keyword-spotting and person-detection nets, factorized without training, fitted on one
half of the evaluation set and scored on the other: the fewest MACs at which at most a point is lost. Finished
runs are kept in the cache folder and not repeated.
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

EPOCHS = (1, 6)
EXAMPLES = 2000
SIDES = (
    "separable",
    "separable without data",
    "separable, random start",
    "factorize",
    "factorize without data",
)
FRACTIONS = (0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4)
LOSS = 0.01


def small(side: str, model, images, seed: int):
    """The cheaper model, in one shot."""
    data = None if "without data" in side else images
    if side.startswith("factorize"):
        return tfs.factorize(model, macs=0.5, data=data, seed=seed)
    found = tfs.to_separable(model, data=data, seed=seed)
    return _with_new_chains(found, seed) if "random" in side else found


def _with_new_chains(model, seed):
    """New weights in the layers that replaced others, and only there."""
    new = with_new_weights(model, seed)
    for layer, drawn in zip(model.layers, new.layers, strict=True):
        if layer.name.endswith(("_depthwise", "_pointwise")):
            layer.set_weights(drawn.get_weights())
    return model


def resnet8(cache: Path, data, seed: int, side: str) -> tuple[float, ...]:
    """Accuracy in one shot and after each training, with the fraction of the MACs kept."""
    train, (x, y) = data
    images = train[0][:EXAMPLES].astype("float32")
    model = small(side, cifar10.baseline(cache, train, seed), images, seed)
    done = tfs.explain(model).done.values() if "random" not in side else ()
    x, weights = x.astype("float32"), model.get_weights()
    scores = []
    for epochs in (0, *EPOCHS):
        model.set_weights(weights)
        keras.utils.set_random_seed(seed)
        cifar10.compiled(model, cifar10.steps(train[0], max(epochs, 1)))
        if epochs:
            model.fit(cifar10.batches(*train, seed), epochs=epochs, verbose=0)
        scores.append(model.evaluate(x, y, verbose=0, batch_size=500)[1])
    saved = sum(row["macs_before"] - row["macs_after"] for row in done)
    return (*scores, saved, model.count_params())


def run_resnet8(arguments) -> None:
    """Runs what was not run before, and prints the table after each seed."""
    data = cifar10.load(arguments.cache)
    runs = Runs(arguments.cache / "architecture-resnet8.json")
    for seed in arguments.seeds:
        for side in arguments.sides:
            runs.measure((side,), seed, functools.partial(resnet8, arguments.cache, data, seed, side))
        print("| | at once | after 1 epoch | after 6 epochs |\n|---|---|---|---|")
        for (side,), (*scores, _saved, _params) in runs.rows().items():
            print(f"| {side} | {' | '.join(map(mean_and_each, scores))} |", flush=True)


def show_files(arguments) -> None:
    """Prints what files of the separable and the factorized network cost."""
    cache = arguments.cache
    images = cifar10.load(cache)[0][0][:EXAMPLES].astype("float32")
    baseline = cifar10.baseline(cache, None, arguments.seeds[0])
    models = {"float": baseline} | {
        side: small(side, baseline, images, 0) for side in ("separable", "factorize")
    }
    files = {name: cache / f"architecture-{name}.tflite" for name in models}
    for name, model in models.items():
        tfs.export_tflite(model, files[name])
    print(tfs.compare(files))


NETS = {"KWS": "kws", "VWW": "vww"}
loaded = functools.cache(labelled)


def one_shot(name: str, seed: int, macs: float, has_data: bool) -> tuple[float, float]:
    """Accuracy on held-out examples, of the original and factorized to a fraction of its MACs."""
    model, x, y = loaded(NETS[name])
    order = np.random.default_rng(seed).permutation(len(x))
    used, held_out = np.array_split(order, 2)
    data = x[used] if has_data else None
    found = tfs.factorize(model, macs=macs, data=data, seed=seed)
    guesses = [net.predict(x[held_out], verbose=0).argmax(1) for net in (model, found)]
    return tuple(float((guess == y[held_out]).mean()) for guess in guesses)


def run_one_shot(arguments) -> None:
    """Goes down in MACs until more than a point is lost, twice in a row, and prints how far that was."""
    runs = Runs(arguments.cache / "architecture-one-shot.json")
    for name in arguments.nets:
        for has_data in (True, False):
            side = "with data" if has_data else "without data"
            misses = 0
            for macs in FRACTIONS:
                for seed in arguments.seeds:
                    run = functools.partial(one_shot, name, seed, macs, has_data)
                    runs.measure((name, side, f"{macs:.2f}"), seed, run)
                before, after = runs.rows()[name, side, f"{macs:.2f}"]
                misses = misses + 1 if np.mean(before) - np.mean(after) > LOSS + 1e-9 else 0
                if misses == 2:
                    break
    print("| net | | MACs kept | accuracy before | after |\n|---|---|---|---|---|")
    for (name, side, macs), (before, after) in runs.rows().items():
        mark = " (within a point)" if np.mean(before) - np.mean(after) <= LOSS + 1e-9 else ""
        print(
            f"| {name} | {side} | {macs}{mark} | {np.mean(before):.3f} | {mean_and_each(after)} |", flush=True
        )


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["resnet8", "files", "one-shot"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES))
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS))
    parser.add_argument("--cache", type=Path, default=Path("benchmark-cache"), help="for data and results")
    arguments = parser.parse_args()
    {"resnet8": run_resnet8, "files": show_files, "one-shot": run_one_shot}[arguments.what](arguments)


if __name__ == "__main__":
    main()
