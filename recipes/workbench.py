"""What all recipes share: their options, the embedded digits, training with progress, and steps."""

import functools
import io
import itertools
import json
from pathlib import Path

import click
import keras
import numpy as np
from rich.console import Console
from rich.progress import Progress

import tfsqueeze as tfs

BATCH_SIZE = 64
INTERRUPTED = 130


def options(output: str):
    """The options of every recipe: `--data`, `--output`, `--epochs`, `--limit`, `--seed`.

    Args:
        output: default name of the output folder.
    """

    def decorate(function):
        @functools.wraps(function)
        def seeded(seed, **arguments):
            keras.utils.set_random_seed(seed)
            arguments["output"].mkdir(parents=True, exist_ok=True)
            try:
                return function(**arguments)
            except KeyboardInterrupt:
                click.echo("\nInterrupted. The same command goes on after the last finished step.", err=True)
                raise SystemExit(INTERRUPTED) from None

        folder = click.Path(file_okay=False, path_type=Path)
        for option in (
            click.option("--seed", default=0, show_default=True, help="Of weights, shuffling and splits."),
            click.option("--limit", type=click.IntRange(min=32), help="Use so many examples at most."),
            click.option("--epochs", type=click.IntRange(min=1), help="At most so many in each training."),
            click.option(
                "-o",
                "--output",
                type=folder,
                default=Path(output),
                show_default=True,
                help="Folder for everything.",
            ),
            click.option(
                "--data",
                type=click.Path(exists=True, file_okay=False, path_type=Path),
                envvar="TFSQUEEZE_DATA",
                help="Folder with the real data [TFSQUEEZE_DATA]; without it a small substitute is used.",
            ),
        ):
            seeded = option(seeded)
        return seeded

    return decorate


def real(data: Path | None, *parts: str) -> Path | None:
    """The path of a real data set if there is one, else None; which of the two is told."""
    found = None if data is None else data.joinpath(*parts)
    if found is not None and found.exists():
        click.echo(f"Data: {found}")
        return found
    missing = "No real data is given (--data, or TFSQUEEZE_DATA)" if found is None else f"There is no {found}"
    click.echo(f"{missing}: a small substitute shows the way.")
    return None


def digits(size: int = 8, channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 real digits in random order: images in [0, 1] of `size` pixels, and labels."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images = (images[order] / 16).astype("float32").reshape(-1, 8, 8, 1)
    if size != 8:
        images = np.asarray(keras.ops.image.resize(images, (size, size)))
    return np.repeat(images, channels, -1), labels[order]


def decoded(source, part: str, limit: int | None = None) -> np.ndarray:
    """Images of an `.npz` file that holds JPEGs, one behind the other.

    Args:
        source: the opened file, with `<part>_jpeg` (the bytes) and `<part>_off` (where each begins).
        part: "train" or "test".
        limit: how many; None for all.

    Returns:
        uint8 of shape (n, height, width, 3).
    """
    from PIL import Image

    blob = source[f"{part}_jpeg"].tobytes()
    places = itertools.islice(itertools.pairwise(source[f"{part}_off"]), limit)
    return np.stack([np.asarray(Image.open(io.BytesIO(blob[a:b])).convert("RGB")) for a, b in places])


def split(x, y, limit: int | None = None, share: float = 0.2):
    """Training and validation examples, `share` of all for validation."""
    x, y = x[:limit], y[:limit]
    kept = round(len(x) * share)
    return (x[kept:], y[kept:]), (x[:kept], y[:kept])


def train(model: keras.Model, x, y=None, *, epochs: int, title: str = "Training", callbacks=()) -> None:
    """`model.fit` with one progress bar."""
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=epochs)
        advance = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: progress.advance(task))
        size = None if y is None and not isinstance(x, np.ndarray) else BATCH_SIZE
        model.fit(x, y, batch_size=size, epochs=epochs, verbose=0, callbacks=[*callbacks, advance])


def begin(output: Path, build, training, validation, *, epochs: int) -> keras.Model:
    """The float model to begin with: that of an earlier run in `output`, or a new one, trained.

    Model and data are written to `output`, where `tfsqueeze run` finds them.
    """
    for name, (x, y) in {"train": training, "validation": validation}.items():
        np.savez(output / f"{name}.npz", x=x, y=y)
    path = output / "model.keras"
    if path.exists():
        click.echo(f"{path} is there already: going on with it.")
        return keras.models.load_model(path)
    model = build()
    train(model, *training, epochs=epochs)
    model.save(path)
    return model


def run_steps(script: str, model, training, validation, output: Path, epochs: int | None, **changes):
    """Runs the steps of the `.yaml` file beside a script, which writes tables and pictures, and shows them.

    Args:
        script: `__file__` of the script.
        model: the model to begin with.
        training, validation: data in any form a `tfs.Recipe` takes.
        output: folder for everything.
        epochs: upper bound of every step's epochs, or None.
        **changes: arguments by step in place of those in the file, such as `prune={"sparsity": 0.5}`.

    Returns:
        The `RecipeResult`.
    """
    written = tfs.Recipe.from_file(Path(script).with_suffix(".yaml")).to_dict()
    for step in written["steps"]:
        for verb, arguments in step.items() if isinstance(step, dict) else ():
            if not isinstance(arguments, dict):
                continue
            arguments |= changes.get(verb, {})
            if epochs is not None and "epochs" in arguments:
                arguments["epochs"] = min(epochs, arguments["epochs"])
    result = tfs.Recipe.from_dict(written).run(
        model, train=training, validation=validation, output=output, watch=Announced
    )
    click.echo(result)
    click.echo(f"\nEverything is in {output}/: model.keras, report.md, steps.png, {result.path.name}")
    return result


def tell_scores(metric: str, scores: dict[str, float], output: Path) -> None:
    """Shows scores of a kind that recipes do not know, and writes them to `scores.json`."""
    for name, score in scores.items():
        click.echo(f"{metric} {score:.4f}  {name}")
    (output / "scores.json").write_text(json.dumps(scores, indent=2), encoding="utf-8")


class Announced:
    """Tells which step runs."""

    def __init__(self, step):
        self._step = step

    def __enter__(self):
        click.echo(f"Step {self._step.number}: {self._step}")

    def __exit__(self, *error):
        return False
