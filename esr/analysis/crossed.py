"""Intervals where trials are crossed: many under each latent, many under each prompt.

The variance of a ratio of sums is that between latents, plus that between prompts, minus what
both count twice, the cells of a latent under a prompt (Cameron, Gelbach and Miller 2011), and
never below either one; the quantile is Student's with one degree of freedom less than there are
clusters of the fewer kind. Such an interval speaks of latents and prompts like these, not of
these alone. ``benchmarks/coverage.py`` measures how often it holds; docs/statistics.md has the
table, and why rates are measured on the scale of Wilson's interval.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from esr.analysis.intervals import LEVEL, Array, Interval, Proportion, Quantity

Codes = NDArray[np.int64]

NO_SPREAD = 1e-24
"""Variances up to here are rounding noise of clusters that are all alike."""

DIGITS = 12
"""Of a share or a correlation that are no rounding noise."""

STEP = 1e-5
"""Of a numerical derivative, in parts of what it is taken after."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """The groups that trials fall into, one grouping for each way they depend on each other.

    Attributes:
        codes: per grouping [n_trials], numbers from 0: latents and prompts, or one of them.
        cells: [n_trials] of all groupings together.
    """

    codes: tuple[Codes, ...] = field(repr=False)
    cells: Codes = field(repr=False)

    @classmethod
    def of(cls, *groupings: Sequence[Hashable]) -> Clusters:
        """From names: each [n_trials], the latents and the prompts of the same trials."""
        codes = tuple(_codes(names) for names in groupings)
        return cls(codes, _codes(list(zip(*(c.tolist() for c in codes), strict=True))))

    @property
    def fewest(self) -> int:
        """Clusters of the grouping that has fewest; 0 without trials."""
        return min(_count(codes) for codes in self.codes)

    def only(self, wanted: NDArray[np.bool_]) -> Clusters:
        """The groups of some trials: [n_trials] True for those; groups left empty are gone."""
        return Clusters.of(*(codes[wanted].tolist() for codes in self.codes))

    def variance(self, residuals: Array) -> float:
        """Variance of a sum whose terms depend on each other within clusters.

        Args:
            residuals: [n_trials] what each adds to the estimate, of mean 0.

        Returns:
            NaN with fewer than two clusters of a kind.
        """
        if self.fewest < 2:
            return math.nan
        single = [_between(codes, residuals) for codes in self.codes]
        if len(single) == 1:
            return single[0]
        return max(*single, sum(single) - _between(self.cells, residuals))


def _codes(names: Sequence[Hashable]) -> Codes:
    number: dict[Hashable, int] = {}
    return np.array([number.setdefault(name, len(number)) for name in names], dtype=np.int64)


def _count(codes: Codes) -> int:
    return int(codes.max()) + 1 if codes.size else 0


def _between(codes: Codes, residuals: Array) -> float:
    """Sum of the squared sums of clusters, times n / (n - 1)."""
    sums, n = np.bincount(codes, residuals), _count(codes)
    return float(sums @ sums) * n / (n - 1)


@dataclass(frozen=True)
class Estimate:
    """A ratio of two sums over trials, and how well clusters of trials fix it.

    Attributes:
        value: the ratio; NaN for 0/0.
        variance: of the value; NaN with fewer than two clusters of a kind.
        quantile: Student's, two-sided; NaN likewise.
    """

    value: float
    variance: float
    quantile: float

    @classmethod
    def of(
        cls, numerator: Array, denominator: Array, clusters: Clusters, level: float = LEVEL
    ) -> Estimate:
        """Linearised: what a trial adds is its distance from the ratio.

        Args:
            numerator: [n_trials] what is summed above the line: events, scores.
            denominator: [n_trials] and below it: 1 for a trial that counts, else 0.
            clusters: of the same trials.
            level: coverage.
        """
        total = float(denominator.sum())
        if not total:
            return cls(math.nan, math.nan, math.nan)
        value = float(numerator.sum()) / total
        residuals = (numerator - value * denominator) / total
        counted = clusters.only(denominator != 0)
        return cls(
            value,
            counted.variance(residuals[denominator != 0]),
            student_quantile(counted.fewest - 1, level),
        )

    @classmethod
    def of_sums(
        cls, quantity: Quantity, columns: Array, clusters: Clusters, level: float = LEVEL
    ) -> Estimate:
        """Any smooth function of sums over trials, such as a kappa or a correlation of moments.

        Linearised like :meth:`of`, by a numerical derivative: a trial adds the derivative after
        each sum times what it adds to that sum.

        Args:
            quantity: [..., n_columns] -> [...]; the same for all sums times a number.
            columns: [n_trials, n_columns] what is summed.
            clusters: of the same trials.
            level: coverage.
        """
        totals = columns.sum(axis=0)
        value = float(quantity(totals))
        if not math.isfinite(value):
            return cls(math.nan, math.nan, math.nan)
        sizes = np.abs(columns).sum(axis=0)
        steps = np.diag(STEP * np.maximum(sizes, 1e-9))
        slopes = (quantity(totals + steps) - quantity(totals - steps)) / (2 * steps.diagonal())
        residuals = columns @ np.where(sizes > 0, slopes, 0.0)
        counted = np.abs(residuals) > 1e-9 * np.abs(residuals).max(initial=0.0)
        used = clusters.only(counted)
        quantile = student_quantile(used.fewest - 1, level)
        return cls(value, used.variance(residuals[counted]), quantile)

    def mean_interval(self) -> Interval | None:
        """Value ± t standard errors; None where there is no spread to judge by."""
        if not self.variance > NO_SPREAD:
            return None
        half = self.quantile * math.sqrt(self.variance)
        return Interval(self.value - half, self.value + half)

    def rate_interval(self) -> Interval | None:
        """Wilson's score interval with t in place of 1.96 and the clusters' variance.

        That is, of as many independent trials as would have this variance. None at 0 and 1,
        where clusters cannot vary: there the plain Wilson interval is all there is.
        """
        if not (self.variance > NO_SPREAD and 0 < self.value < 1):
            return None
        binomial = self.value * (1 - self.value)
        excess = self.quantile**2 * self.variance / binomial
        middle = (self.value + excess / 2) / (1 + excess)
        half = math.sqrt(excess * (binomial + excess / 4)) / (1 + excess)
        return Interval(middle - half, middle + half)

    def share_interval(self, n: int) -> Interval | None:
        """:meth:`rate_interval`, and the plain Wilson interval of ``n`` trials at 0 and 1.

        Args:
            n: trials counted; where they stand for unequal numbers, :func:`effective_size`.
        """
        # Rounding noise must not hide that nothing varies.
        if n and round(self.value, DIGITS) in (0.0, 1.0):
            return Proportion(round(self.value * n), n).wilson()
        return self.rate_interval()

    def correlation_interval(self) -> Interval | None:
        """Of a correlation or kappa, on Fisher's scale: within -1 and 1. None at either."""
        if not (self.variance > NO_SPREAD and abs(round(self.value, DIGITS)) < 1):
            return None
        half = self.quantile * math.sqrt(self.variance) / (1 - self.value**2)
        middle = math.atanh(self.value)
        return Interval(math.tanh(middle - half), math.tanh(middle + half))


def rate_interval(
    events: Array, counted: Array, clusters: Clusters, level: float = LEVEL
) -> Interval | None:
    """Interval of a share: :meth:`Estimate.share_interval`.

    Args:
        events: [n_trials] 1 where it happened, else 0.
        counted: [n_trials] 1 where the trial is in the denominator, else 0.
        clusters: of the same trials.
        level: coverage.

    Returns:
        None where nothing was counted, or all of it under one latent or one prompt.
    """
    estimate = Estimate.of(events, counted, clusters, level)
    return estimate.share_interval(round(float(counted.sum())))


def effective_size(weights: Sequence[float] | Array) -> float:
    """How many trials of equal weight fix a mean as well as these (Kish 1965): 0 without weight.

    Args:
        weights: [n_trials] how many trials each stands for.
    """
    values = np.asarray(weights, dtype=float)
    squares = float(values @ values)
    return float(values.sum()) ** 2 / squares if squares else 0.0


@cache
def student_quantile(degrees: int, level: float = LEVEL) -> float:
    """Two-sided quantile of Student's t; NaN without a degree of freedom."""
    from scipy.stats import t

    return float(t.ppf((1 + level) / 2, degrees)) if degrees > 0 else math.nan
