"""Probabilistic bisection of a boost threshold (paper A.1.4; Waeber, Frazier, Henderson 2011).

The threshold is the boost at which the mean first-attempt score falls to the target, 30 of 100.
The score is taken to fall with the boost, so a score at or above the target says that the
threshold lies to the right of the boost that was tried. The loop that asks a model and a judge
is :mod:`esr.pipeline.calibration`; here is only the mathematics::

    posterior = Posterior.prior(mean=7, sd=5, low=0, high=100)
    for _ in range(10):
        boost = posterior.median()
        posterior = posterior.update(boost, mean_score=score_at(boost))
    threshold = round(posterior.median(), 2)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from esr.errors import UserError
from esr.pipeline.constants import GRID_POINTS, SCORE_WEIGHT

CERTAIN = 1 - 1e-12
"""Largest probability given to a sign, so that no threshold ever becomes impossible."""


@dataclass(frozen=True)
class Observation:
    """What one evaluation says about the side on which the threshold lies.

    Attributes:
        right: whether the threshold is to the right of the evaluated boost.
        probability: that this is so, 0.5 to 1.
    """

    right: bool
    probability: float


def observe(mean_score: float, target: float = 30.0) -> Observation:
    """The likelier side of the threshold, given the mean score at a boost.

    The law of the score is Beta(0.5 + 5 s, 0.5 + 5 (1 - s)) with s = ``mean_score`` / 100. Close
    below the target the Beta law, pulled towards 1/2 by its prior, gives the naive sign less than
    1/2; the sign is then turned round. For the target 30 this happens above 28.51, which is
    therefore the mean score the bisection settles at.

    Args:
        mean_score: mean first-attempt score of the round, 0 to 100.
        target: score that defines the threshold, between 0 and 100.

    Raises:
        ValueError: a score outside 0 to 100, or a target that is not strictly between.
    """
    if not 0.0 <= mean_score <= 100.0:
        raise ValueError(f"mean score {mean_score} is outside 0 to 100")
    if not 0.0 < target < 100.0:
        raise ValueError(f"target {target} is not between 0 and 100")
    from scipy.stats import beta  # Half a second to load: not for --help.

    share = mean_score / 100.0
    law = beta(0.5 + SCORE_WEIGHT * share, 0.5 + SCORE_WEIGHT * (1.0 - share))
    right = mean_score >= target
    probability = float(law.sf(target / 100.0) if right else law.cdf(target / 100.0))
    if probability < 0.5:
        right, probability = not right, 1.0 - probability
    return Observation(right, min(probability, CERTAIN))


@dataclass(frozen=True, eq=False)
class Posterior:
    """What is believed about a threshold: a probability mass over evenly spaced boosts.

    Attributes:
        grid: [n_points] boosts, ascending, from the lower to the upper bound.
        mass: [n_points] probabilities, summing to 1.
    """

    grid: NDArray[np.float64]
    mass: NDArray[np.float64]

    @classmethod
    def prior(
        cls, mean: float, sd: float, low: float, high: float, n_points: int = GRID_POINTS
    ) -> Posterior:
        """A Gaussian, cut off at the bounds.

        Args:
            mean: of the Gaussian, in boost units; may lie outside the bounds.
            sd: standard deviation, in boost units.
            low: lower bound of the threshold.
            high: upper bound of the threshold.
            n_points: of the grid, both bounds included (paper: 10,000).

        Raises:
            UserError: settings from which no prior can be made.
        """
        settings = f"calibration mean {mean}, sd {sd}, bounds {low} to {high}, {n_points} points"
        if not all(math.isfinite(value) for value in (mean, sd, low, high)):
            raise UserError(settings, "finite numbers", "correct the model's calibration")
        if not (low < high and sd > 0 and n_points >= 2):
            raise UserError(
                settings,
                "lower bound < upper bound, sd > 0, at least 2 points",
                "correct the model's calibration",
            )
        grid = np.linspace(low, high, n_points)
        exponent = -0.5 * ((grid - mean) / sd) ** 2
        # The largest exponent is taken off so that a far-off mean cannot underflow everywhere.
        return cls(grid, _normalised(np.exp(exponent - exponent.max())))

    def median(self) -> float:
        """The grid point at which half of the mass is reached: where to evaluate next."""
        return self._quantile(0.5)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The equal-tailed credible interval, as two grid points.

        Raises:
            ValueError: a level that is not strictly between 0 and 1.
        """
        if not 0.0 < level < 1.0:
            raise ValueError(f"level {level} is not between 0 and 1")
        tail = (1.0 - level) / 2.0
        return self._quantile(tail), self._quantile(1.0 - tail)

    def update(self, x: float, mean_score: float, target: float = 30.0) -> Posterior:
        """The posterior after one more evaluation; this one is left as it is.

        Args:
            x: evaluated boost; the grid point nearest to it is the sampled cell.
            mean_score: mean first-attempt score at ``x``, 0 to 100.
            target: score that defines the threshold.

        Raises:
            ValueError: a boost outside the grid, or a score outside 0 to 100.
        """
        if not self.grid[0] <= x <= self.grid[-1]:
            raise ValueError(f"boost {x} is outside {self.grid[0]} to {self.grid[-1]}")
        seen = observe(mean_score, target)
        cell = int(np.argmin(np.abs(self.grid - x)))
        p = seen.probability
        left, right = (1.0 - p, p) if seen.right else (p, 1.0 - p)
        likelihood = np.full_like(self.grid, left)
        likelihood[cell] = math.sqrt(p * (1.0 - p))
        likelihood[cell + 1 :] = right
        return Posterior(self.grid, _normalised(self.mass * likelihood))

    def _quantile(self, share: float) -> float:
        reached = np.searchsorted(np.cumsum(self.mass), share)
        return float(self.grid[min(int(reached), len(self.grid) - 1)])


def _normalised(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    mass: NDArray[np.float64] = weights / weights.sum()
    return mass
