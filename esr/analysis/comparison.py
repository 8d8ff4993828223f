"""Two arms against each other: differences, risk ratios, and tests for shared trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from esr.analysis import intervals
from esr.analysis.contrasts import Contrast
from esr.analysis.intervals import Array, Bootstrap, Interval, TestResult
from esr.analysis.metrics import esr_rate, multi_attempt_rate
from esr.analysis.outcomes import Outcome, paired
from esr.analysis.quantities import (
    COLUMNS,
    CONDITIONAL_IMPROVEMENT,
    ESR,
    FIRST_SCORE,
    MULTI_ATTEMPT,
    Ratio,
    Table,
    value_of,
)
from esr.runs.plain import plain
from esr.runs.seeds import generator
from esr.runs.summary import Differences

Event = Literal["multi", "improved"]


@dataclass(frozen=True)
class Comparison:
    """A quantity in two arms.

    Attributes:
        first: value in the first arm.
        second: value in the second arm.
        difference: first minus second.
        difference_interval: clustered by latent; None where the draws do not vary.
        difference_two_way: latents and prompts drawn at random (:mod:`esr.analysis.contrasts`).
        risk_ratio: first divided by second; infinite or NaN where the second is 0.
        risk_ratio_interval: clustered by latent; an end may be infinite.
        risk_ratio_two_way: latents and prompts drawn at random; None where either is 0.
    """

    first: float
    second: float
    difference: float
    difference_interval: Interval | None
    difference_two_way: Interval | None
    risk_ratio: float
    risk_ratio_interval: Interval | None
    risk_ratio_two_way: Interval | None


def compare(
    a: Sequence[Outcome],
    b: Sequence[Outcome],
    ratio: Ratio,
    seed: int,
    shared_latents: bool = True,
) -> Comparison:
    """:func:`compare_all` for one quantity."""
    return compare_all(a, b, [ratio], seed, shared_latents)[ratio]


def compare_all(
    a: Sequence[Outcome],
    b: Sequence[Outcome],
    ratios: Iterable[Ratio],
    seed: int,
    shared_latents: bool = True,
) -> dict[Ratio, Comparison]:
    """Differences and ratios of quantities between two arms, with clustered intervals.

    Args:
        a: outcomes of the first arm.
        b: outcomes of the second arm.
        ratios: the quantities; all from the same resamples.
        seed: the run's seed.
        shared_latents: whether equal latent numbers mean the same latent, which are then drawn
            together; False for two models, whose latents are drawn apart.
    """
    first, second = Table.of(a), Table.of(b)
    rng = generator(seed, "cluster bootstrap of two arms")
    if shared_latents:
        # Each arm's trials in columns of their own, so that one draw of a latent serves both.
        columns = block_diagonal(first.columns, second.columns)
        both = Bootstrap.of([*first.latents, *second.latents], columns, rng).draws
        draws = both[:, : len(COLUMNS)], both[:, len(COLUMNS) :]
    else:
        draws = (
            Bootstrap.of(first.latents, first.columns, rng).draws,
            Bootstrap.of(second.latents, second.columns, rng).draws,
        )
    contrast = Contrast.of(first, second, shared_latents)
    return {ratio: _comparison(contrast, ratio, *draws) for ratio in ratios}


def block_diagonal(a: Array, b: Array) -> Array:
    """[n, p] and [m, q] as [n + m, p + q], zero where neither stands."""
    (n, p), (m, q) = a.shape, b.shape
    return np.block([[a, np.zeros((n, q))], [np.zeros((m, p)), b]])


def _comparison(
    contrast: Contrast, ratio: Ratio, draws_first: Array, draws_second: Array
) -> Comparison:
    value_a, value_b = contrast.first.value(ratio), contrast.second.value(ratio)
    draws_a, draws_b = (value_of(ratio)(draws) for draws in (draws_first, draws_second))
    return Comparison(
        first=value_a,
        second=value_b,
        difference=value_a - value_b,
        difference_interval=intervals.percentile_interval(draws_a - draws_b),
        difference_two_way=contrast.difference(ratio),
        risk_ratio=float(intervals.ratio(value_a, value_b)),
        risk_ratio_interval=intervals.percentile_interval(intervals.ratio(draws_a, draws_b)),
        risk_ratio_two_way=contrast.risk_ratio(ratio),
    )


@dataclass(frozen=True)
class PairedTest:
    """Tests over trials graded under both conditions.

    Attributes:
        pairs: trials graded in both arms.
        unpaired: trials of either arm without a graded partner.
        only_first: pairs with the event in the first arm alone.
        only_second: likewise in the second arm.
        test: McNemar's, the paper's, which takes trials as independent.
        sign_flip: arms swapped in whole latents (:func:`esr.analysis.intervals.sign_flip`).
        sign_flip_prompt: arms swapped in whole prompts; None where prompts are not recorded.
    """

    pairs: int
    unpaired: int
    only_first: int
    only_second: int
    test: TestResult
    sign_flip: TestResult
    sign_flip_prompt: TestResult | None


def paired_test(a: Sequence[Outcome], b: Sequence[Outcome], event: Event) -> PairedTest:
    """Whether an event is as frequent in two arms that share trials, matched by ``trial_id``.

    Raises:
        ValueError: a ``trial_id`` that occurs twice in an arm.
    """
    both = paired(a, b)
    only_first = sum(getattr(x, event) and not getattr(y, event) for x, y in both)
    only_second = sum(getattr(y, event) and not getattr(x, event) for x, y in both)
    by_latent: Counter[int] = Counter()
    by_prompt: Counter[str] = Counter()
    for x, y in both:
        by_latent[x.latent] += getattr(x, event) - getattr(y, event)
        by_prompt[x.prompt] += getattr(x, event) - getattr(y, event)
    return PairedTest(
        pairs=len(both),
        unpaired=len(a) + len(b) - 2 * len(both),
        only_first=only_first,
        only_second=only_second,
        test=intervals.mcnemar(only_first, only_second),
        sign_flip=intervals.sign_flip(list(by_latent.values())),
        sign_flip_prompt=(
            None if "" in by_prompt else intervals.sign_flip(list(by_prompt.values()))
        ),
    )


QUANTITIES = {
    "multi_attempt_rate": MULTI_ATTEMPT,
    "conditional_improvement_rate": CONDITIONAL_IMPROVEMENT,
    "esr_rate": ESR,
    "mean_first_score": FIRST_SCORE,
}
"""What an arm is compared by, under the names of :func:`esr.analysis.metrics.summary`."""


def differences(arm: Sequence[Outcome], baseline: Sequence[Outcome], seed: int) -> Differences:
    """Every quantity of two arms, without tests, as plain JSON; all from the same resamples."""
    comparisons = compare_all(arm, baseline, QUANTITIES.values(), seed)
    return {name: plain(comparisons[ratio]) for name, ratio in QUANTITIES.items()}


def summary(arm: Sequence[Outcome], baseline: Sequence[Outcome], seed: int) -> Differences:
    """An arm against its baseline, as plain JSON; None for what is not finite.

    Intervals are pairs, clustered by latent, and two-way beside them; an end that is None is
    unbounded. The paired tests match trials by ``trial_id``; McNemar's and the z tests are the
    paper's, which take trials as independent.
    """
    result = differences(arm, baseline, seed)
    events: list[tuple[str, Event]] = [("multi_attempt_rate", "multi"), ("esr_rate", "improved")]
    for name, event in events:
        rate = multi_attempt_rate if event == "multi" else esr_rate
        a, b = rate(arm), rate(baseline)
        result[name]["paired"] = plain(paired_test(arm, baseline, event))
        result[name]["unpaired"] = plain(intervals.two_proportion_z(a, b)) if a.n and b.n else None
    return result
