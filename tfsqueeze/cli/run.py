"""`tfsqueeze run`."""

from pathlib import Path

import click

from tfsqueeze.cli.console import common_options, show, show_json, working
from tfsqueeze.cli.data import read_scale, scale_option

DATA_HELP = "{} in place of the recipe's own: an .npz file with x and y, or a folder of images. Example: {}"


@click.command(short_help="Run the steps of a recipe, or go on with them.")
@click.argument("recipe", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--model", type=click.Path(exists=True), help="The model to begin with. Example: --model m.keras"
)
@click.option(
    "--train", type=click.Path(exists=True), help=DATA_HELP.format("Training data", "--train train.npz")
)
@click.option(
    "--validation",
    type=click.Path(exists=True),
    help=DATA_HELP.format("Examples to score on", "--validation test.npz"),
)
@click.option(
    "--calibration",
    type=click.Path(exists=True),
    help=DATA_HELP.format("Typical inputs", "--calibration typical.npz"),
)
@scale_option
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for models, files and results; by default named as the recipe. Example: -o small",
)
@common_options
def run(recipe, model, train, validation, calibration, scale, output, as_json):
    """Runs the steps of RECIPE, a .yaml or .json file, and keeps what each gave in one folder.

    Run again, it goes on behind the last finished step; after a change it repeats what is behind the change.

    \b
    Examples:
      tfsqueeze run recipe.yaml
      tfsqueeze run recipe.yaml --model m.keras --train train.npz --validation test.npz -o small
    """
    with working("Loading TensorFlow"):
        from tfsqueeze.recipe.recipe import Recipe

        read_scale(scale)
        steps = Recipe.from_file(recipe)
    if scale is not None:
        steps.data["scale"] = scale
    sources = {"train": train, "validation": validation, "calibration": calibration}
    result = steps.run(
        model,
        **sources,
        output=output or Path(recipe.stem),
        watch=lambda step: working(f"Step {step.number} of {len(steps.steps)}: {step}"),
    )
    if as_json:
        show_json(result.to_dict())
    else:
        show(result)
        click.echo(f"Tables and pictures are in {result.output}/.", err=True)
