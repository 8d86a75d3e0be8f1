"""`tfsqueeze quickstart`."""

from pathlib import Path

import click

from tfsqueeze.cli.console import debug_option, working


@click.command(short_help="Train, prune, export and compare a small model in a minute.")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("tfsqueeze-quickstart"),
    show_default=True,
    help="Folder for models, report and picture. Example: -o demo",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    default=None,
    help="Epochs of training; enough for a good model by default. Example: --epochs 5",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed. Example: --seed 1")
@debug_option
def quickstart(output, epochs, seed):
    """Trains, prunes, exports and compares a small model of handwritten digits, within a minute.

    \b
    Example:
      tfsqueeze quickstart
    """
    with working("Loading TensorFlow"):
        from tfsqueeze import quickstart

    options = {} if epochs is None else {"epochs": epochs}
    quickstart.run(output=output, seed=seed, **options)
