"""Ranks that a user asks for."""

import math
import numbers
import re

from tfsqueeze.architecture.form import Form
from tfsqueeze.core.select import NamedLayer


def check_rank(value):
    """Returns `value` if it is a rank, a fraction of the full one, or a dict of these.

    Raises:
        ValueError: if it is out of range.
        TypeError: if it is of another kind.
    """
    if isinstance(value, dict):
        if not value:
            raise ValueError("`rank` must name at least one layer. Received: an empty dict.")
        for key, part in value.items():
            if not isinstance(key, str):
                raise TypeError(f"`rank` takes layer names, paths or patterns as keys. Received: {key!r}.")
            for one in part if isinstance(part, (tuple, list)) else [part]:
                _check_one(one, f" for {key!r}")
        return value
    return _check_one(value, "")


def _check_one(value, where):
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            "`rank` must be a whole number, a fraction of the full rank, or a dict from layers to these. "
            f"Received: rank={value!r}{where}."
        )
    is_whole = isinstance(value, numbers.Integral)
    if (is_whole and value < 1) or (not is_whole and not 0 < value <= 1):
        raise ValueError(
            "`rank` must be a whole number >= 1, or a fraction of the full rank in (0, 1]. "
            f"Received: rank={value!r}{where}."
        )
    return value


def rank_of(rank, named: NamedLayer):
    """What is asked of one layer: of a dict, the entry of its path or name, or the first pattern it fits."""
    if not isinstance(rank, dict):
        return rank
    for name in (named.path, named.layer.name):
        if name in rank:
            return rank[name]
    names = named.path, named.layer.name
    return next(part for key, part in rank.items() if any(re.fullmatch(key, name) for name in names))


def absolute_ranks(form: Form, rank, path: str, *, is_exact: bool) -> tuple[int, ...]:
    """The ranks of a form that were asked for.

    Args:
        form: of the layer.
        rank: a whole number, a fraction of the full rank, or one of these for each of the form's ranks.
        path: of the layer, for messages.
        is_exact: whether the layer was asked for by name; otherwise what is beyond the full rank means it.

    Raises:
        ValueError: if there are too many or too few numbers, or one is beyond the full rank.
    """
    parts = rank if isinstance(rank, (tuple, list)) else [rank] * len(form.full_ranks)
    if len(parts) != len(form.full_ranks):
        raise ValueError(
            f"`rank` of {path!r} ({form.name}) must be {len(form.full_ranks)} number(s). Received: {rank!r}."
        )
    if is_exact and any(one > full for one, full in zip(parts, form.full_ranks, strict=True)):
        full = " and ".join(map(str, form.full_ranks))
        raise ValueError(f"`rank` of {path!r} must be at most its full rank {full}. Received: {rank!r}.")
    return tuple(map(_absolute, parts, form.full_ranks))


def _absolute(rank, full: int) -> int:
    is_whole = isinstance(rank, numbers.Integral)
    return min(int(rank), full) if is_whole else max(1, math.ceil(rank * full - 1e-9))
