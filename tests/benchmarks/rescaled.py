"""Depthwise nets whose channels were scaled apart at random: what quantizing without training keeps."""

import keras
import numpy as np

from tests.benchmarks import cifar10, tiny
from tests.benchmarks.post_training import converter, ours, run_file
from tfsqueeze.core.layer_info import kernels
from tfsqueeze.core.rewrite import rewrite

VEHICLES = (0, 1, 8, 9)
STEPS = 600
CALIBRATION = 256
# Factors lie between 10**-DECADES and 10**DECADES.
DECADES = 1.5


def rescaled(arguments) -> None:
    """Files of each net, as trained and scaled apart: accuracy, agreement with float, relative error."""
    folder = arguments.cache / "post-training"
    folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.nets:
        model, calibration, inputs, labels = NETS[name](arguments.cache)
        # Evenly over the set: some are sorted by class.
        some = np.linspace(0, len(inputs) - 1, min(arguments.images, len(inputs))).round().astype(int)
        inputs, labels = inputs[some], labels[some]
        expected = model.predict(inputs, batch_size=100, verbose=0)
        spoiled = scaled_apart(model, seed=0)
        same = spoiled.predict(inputs, batch_size=100, verbose=0).argmax(1) == expected.argmax(1)
        accuracy = (expected.argmax(1) == labels).mean()
        print(
            f"\n{name}: float {accuracy:.4f}; scaled apart, in float, {same.mean():.4f} agree "
            f"({len(inputs):,} images)\n\n| | accuracy | agrees with float | error |\n|---|---|---|---|",
            flush=True,
        )
        for state, network in (("as trained", model), ("scaled apart", spoiled)):
            for label, make in (("converter", converter), ("repaired", ours)):
                path = folder / f"{name}-{label}-{state.replace(' ', '-')}.tflite"
                make(network, calibration, path)
                _show(f"{label}, {state}", run_file(path, inputs), expected, labels)


def _show(label, given, expected, labels) -> None:
    accuracy = (given.argmax(1) == labels).mean()
    agreement = (given.argmax(1) == expected.argmax(1)).mean()
    error = np.square(given - expected).mean() / expected.var()
    print(f"| {label} | {accuracy:.4f} | {agreement:.4f} | {error:.1e} |", flush=True)


def scaled_apart(model, seed: int) -> keras.Model:
    """A copy that computes the same, with the channels between ReLU and the next kernel scaled at random."""
    twin = rewrite(model)
    rng = np.random.default_rng(seed)
    before = None
    for layer in twin.layers:
        if before is not None and kernels(layer):
            factors = 10 ** rng.uniform(-DECADES, DECADES, before.gamma.shape)
            before.gamma.assign(before.gamma * factors)
            before.beta.assign(before.beta * factors)
            layer.kernel.assign(layer.kernel / factors[:, None])
            before = None
        if isinstance(layer, keras.layers.BatchNormalization):
            before = layer if _is_relu(layer._outbound_nodes[0].operation) else None
    return twin


def _is_relu(layer) -> bool:
    return isinstance(layer, keras.layers.ReLU) or getattr(layer, "activation", 0) is keras.activations.relu


def persons(cache):
    """The MobileNetV1 of MLPerf Tiny and its evaluation set: (model, calibration, inputs, labels)."""
    found = tiny.task("vww", cache)
    return found.model, found.calibration, found.inputs, tiny.labelled("vww")[2]


def vehicles(cache):
    """MobileNetV2 that tells the vehicles of CIFAR-10 from its animals, trained once and kept in `cache`.

    A question of two answers is learned in minutes, and most answers are far from the border between them;
    a net that guesses changes its mind with every step of rounding, repaired or not.
    """
    train, test = cifar10.load(cache)
    labels, wanted = (np.isin(each, VEHICLES).astype("int32") for each in (train[1], test[1]))
    stored = cache / f"mobilenet-vehicles-{STEPS}.keras"
    if not stored.exists():
        keras.utils.set_random_seed(0)
        model = _mobile_net(classes=2)
        rate = keras.optimizers.schedules.CosineDecay(3e-3, STEPS)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
        batches = cifar10.batches(train[0], labels, seed=0).map(lambda x, y: (_scaled(x), y))
        model.fit(batches.repeat(), steps_per_epoch=STEPS, verbose=2)
        model.save(stored)
    model = keras.models.load_model(stored, compile=False)
    images, inputs = (_scaled(each.astype("float32")) for each in (train[0][:CALIBRATION], test[0]))
    return model, images, inputs, wanted


def _scaled(images):
    return images / 127.5 - 1


def _mobile_net(classes: int) -> keras.Model:
    """MobileNetV2, width 0.35, for 32x32 images; ReLU for ReLU6, which would cut scaled channels."""

    def adapted(layer):
        if isinstance(layer, keras.layers.ReLU):
            return keras.layers.ReLU(name=layer.name)
        if isinstance(layer, keras.layers.BatchNormalization):
            # Statistics must follow a training of hundreds of steps, not of hundreds of thousands.
            return keras.layers.BatchNormalization.from_config(layer.get_config() | {"momentum": 0.9})
        return None

    options = {"weights": None, "classes": classes, "classifier_activation": None}
    return rewrite(keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, **options), adapted)


NETS = {"mobilenet-v2": vehicles, "mobilenet-v1": persons}
