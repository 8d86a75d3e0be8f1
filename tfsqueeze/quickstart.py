"""The main job from end to end on real handwritten digits: train, prune, export, compare."""

from pathlib import Path

import keras
import numpy as np

from tfsqueeze import schedules
from tfsqueeze.core.devices import without_xla_on_cpu
from tfsqueeze.core.rewrite import rewrite
from tfsqueeze.export.tflite import export_tflite, export_variants
from tfsqueeze.pruning.callback import PruningCallback
from tfsqueeze.reporting.compare import Comparison, compare

SPARSITY = 0.8
BATCH_SIZE = 32


def run(output="tfsqueeze-quickstart", *, epochs: int = 12, seed: int = 0) -> Comparison:
    """Trains a small network, prunes it while it trains on, and exports it in three precisions.

    The digits are those of scikit-learn (1,797 images of 8x8 pixels, 360 of them kept for testing).

    Args:
        output: folder for models, files, report and picture; made if it is missing.
        epochs: epochs of each of the two trainings, dense and pruned; >= 1.
        seed: of weights, shuffling and the split.

    Returns:
        The comparison of the exported files on the test images.

    Raises:
        ImportError: if scikit-learn is not installed.

    Example:
        >>> run("demo", epochs=3)["pruned int8"].metrics
    """
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(seed)
    train, test = load_digits(seed)

    dense = build_network()
    fit(dense, train, epochs, "Training")
    pruned = rewrite(dense)
    steps = epochs * -(-len(train[0]) // BATCH_SIZE)
    # The last third of the steps lets the remaining weights recover.
    schedule = schedules.Polynomial(0.0, SPARSITY, 0, max(1, 2 * steps // 3), frequency=10)
    fit(pruned, train, epochs, "Pruning", PruningCallback(schedule))

    dense.save(folder / "dense.keras")
    pruned.save(folder / "pruned.keras")
    print("Exporting float32, float16 and int8 files ...")
    export_tflite(dense, folder / "dense.tflite", representative_data=test[0])
    files = export_variants(pruned, folder, [None, "float16", "int8"], representative_data=train[0])
    print("Measuring ...")
    comparison = compare(
        {"dense float32": folder / "dense.tflite", **{f"pruned {kind}": f.path for kind, f in files.items()}},
        data=test,
        metric="accuracy",
    )
    save(comparison, folder)
    return comparison


def load_digits(seed: int = 0) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The digits, split into training and test images in [0, 1] of shape (n, 8, 8, 1) with labels 0 to 9."""
    try:
        from sklearn.datasets import load_digits as load
    except ImportError as error:
        raise ImportError(
            "The quickstart's digits come with scikit-learn. "
            "Install it with: pip install 'tfsqueeze[quickstart]'"
        ) from error
    images, labels = load(return_X_y=True)
    images = (images / 16).astype("float32").reshape(-1, 8, 8, 1)
    order = np.random.default_rng(seed).permutation(len(images))
    train, test = order[:-360], order[-360:]
    return (images[train], labels[train]), (images[test], labels[test])


def build_network() -> keras.Model:
    """A small convolutional network with BatchNorm, compiled."""
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Conv2D(32, 3, padding="same", use_bias=False, name="conv1"),
            layers.BatchNormalization(name="norm1"),
            layers.ReLU(),
            layers.Conv2D(64, 3, padding="same", use_bias=False, name="conv2"),
            layers.BatchNormalization(name="norm2"),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(64, activation="relu", name="dense"),
            layers.Dense(10, activation="softmax", name="digit"),
        ],
        name="digits",
    )
    network.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return network


def fit(network, train, epochs, title, *callbacks) -> None:
    """Trains with a progress bar."""
    from rich.progress import Progress

    with Progress(transient=False) as progress, without_xla_on_cpu(network):
        task = progress.add_task(title, total=epochs)
        advance = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: progress.advance(task))
        network.fit(*train, batch_size=BATCH_SIZE, epochs=epochs, verbose=0, callbacks=[*callbacks, advance])


def save(comparison: Comparison, folder: Path) -> None:
    """Prints the comparison and writes it as JSON, Markdown and, where matplotlib is installed, a picture."""
    print(comparison)
    comparison.to_json(folder / "report.json")
    comparison.to_markdown(folder / "report.md")
    try:
        comparison.plot(folder / "accuracy-size.png", size="gzip_bytes")
    except ImportError as error:
        print(error)
    print(f"\nEverything is in {folder}/: models, .tflite files, report.json, report.md, accuracy-size.png.")
    print("Next, try your own model:")
    print("  tfsqueeze convert model.keras -o model.tflite --quantize int8 --data calibration.npz")
