"""Conversions that may take the process down with them, run in a process of their own."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

from tfsqueeze.core.checks import UnsupportedModelError
from tfsqueeze.core.data import Examples
from tfsqueeze.export.source import Source


def convert_in_child(
    source: Source, quantize: str, samples: Examples, io_dtype: str, select_ops: bool
) -> bytes:
    """Calibrated conversion by the converter in a child process; it costs some seconds to start.

    Used for graphs with loops: calibrating a rolled recurrent layer ends in a segmentation fault.

    Raises:
        UnsupportedModelError: if the child crashed or the converter refused; names the recurrent layers.
    """
    with tempfile.TemporaryDirectory(prefix="tfsqueeze-") as name:
        folder = Path(name)
        np.savez(folder / "samples.npz", **samples.inputs)
        request = {
            "folder": source.folder,
            "signature": source.signature,
            "input_keys": source.input_keys,
            "batch_size": source.batch_size,
            "quantize": quantize,
            "io_dtype": io_dtype,
            "select_ops": select_ops,
        }
        (folder / "request.json").write_text(json.dumps(request))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
        command = [sys.executable, "-m", "tfsqueeze.export.isolation", str(folder)]
        finished = subprocess.run(command, env=environment, capture_output=True, check=False)
        result = folder / "result.tflite"
        if finished.returncode == 0 and result.exists():
            return result.read_bytes()
        failure = folder / "failure.txt"
        reason = failure.read_text() if failure.exists() else "the converter crashed"
        raise UnsupportedModelError(_advice(source, quantize, reason))


def _advice(source: Source, quantize: str, reason: str) -> str:
    layers = [] if source.model is None else source.model._flatten_layers()
    recurrent = [
        f"{layer.name!r} ({type(layer).__name__})" for layer in layers if isinstance(layer, keras.layers.RNN)
    ]
    listed = ", ".join(recurrent) or "one of its layers"
    return (
        f"quantize={quantize!r} is not possible with the loop of {listed}: {reason}. Build the layer with "
        'unroll=True, or use quantize="dynamic" (8-bit weights, float activations).'
    )


def _serve(folder: Path) -> None:
    """The child's side: converts as the request says and leaves the result or the reason of failure."""
    from tfsqueeze.export.convert import Converter

    request = json.loads((folder / "request.json").read_text())
    with np.load(folder / "samples.npz") as stored:
        samples = Examples(dict(stored))
    source = Source.stored(
        request["folder"], request["signature"], request["input_keys"], request["batch_size"]
    )
    try:
        converter = Converter(source, allow_select_ops=request["select_ops"])
        content = converter.convert(request["quantize"], samples, request["io_dtype"])
        (folder / "result.tflite").write_bytes(content)
    except ValueError as error:
        (folder / "failure.txt").write_text(str(error))
        raise SystemExit(1) from error


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
