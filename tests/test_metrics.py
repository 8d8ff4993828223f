"""Rates, intervals and tests, against hand-made cases, SciPy, statsmodels and the paper."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportions_ztest

from esr.analysis import intervals, metrics, quantities
from esr.analysis.crossed import Clusters, rate_interval
from esr.analysis.intervals import Mean, Proportion
from esr.analysis.outcomes import Outcome
from esr.judge.base import Status
from tests.made_up_outcomes import SMALL, graded, random_outcomes


class TestTally:
    def test_small_case_by_hand(self) -> None:
        counts = metrics.tally(SMALL)
        assert counts == metrics.Counts(
            trials=10, graded=6, no_attempts=1, failed=3, degraded=1, multi=4, improved=2
        )
        assert counts.trials == counts.graded + counts.no_attempts + counts.failed

    def test_rates_have_graded_trials_as_denominator(self) -> None:
        assert metrics.multi_attempt_rate(SMALL) == Proportion(4, 6)
        assert metrics.esr_rate(SMALL) == Proportion(2, 6)
        assert metrics.conditional_improvement_rate(SMALL) == Proportion(2, 4)

    def test_mean_first_score(self) -> None:
        firsts = [20, 40, 10, 50, 30, 0]
        found = metrics.mean_first_score(SMALL)
        assert found.mean == pytest.approx(25)
        assert found.sem == pytest.approx(stats.sem(firsts))
        assert found.n == 6

    def test_score_changes_of_multi_attempt_trials(self) -> None:
        assert metrics.score_changes(SMALL) == [40, 0, -10, 100]

    def test_nothing_at_all(self) -> None:
        assert metrics.tally([]).trials == 0
        assert math.isnan(metrics.esr_rate([]).rate)
        assert math.isnan(metrics.mean_first_score([]).mean)
        assert metrics.redraw_null([]).n == 0

    def test_a_generator_may_be_tallied(self) -> None:
        assert metrics.tally(o for o in SMALL).graded == 6

    @pytest.mark.parametrize(
        ("scores", "status"),
        [(None, Status.GRADED), ((), Status.GRADED), ((3.0,), Status.FAILED)],
    )
    def test_scores_and_status_must_agree(
        self, scores: tuple[float, ...] | None, status: Status
    ) -> None:
        with pytest.raises(ValueError, match="with scores"):
            Outcome(1, "x", scores, status)


def test_replays_of_one_trial_count_once() -> None:
    """Three arms that gave the same answers say no more than one."""
    rng = np.random.default_rng(0)
    one = [replace(o, prompt=f"p{rng.integers(12)}", arm="random-1") for o in random_outcomes(4)]
    three = [replace(o, arm=f"random-{k}") for k in (1, 2, 3) for o in one]
    single: Any = metrics.summary(one, 0)
    pooled: Any = metrics.summary(three, 0)
    for name in ("multi_attempt_rate", "conditional_improvement_rate", "esr_rate"):
        assert (pooled[name]["count"], pooled[name]["n"]) == (
            3 * single[name]["count"],
            3 * single[name]["n"],
        )
        for kind in ("rate", "se"):
            assert pooled[name][kind] == pytest.approx(single[name][kind])
        for kind in ("paper_interval", "wilson", "two_way_interval"):
            assert pooled[name][kind] == pytest.approx(single[name][kind]), kind
    for name in ("redraw_null", "unabandoned_null"):
        assert pooled[name]["rate"] == pytest.approx(single[name]["rate"])
        assert pooled[name]["excess"] == pytest.approx(single[name]["excess"])
    none: Any = metrics.summary([graded(1, 10, name="a"), graded(2, 10, name="b")] * 1, 0)
    assert none["esr_rate"]["two_way_interval"] == none["esr_rate"]["wilson"]


def test_what_trials_are_clustered_by() -> None:
    outcomes = [replace(o, prompt=f"p{i % 7}") for i, o in enumerate(random_outcomes(5))]
    unsteered = [replace(o, steered=False) for o in outcomes]
    for given, by in (
        (outcomes, ["latent", "prompt"]),
        (unsteered, ["prompt"]),
        ([*unsteered, outcomes[0]], ["latent", "prompt"]),
        ([*outcomes, replace(outcomes[0], prompt="")], ["latent"]),
    ):
        found: Any = metrics.summary(given, 0)
        assert found["clusters"]["by"] == by
    events = np.array([float(o.multi) for o in outcomes])
    ones, prompts = np.ones_like(events), [o.prompt for o in outcomes]
    by_prompt = rate_interval(events, ones, Clusters.of(prompts))
    both = rate_interval(events, ones, Clusters.of([o.latent for o in outcomes], prompts))
    table = quantities.Table.of
    assert table(unsteered).two_way(quantities.MULTI_ATTEMPT) == by_prompt
    assert table(outcomes).two_way(quantities.MULTI_ATTEMPT) == both


class TestPaperNumbers:
    """Counts printed in the paper for Llama-3.3-70B (section 3.1)."""

    def test_multi_attempt_rate(self) -> None:
        rate = Proportion(360, 4877)
        assert round(100 * rate.rate, 2) == 7.38
        interval = rate.paper_interval()
        assert (round(100 * interval.low, 2), round(100 * interval.high, 2)) == (6.65, 8.12)
        # The paper prints 8.11, which is the rounded rate plus the rounded half width.
        assert round(7.38 + round(196 * rate.se, 2), 2) == 8.11
        assert round(7.38 - round(196 * rate.se, 2), 2) == 6.65

    def test_esr_rate(self) -> None:
        assert round(100 * Proportion(187, 4877).rate, 2) == 3.83

    def test_conditional_improvement(self) -> None:
        assert round(100 * Proportion(187, 360).rate) == 52

    def test_the_same_counts_from_outcomes(self) -> None:
        made = [
            graded(i % 976, *((10, 20) if i < 187 else (20, 10) if i < 360 else (30,)), name=str(i))
            for i in range(4877)
        ]
        assert metrics.multi_attempt_rate(made) == Proportion(360, 4877)
        assert metrics.esr_rate(made) == Proportion(187, 4877)
        assert metrics.conditional_improvement_rate(made) == Proportion(187, 360)

    def test_detector_ablation_is_told_from_baseline(self) -> None:
        found = intervals.two_proportion_z(Proportion(360, 4877), Proportion(269, 4875))
        z, p = proportions_ztest([360, 269], [4877, 4875])
        assert found.statistic == pytest.approx(z)
        assert found.p_value == pytest.approx(p)
        assert found.p_value < 0.001


class TestIntervals:
    @pytest.mark.parametrize(("count", "n"), [(0, 10), (1, 7), (5, 4948), (360, 4877), (9, 9)])
    def test_wilson_equals_scipy(self, count: int, n: int) -> None:
        found = Proportion(count, n).wilson()
        exact = stats.binomtest(count, n).proportion_ci(0.95, method="wilson")
        assert found.low == pytest.approx(exact.low, abs=1e-12)
        assert found.high == pytest.approx(exact.high, abs=1e-12)

    def test_binomial_se_is_the_sd_of_the_share(self) -> None:
        assert Proportion(3, 40).se == pytest.approx(stats.binom(40, 3 / 40).std() / 40)

    def test_of_no_trials(self) -> None:
        nothing = Proportion(0, 0)
        assert math.isnan(nothing.rate)
        assert math.isnan(nothing.wilson().low)
        assert math.isnan(nothing.paper_interval().high)

    def test_mean_of_one(self) -> None:
        assert Mean.of([7.0]).mean == 7
        assert math.isnan(Mean.of([7.0]).sem)

    def test_cluster_sums(self) -> None:
        columns = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        sums = intervals.cluster_sums([7, 2, 7], columns)
        np.testing.assert_array_equal(sums, [[3, 4], [6, 8]])

    def test_percentile_interval(self) -> None:
        draws = np.array([np.nan, *range(1, 101)], dtype=float)
        found = intervals.percentile_interval(draws, 0.9)
        assert found is not None
        assert (found.low, found.high) == (5, 95)
        infinite = intervals.percentile_interval(np.array([1.0, 2.0, np.inf]))
        assert infinite is not None
        assert infinite.high == np.inf

    def test_no_spread_is_no_interval(self) -> None:
        assert intervals.percentile_interval(np.zeros(10)) is None
        assert intervals.percentile_interval(np.full(10, np.nan)) is None


class TestClusterBootstrap:
    def test_draws_follow_every_possible_resample(self) -> None:
        """Three latents have 27 equally likely resamples: their law, by enumeration."""
        sums = np.array([[1.0, 5.0], [0.0, 4.0], [3.0, 3.0]])
        law: dict[tuple[float, float], Fraction] = defaultdict(Fraction)
        for chosen in product(range(3), repeat=3):
            total = sums[list(chosen)].sum(axis=0)
            law[total[0], total[1]] += Fraction(1, 27)
        rng = np.random.default_rng(0)
        draws = intervals.resampled_totals(sums, rng, 40_000)
        seen: dict[tuple[float, float], int] = defaultdict(int)
        for total in draws:
            seen[total[0], total[1]] += 1
        assert set(seen) == set(law)
        observed = [seen[key] for key in law]
        expected = [40_000 * float(share) for share in law.values()]
        assert stats.chisquare(observed, expected).pvalue > 1e-3

    def test_blocks_do_not_change_the_law(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sums = np.arange(12, dtype=float).reshape(6, 2)
        whole = intervals.resampled_totals(sums, np.random.default_rng(1), 100)
        monkeypatch.setattr(intervals, "_BLOCK", 18)
        parts = intervals.resampled_totals(sums, np.random.default_rng(1), 100)
        np.testing.assert_array_equal(whole, parts)

    def test_against_scipy_on_cluster_means(self) -> None:
        """With equally large clusters the rate is the mean of cluster rates: SciPy can do that."""
        outcomes = random_outcomes(5, latents=60)
        found = quantities.cluster_interval(outcomes, quantities.MULTI_ATTEMPT, seed=1)
        assert found is not None
        rates = [np.mean([o.multi for o in outcomes if o.latent == k]) for k in range(60)]
        scipy_interval = stats.bootstrap(
            (rates,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(2)
        ).confidence_interval
        assert found.low == pytest.approx(scipy_interval.low, abs=0.006)
        assert found.high == pytest.approx(scipy_interval.high, abs=0.006)

    def test_wider_than_binomial_where_latents_differ(self) -> None:
        outcomes = [
            graded(k, *((10, 20) if k % 4 == 0 else (30,)), name=f"{k}/{t}")
            for k in range(40)
            for t in range(10)
        ]
        found = quantities.cluster_interval(outcomes, quantities.MULTI_ATTEMPT, seed=1)
        assert found is not None
        binomial = metrics.multi_attempt_rate(outcomes).paper_interval()
        # All ten trials of a latent agree, so there are 40 observations and not 400.
        design = (found.high - found.low) / (binomial.high - binomial.low)
        assert design == pytest.approx(math.sqrt(10), rel=0.1)

    def test_coverage_of_a_clustered_ratio(self) -> None:
        """Conditional improvement of 50 %: the interval holds it in about 95 % of samples."""
        held = 0
        for sample in range(150):
            rng = np.random.default_rng(sample)
            outcomes = []
            for latent in range(60):
                luck = rng.beta(2, 2)
                for trial in range(5):
                    last = 60 if rng.random() < luck else 40
                    outcomes.append(graded(latent, 50, last, name=f"{latent}/{trial}"))
            ratio = quantities.CONDITIONAL_IMPROVEMENT
            found = quantities.cluster_intervals(outcomes, [ratio], sample, resamples=1000)[ratio]
            held += found is not None and found.low <= 0.5 <= found.high
        assert 0.88 <= held / 150 <= 0.99

    def test_seeded_and_independent_of_the_order(self) -> None:
        outcomes = random_outcomes(6)
        first = quantities.cluster_interval(outcomes, quantities.FIRST_SCORE, seed=3)
        assert first == quantities.cluster_interval(outcomes[::-1], quantities.FIRST_SCORE, seed=3)
        assert first != quantities.cluster_interval(outcomes, quantities.FIRST_SCORE, seed=4)

    def test_no_interval_from_one_latent(self) -> None:
        found = quantities.cluster_interval([graded(1, 10, 20), graded(1, 5)], quantities.ESR, 0)
        assert found is None
