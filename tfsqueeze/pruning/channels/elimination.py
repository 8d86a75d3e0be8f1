"""Which inputs of a layer can be missed: elimination one after the other, the rest refitted each time."""

import numpy as np

from tfsqueeze.core.least_squares import LeastSquares

RIDGE = 1e-3


class Elimination:
    """How much a layer's output would lose by each of its remaining inputs, as they are taken away.

    The weights are taken as refitted by least squares after every removal, so that what other inputs can
    make good for does not count.

    Args:
        problem: sums over the layer's input rows.
        weights: the layer's matrix, shape (groups, inputs, outputs).
        units: for each input of each group, the number of the channel it belongs to, shape (groups, inputs).
        count: number of channels.

    Source: Hassibi & Stork, Second Order Derivatives for Network Pruning: Optimal Brain Surgeon, NIPS 1992,
    for whole channels and one layer's squared error; Luo et al., ThiNet, arXiv:1707.06342.
    """

    def __init__(self, problem: LeastSquares, weights: np.ndarray, units: np.ndarray, count: int):
        means = problem.products[:, :-1, -1:] / problem.count
        covariance = problem.products[:, :-1, :-1] / problem.count - means @ means.transpose(0, 2, 1)
        self._weights = weights.astype("float64")
        self.variance = max(float(np.sum(self._weights * (covariance @ self._weights))), 1e-12)
        scale = np.einsum("gkk->g", covariance) / max(weights.shape[1], 1)
        ridge = np.eye(weights.shape[1]) * (RIDGE * scale + 1e-9)[:, None, None]
        self._inverse = np.linalg.inv(covariance + ridge)
        self._places = [[np.flatnonzero(row == unit) for row in units] for unit in range(count)]

    def losses(self) -> np.ndarray:
        """For each channel, the part of the output's variance that goes with it; 0 for those gone."""
        return np.array([self._loss(places) for places in self._places]) / self.variance

    def remove(self, unit: int) -> None:
        """Takes a channel away and refits the rest."""
        for group, places in enumerate(self._places[unit]):
            if len(places):
                inverse, weights = self._inverse[group], self._weights[group]
                columns = inverse[:, places]
                shares = np.linalg.solve(columns[places], np.eye(len(places)))
                weights -= columns @ (shares @ weights[places])
                inverse -= columns @ (shares @ columns.T)
        self._places[unit] = []

    def _loss(self, places) -> float:
        total = 0.0
        for group, inputs in enumerate(places):
            if len(inputs):
                weights = self._weights[group][inputs]
                block = self._inverse[group][np.ix_(inputs, inputs)]
                total += float(np.sum(weights * np.linalg.solve(block, weights)))
        return total
