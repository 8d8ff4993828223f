"""Proportions, means, their intervals and tests. Knows nothing of trials.

The paper's intervals are 1.96 standard errors wide and take trials as independent, though five
share a latent. Beside them stand Wilson intervals, for small counts, and the cluster bootstrap,
which resamples whole latents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

Quantity = Callable[[Array], Array]
"""A function of column sums: [..., n_columns] -> [...]."""

LEVEL = 0.95
"""Coverage of all intervals unless told otherwise."""

RESAMPLES = 10_000
"""Draws of a bootstrap unless told otherwise."""

EXACT_BELOW = 25
"""Discordant pairs below which McNemar's test is the exact binomial one."""

_BLOCK = 4_000_000
"""Weights drawn at once in a bootstrap, to bound the memory."""


class Interval(NamedTuple):
    """A confidence interval; in JSON a pair."""

    low: float
    high: float


@dataclass(frozen=True)
class Proportion:
    """``count`` of ``n``; everything is NaN where ``n`` is 0.

    ``independent``: how many different trials there are, where some were replayed and stand in
    ``n`` several times; intervals count each once.
    """

    count: int
    n: int
    independent: int | None = None

    @property
    def rate(self) -> float:
        """The share, 0 to 1."""
        return self.count / self.n if self.n else math.nan

    @property
    def se(self) -> float:
        """Binomial standard error, sqrt(r (1 - r) / n)."""
        return math.sqrt(self.rate * (1 - self.rate) / self._trials) if self.n else math.nan

    @property
    def _trials(self) -> int:
        return self.n if self.independent is None else self.independent

    def paper_interval(self) -> Interval:
        """Rate ± 1.96 binomial SE (paper section 2.3), not cut off at 0 or 1."""
        return Interval(self.rate - 1.96 * self.se, self.rate + 1.96 * self.se)

    def wilson(self) -> Interval:
        """Wilson's score interval."""
        if not self.n:
            return Interval(math.nan, math.nan)
        from statsmodels.stats.proportion import proportion_confint

        trials = self._trials
        count = self.count * trials / self.n
        low, high = proportion_confint(count, trials, alpha=1 - LEVEL, method="wilson")
        return Interval(float(low), float(high))


@dataclass(frozen=True)
class Mean:
    """A mean with its standard error; NaN where ``n`` is too small for either."""

    mean: float
    sem: float
    n: int

    @classmethod
    def of(cls, values: ArrayLike) -> Mean:
        """Mean and SEM (ddof 1) of values: [n]."""
        array = np.asarray(values, dtype=float)
        n = array.size
        mean = float(array.mean()) if n else math.nan
        sem = float(array.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
        return cls(mean, sem, n)

    def paper_interval(self) -> Interval:
        """Mean ± 1.96 SEM."""
        return Interval(self.mean - 1.96 * self.sem, self.mean + 1.96 * self.sem)


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """The cluster bootstrap: sums over items, and the same sums after resampling whole clusters.

    What is wanted are functions of sums over trials, such as a ratio of two of them or a
    correlation of moments; as many clusters as there are are drawn with replacement.

    Attributes:
        totals: [n_columns] over all items.
        draws: [resamples, n_columns], one row per resample.

    Example:
        >>> columns = np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 1.0]])  # an event, and one per trial
        >>> sample = Bootstrap.of([7, 7, 9], columns, np.random.default_rng(0))
        >>> sample.interval(lambda sums: ratio(sums[..., 0], sums[..., 1]))
        Interval(low=0.5, high=1.0)
    """

    totals: Array
    draws: Array = field(repr=False)

    @classmethod
    def of(
        cls,
        clusters: Sequence[Hashable],
        columns: Array,
        rng: np.random.Generator,
        resamples: int = RESAMPLES,
    ) -> Bootstrap:
        """Draw.

        Args:
            clusters: [n_items] the cluster of each item.
            columns: [n_items, n_columns] what to sum.
            rng: of :func:`esr.runs.seeds.generator`.
            resamples: number of draws.
        """
        draws = resampled_totals(cluster_sums(clusters, columns), rng, resamples)
        return cls(columns.sum(axis=0), draws)

    def interval(self, quantity: Quantity, level: float = LEVEL) -> Interval | None:
        """:func:`percentile_interval` of a quantity: [..., n_columns] -> [...]."""
        return percentile_interval(quantity(self.draws), level)


def cluster_sums(clusters: Sequence[Hashable], columns: Array) -> Array:
    """Sums per cluster, in the order of the clusters' names: [n_clusters, n_columns].

    Args:
        clusters: [n_items] the cluster of each item.
        columns: [n_items, n_columns] what to sum.
    """
    names = sorted(set(clusters), key=lambda name: (str(type(name)), name))
    row = {name: index for index, name in enumerate(names)}
    index = np.array([row[name] for name in clusters], dtype=int)
    sums = np.zeros((len(names), columns.shape[1]))
    np.add.at(sums, index, columns)
    return sums


def resampled_totals(sums: Array, rng: np.random.Generator, resamples: int) -> Array:
    """Column totals after drawing as many clusters as there are, with replacement.

    Args:
        sums: [n_clusters, n_columns]
        rng: of :func:`esr.runs.seeds.generator`.
        resamples: number of draws.

    Returns:
        [resamples, n_columns]
    """
    n = len(sums)
    if n == 0:
        return np.zeros((resamples, sums.shape[1]))
    block = max(1, _BLOCK // n)
    chance = np.full(n, 1.0 / n)
    totals = [
        rng.multinomial(n, chance, size=min(block, resamples - start)) @ sums
        for start in range(0, resamples, block)
    ]
    return np.concatenate(totals)


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> Array:
    """Elementwise quotient: NaN for 0/0, infinite for x/0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.true_divide(numerator, denominator), dtype=float)


def percentile_interval(draws: Array, level: float = LEVEL) -> Interval | None:
    """Percentile interval of bootstrap draws: [n], NaN (0/0 in a resample) left out.

    None where the draws show no spread, as when nothing or everything was counted: a bootstrap
    that cannot vary says nothing about the uncertainty, and must not look like certainty.
    """
    defined = draws[~np.isnan(draws)]
    if defined.size == 0 or defined.min() == defined.max():
        return None
    tail = (1 - level) / 2
    # Inverted CDF: no interpolation, which would turn infinite draws into NaN.
    low, high = np.quantile(defined, [tail, 1 - tail], method="inverted_cdf")
    return Interval(float(low), float(high))


@dataclass(frozen=True)
class TestResult:
    """A two-sided test. ``statistic`` is NaN and ``p_value`` 1 where nothing can differ."""

    __test__ = False  # not a test class of pytest

    statistic: float
    p_value: float
    name: str


def two_proportion_z(a: Proportion, b: Proportion) -> TestResult:
    """Pooled two-proportion z test of independent trials.

    Raises:
        ValueError: a proportion of no trials.
    """
    if not (a.n and b.n):
        raise ValueError("a proportion of no trials cannot be tested")
    name = "two-proportion z"
    if a.count + b.count in (0, a.n + b.n):
        return TestResult(math.nan, 1.0, name)
    from statsmodels.stats.proportion import proportions_ztest

    z, p = proportions_ztest([a.count, b.count], [a.n, b.n])
    return TestResult(float(z), float(p), name)


def sign_flip(differences: Sequence[int]) -> TestResult:
    """Whether two conditions differ, by swapping them in whole clusters.

    Where they do not, each cluster's difference was as likely to have the other sign, whatever
    the trials within it share. All swaps are counted, not sampled: sums of whole numbers take few
    values, so their distribution is built up cluster by cluster.

    Args:
        differences: [n_clusters] events under the first condition minus those under the second.

    Returns:
        ``statistic``: their sum.
    """
    sizes, total, name = [abs(d) for d in differences if d], sum(differences), "sign flip, exact"
    if not sizes:
        return TestResult(math.nan, 1.0, name)
    chances = np.ones(1)  # of each sum of the sizes of the positive clusters
    for size in sizes:
        longer = np.pad(chances, (0, size))
        chances = (longer + np.roll(longer, size)) / 2
    sums = 2 * np.arange(chances.size) - sum(sizes)
    p = float(chances[np.abs(sums) >= abs(total)].sum())
    return TestResult(float(total), min(p, 1.0), name)


def mcnemar(only_a: int, only_b: int) -> TestResult:
    """McNemar's test from the discordant pairs: exact below 25, else chi-squared, corrected.

    Args:
        only_a: pairs in which the event happened under the first condition alone.
        only_b: likewise under the second.
    """
    exact = only_a + only_b < EXACT_BELOW
    name = "McNemar, exact" if exact else "McNemar, chi-squared with continuity correction"
    if only_a + only_b == 0:
        return TestResult(math.nan, 1.0, name)
    from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

    test: Any = statsmodels_mcnemar([[0, only_a], [only_b, 0]], exact=exact, correction=True)
    return TestResult(float(test.statistic), float(test.pvalue), name)
