"""REINFORCE over the parameters of a search: a distribution for each, moved towards what did well."""

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import TrialState

from tfsqueeze.search.studies.coordinates import from_place, is_choice, to_place
from tfsqueeze.search.studies.trial_states import counted_trials

MEAN_RATE = 0.3
SPREAD_RATE = 0.15
OPTION_RATE = 0.8
FIRST_SPREAD = 0.3
SPREADS = (0.03, 0.5)
# Share of the draws of a choice that ignores the policy, so that no option is ever lost.
EXPLORATION = 0.05


class PolicyGradientSampler(BaseSampler):
    """Draws ranges from a Gaussian and choices from a categorical distribution, learnt by REINFORCE.

    The policy is computed from the study's finished trials each time, in their order, and kept nowhere. The
    reward of a trial is how many of the earlier trials it beats less how many beat it, in [-1, 1]: a median
    as baseline, and the same for any scale of the score. Trials stopped early count as the worst. Steps are
    natural gradients.

    Args:
        distributions: by parameter.
        seed: of the draws.

    Source: Williams, Simple statistical gradient-following algorithms, 1992; Wierstra et al., Natural
    Evolution Strategies, JMLR 15, 2014 (ranks as rewards, natural gradients of Gaussians).
    """

    def __init__(self, distributions: dict[str, BaseDistribution], seed: int):
        self._distributions = distributions
        self._generator = np.random.default_rng(seed)

    def infer_relative_search_space(self, study, trial):
        return self._distributions

    def sample_relative(self, study, trial, search_space):
        policy = {name: _policy(distribution) for name, distribution in self._distributions.items()}
        for parameters, reward in rewards(study, self._distributions):
            for name, part in policy.items():
                part.learn(parameters[name], reward)
        return {name: part.draw(self._generator) for name, part in policy.items()}

    def sample_independent(self, study, trial, param_name, param_distribution):
        return _policy(param_distribution).draw(self._generator)


class GaussianPolicy:
    """A Gaussian over the places of a range."""

    def __init__(self, distribution: BaseDistribution):
        self._distribution = distribution
        self.mean, self.spread = 0.5, FIRST_SPREAD

    def learn(self, value, reward: float) -> None:
        """Moves towards a value that did well, away from one that did badly."""
        distance = to_place(self._distribution, value) - self.mean
        # Draws far out are rare and would else decide the spread alone.
        squared = min((distance / self.spread) ** 2, 4.0)
        self.mean = float(np.clip(self.mean + MEAN_RATE * reward * distance, 0, 1))
        self.spread = float(np.clip(self.spread * np.exp(SPREAD_RATE * reward * (squared - 1) / 2), *SPREADS))

    def draw(self, generator):
        """A value; draws beyond the range are reflected into it."""
        place = abs(generator.normal(self.mean, self.spread)) % 2
        return from_place(self._distribution, 2 - place if place > 1 else place)


class CategoricalPolicy:
    """A categorical distribution over options."""

    def __init__(self, distribution: BaseDistribution):
        self._options = distribution.choices
        self.logits = np.zeros(len(self._options))

    @property
    def shares(self) -> np.ndarray:
        """How probable each option is."""
        powers = np.exp(self.logits - self.logits.max())
        return (1 - EXPLORATION) * powers / powers.sum() + EXPLORATION / len(powers)

    def learn(self, value, reward: float) -> None:
        """Makes an option that did well more probable."""
        chosen = np.arange(len(self._options)) == self._options.index(value)
        self.logits = self.logits + OPTION_RATE * reward * (chosen - self.shares)

    def draw(self, generator):
        """An option."""
        return self._options[generator.choice(len(self._options), p=self.shares)]


def rewards(study, distributions) -> list[tuple[dict, float]]:
    """Parameters and reward of every finished trial, in the order of their numbers."""
    sign = 1 if study.direction == StudyDirection.MAXIMIZE else -1
    found, scores = [], []
    for trial in counted_trials(study, as_asked=True):
        if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):
            continue
        if not set(distributions) <= set(trial.params):
            continue
        score = sign * trial.value if trial.state == TrialState.COMPLETE else -np.inf
        earlier = np.array(scores)
        reward = float(np.mean(earlier < score) - np.mean(earlier > score)) if scores else 0.0
        scores.append(score)
        found.append((trial.params, reward))
    return found


def _policy(distribution: BaseDistribution) -> GaussianPolicy | CategoricalPolicy:
    return CategoricalPolicy(distribution) if is_choice(distribution) else GaussianPolicy(distribution)
