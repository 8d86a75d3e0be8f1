"""Median latencies of models as float32 files, all timed in alternation on one thread."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import keras

from tfsqueeze.export.tflite import export_tflite
from tfsqueeze.reporting.report import time_subjects
from tfsqueeze.reporting.subjects import open_subject


def model_latencies(models: Mapping[str, keras.Model], runs: int) -> dict[str, float]:
    """Milliseconds of one call of each model's float32 `.tflite` file, by name.

    Args:
        models: by name.
        runs: timed calls of each.

    Returns:
        Medians; without those that cannot be run here.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = {
            name: export_tflite(model, Path(folder, f"{index}.tflite")).path
            for index, (name, model) in enumerate(models.items())
        }
        return file_latencies(paths, runs)


def file_latencies(paths: Mapping[str, Path], runs: int) -> dict[str, float]:
    """As `model_latencies`, of files that are there."""
    subjects = {name: open_subject(path) for name, path in paths.items()}
    measured, _ = time_subjects(subjects, True, runs, 1, 1)
    return {name: latency.median_ms for name, latency in measured.items()}
