"""The `tfsqueeze` command. Nothing here imports TensorFlow before a command needs it."""

import os
import runpy
from pathlib import Path

import click

from tfsqueeze.cli.console import Commands, interrupts_remembered
from tfsqueeze.cli.convert import convert
from tfsqueeze.cli.measure import compare, report
from tfsqueeze.cli.pack import pack, unpack
from tfsqueeze.cli.quickstart import quickstart
from tfsqueeze.cli.run import run
from tfsqueeze.cli.squeeze import squeeze

VERSION = runpy.run_path(str(Path(__file__).parents[1] / "version.py"))["__version__"]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="tfsqueeze")
def cli():
    """Makes trained Keras models small and fast, and measures what was gained and lost.

    \b
    Examples:
      tfsqueeze convert model.h5 -o model.tflite --quantize int8 --data calibration.npz
      tfsqueeze report model.tflite --data test.npz
      tfsqueeze compare model.keras model.tflite --data test.npz
      tfsqueeze squeeze model.keras --data train.npz --max-drop 0.02
      tfsqueeze run recipe.yaml --model model.keras --train train.npz
      tfsqueeze quickstart

    Exit codes: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted.
    """


for command in (convert, report, compare, quickstart, pack, unpack, run, squeeze):
    cli.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and ends the process with its exit code.

    Args:
        arguments: the words after the command's name; those of the process by default.
    """
    # Set before TensorFlow is imported, which reads it once; only ever in the process of the command.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with interrupts_remembered():
        cli.main(arguments, prog_name="tfsqueeze")
