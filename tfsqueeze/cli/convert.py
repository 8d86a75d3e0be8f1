"""`tfsqueeze convert`."""

from pathlib import Path

import click

from tfsqueeze.cli.console import common_options, output_option, show, show_json, working
from tfsqueeze.cli.data import read_data, read_scale, scale_option

QUANTIZATIONS = ("none", "float16", "dynamic", "int8", "int16x8", "int4")


@click.command(short_help="Convert a model to a verified .tflite file.")
@click.argument("model", type=click.Path(exists=True))
@output_option("The .tflite file", "model.tflite")
@click.option(
    "--quantize",
    type=click.Choice(QUANTIZATIONS),
    default="none",
    show_default=True,
    help="none: float32. float16: half the size. dynamic: int8 weights, no data needed. int8: all integer, "
    "needs --data. int16x8: int16 activations, needs --data. int4: 4-bit weights. Example: --quantize int8",
)
@click.option(
    "--data",
    type=click.Path(exists=True),
    help="Examples to calibrate on: .npz with x (or the names of the inputs), .npy, or a folder of images, "
    "which are resized to the model's input. Example: --data calibration.npz",
)
@scale_option
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Calibrate on at most that many examples, drawn at random. Example: --samples 500",
)
@click.option(
    "--eval",
    "evaluation",
    type=click.Path(exists=True),
    help="Examples with targets to score the Keras model and the file on: .npz with x and y, or a folder of "
    "images with one sub-folder per class. Example: --eval test.npz",
)
@click.option(
    "--metric",
    help="Name of a Keras metric for --eval; chosen by model and targets by default. Example: --metric auc",
)
@click.option(
    "--io-dtype",
    type=click.Choice(("float32", "int8", "uint8")),
    default="float32",
    show_default=True,
    help="Type of the file's inputs and outputs. Example: --io-dtype int8",
)
@click.option(
    "--backend",
    type=click.Choice(("auto", "converter", "litert-quantizer")),
    default="auto",
    show_default=True,
    help="What quantizes; auto takes what measures better. Example: --backend converter",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    help="Fix the batch size; by default it stays as free as in the model. Example: --batch-size 1",
)
@click.option(
    "--allow-float",
    is_flag=True,
    help="Accept operators that stay float in a file with integer inputs and outputs. Example: --allow-float",
)
@common_options
def convert(model, output, data, scale, evaluation, metric, as_json, **options):
    """Converts MODEL to a .tflite file, verifies it against the original, and compares both.

    MODEL is a .keras or .h5 file, or a SavedModel folder, of Keras 2 or 3.

    \b
    Examples:
      tfsqueeze convert model.keras -o model.tflite
      tfsqueeze convert model.h5 -o model.tflite --quantize int8 --data calibration.npz
      tfsqueeze convert model.h5 -o model.tflite --quantize int8 --data photos/ --scale 1/255 --eval test.npz
    """
    if Path(output).suffix.lower() != ".tflite":
        raise click.BadParameter(f"{output!r} must end in .tflite.", param_hint="'-o' / '--output'")
    with working("Loading TensorFlow"):
        from tfsqueeze.core.files import check_writable
        from tfsqueeze.export.tflite import export_tflite

        scaling = read_scale(scale)
    check_writable(output)
    with working(f"Loading {model}"):
        original, specs, outputs = _load(model)
    with working("Reading the data"):
        calibration = read_data(data, specs, outputs, scale=scaling, limit=options["samples"])
        examples = read_data(evaluation, specs, outputs, scale=scaling, with_targets=True)
    if options["quantize"] == "none":
        options["quantize"] = None
    if calibration is None:
        _check_needs_no_data(original, options["quantize"], options["io_dtype"])
    with working("Converting"):
        result = export_tflite(original, output, representative_data=calibration, **options)
    with working("Measuring"):
        comparison = _compare(original, model, result.path, examples, metric)
    if as_json:
        show_json({"path": str(result.path), "export": result.to_dict(), "comparison": comparison.to_dict()})
    else:
        click.echo(f"{result}\n")
        show(comparison)


def _check_needs_no_data(model, quantize, io_dtype):
    """Says in the words of the command line what the exporter would say in those of Python."""
    from tfsqueeze.export import trained_quantization
    from tfsqueeze.export.calibration import has_integer_activations

    if has_integer_activations(quantize, io_dtype) and not trained_quantization.covers(model, quantize):
        raise ValueError(
            f"--quantize {quantize} needs --data: 100 to 500 typical inputs, from which the ranges of the "
            "activations are measured, as .npz or .npy file or as a folder of images. Without any, use "
            "--quantize dynamic (8-bit weights, float activations)."
        )


def _load(path):
    """The Keras model, or the folder itself for a SavedModel without Keras, with its inputs and outputs."""
    from tfsqueeze.core.data import input_specs
    from tfsqueeze.models.file_kind import file_kind
    from tfsqueeze.models.load import load_model
    from tfsqueeze.reporting.subjects import KerasSubject

    if file_kind(path).name != "graph":
        model = load_model(path)
        return model, input_specs(model), KerasSubject(model).output_names
    from tfsqueeze.export.source import saved_model_source

    with saved_model_source(path) as source:
        return path, source.specs, list(source.output_keys)


def _compare(original, source, path, examples, metric):
    """The Keras model, where there is one, beside the file."""
    import keras

    from tfsqueeze.reporting import compare
    from tfsqueeze.reporting.subjects import KerasSubject

    subjects = {"keras": KerasSubject(original, Path(source))} if isinstance(original, keras.Model) else {}
    return compare({**subjects, "tflite": path}, data=examples, metric=metric)
