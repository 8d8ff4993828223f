"""Rates of the paper (section 2.3), with explicit denominators: one function per quantity.

A trial is *graded* when the judge scored at least one attempt. Trials that the judge could not
grade, or in which it found no attempt, leave every denominator and are counted beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from esr.analysis import intervals, keyed, restarts
from esr.analysis.intervals import LEVEL, RESAMPLES, Bootstrap, Interval, Mean, Proportion
from esr.analysis.outcomes import Outcome
from esr.judge.base import Status
from esr.runs.plain import plain
from esr.runs.seeds import generator
from esr.runs.summary import Ends, RateEntry, Summary


@dataclass(frozen=True)
class Counts:
    """How many trials came to what. trials = graded + no_attempts + failed."""

    trials: int
    graded: int
    no_attempts: int
    failed: int
    degraded: int
    multi: int
    improved: int


def tally(outcomes: Iterable[Outcome]) -> Counts:
    """Count trials; ``degraded`` over all of them, ``multi`` and ``improved`` over graded ones."""
    listed = list(outcomes)
    graded = sum(o.graded for o in listed)
    no_attempts = sum(o.status == Status.NO_ATTEMPTS for o in listed)
    return Counts(
        trials=len(listed),
        graded=graded,
        no_attempts=no_attempts,
        failed=len(listed) - graded - no_attempts,
        degraded=sum(o.degraded for o in listed),
        multi=sum(o.multi for o in listed),
        improved=sum(o.improved for o in listed),
    )


def multi_attempt_rate(outcomes: Iterable[Outcome]) -> Proportion:
    """Multi-attempt trials of graded trials."""
    counts = tally(outcomes)
    return Proportion(counts.multi, counts.graded)


def conditional_improvement_rate(outcomes: Iterable[Outcome]) -> Proportion:
    """Improved trials of multi-attempt trials. Read it beside :func:`redraw_null`."""
    counts = tally(outcomes)
    return Proportion(counts.improved, counts.multi)


def esr_rate(outcomes: Iterable[Outcome]) -> Proportion:
    """Improved trials of graded trials."""
    counts = tally(outcomes)
    return Proportion(counts.improved, counts.graded)


def mean_first_score(outcomes: Iterable[Outcome]) -> Mean:
    """First-attempt score over graded trials."""
    return Mean.of(first_scores(outcomes))


def first_scores(outcomes: Iterable[Outcome]) -> list[float]:
    """First-attempt score of each graded trial, in the order given."""
    return [o.first for o in outcomes if o.graded]


def score_changes(outcomes: Iterable[Outcome]) -> list[float]:
    """Last minus first score of each multi-attempt trial, in the order given."""
    return [o.change for o in outcomes if o.multi]


@dataclass(frozen=True)
class RedrawNull:
    """What "improved" is worth: how often a fresh first attempt would have done as well.

    Attributes:
        rate: mean over the multi-attempt trials of the chance that the first attempt of another
            trial under the same latent, drawn at random, scores strictly above this trial's first
            attempt. NaN where ``n`` is 0.
        improved: of the same trials, how many really improved.
        n: multi-attempt trials with another graded trial under their latent.
        excluded: multi-attempt trials without one.
    """

    rate: float
    improved: int
    n: int
    excluded: int

    @property
    def excess(self) -> float:
        """Improvement rate minus null over the same trials: above 0, restarting helped."""
        return self.improved / self.n - self.rate if self.n else float("nan")


def redraw_null(outcomes: Iterable[Outcome]) -> RedrawNull:
    """The redraw null, computed exactly, without sampling."""
    total = Table.of(list(outcomes)).totals
    n = int(total["eligible"])
    return RedrawNull(
        rate=float(total["null"] / n) if n else float("nan"),
        improved=int(total["eligible_improved"]),
        n=n,
        excluded=int(total["multi"]) - n,
    )


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

COLUMNS = (
    *("graded", "multi", "improved", "first"),
    *("eligible", "null", "eligible_improved", "excess"),
)


@dataclass(frozen=True, eq=False)
class Table:
    """Graded trials as columns, for whatever is a ratio of sums and clustered by latent.

    Attributes:
        latents: [n_graded]
        columns: [n_graded, n_columns] in the order of ``COLUMNS``.
    """

    latents: list[int]
    columns: NDArray[np.float64] = field(repr=False)

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> Table:
        """Trials that are not graded are left out."""
        graded = [o for o in outcomes if o.graded]
        firsts: dict[int, list[float]] = {}
        for outcome in graded:
            firsts.setdefault(outcome.latent, []).append(outcome.first)
        scores = {latent: np.array(listed) for latent, listed in firsts.items()}
        rows = [_row(outcome, scores[outcome.latent]) for outcome in graded]
        columns = np.array(rows, dtype=float).reshape(len(rows), len(COLUMNS))
        return cls([o.latent for o in graded], columns)

    @cached_property
    def totals(self) -> dict[str, float]:
        """Sum of each column."""
        return dict(zip(COLUMNS, self.columns.sum(axis=0), strict=True))

    def value(self, ratio: Ratio) -> float:
        """The quantity over all trials; NaN where the denominator is 0."""
        totals = self.totals
        return float(intervals.ratio(totals[ratio.numerator], totals[ratio.denominator]))


def _row(outcome: Outcome, firsts: NDArray[np.float64]) -> tuple[float, ...]:
    """Columns of one graded trial; ``firsts``: [n_graded_of_latent], its own among them."""
    eligible = outcome.multi and len(firsts) > 1
    # Its own first score is not strictly above itself, so only the denominator leaves it out.
    null = float((firsts > outcome.first).sum() / (len(firsts) - 1)) if eligible else 0.0
    improved = eligible and outcome.improved
    return (
        *(1.0, float(outcome.multi), float(outcome.improved), outcome.first),
        *(float(eligible), null, float(improved), float(improved) - null),
    )


def value_of(ratio: Ratio) -> intervals.Quantity:
    """A quantity as a function of column totals: [..., n_columns] -> [...]."""
    numerator, denominator = (COLUMNS.index(name) for name in ratio)
    return lambda totals: intervals.ratio(totals[..., numerator], totals[..., denominator])


def cluster_intervals(
    outcomes: Sequence[Outcome], ratios: Iterable[Ratio], seed: int, resamples: int = RESAMPLES
) -> dict[Ratio, Interval | None]:
    """Percentile intervals of several quantities from one bootstrap that draws whole latents.

    Args:
        outcomes: of one arm.
        ratios: quantities, such as :data:`ESR`.
        seed: the run's seed.
        resamples: number of draws.

    Returns:
        None for a quantity whose draws do not vary
        (:func:`esr.analysis.intervals.percentile_interval`).
    """
    table = Table.of(outcomes)
    rng = generator(seed, "cluster bootstrap")
    sample = Bootstrap.of(table.latents, table.columns, rng, resamples)
    return {ratio: sample.interval(value_of(ratio)) for ratio in ratios}


def cluster_interval(outcomes: Sequence[Outcome], ratio: Ratio, seed: int) -> Interval | None:
    """:func:`cluster_intervals` for one quantity."""
    return cluster_intervals(outcomes, [ratio], seed)[ratio]


def summary(outcomes: Sequence[Outcome], seed: int) -> Summary:
    """Everything a table or a figure needs, as plain JSON; None for what is not defined.

    Intervals are pairs. ``paper_interval`` is 1.96 standard errors, ``cluster_interval`` the
    bootstrap over latents.
    """
    clustered = cluster_intervals(
        outcomes,
        (MULTI_ATTEMPT, CONDITIONAL_IMPROVEMENT, ESR, FIRST_SCORE, REDRAW_NULL, EXCESS),
        seed,
    )
    null = redraw_null(outcomes)
    score = mean_first_score(outcomes)
    return {
        "counts": plain(tally(outcomes)),
        "latents": len({o.latent for o in outcomes if o.graded}),
        "bootstrap": {"seed": seed, "resamples": RESAMPLES, "level": LEVEL, "cluster": "latent"},
        "multi_attempt_rate": _rate(multi_attempt_rate(outcomes), clustered[MULTI_ATTEMPT]),
        "conditional_improvement_rate": _rate(
            conditional_improvement_rate(outcomes), clustered[CONDITIONAL_IMPROVEMENT]
        ),
        "esr_rate": _rate(esr_rate(outcomes), clustered[ESR]),
        "mean_first_score": {
            "mean": plain(score.mean),
            "sem": plain(score.sem),
            "n": score.n,
            "paper_interval": _pair(score.paper_interval()),
            "cluster_interval": _pair(clustered[FIRST_SCORE]),
        },
        "score_changes": score_changes(outcomes),
        "redraw_null": {
            "rate": plain(null.rate),
            "n": null.n,
            "excluded": null.excluded,
            "improved": null.improved,
            "cluster_interval": _pair(clustered[REDRAW_NULL]),
            "excess": plain(null.excess),
            "excess_cluster_interval": _pair(clustered[EXCESS]),
        },
        "restart_gate": restarts.restart_gate(outcomes),
        **keyed.summary(outcomes),
    }


def _rate(proportion: Proportion, clustered: Interval | None) -> RateEntry:
    return {
        "count": proportion.count,
        "n": proportion.n,
        "rate": plain(proportion.rate),
        "se": plain(proportion.se),
        "paper_interval": _pair(proportion.paper_interval()),
        "wilson": _pair(proportion.wilson()),
        "cluster_interval": _pair(clustered),
    }


def _pair(interval: Interval | None) -> Ends | None:
    if interval is None or not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return None
    return [interval.low, interval.high]
