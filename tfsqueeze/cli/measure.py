"""`tfsqueeze report` and `tfsqueeze compare`."""

from pathlib import Path

import click

from tfsqueeze.cli.console import common_options, save, show, show_json, working
from tfsqueeze.cli.data import read_data, read_scale, scale_option

RESULT_ENDINGS = (".json", ".md", ".png", ".svg", ".pdf")


def _check_endings(ctx, parameter, paths):
    for path in paths:
        if Path(path).suffix.lower() not in RESULT_ENDINGS:
            raise click.BadParameter(f"{path!r} must end in one of {', '.join(RESULT_ENDINGS)}.")
    return paths


def measuring_options(command):
    """Adds the options that `report` and `compare` share."""
    options = (
        click.option(
            "--data",
            type=click.Path(exists=True),
            help="Examples to score on: .npz with x and y, or a folder of images with one sub-folder per "
            "class. Example: --data test.npz",
        ),
        scale_option,
        click.option(
            "--samples",
            type=click.IntRange(min=1),
            help="Score on that many examples, drawn at random; all by default. Example: --samples 1000",
        ),
        click.option(
            "--metric",
            help="Name of a Keras metric. Default: what the model was compiled with, else accuracy for "
            "classes and mean squared error for numbers. Example: --metric mean_absolute_error",
        ),
        click.option(
            "--latency/--no-latency",
            default=True,
            show_default=True,
            help="Measure how long a .tflite file takes. Example: --no-latency",
        ),
        click.option(
            "--runs",
            type=click.IntRange(min=1),
            default=50,
            show_default=True,
            help="Timed runs per model. Example: --runs 200",
        ),
        click.option(
            "--threads",
            type=click.IntRange(min=1),
            default=1,
            show_default=True,
            help="Threads of the .tflite interpreter. Example: --threads 4",
        ),
        click.option(
            "--batch-size",
            type=click.IntRange(min=1),
            default=1,
            show_default=True,
            help="Examples per timed run, where the file leaves it free. Example: --batch-size 8",
        ),
        click.option(
            "-o",
            "--output",
            "outputs",
            multiple=True,
            type=click.Path(dir_okay=False),
            callback=_check_endings,
            help="Also write the result to a file: .json, .md, or a picture (.png, .svg, .pdf). "
            "Can be given several times. Example: -o report.md -o report.png",
        ),
        common_options,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command(short_help="Report what one model costs and scores.")
@click.argument("model", type=click.Path(exists=True))
@measuring_options
def report(model, outputs, as_json, **options):
    """Reports on one MODEL: a .keras, .h5 or .tflite file, or a SavedModel folder.

    Parameters, zeros per layer, MACs, sizes, operators and their types, memory, latency and, with --data,
    the score.

    \b
    Examples:
      tfsqueeze report model.keras
      tfsqueeze report model.tflite --data test.npz --scale 1/255 --threads 4
    """
    with working("Loading TensorFlow"):
        from tfsqueeze import reporting

        scale = read_scale(options["scale"])
    with working(f"Measuring {model}"):
        subject = _opened(model)
        examples = _read(subject, scale, options)
        result = reporting.report(subject, data=examples, **_measuring(options))
    _finish(result, outputs, as_json)


@click.command(short_help="Compare models under the same conditions.")
@click.argument("models", nargs=-1, required=True, metavar="[NAME=]MODEL...")
@measuring_options
def compare(models, outputs, as_json, **options):
    """Compares MODELs, each a .keras, .h5 or .tflite file or a SavedModel folder, with the first.

    Latencies are measured in turns under the same conditions. A model can be given a name.

    \b
    Examples:
      tfsqueeze compare model.keras model.tflite --data test.npz
      tfsqueeze compare float=a.tflite int8=b.tflite --data test.npz -o front.png
    """
    paths = named_paths(models)
    with working("Loading TensorFlow"):
        from tfsqueeze import reporting
        from tfsqueeze.reporting.compare import reference_reader

        scale = read_scale(options["scale"])
    with working(f"Measuring {len(paths)} models"):
        subjects = {name: _opened(path) for name, path in paths.items()}
        examples = _read(reference_reader(subjects), scale, options)
        result = reporting.compare(subjects, data=examples, **_measuring(options))
    _finish(result, outputs, as_json)


def named_paths(models) -> dict[str, str]:
    """Paths by the given names, or by file name, or by the whole path where file names repeat."""
    named: dict[str, str] = {}
    file_names = [Path(model).name for model in models]
    for model in models:
        name, separator, path = model.partition("=")
        if not separator or Path(model).exists():
            path = model
            name = Path(model).name if file_names.count(Path(model).name) == 1 else model
        if not Path(path).exists():
            raise click.UsageError(f"The model {path!r} does not exist.")
        if name in named:
            raise click.UsageError(f"Two models are named {name!r}. Name them: first={path} second=...")
        named[name] = path
    return named


def _opened(path):
    from tfsqueeze.reporting.subjects import open_subject

    return open_subject(path)


def _read(subject, scale, options):
    names = subject.output_names
    return read_data(
        options["data"], subject.specs, names, scale=scale, limit=options["samples"], with_targets=True
    )


def _measuring(options) -> dict:
    return {name: options[name] for name in ("metric", "latency", "runs", "threads", "batch_size")}


def _finish(result, outputs, as_json) -> None:
    save(result, outputs)
    if as_json:
        show_json(result.to_dict())
    else:
        show(result)
