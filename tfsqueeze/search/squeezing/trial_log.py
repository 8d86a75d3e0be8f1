"""Trials for TensorBoard: what each was set to, and what came of it."""

from pathlib import Path
from typing import Any

import tensorflow as tf

from tfsqueeze.pruning.scalars import check_log_dir


class TrialLog:
    """Writes every trial as a run of its own, its setting as hyper-parameters.

    Args:
        log_dir: a folder, or None to write nothing.

    Raises:
        ImportError: if TensorBoard is not installed.
    """

    def __init__(self, log_dir):
        check_log_dir(log_dir)
        self._folder = None if log_dir is None else Path(log_dir)

    def write(self, run: str, setting: dict[str, Any], step: int, scalars: dict[str, float]) -> None:
        """Adds scalars to a trial.

        Args:
            run: the trial's name, such as "candidate-3".
            setting: an option for each technique.
            step: epochs trained.
            scalars: values by name.
        """
        if self._folder is None:
            return
        from tensorboard.plugins.hparams import api

        writer = tf.summary.create_file_writer(str(self._folder / run))
        with writer.as_default(step=step):
            api.hparams(setting, trial_id=run)
            for name, value in scalars.items():
                tf.summary.scalar(name, value)
        writer.close()
