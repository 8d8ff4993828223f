"""Two arms against each other: differences, risk ratios, and a test for shared trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from esr import intervals
from esr.intervals import LEVEL, RESAMPLES, Interval, TestResult
from esr.metrics import COLUMNS, Ratio, Table, ratio_draws
from esr.outcomes import Outcome
from esr.seeds import generator

Event = Literal["multi", "improved"]


@dataclass(frozen=True)
class Comparison:
    """A quantity in two arms.

    Attributes:
        first: value in the first arm.
        second: value in the second arm.
        difference: first minus second.
        difference_interval: clustered by latent; None where the draws do not vary.
        risk_ratio: first divided by second; infinite or NaN where the second is 0.
        risk_ratio_interval: clustered by latent; an end may be infinite.
    """

    first: float
    second: float
    difference: float
    difference_interval: Interval | None
    risk_ratio: float
    risk_ratio_interval: Interval | None


def compare(
    a: Sequence[Outcome],
    b: Sequence[Outcome],
    ratio: Ratio,
    seed: int,
    shared_latents: bool = True,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Difference and ratio of a quantity between two arms, with clustered intervals.

    Args:
        a: outcomes of the first arm.
        b: outcomes of the second arm.
        ratio: the quantity.
        seed: the run's seed.
        shared_latents: whether equal latent numbers mean the same latent, which are then drawn
            together; False for two models, whose latents are drawn apart.
        level: coverage.
        resamples: number of draws.
    """
    first, second = Table.of(a), Table.of(b)
    order = sorted({*first.latents, *second.latents}) if shared_latents else []
    sums = [
        intervals.cluster_sums(table.latents, table.columns, order) for table in (first, second)
    ]
    rng = generator(seed, "cluster bootstrap of two arms")
    if shared_latents:
        joint = intervals.resampled_totals(np.hstack(sums), rng, resamples)
        totals = [joint[:, : len(COLUMNS)], joint[:, len(COLUMNS) :]]
    else:
        totals = [intervals.resampled_totals(part, rng, resamples) for part in sums]
    draws_a, draws_b = (ratio_draws(part, ratio) for part in totals)
    value_a, value_b = first.value(ratio), second.value(ratio)
    return Comparison(
        first=value_a,
        second=value_b,
        difference=value_a - value_b,
        difference_interval=intervals.percentile_interval(draws_a - draws_b, level),
        risk_ratio=float(intervals.ratio(value_a, value_b)),
        risk_ratio_interval=intervals.percentile_interval(intervals.ratio(draws_a, draws_b), level),
    )


@dataclass(frozen=True)
class PairedTest:
    """McNemar's test over trials graded under both conditions.

    Attributes:
        pairs: trials graded in both arms.
        unpaired: trials of either arm without a graded partner.
        only_first: pairs with the event in the first arm alone.
        only_second: likewise in the second arm.
        test: the result.
    """

    pairs: int
    unpaired: int
    only_first: int
    only_second: int
    test: TestResult


def paired_test(a: Sequence[Outcome], b: Sequence[Outcome], event: Event) -> PairedTest:
    """Whether an event is as frequent in two arms that share trials, matched by ``trial_id``.

    Raises:
        ValueError: a ``trial_id`` that occurs twice in an arm.
    """
    first, second = _by_id(a), _by_id(b)
    shared = [name for name in first if name in second]
    pairs = [(first[name], second[name]) for name in shared]
    both = [(x, y) for x, y in pairs if x.graded and y.graded]
    only_first = sum(getattr(x, event) and not getattr(y, event) for x, y in both)
    only_second = sum(getattr(y, event) and not getattr(x, event) for x, y in both)
    return PairedTest(
        pairs=len(both),
        unpaired=len(first) + len(second) - 2 * len(both),
        only_first=only_first,
        only_second=only_second,
        test=intervals.mcnemar(only_first, only_second),
    )


def _by_id(outcomes: Sequence[Outcome]) -> dict[str, Outcome]:
    known = {outcome.trial_id: outcome for outcome in outcomes}
    if len(known) < len(outcomes):
        raise ValueError("a trial id occurs twice in one arm")
    return known
