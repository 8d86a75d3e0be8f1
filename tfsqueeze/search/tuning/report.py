"""What a searched function tells of a trial under way, itself or by a Keras callback."""

import keras

from tfsqueeze.core.checks import did_you_mean
from tfsqueeze.search.studies.trial import Trial, UnusableResult
from tfsqueeze.search.tuning.metrics import Metrics


class Report:
    """Tells how a trial does: `report(step, value)`.

    Attributes:
        number: of the trial.
        seed: for what is random in the trial.
    """

    def __init__(self, trial: Trial, metrics: Metrics):
        self._trial, self._metrics = trial, metrics
        self.number, self.seed = trial.number, trial.seed

    def __call__(self, step: int, value: float) -> None:
        """Tells the score after a step, such as an epoch. A bad trial ends here.

        Args:
            step: from 0, rising.
            value: the score now.

        Raises:
            StopTrial: if the trial is not worth going on with. Let it pass through.
        """
        self._trial.report(step, value)

    def note(self, name: str, value) -> None:
        """Keeps something that JSON can hold with the trial, such as the size of a file."""
        self._trial.note(name, value)

    def callback(self, metric: str | None = None) -> keras.callbacks.Callback:
        """A callback for `model.fit` that reports a metric after every epoch and ends bad trials.

        Args:
            metric: as `model.fit` names it; None for the first metric that is searched.
        """
        return ReportCallback(self, metric or self._metrics.names[0])


class ReportCallback(keras.callbacks.Callback):
    """Reports a metric after every epoch.

    Args:
        report: the `Report` of the trial.
        metric: as `model.fit` names it.
    """

    def __init__(self, report: Report, metric: str):
        super().__init__()
        self._report, self._metric = report, metric

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        if self._metric not in logs:
            raise UnusableResult(
                f"`model.fit` gives no {self._metric!r} to report. Received: "
                f"{', '.join(map(repr, logs)) or 'no metrics'}. Name one in `metric` of tune() or of "
                f"callback(). {did_you_mean(self._metric, list(logs))}".rstrip()
            )
        self._report(epoch, float(logs[self._metric]))
