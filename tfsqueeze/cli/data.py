"""Reading `--data`, `--eval` and `--scale`."""

import click

scale_option = click.option(
    "--scale",
    metavar="TEXT",
    help="How inputs read from files become the model's inputs: a factor with an optional offset, or an "
    "expression of x. Examples: --scale 1/255, --scale 1/127.5-1, --scale '(x-83)*0.58'",
)


def read_scale(text: str | None):
    """The scaling written in `--scale`, or None; a bad one is wrong usage."""
    if text is None:
        return None
    from tfsqueeze.core.scaling import parse_scale

    try:
        return parse_scale(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'--scale'") from error


def read_data(path, specs, outputs, *, scale=None, limit=None, with_targets=False):
    """The examples in a file or folder, or None without one; arguments as in `core.data_files`."""
    if path is None:
        return None
    from tfsqueeze.core.data_files import read_examples

    return read_examples(path, specs, outputs=outputs, scale=scale, limit=limit, with_targets=with_targets)
