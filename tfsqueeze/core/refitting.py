"""What refits of layers on examples have in common: how many rows they take, and which are held out."""

import keras
import numpy as np

from tfsqueeze.core.data import Examples
from tfsqueeze.core.inner_inputs import Received
from tfsqueeze.core.linear_view import LinearView

ROWS_PER_INPUT = 10
LEAST_ROWS = 20_000
# One of so many batches is held out, to choose how far weights may move.
PARTS = 4


def rows_wanted(inputs: int) -> int:
    """How many rows determine the weights of a product with so many inputs."""
    return max(LEAST_ROWS, ROWS_PER_INPUT * inputs)


def in_parts(examples: Examples, batch_size: int, count: int) -> list[Examples]:
    """Batches of at most `batch_size`, so small that the first `count` examples make `PARTS` of them."""
    return list(examples.batches(min(batch_size, count // PARTS)))


def is_held_out(number: int, parts: int = PARTS) -> bool:
    """Whether the batch of this number is held out."""
    return number % parts == parts - 1


def sampled_rows(view: LinearView, received: Received, seed, count: int) -> np.ndarray:
    """About `count` rows that a product receives in one call, at positions drawn by `seed`."""
    values = keras.ops.convert_to_numpy(received.first).astype("float32", copy=False)
    return view.rows(values, np.random.default_rng(seed), count)
