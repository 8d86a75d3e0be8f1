"""How important each weight is; the lowest scores are pruned first."""

from collections.abc import Callable

import numpy as np

Criterion = str | Callable[[np.ndarray], np.ndarray]


def magnitude(kernel: np.ndarray) -> np.ndarray:
    """|w|: small weights matter least (Han et al., arXiv:1506.02626)."""
    return np.abs(kernel)


CRITERIA: dict[str, Callable[[np.ndarray], np.ndarray]] = {"magnitude": magnitude}
