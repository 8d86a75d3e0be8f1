"""Post-training quantization with repair against the bare back-ends: the cases and their tables."""

import contextlib
import io
from pathlib import Path

import keras
import numpy as np

import tfsqueeze as tfs
from tests.benchmarks import cifar10
from tests.benchmarks.tiny import Task, task
from tfsqueeze.core.rewrite import rewrite
from tfsqueeze.tflite.runner import Runner

TASKS = ("resnet8", "kws", "vww", "ad")
BARE = {"equalize": False, "ranges": "min_max", "rounding": "nearest", "correct_bias": False}
PEER_SAMPLES = 200


def run_file(path, inputs) -> np.ndarray:
    """The first output of a file."""
    runner = Runner(path)
    return next(iter(runner.run({runner.inputs[0].name: inputs}).values()))


def converter(model, calibration, path) -> None:
    """TensorFlow's converter with representative data, nothing of ours."""
    import tensorflow as tf

    convert = tf.lite.TFLiteConverter.from_keras_model(model)
    convert.optimizations = [tf.lite.Optimize.DEFAULT]
    convert.representative_dataset = lambda: ([one[None]] for one in calibration[:PEER_SAMPLES])
    with contextlib.redirect_stdout(io.StringIO()):
        Path(path).write_bytes(convert.convert())


def ours(model, calibration, path, preset="int8", **options) -> keras.Model:
    """Calibrates and exports without further data."""
    quantized = tfs.calibrate(model, calibration, preset, **options)
    tfs.export_tflite(quantized, path, quantize="int4" if preset == "int4" else "int8")
    return quantized


def post_training(arguments) -> None:
    """Files of each task: score, distance from float, agreement with the Keras model they were made of."""
    for name in arguments.tasks:
        found = task(name, arguments.cache)
        expected = found.model.predict(found.inputs, batch_size=256, verbose=0)
        print(f"\n{name}: float {found.score(expected):.4f} on {len(found.inputs):,} examples\n", flush=True)
        print(
            "| | score | agrees with float | agrees with its model | mse | bytes |\n|---|---|---|---|---|---|"
        )
        for label, path, quantized in _files(name, found, arguments.cache):
            _show(label, path, quantized, found, expected)


def _files(name, found: Task, cache):
    folder = cache / "post-training"
    folder.mkdir(parents=True, exist_ok=True)
    if found.published and (published := _published(found.published)).exists():
        yield "published file", published, None
    path = folder / f"{name}-converter.tflite"
    converter(found.model, found.calibration, path)
    yield "converter", path, None
    path = folder / f"{name}-repaired.tflite"
    yield "repaired", path, ours(found.model, found.calibration, path)
    if name == "resnet8":
        path = folder / f"{name}-litert-int4.tflite"
        data = found.calibration[:PEER_SAMPLES]
        tfs.export_tflite(
            found.model, path, quantize="int4", representative_data=data, backend="litert-quantizer"
        )
        yield "litert-quantizer int4", path, None
        path = folder / f"{name}-int4.tflite"
        yield "repaired int4", path, ours(found.model, found.calibration, path, "int4")


def _published(name) -> Path:
    return cifar10.data_folder() / "mlperf_tiny" / "models" / name


def _show(label, path, quantized, found: Task, expected) -> None:
    given = run_file(path, found.inputs)
    agreement = float((given.argmax(1) == expected.argmax(1)).mean())
    twin = "-"
    if quantized is not None:
        own = quantized.predict(found.inputs, batch_size=256, verbose=0)
        twin = f"{(given.argmax(1) == own.argmax(1)).mean():.4f}"
    error = float(np.square(given - expected).mean())
    print(
        f"| {label} | {found.score(given):.4f} | {agreement:.4f} | {twin} | {error:.2e} | "
        f"{Path(path).stat().st_size:,} |",
        flush=True,
    )


def rescaled(arguments) -> None:
    """MobileNetV2 whose channels were scaled apart by random factors that leave its function unchanged."""
    train, (images, _) = cifar10.load(arguments.cache)
    images = images[: arguments.images].astype("float32") / 127.5 - 1
    calibration = train[0][:256].astype("float32") / 127.5 - 1
    model = _mobile_net(train)
    spoiled = _spoiled(model, seed=0)
    expected = model.predict(images, batch_size=100, verbose=0)
    same = (spoiled.predict(images, batch_size=100, verbose=0).argmax(1) == expected.argmax(1)).mean()
    print(f"float, channels scaled apart: agreement {same:.4f} on {len(images):,} images", flush=True)
    folder = arguments.cache / "post-training"
    folder.mkdir(parents=True, exist_ok=True)
    print("| | agrees with float |\n|---|---|")
    for label, network in (("as trained", model), ("scaled apart", spoiled)):
        path = folder / "mobilenet.tflite"
        converter(network, calibration, path)
        _agreement(f"converter, {label}", path, images, expected)
        ours(network, calibration, path)
        _agreement(f"repaired, {label}", path, images, expected)


def _agreement(label, path, images, expected) -> None:
    agreement = float((run_file(path, images).argmax(1) == expected.argmax(1)).mean())
    print(f"| {label} | {agreement:.4f} |", flush=True)


def _mobile_net(train) -> keras.Model:
    """MobileNetV2 (width 0.35, ReLU) of random weights; statistics and a linear head fitted to CIFAR-10."""
    from tfsqueeze.core.batch_statistics import reestimate_batch_statistics

    keras.utils.set_random_seed(0)
    body = keras.applications.MobileNetV2(
        (32, 32, 3), alpha=0.35, include_top=False, weights=None, pooling="avg"
    )
    body = rewrite(
        body,
        lambda layer: keras.layers.ReLU(name=layer.name) if isinstance(layer, keras.layers.ReLU) else None,
    )
    images, labels = train[0][:4000].astype("float32") / 127.5 - 1, train[1][:4000].ravel()
    reestimate_batch_statistics(body, images[:512])
    features = body.predict(images, batch_size=200, verbose=0)
    rows = np.concatenate([features, np.ones((len(features), 1))], 1).astype("float64")
    products = rows.T @ rows + 1e-3 * len(rows) * np.eye(rows.shape[1])
    solution = np.linalg.solve(products, rows.T @ np.eye(10)[labels])
    head = keras.layers.Dense(10, name="head")
    model = keras.Model(body.input, head(body.output))
    head.set_weights([solution[:-1], solution[-1]])
    return model


def _spoiled(model, seed: int) -> keras.Model:
    """A copy with the channels between each expansion, depthwise and projection kernel scaled apart."""
    twin = rewrite(model)
    rng = np.random.default_rng(seed)
    for layer in twin.layers:
        following = {"expand_BN": "depthwise", "depthwise_BN": "project"}
        for suffix, reader in following.items():
            if not layer.name.endswith(suffix) or not layer.name.startswith("block_"):
                continue
            factors = 10 ** rng.uniform(-1.5, 1.5, layer.gamma.shape)
            layer.gamma.assign(layer.gamma * factors)
            layer.beta.assign(layer.beta * factors)
            kernel = twin.get_layer(layer.name.replace(suffix, reader)).kernel
            kernel.assign(kernel / factors[:, None])
    return twin
