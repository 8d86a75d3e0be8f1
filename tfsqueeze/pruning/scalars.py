"""Sparsities for TensorBoard."""

import importlib.util

import numpy as np
import tensorflow as tf

from tfsqueeze.core.targets import Target


def check_log_dir(log_dir) -> None:
    """Raises ImportError before any training if TensorBoard, which writes scalars, is not installed."""
    if log_dir is not None and importlib.util.find_spec("tensorboard") is None:
        raise ImportError("`log_dir` needs TensorBoard. Install it with: pip install tensorboard")


def write_scalars(log_dir, targets: list[Target], epoch: int) -> None:
    """Writes each kernel's fraction of zeros as the scalar `sparsity/<path>` of one epoch."""
    writer = tf.summary.create_file_writer(str(log_dir), filename_suffix=f".sparsity.{epoch}")
    with writer.as_default(step=epoch):
        for target in targets:
            kernel = target.variable.numpy()
            tf.summary.scalar(f"sparsity/{target.path}", 1 - np.count_nonzero(kernel) / kernel.size)
    writer.close()
