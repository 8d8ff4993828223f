"""Curves of the mean score over the boost, of many latents at once: the mathematics of
``--calibration adaptive``.

Each latent k has a curve that falls with the boost b::

    mean score / 100 = LAPSE + (1 - 2 LAPSE) * sigmoid(c - (b - threshold_k) / scale_k)

with c such that it is at the target where b is the threshold. Over latents thresholds are normal,
and the logarithm of the scale is normal around a straight line in the logarithm of the threshold:
a latent that takes a larger boost may also fall over a wider range. What latents of the run have
shown so far fits these laws (empirical Bayes: an expectation-maximisation whose start, the model's
prior, counts as a few latents), so that a latent of which little is known leans on the others.

A score y of 0 to 1 counts by the quasi-likelihood ``(y log p + (1 - y) log(1 - p)) / dispersion``:
exact for two-valued scores, where the dispersion is 1, and smaller for graded ones, which say more.
The dispersion is fitted too, from the errors of predictions made before each score was seen.

Everything is a function of the scores in their order; nothing is random.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LAPSE = 0.02
"""Least chance of a good score at any boost, and of a bad one: one stray score proves little."""
POINTS = 140
"""Grid points of boosts and thresholds, evenly spaced in log(boost - low + OFFSET)."""
OFFSET = 0.5
"""In standard deviations of the prior: far below it the grid is even, far above geometric."""
SCALES = np.geomspace(0.02, 2.0, 15)
"""Grid of scales, in standard deviations of the prior."""
FIRST_SCALE, FIRST_SPREAD = 0.3, 0.8
"""Scale expected before any score, in the same unit, and the spread of its logarithm."""
FIRST_SLOPE_SD = 0.5
"""The slope of the line is expected to be 0, give or take this."""
PRIOR_LATENTS = 5.0
"""Latents that the start counts for when the laws are fitted."""
PRIOR_VARIANCE = 2.0
"""What a dispersion of 1 counts for, as a sum of variances of two-valued scores (at most 1/4)."""
ROUNDS_OF_FIT = 3
"""Steps of the fit after every round."""

RESPONSES = 20
"""Most responses per latent that give a score."""
PRECISION = 5.0
"""Expected error of the mean score, in points, at which a latent is done."""
LEAST = 8
"""Responses per latent before it can be done."""


def identity() -> dict[str, Any]:
    """What names a run that is calibrated so."""
    return {
        "responses": RESPONSES,
        "precision": PRECISION,
        "least": LEAST,
        "curves": [
            *(LAPSE, POINTS, OFFSET, SCALES.tolist(), FIRST_SCALE, FIRST_SPREAD),
            *(FIRST_SLOPE_SD, PRIOR_LATENTS, PRIOR_VARIANCE, ROUNDS_OF_FIT),
        ],
    }


@dataclass(frozen=True)
class Population:
    """What latents have in common.

    Attributes:
        mean: of thresholds, in boost units.
        sd: of thresholds.
        log_scale: of the line, at the mean of the prior.
        slope: of the line.
        log_scale_sd: spread around the line.
        dispersion: variance of a score over that of a two-valued one of the same mean.
    """

    mean: float
    sd: float
    log_scale: float
    slope: float
    log_scale_sd: float
    dispersion: float = 1.0


@dataclass(frozen=True)
class Fitted:
    """A threshold.

    Attributes:
        value: boost at which the expected score is the target.
        low: lower end of the central 95 % of the posterior.
        high: upper end.
        error: expected root mean square error of the true mean score at ``value``, 0 to 100.
    """

    value: float
    low: float
    high: float
    error: float


class Curves:
    """Posteriors over the curves of some latents.

    Args:
        n_latents: how many.
        mean: of the prior over thresholds, in boost units.
        sd: of the prior.
        low: least boost.
        high: largest boost.
        target: mean score at the threshold, 0 to 100.
        pooled: False fits nothing: every latent for itself, scores taken as two-valued.
    """

    def __init__(
        self,
        n_latents: int,
        *,
        mean: float,
        sd: float,
        low: float,
        high: float,
        target: float,
        pooled: bool = True,
    ) -> None:
        self.pooled = pooled
        self.target = target / 100
        offset = OFFSET * sd
        self.position = np.linspace(math.log(offset), math.log(high - low + offset), POINTS)
        self.grid = low + np.exp(self.position) - offset
        self.scales = sd * SCALES
        self.centre = math.log(max(mean - low, offset) + offset)
        self.start = Population(mean, sd, math.log(FIRST_SCALE * sd), 0.0, FIRST_SPREAD)
        self.population = self.start
        at_threshold = (self.target - LAPSE) / (1 - 2 * LAPSE)
        logit = math.log(at_threshold / (1 - at_threshold))
        distance = (self.grid[:, None] - self.grid[None, :])[:, :, None] / self.scales
        # [boosts, thresholds, scales]: expected score.
        self.expected = LAPSE + (1 - 2 * LAPSE) / (1 + np.exp(np.clip(distance - logit, -40, 40)))
        self.evidence = np.zeros((n_latents, self.grid.size, self.scales.size))
        self._residual = self._variance = 0.0

    def posterior(self, rows: Sequence[int] | slice = slice(None)) -> Array:
        """Mass over thresholds and scales of some latents: [n, thresholds, scales]."""
        log_mass = self.evidence[rows] / self.population.dispersion + self._log_prior()
        mass = np.exp(log_mass - log_mass.max(axis=(1, 2), keepdims=True))
        return np.asarray(mass / mass.sum(axis=(1, 2), keepdims=True))

    def next_boosts(self, rows: Sequence[int]) -> list[float]:
        """For each of some latents the boost whose score says most about its threshold.

        That is the boost with the largest expected fall of the variance of the threshold's grid
        position by a two-valued score: covariance(position, p)^2 / (p (1 - p)), over the posterior.
        """
        mass = self.posterior(rows)
        n = len(mass)
        flat, table = mass.reshape(n, -1), self.expected.reshape(self.grid.size, -1)
        position = np.repeat(self.position, self.scales.size)
        p = flat @ table.T
        shared = (flat * position) @ table.T - (flat @ position)[:, None] * p
        return [float(self.grid[i]) for i in np.argmax(shared**2 / (p * (1 - p)), axis=1)]

    def observe(
        self, rows: Sequence[int], boosts: Sequence[float], scores: Sequence[float]
    ) -> None:
        """Take in one score of each of some latents, then fit what they have in common.

        Args:
            rows: latents, each once.
            boosts: the boost of each, in the order of ``rows``.
            scores: the score of each, 0 to 100.
        """
        if not rows:
            return
        mass = self.posterior(rows)
        p = self._expected_at(np.asarray(boosts))
        y = np.asarray(scores)[:, None, None] / 100
        average = (mass * p).sum(axis=(1, 2))
        spread = (mass * (p - average[:, None, None]) ** 2).sum(axis=(1, 2))
        self._residual += float(((y[:, 0, 0] - average) ** 2 - spread).sum())
        self._variance += float((mass * p * (1 - p)).sum())
        self.evidence[list(rows)] += y * np.log(p) + (1 - y) * np.log1p(-p)
        if self.pooled:
            self._fit()

    def _expected_at(self, boosts: Array) -> Array:
        """Expected scores at boosts between grid points: [n, thresholds, scales]."""
        above = np.clip(np.searchsorted(self.grid, boosts), 1, self.grid.size - 1)
        left, right = self.grid[above - 1], self.grid[above]
        share = np.clip((boosts - left) / (right - left), 0, 1)[:, None, None]
        return np.asarray((1 - share) * self.expected[above - 1] + share * self.expected[above])

    def _fit(self) -> None:
        dispersion = (PRIOR_VARIANCE + self._residual) / (PRIOR_VARIANCE + self._variance)
        self.population = replace(self.population, dispersion=min(1.0, max(0.05, dispersion)))
        for _ in range(ROUNDS_OF_FIT):
            mass = self.posterior()
            mean, sd = self._normal(mass.sum(axis=(0, 2)), len(mass))
            self.population = replace(
                self.population, mean=mean, sd=sd, **self._line(mass.sum(axis=0))
            )

    def _normal(self, mass: Array, n: int) -> tuple[float, float]:
        """Mean and sd of thresholds; the start counts for :data:`PRIOR_LATENTS`.

        Args:
            mass: [thresholds] of all latents.
            n: how many.
        """
        first, total = self.start, PRIOR_LATENTS + n
        mean = (PRIOR_LATENTS * first.mean + float(mass @ self.grid)) / total
        squares = float(mass @ (self.grid - mean) ** 2)
        own = PRIOR_LATENTS * (first.sd**2 + (first.mean - mean) ** 2)
        return mean, math.sqrt((own + squares) / total)

    def _line(self, mass: Array) -> dict[str, float]:
        """The line of log scales by ridge regression, and the spread around it.

        Args:
            mass: [thresholds, scales] of all latents.
        """
        first, y = self.start, np.log(self.scales)
        x = self.position - self.centre
        n, of_x, of_y = float(mass.sum()), mass.sum(axis=1), mass.sum(axis=0)
        level = PRIOR_LATENTS * first.log_scale
        curvature = (first.log_scale_sd / FIRST_SLOPE_SD) ** 2
        normal = np.array(
            [
                [n + PRIOR_LATENTS, float(of_x @ x)],
                [float(of_x @ x), float(of_x @ x**2) + curvature],
            ]
        )
        right = np.array([float(of_y @ y) + level, float(x @ mass @ y)])
        intercept, slope = (float(value) for value in np.linalg.solve(normal, right))
        residual = float((mass * (y[None, :] - intercept - slope * x[:, None]) ** 2).sum())
        own = PRIOR_LATENTS * (first.log_scale_sd**2 + (first.log_scale - intercept) ** 2)
        spread = math.sqrt((own + residual) / (n + PRIOR_LATENTS))
        return {"log_scale": intercept, "slope": slope, "log_scale_sd": spread}

    def _log_prior(self) -> Array:
        """Of thresholds and scales together, the width of grid cells included."""
        law = self.population
        of_threshold = -0.5 * ((self.grid - law.mean) / law.sd) ** 2
        of_threshold = of_threshold + np.log(np.gradient(self.grid))
        line = law.log_scale + law.slope * (self.position - self.centre)
        distance = (np.log(self.scales)[None, :] - line[:, None]) / law.log_scale_sd
        return np.asarray(of_threshold[:, None] - 0.5 * distance**2)

    def thresholds(self, rows: Sequence[int] | slice = slice(None)) -> list[Fitted]:
        """What is believed of some latents now."""
        mass = self.posterior(rows)
        flat, table = mass.reshape(len(mass), -1), self.expected.reshape(self.grid.size, -1)
        expected, squares = flat @ table.T, flat @ ((table - self.target) ** 2).T
        of_threshold = mass.sum(axis=2)
        # A cell's mass lies around its grid point.
        levels = np.cumsum(of_threshold, axis=1) - of_threshold / 2
        return [
            Fitted(
                value=value,
                low=float(np.interp(0.025, level, self.grid)),
                high=float(np.interp(0.975, level, self.grid)),
                error=100 * float(np.sqrt(np.interp(value, self.grid, square))),
            )
            for curve, square, level in zip(expected, squares, levels, strict=True)
            # The expected score falls with the boost.
            for value in [float(np.interp(self.target, curve[::-1], self.grid[::-1]))]
        ]
