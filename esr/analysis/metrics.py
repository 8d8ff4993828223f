"""Rates of the paper (section 2.3), with explicit denominators: one function per quantity.

A trial is *graded* when the judge scored at least one attempt. Trials that the judge could not
grade, or in which it found no attempt, leave every denominator and are counted beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from esr.analysis import keyed, restarts
from esr.analysis.intervals import LEVEL, RESAMPLES, Interval, Mean, Proportion
from esr.analysis.outcomes import Outcome
from esr.analysis.power import smallest_difference
from esr.analysis.quantities import (
    CONDITIONAL_IMPROVEMENT,
    ESR,
    EXCESS,
    FIRST_SCORE,
    MULTI_ATTEMPT,
    REDRAW_NULL,
    UNABANDONED_EXCESS,
    UNABANDONED_NULL,
    Ratio,
    Table,
    proportion,
)
from esr.judge.base import Status
from esr.runs.plain import plain
from esr.runs.summary import ClustersEntry, Ends, RateEntry, RedrawNullEntry, Summary


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
    graded = [o for o in outcomes if o.graded]
    return proportion(sum(o.multi for o in graded), graded)


def conditional_improvement_rate(outcomes: Iterable[Outcome]) -> Proportion:
    """Improved trials of multi-attempt trials. Read it beside :func:`redraw_null`."""
    multi = [o for o in outcomes if o.multi]
    return proportion(sum(o.improved for o in multi), multi)


def esr_rate(outcomes: Iterable[Outcome]) -> Proportion:
    """Improved trials of graded trials."""
    graded = [o for o in outcomes if o.graded]
    return proportion(sum(o.improved for o in graded), graded)


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
    """How often a fresh first attempt under the same latent would have done as well.

    A reference for "improved", not a null of "restarting does not help": N1 redraws from all
    first attempts, many of which were given up because they were bad; N2 from those that were
    not given up, which are of easier prompts. The two bracket (docs/statistics.md); what is fair is
    in :mod:`esr.analysis.nulls`.

    Attributes:
        rate: mean over the multi-attempt trials of the chance that the first attempt of another
            trial under the same latent, drawn at random, scores strictly above this trial's first
            attempt. NaN where ``n`` is 0.
        improved: of the same trials, how many really improved.
        n: multi-attempt trials with a graded trial to draw from under their latent.
        excluded: multi-attempt trials without one.
    """

    rate: float
    improved: int
    n: int
    excluded: int

    @property
    def excess(self) -> float:
        """Improvement rate minus null over the same trials."""
        return self.improved / self.n - self.rate if self.n else float("nan")


def redraw_null(outcomes: Iterable[Outcome]) -> RedrawNull:
    """N1, from all other first attempts; computed exactly, without sampling."""
    return _null(Table.of(list(outcomes)), *_N1)


def unabandoned_null(outcomes: Iterable[Outcome]) -> RedrawNull:
    """N2, from the first attempts of single-attempt trials alone; exact likewise."""
    return _null(Table.of(list(outcomes)), *_N2)


_N1 = ("eligible", "null", "eligible_improved")
_N2 = ("unabandoned_eligible", "unabandoned_null", "unabandoned_improved")


def _null(table: Table, eligible: str, null: str, improved: str) -> RedrawNull:
    total = table.totals
    n = int(total[eligible])
    return RedrawNull(
        rate=float(total[null] / n) if n else float("nan"),
        improved=int(total[improved]),
        n=n,
        excluded=int(total["multi"]) - n,
    )


def cluster_counts(table: Table) -> ClustersEntry:
    """What the two-way intervals of an arm rest on."""
    return {
        "by": list(table.clustered_by),
        "latents": len(set(table.latents)),
        "prompts": len({o.prompt for o in table.outcomes}),
        "level": LEVEL,
    }


def summary(outcomes: Sequence[Outcome], seed: int) -> Summary:
    """Everything a table or a figure needs, as plain JSON; None for what is not defined.

    Intervals are pairs. ``two_way_interval`` takes latents and prompts as drawn at random, prompts
    alone where nothing is boosted; ``paper_interval`` is 1.96 standard errors,
    ``cluster_interval`` the bootstrap over latents.
    """
    listed = list(outcomes)
    table = Table.of(listed)
    clustered = table.cluster_intervals(_QUANTITIES, seed)
    score = mean_first_score(listed)
    return {
        "counts": plain(tally(listed)),
        "latents": len(set(table.latents)),
        "clusters": cluster_counts(table),
        "bootstrap": {"seed": seed, "resamples": RESAMPLES, "level": LEVEL, "cluster": "latent"},
        "multi_attempt_rate": _rate(multi_attempt_rate(listed), table, MULTI_ATTEMPT, clustered),
        "conditional_improvement_rate": _rate(
            conditional_improvement_rate(listed), table, CONDITIONAL_IMPROVEMENT, clustered
        ),
        "esr_rate": _rate(esr_rate(listed), table, ESR, clustered),
        "mean_first_score": {
            "mean": plain(score.mean),
            "sem": plain(score.sem),
            "n": score.n,
            "paper_interval": _pair(score.paper_interval()),
            "cluster_interval": _pair(clustered[FIRST_SCORE]),
            "two_way_interval": _pair(table.two_way(FIRST_SCORE)),
        },
        "score_changes": score_changes(listed),
        "redraw_null": _null_entry(_null(table, *_N1), table, (REDRAW_NULL, EXCESS), clustered),
        "unabandoned_null": _null_entry(
            _null(table, *_N2), table, (UNABANDONED_NULL, UNABANDONED_EXCESS), clustered
        ),
        "restart_gate": restarts.restart_gate(listed),
        **keyed.summary(listed),
    }


_QUANTITIES = (
    *(MULTI_ATTEMPT, CONDITIONAL_IMPROVEMENT, ESR, FIRST_SCORE),
    *(REDRAW_NULL, EXCESS, UNABANDONED_NULL, UNABANDONED_EXCESS),
)


def _rate(
    share: Proportion, table: Table, ratio: Ratio, clustered: Mapping[Ratio, Interval | None]
) -> RateEntry:
    two_way = table.two_way(ratio)
    return {
        "count": share.count,
        "n": share.n,
        "rate": plain(share.rate),
        "se": plain(share.se),
        "paper_interval": _pair(share.paper_interval()),
        "wilson": _pair(share.wilson()),
        "cluster_interval": _pair(clustered[ratio]),
        "two_way_interval": _pair(two_way),
        "smallest_difference": plain(smallest_difference(two_way)),
    }


def _null_entry(
    null: RedrawNull,
    table: Table,
    ratios: tuple[Ratio, Ratio],
    clustered: Mapping[Ratio, Interval | None],
) -> RedrawNullEntry:
    rate, excess = ratios
    return {
        "rate": plain(null.rate),
        "n": null.n,
        "excluded": null.excluded,
        "improved": null.improved,
        "cluster_interval": _pair(clustered[rate]),
        "two_way_interval": _pair(table.two_way(rate)),
        "excess": plain(null.excess),
        "excess_cluster_interval": _pair(clustered[excess]),
        "excess_two_way_interval": _pair(table.two_way(excess)),
    }


def _pair(interval: Interval | None) -> Ends | None:
    if interval is None or not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return None
    return [interval.low, interval.high]
