"""N1 against drawing by hand, and what two arms are compared by."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from esr.analysis import comparison, intervals, metrics, quantities
from esr.analysis.intervals import Proportion
from esr.analysis.outcomes import Outcome
from esr.judge.base import Status
from tests.made_up_outcomes import SMALL, graded, random_outcomes


def brute_force_null(outcomes: Iterable[Outcome]) -> tuple[Fraction, int, int]:
    """The redraw null in fractions, trial by trial, other trial by other trial."""
    listed = [o for o in outcomes if o.scores]
    chances, excluded = [], 0
    for i, trial in enumerate(listed):
        assert trial.scores
        if len(trial.scores) < 2:
            continue
        others = [
            other.scores[0]
            for j, other in enumerate(listed)
            if j != i and other.latent == trial.latent and other.scores
        ]
        if others:
            wins = sum(other > trial.scores[0] for other in others)
            chances.append(Fraction(wins, len(others)))
        else:
            excluded += 1
    return sum(chances, Fraction()) / len(chances), len(chances), excluded


class TestRedrawNull:
    def test_small_case_by_hand(self) -> None:
        # Latent 1: 20 against {40, 10}: 1/2. Latent 2: 50 against {30}: 0; 30 against {50}: 1.
        null = metrics.redraw_null(SMALL)
        assert null.rate == pytest.approx((0.5 + 0 + 1) / 3)
        assert (null.n, null.excluded, null.improved) == (3, 1, 1)
        assert null.excess == pytest.approx(1 / 3 - 0.5)

    def test_ties_do_not_beat(self) -> None:
        null = metrics.redraw_null([graded(1, 30, 31), graded(1, 30), graded(1, 30)])
        assert null.rate == 0
        assert null.excess == 1

    @pytest.mark.parametrize("seed", range(5))
    def test_equals_brute_force(self, seed: int) -> None:
        outcomes = random_outcomes(seed, trials=3)[1:-2]
        rate, n, excluded = brute_force_null(outcomes)
        null = metrics.redraw_null(outcomes)
        assert null.rate == pytest.approx(float(rate), rel=1e-12)
        assert (null.n, null.excluded) == (n, excluded)

    def test_excess_vanishes_where_last_scores_are_redrawn(self) -> None:
        """Last scores drawn like first ones of the same latent: 'improved' is worth nothing."""
        rng = np.random.default_rng(11)
        outcomes = []
        for latent in range(300):
            level = rng.integers(10, 80)
            for trial in range(6):
                scores = np.clip(level + rng.normal(0, 15, 2), 0, 100)
                kept = scores if rng.random() < 0.5 else scores[:1]
                outcomes.append(graded(latent, *map(float, kept), name=f"{latent}/{trial}"))
        assert metrics.redraw_null(outcomes).excess == pytest.approx(0, abs=0.03)
        found = quantities.cluster_interval(outcomes, quantities.EXCESS, seed=0)
        assert found is not None
        assert found.low < 0 < found.high

    def test_excess_is_found_where_restarts_help(self) -> None:
        rng = np.random.default_rng(12)
        outcomes = []
        for latent, trial in product(range(80), range(5)):
            first = float(rng.integers(10, 60))
            scores = (first, first + 20) if trial < 2 else (first,)
            outcomes.append(graded(latent, *scores, name=f"{latent}/{trial}"))
        found = quantities.cluster_interval(outcomes, quantities.EXCESS, seed=0)
        assert found is not None
        assert found.low > 0.3


class TestComparison:
    def test_difference_and_risk_ratio(self) -> None:
        a, b = random_outcomes(1, latents=80), random_outcomes(2, latents=80)
        found = comparison.compare(a, b, quantities.MULTI_ATTEMPT, seed=0, shared_latents=False)
        rates = [metrics.multi_attempt_rate(arm).rate for arm in (a, b)]
        assert found.difference == pytest.approx(rates[0] - rates[1])
        assert found.risk_ratio == pytest.approx(rates[0] / rates[1])
        assert found.difference_interval is not None
        assert found.risk_ratio_interval is not None
        # Independent arms: the variances of the two cluster means add up.
        spread = [
            np.std([np.mean([o.multi for o in arm if o.latent == k]) for k in range(80)])
            for arm in (a, b)
        ]
        width = 2 * 1.96 * math.hypot(*spread) / math.sqrt(80)
        low, high = found.difference_interval.low, found.difference_interval.high
        assert high - low == pytest.approx(width, rel=0.05)
        # On either side of no difference, the two intervals say the same.
        assert (low > 0) == (found.risk_ratio_interval.low > 1)

    def test_shared_latents_are_drawn_together(self) -> None:
        """An arm against itself: no difference in any draw; as two models, there is."""
        arm = random_outcomes(3)
        same = comparison.compare(arm, arm, quantities.ESR, seed=0)
        assert same.difference == 0
        assert same.difference_interval is None
        apart = comparison.compare(arm, arm, quantities.ESR, seed=0, shared_latents=False)
        assert apart.difference_interval is not None

    def test_latents_missing_from_an_arm(self) -> None:
        a = random_outcomes(3, latents=20)
        b = [o for o in random_outcomes(4, latents=25) if o.latent >= 5]
        found = comparison.compare(a, b, quantities.MULTI_ATTEMPT, seed=0)
        assert found.first == metrics.multi_attempt_rate(a).rate
        assert found.second == metrics.multi_attempt_rate(b).rate

    def test_risk_ratio_against_nothing_is_infinite(self) -> None:
        a = [graded(k, *((1, 2) if k < 10 else (3,))) for k in range(20)]
        b = [graded(k, 3) for k in range(20)]
        found = comparison.compare(a, b, quantities.ESR, seed=0)
        assert found.risk_ratio == math.inf
        assert found.difference == 0.5

    def test_z_test_where_nothing_happened(self) -> None:
        found = intervals.two_proportion_z(Proportion(0, 10), Proportion(0, 12))
        assert found.p_value == 1
        with pytest.raises(ValueError, match="no trials"):
            intervals.two_proportion_z(Proportion(0, 0), Proportion(1, 2))


class TestPairedTest:
    def arms(self, both: int, only_a: int, only_b: int) -> tuple[list[Outcome], list[Outcome]]:
        a, b = [], []
        for i in range(both + only_a + only_b + 5):
            in_a = i < both + only_a
            in_b = i < both or both + only_a <= i < both + only_a + only_b
            a.append(graded(i % 7, *((1, 2) if in_a else (3,)), name=str(i)))
            b.append(graded(i % 7, *((1, 2) if in_b else (3,)), name=str(i)))
        return a, b

    @pytest.mark.parametrize(("only_a", "only_b"), [(1, 6), (9, 3), (30, 12), (13, 13)])
    def test_equals_statsmodels(self, only_a: int, only_b: int) -> None:
        a, b = self.arms(4, only_a, only_b)
        found = comparison.paired_test(a, b, "multi")
        table = [[4, only_a], [only_b, 5]]
        exact = only_a + only_b < 25
        reference: Any = statsmodels_mcnemar(table, exact=exact, correction=True)
        assert found.test.p_value == pytest.approx(reference.pvalue)
        assert (found.only_first, found.only_second) == (only_a, only_b)
        assert found.pairs == 4 + only_a + only_b + 5

    def test_exact_equals_the_binomial_test(self) -> None:
        found = comparison.paired_test(*self.arms(2, 9, 3), "improved")
        assert found.test.name == "McNemar, exact"
        assert found.test.p_value == pytest.approx(stats.binomtest(3, 12).pvalue)

    def test_matched_by_id_and_only_where_both_are_graded(self) -> None:
        a = [graded(1, 1, 2, name="x"), graded(1, 1, 2, name="y"), graded(1, 5, name="z")]
        b = [graded(1, 4, name="y"), Outcome(1, "x", None, Status.FAILED), graded(1, 5, name="w")]
        found = comparison.paired_test(a, b[::-1], "multi")
        assert (found.pairs, found.only_first, found.only_second) == (1, 1, 0)
        assert found.unpaired == 4

    def test_nothing_discordant(self) -> None:
        compared = comparison.paired_test(*self.arms(3, 0, 0), "multi")
        assert compared.test.p_value == compared.sign_flip.p_value == 1

    def test_sign_flip_swaps_whole_latents(self) -> None:
        """Latent 1 has two events more in the first arm, latent 2 one, latent 3 cancels."""
        a = [graded(1, 1, 2, name=n) for n in "ab"] + [graded(2, 1, 2, name="c")]
        a += [graded(3, 1, 2, name="d"), graded(3, 1, name="e")]
        b = [graded(o.latent, 5, name=o.trial_id) for o in a[:4]] + [graded(3, 1, 2, name="e")]
        compared = comparison.paired_test(a, b, "multi")
        assert (compared.only_first, compared.only_second) == (4, 1)
        assert compared.sign_flip.statistic == 3
        assert compared.sign_flip.p_value == 2 / 4

    def test_an_id_twice_is_refused(self) -> None:
        twice = [graded(1, 5, name="x")] * 2
        with pytest.raises(ValueError, match="twice"):
            comparison.paired_test(twice, twice, "multi")
