"""`tfsqueeze pack` and `tfsqueeze unpack`."""

from dataclasses import asdict
from pathlib import Path

import click

from tfsqueeze.cli.console import common_options, debug_option, output_option, show_json, working


@click.command(short_help="Write a pruned or clustered model as one compact file, without loss.")
@click.argument("model", type=click.Path(exists=True))
@output_option("The file", "model.tfsq")
@click.option(
    "--clusters",
    type=click.IntRange(min=2),
    help="Let the weights of each kernel share that many values first; this loses accuracy. Example: "
    "--clusters 32",
)
@common_options
def pack(model, output, clusters, as_json):
    """Writes MODEL compactly: shared values and zeros take what information they hold.

    MODEL is a .keras or .h5 file, or a SavedModel folder, of Keras 2 or 3.

    \b
    Examples:
      tfsqueeze pack pruned.keras -o model.tfsq
      tfsqueeze pack model.keras -o model.tfsq --clusters 32
    """
    with working("Loading TensorFlow"):
        from tfsqueeze.clustering.one_shot import cluster
        from tfsqueeze.clustering.pack import pack as write
        from tfsqueeze.core.files import check_writable
        from tfsqueeze.models.load import load_model
    check_writable(output)
    with working(f"Loading {model}"):
        original = load_model(model)
    with working("Packing"):
        result = write(original if clusters is None else cluster(original, clusters), output)
    if as_json:
        show_json({**asdict(result), "ratio": result.ratio})
    else:
        click.echo(str(result))


@click.command(short_help="Make a .keras file of a packed one.")
@click.argument("packed", type=click.Path(exists=True, dir_okay=False))
@output_option("The .keras file", "model.keras")
@debug_option
def unpack(packed, output):
    """Makes the model in PACKED a .keras file again, with the same weights.

    \b
    Example:
      tfsqueeze unpack model.tfsq -o model.keras
    """
    if Path(output).suffix.lower() != ".keras":
        raise click.BadParameter(f"{output!r} must end in .keras.", param_hint="'-o' / '--output'")
    with working("Loading TensorFlow"):
        from tfsqueeze.clustering.pack import unpack as read
        from tfsqueeze.core.files import atomic_write
    with working("Unpacking"), atomic_write(output) as temporary:
        read(packed).save(temporary)
    click.echo(f"Wrote {output}")
