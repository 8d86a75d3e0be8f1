"""The score of predictions against targets, with a default that fits what the model was trained for."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

Metric = str | keras.metrics.Metric | Callable | None
ACCURACY = ("accuracy", "acc")


def evaluate_predictions(
    predictions: Mapping[str, np.ndarray],
    targets: Any,
    metric: Metric | Mapping[str, Metric] = None,
    weights: np.ndarray | None = None,
    *,
    default: Metric | Mapping[str, Metric] = None,
) -> dict[str, float]:
    """Scores predictions by output name.

    Args:
        predictions: arrays by output name, the first axis counting examples.
        targets: an array, or a dict by output name, or a list in the order of `predictions`.
        metric: the name of a Keras metric, a `keras.metrics.Metric`, a function
            `(y_true, y_pred) -> float`, a dict of those by output name, or None for the default:
            accuracy where the targets are classes, mean squared error otherwise.
        weights: sample weights, for named metrics and Keras metrics.
        default: what a compiled model names (`default_metric`), used without `metric` where it fits.

    Returns:
        Scores by metric name; with several outputs by "<output> <metric>".

    Raises:
        ValueError: if targets and outputs do not go together.

    Example:
        >>> evaluate_predictions({"probabilities": np.array([[0.1, 0.9]])}, np.array([1]))
        {'accuracy': 1.0}
    """
    by_output = _targets_by_output(targets, list(predictions))
    if isinstance(metric, Mapping):
        chosen = _named_metrics(metric, by_output)
    else:
        fallback = default.get if isinstance(default, Mapping) else lambda output: default
        chosen = {output: fallback(output) if metric is None else metric for output in by_output}
    scores = {}
    for output, wanted in chosen.items():
        name, score = score_of(wanted, by_output[output], np.asarray(predictions[output]), weights)
        scores[name if len(by_output) == 1 else f"{output} {name}"] = score
    return scores


def score_of(metric: Metric, target, prediction, weights=None) -> tuple[str, float]:
    """Name and value of a metric on one output."""
    target = np.asarray(target)
    if len(target) != len(prediction):
        raise ValueError(f"Received {len(target)} targets for {len(prediction)} predictions.")
    if metric is None:
        metric = "accuracy" if is_classification(target, prediction) else "mean_squared_error"
    if isinstance(metric, str) and metric in ACCURACY:
        return "accuracy", _mean(hits(target, prediction), weights)
    if isinstance(metric, str):
        return metric, _keras_score(keras.metrics.get(metric), target, prediction, weights)
    name = metric.name if isinstance(metric, keras.metrics.Metric) else _name_of(metric)
    return name, _keras_score(metric, target, prediction, weights)


def is_classification(target: np.ndarray, prediction: np.ndarray) -> bool:
    """Whether the targets are classes of the predictions: integers, or one-hot rows."""
    if _is_one_hot(target, prediction):
        return True
    whole = target.dtype.kind in "iub" or bool(np.all(target == np.round(target)))
    if _class_axis(target, prediction):
        return whole
    return target.dtype.kind in "iub" and np.isin(target, (0, 1)).all()


def hits(target: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """1.0 where the predicted class is the target's, per example (or pixel, or label)."""
    if _is_one_hot(target, prediction):
        return (prediction.argmax(-1) == target.argmax(-1)).astype(float)
    if _class_axis(target, prediction):
        return _index_hits(target.reshape(prediction.shape[:-1]), prediction)
    if target.size != prediction.size:
        raise ValueError(
            f"Accuracy needs class indices or one-hot targets for predictions of shape {prediction.shape}. "
            f"Received targets of shape {target.shape}. Pass `metric=` to score something else."
        )
    # Predictions beyond [0, 1] are no probabilities but logits, whose boundary is 0.
    is_logit = prediction.min() < 0 or prediction.max() > 1
    predicted = prediction > (0.0 if is_logit else 0.5)
    return (predicted.reshape(target.shape) == (target > 0.5)).astype(float)


def _index_hits(target, prediction) -> np.ndarray:
    classes = prediction.shape[-1]
    is_known = (target >= 0) & (target < classes)
    right = (prediction.argmax(-1) == target).astype(float)
    if is_known.all():
        return right
    if target.ndim > 1:
        # Pixels of no class ("void" in segmentation data) are left out of the mean.
        return np.where(is_known, right, np.nan)
    raise ValueError(
        f"The model has {classes} classes, so targets must be in 0..{classes - 1}. "
        f"Received targets from {target.min():g} to {target.max():g}."
    )


def default_metric(model: keras.Model) -> Metric | dict[str, Metric]:
    """The metric a compiled model names itself: its first compiled metric, or what its loss measures."""
    configured = getattr(model, "_compile_metrics", None)
    wanted = getattr(configured, "_user_metrics", None)
    if wanted:
        return _first(wanted, list(getattr(model, "output_names", None) or []))
    return _of_loss(getattr(model, "loss", None))


def _of_loss(loss) -> Metric | dict[str, Metric]:
    if isinstance(loss, Mapping):
        return {output: _of_loss(one) for output, one in loss.items()}
    if isinstance(loss, (list, tuple)) or loss is None:
        return None
    name = loss if isinstance(loss, str) else getattr(loss, "name", _name_of(loss))
    if "crossentropy" in name or "hinge" in name:
        return "accuracy"
    regression = ("mean_squared_error", "mse", "mean_absolute_error", "mae", "mean_squared_logarithmic_error")
    return name if name in regression else None


def _first(wanted, outputs):
    """The first metric of each output, in the forms `compile(metrics=)` takes."""
    if isinstance(wanted, Mapping):
        found = {output: _first(entry, []) for output, entry in wanted.items()}
        return {output: metric for output, metric in found.items() if metric is not None} or None
    if isinstance(wanted, (list, tuple)):
        if len(outputs) > 1 and len(wanted) == len(outputs):
            return _first(dict(zip(outputs, wanted, strict=True)), [])
        return _first(wanted[0], []) if wanted else None
    if not (isinstance(wanted, str) or callable(wanted)):
        return None
    # The accuracies of Keras differ only in the form of the targets, which `hits` reads from the data.
    name = wanted if isinstance(wanted, str) else getattr(wanted, "name", _name_of(wanted))
    return "accuracy" if name in ACCURACY or re.search("(?<!top_k_categorical)_accuracy$", name) else wanted


def _keras_score(metric, target, prediction, weights) -> float:
    if not isinstance(metric, keras.metrics.Metric):
        return float(np.mean(np.asarray(metric(target, prediction), float)))
    fresh = type(metric).from_config(metric.get_config())
    fresh.update_state(target, prediction, sample_weight=weights)
    return float(np.mean(keras.ops.convert_to_numpy(fresh.result())))


def _targets_by_output(targets, outputs: list[str]) -> dict[str, Any]:
    if isinstance(targets, Mapping):
        unknown = sorted(set(targets) - set(outputs))
        if unknown and len(targets) == len(outputs) == 1:
            return {outputs[0]: next(iter(targets.values()))}
        if unknown:
            raise ValueError(f"Targets are named {sorted(targets)}, but the outputs are {outputs}.")
        return {output: targets[output] for output in outputs if output in targets}
    listed = list(targets) if isinstance(targets, (list, tuple)) else [targets]
    if len(listed) != len(outputs):
        raise ValueError(
            f"The model has {len(outputs)} outputs {outputs}. Received targets for {len(listed)}. "
            "Pass the targets as a dict by output name."
        )
    return dict(zip(outputs, listed, strict=True))


def _named_metrics(metric: Mapping[str, Metric], by_output) -> dict[str, Metric]:
    """The metrics a user named by output; outputs he left out are not scored."""
    unknown = sorted(set(metric) - set(by_output))
    if unknown:
        raise ValueError(f"`metric` names outputs {unknown} without targets. Known: {sorted(by_output)}.")
    return {output: metric[output] for output in by_output if output in metric}


def _is_one_hot(target, prediction) -> bool:
    if target.shape != prediction.shape or target.ndim < 2 or target.shape[-1] < 2:
        return False
    return bool(np.isin(target, (0, 1)).all() and (target.sum(-1) == 1).all())


def _class_axis(target, prediction) -> bool:
    """Whether the last axis of the predictions counts classes that the targets index."""
    is_scored = prediction.ndim >= 2 and prediction.shape[-1] > 1
    return is_scored and target.shape in (prediction.shape[:-1], (*prediction.shape[:-1], 1))


def _mean(values, weights) -> float:
    if weights is None:
        return float(np.nanmean(values))
    per_example = np.nanmean(values.reshape(len(values), -1), axis=1)
    return float(np.average(per_example, weights=np.asarray(weights).reshape(-1)))


def _name_of(function) -> str:
    return getattr(function, "__name__", type(function).__name__)
