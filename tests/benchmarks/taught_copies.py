"""Compressed copies of a network, taught by the network itself."""

import tempfile
from pathlib import Path

import keras

import tfsqueeze as tfs
from tests.benchmarks import cifar10
from tests.benchmarks.taught import ALPHA, TEMPERATURE, accuracy, fitted


def sparse(model, train, steps):
    """All weights, yet to be pruned; a cubic schedule over half of the steps."""
    schedule = tfs.schedules.Polynomial(0.0, 0.9, 0, steps * 4 // 2, frequency=50)
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    return twin, [tfs.PruningCallback(schedule, scope="global")], 4


def cut(model, train, steps):
    """Half of the multiply-accumulates, chosen and refitted by 2,000 training images."""
    return tfs.prune_channels(model, macs=0.5, data=train[0][:2000].astype("float32")), [], 6


def int4(model, train, steps):
    """Weights of 4 bits; ranges and statistics freeze for the last quarter."""
    qat = tfs.quantize_aware(model, "int4", data=train[0][:500].astype("float32"))
    end = steps * 4 * 3 // 4
    freezing = tfs.QuantizationCallback(freeze_ranges_step=end, freeze_batch_norm_step=end)
    return qat, [freezing], 4


COPIES = {"90 % zeros": sparse, "half the MACs": cut, "int4": int4}


def own(data, teacher, seed, limit, copy, side) -> tuple[float]:
    """Accuracy of a compressed copy trained alone, or by the model it was made of; int4 as a file."""
    train, test = data
    keras.utils.set_random_seed(seed)
    net, callbacks, epochs = COPIES[copy](teacher, train, limit or cifar10.steps(train[0], 1))
    model = net if side == "alone" else tfs.Distiller(net, teacher, alpha=ALPHA, temperature=TEMPERATURE)
    batches = cifar10.batches(*train, seed)
    fitted(model, batches, epochs, limit, *callbacks, rate=1e-3, loss="sparse_categorical_crossentropy")
    if copy != "int4":
        return (accuracy(net, test),)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int4.tflite"
        tfs.export_tflite(net, path, quantize="int8")
        return (cifar10.file_accuracy(path, *test),)
