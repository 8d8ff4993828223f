"""What is measured of an arm: ratios of sums over graded trials, and their intervals.

Every quantity has two intervals: a bootstrap over latents, which speaks of these prompts, and the
two-way one (:mod:`esr.analysis.crossed`), which speaks of prompts like these.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from esr.analysis import intervals
from esr.analysis.crossed import Clusters, Estimate
from esr.analysis.intervals import RESAMPLES, Array, Bootstrap, Interval, Proportion
from esr.analysis.outcomes import Outcome
from esr.runs.seeds import generator


class Ratio(NamedTuple):
    """A quantity as one sum over trials divided by another, named by columns of :class:`Table`."""

    numerator: str
    denominator: str


MULTI_ATTEMPT = Ratio("multi", "graded")
CONDITIONAL_IMPROVEMENT = Ratio("improved", "multi")
ESR = Ratio("improved", "graded")
FIRST_SCORE = Ratio("first", "graded")
REDRAW_NULL = Ratio("null", "eligible")
EXCESS = Ratio("excess", "eligible")
UNABANDONED_NULL = Ratio("unabandoned_null", "unabandoned_eligible")
UNABANDONED_EXCESS = Ratio("unabandoned_excess", "unabandoned_eligible")

NO_SHARES = frozenset({FIRST_SCORE, EXCESS, UNABANDONED_EXCESS})
"""Quantities that need not lie between 0 and 1."""

_NULLS = ("eligible", "null", "eligible_improved", "excess")

COLUMNS = (
    *("graded", "multi", "improved", "first"),
    *_NULLS,
    *("unabandoned_eligible", "unabandoned_null", "unabandoned_improved", "unabandoned_excess"),
)


@dataclass(frozen=True, eq=False)
class Table:
    """Graded trials as columns, for whatever is a ratio of sums and clustered.

    Attributes:
        outcomes: [n_graded]
        columns: [n_graded, n_columns] in the order of ``COLUMNS``.
    """

    outcomes: list[Outcome] = field(repr=False)
    columns: NDArray[np.float64] = field(repr=False)

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> Table:
        """Trials that are not graded are left out."""
        graded = [o for o in outcomes if o.graded]
        firsts = _by_latent(graded)
        unabandoned = _by_latent([o for o in graded if not o.multi])
        none = np.zeros(0)
        rows = [_row(o, firsts[_pool(o)], unabandoned.get(_pool(o), none)) for o in graded]
        columns = np.array(rows, dtype=float).reshape(len(rows), len(COLUMNS))
        return cls(graded, columns)

    @property
    def latents(self) -> list[int]:
        """Of each trial: [n_graded]."""
        return [o.latent for o in self.outcomes]

    @cached_property
    def clustered_by(self) -> tuple[str, ...]:
        """What ties trials together: latents and prompts, prompts alone where nothing is boosted.

        Latents alone where not every trial has its prompt on record.
        """
        if not all(o.prompt for o in self.outcomes):
            return ("latent",)
        steered = any(o.steered for o in self.outcomes)
        return ("latent", "prompt") if steered or not self.outcomes else ("prompt",)

    @cached_property
    def clusters(self) -> Clusters:
        """The groups of :attr:`clustered_by`."""
        return Clusters.of(*([getattr(o, by) for o in self.outcomes] for by in self.clustered_by))

    @cached_property
    def totals(self) -> dict[str, float]:
        """Sum of each column."""
        return dict(zip(COLUMNS, self.columns.sum(axis=0), strict=True))

    def column(self, name: str) -> Array:
        """One column: [n_graded]."""
        return self.columns[:, COLUMNS.index(name)]

    def value(self, ratio: Ratio) -> float:
        """The quantity over all trials; NaN where the denominator is 0."""
        totals = self.totals
        return float(intervals.ratio(totals[ratio.numerator], totals[ratio.denominator]))

    def two_way(self, ratio: Ratio) -> Interval | None:
        """Interval with latents and prompts drawn at random (:attr:`clustered_by`).

        Wilson's for a share of nothing or of everything, where clusters cannot vary; None where
        nothing was counted or all of it in one cluster.
        """
        denominator = self.column(ratio.denominator)
        estimate = Estimate.of(self.column(ratio.numerator), denominator, self.clusters)
        if ratio in NO_SHARES:
            return estimate.mean_interval()
        if estimate.value in (0.0, 1.0):
            counted = [o for o, n in zip(self.outcomes, denominator, strict=True) if n]
            return proportion(round(estimate.value) * len(counted), counted).wilson()
        return estimate.rate_interval()

    def cluster_intervals(
        self, ratios: Iterable[Ratio], seed: int, resamples: int = RESAMPLES
    ) -> dict[Ratio, Interval | None]:
        """Percentile intervals of several quantities from one bootstrap that draws whole latents.

        Args:
            ratios: quantities, such as :data:`ESR`.
            seed: the run's seed.
            resamples: number of draws.

        Returns:
            None for a quantity whose draws do not vary
            (:func:`esr.analysis.intervals.percentile_interval`).
        """
        rng = generator(seed, "cluster bootstrap")
        sample = Bootstrap.of(self.latents, self.columns, rng, resamples)
        return {ratio: sample.interval(value_of(ratio)) for ratio in ratios}


def proportion(count: int, counted: Sequence[Outcome]) -> Proportion:
    """``count`` of the trials counted, of which several arms may hold replays."""
    several = len({o.arm for o in counted}) > 1
    return Proportion(count, len(counted), len({o.trial_id for o in counted}) if several else None)


def _pool(outcome: Outcome) -> tuple[str, int]:
    """Trials whose first attempts may stand for each other: of one latent, in one arm."""
    return outcome.arm, outcome.latent


def _by_latent(outcomes: Iterable[Outcome]) -> dict[tuple[str, int], NDArray[np.float64]]:
    """First scores of the trials of each latent, arm by arm."""
    firsts: dict[tuple[str, int], list[float]] = {}
    for outcome in outcomes:
        firsts.setdefault(_pool(outcome), []).append(outcome.first)
    return {pool: np.array(scores) for pool, scores in firsts.items()}


def _row(
    outcome: Outcome, firsts: NDArray[np.float64], unabandoned: NDArray[np.float64]
) -> tuple[float, ...]:
    """Columns of one graded trial; its own first score is among ``firsts``."""
    # It is not strictly above itself, so only the number of the others leaves it out.
    return (
        *(1.0, float(outcome.multi), float(outcome.improved), outcome.first),
        *_against(outcome, firsts, len(firsts) - 1),
        *_against(outcome, unabandoned, len(unabandoned)),
    )


def _against(outcome: Outcome, pool: NDArray[np.float64], n: int) -> tuple[float, ...]:
    """``_NULLS`` of one trial: whether it counts, chance of a redraw, improved, the difference."""
    if not (outcome.multi and n):
        return (0.0,) * len(_NULLS)
    null, improved = float((pool > outcome.first).sum() / n), float(outcome.improved)
    return (1.0, null, improved, improved - null)


def value_of(ratio: Ratio) -> intervals.Quantity:
    """A quantity as a function of column totals: [..., n_columns] -> [...]."""
    numerator, denominator = (COLUMNS.index(name) for name in ratio)
    return lambda totals: intervals.ratio(totals[..., numerator], totals[..., denominator])


def cluster_intervals(
    outcomes: Sequence[Outcome], ratios: Iterable[Ratio], seed: int, resamples: int = RESAMPLES
) -> dict[Ratio, Interval | None]:
    """:meth:`Table.cluster_intervals` of the trials of one arm."""
    return Table.of(outcomes).cluster_intervals(ratios, seed, resamples)


def cluster_interval(outcomes: Sequence[Outcome], ratio: Ratio, seed: int) -> Interval | None:
    """:func:`cluster_intervals` for one quantity."""
    return cluster_intervals(outcomes, [ratio], seed)[ratio]
