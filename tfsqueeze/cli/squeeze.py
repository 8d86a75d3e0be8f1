"""`tfsqueeze squeeze`."""

import contextlib
import sys
import tempfile
from pathlib import Path

import click

from tfsqueeze.cli.console import common_options, show, show_json, working
from tfsqueeze.cli.data import read_data, read_scale, scale_option

OBJECTIVES = ("size", "download", "macs", "memory", "latency")


@click.command(short_help="Find the smallest model that is still good enough.")
@click.argument("model", type=click.Path(exists=True))
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True),
    help="Training examples: .npz with x and y, or a folder of images with one sub-folder per class. "
    "Example: --data train.npz",
)
@click.option(
    "--validation",
    type=click.Path(exists=True),
    help="Examples to choose by; without them a part of --data is kept apart. Example: --validation val.npz",
)
@click.option(
    "--held-out",
    type=click.Path(exists=True),
    help="Examples on which the winner alone is judged as well. Example: --held-out test.npz",
)
@click.option(
    "--split",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    show_default=True,
    help="Part of --data that is kept apart without --validation. Example: --split 0.3",
)
@scale_option
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.02,
    show_default=True,
    help="How far the metric may fall: 0.02 is two points of accuracy. Example: --max-drop 0.01",
)
@click.option(
    "--objective",
    type=click.Choice(OBJECTIVES),
    default="size",
    show_default=True,
    help="What is to become small. Example: --objective latency",
)
@click.option("--metric", help="Name of a Keras metric; by default the model's own. Example: --metric auc")
@click.option(
    "--techniques",
    metavar="NAMES",
    help="What to combine, all by default. Example: --techniques channels,quantization",
)
@click.option("--sampler", default="tpe", show_default=True, help="What proposes. Example: --sampler random")
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    default=30,
    show_default=True,
    help="Candidates that are not trained. Example: --trials 60",
)
@click.option(
    "--trainings",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Most candidates to train. Example: --trainings 4",
)
@click.option(
    "--time-budget",
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds after which no trial is begun any more. Example: --time-budget 1800",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    default=9,
    show_default=True,
    help="Most epochs to train a candidate for. Example: --epochs 30",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Examples per training step. Example: --batch-size 128",
)
@click.option(
    "--precision",
    type=click.Choice(("float32", "bfloat16", "float16", "auto")),
    default="float32",
    show_default=True,
    help="What to train in; auto is what is fast on this machine. Example: --precision auto",
)
@click.option(
    "--log-dir",
    type=click.Path(file_okay=False),
    help="Folder to write the trials to for TensorBoard. Example: --log-dir logs",
)
@click.option(
    "--storage",
    metavar="URL",
    help="A database that workers on several machines share; by default a file in the output folder. "
    "Example: --storage postgresql+psycopg://user@host/database",
)
@click.option(
    "--worker",
    is_flag=True,
    help="Only help the search that others run with the same arguments and --storage; it leaves no files. "
    "Example: --storage postgresql+psycopg://user@host/database --worker",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed. Example: --seed 1")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("squeezed"),
    show_default=True,
    help="Folder for the winner, its recipe, the report and all trials. Example: -o small",
)
@common_options
def squeeze(model, data, validation, held_out, split, scale, techniques, worker, as_json, **options):
    """Squeezes MODEL: finds the combination of techniques that makes it smallest within a drop.

    MODEL is a .keras or .h5 file, or a SavedModel folder, compiled as it was trained. Run again with the same
    arguments, it goes on where it was stopped; with the same --storage several machines share the work.

    \b
    Examples:
      tfsqueeze squeeze model.keras --data train.npz --max-drop 0.02
      tfsqueeze squeeze model.keras --data train/ --validation val/ --scale 1/255 --objective latency
    """
    if worker and options["storage"] is None:
        raise click.UsageError("--worker needs the --storage that it shares with others.")
    with working("Loading TensorFlow"):
        from tfsqueeze.core.data import input_specs
        from tfsqueeze.models.load import load_model
        from tfsqueeze.reporting.subjects import KerasSubject
        from tfsqueeze.search.squeezing.squeeze import split_examples
        from tfsqueeze.search.squeezing.squeeze import squeeze as search

        scaling = read_scale(scale)
    with working(f"Loading {model}"):
        original = load_model(model)
    specs, outputs = input_specs(original), KerasSubject(original).output_names
    with working("Reading the data"):
        train, chosen_by, kept = (
            read_data(path, specs, outputs, scale=scaling, with_targets=True)
            for path in (data, validation, held_out)
        )
        if chosen_by is None:
            train, chosen_by = split_examples(train, split, seed=options["seed"])
    options["techniques"] = techniques and [name.strip() for name in techniques.split(",")]
    # The search shows its own progress on stderr; stdout is for the result.
    with contextlib.redirect_stdout(sys.stderr):
        if worker:
            with tempfile.TemporaryDirectory() as folder:
                search(original, train, chosen_by, **{**options, "output": folder}, worker=True)
            return
        found = search(original, train, chosen_by, held_out=kept, **options)
    if validation is not None:
        # All that the recipe needs is in files: it can name them.
        named = {"train": data, "validation": validation, "scale": scale}
        found.recipe.data = {
            name: value if name == "scale" else str(Path(value).absolute())
            for name, value in named.items()
            if value
        }
        found.recipe.to_file(found.output / "recipe.yaml")
    if as_json:
        show_json(found.to_dict())
    else:
        show(found)
