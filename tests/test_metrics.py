"""Rates, intervals and tests, against hand-made cases, SciPy, statsmodels and the paper."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.proportion import proportions_ztest

from esr.analysis import comparison, intervals, metrics, quantities
from esr.analysis.crossed import Clusters, rate_interval
from esr.analysis.intervals import Mean, Proportion
from esr.analysis.outcomes import Outcome, degraded, outcomes_from_results
from esr.errors import UserError
from esr.judge.base import Status


def graded(latent: int, *scores: float, name: str = "", degraded: bool = False) -> Outcome:
    return Outcome(latent, name or f"{latent}/{scores}", scores, Status.GRADED, degraded)


def ungraded(latent: int, status: Status, degraded: bool = False) -> Outcome:
    return Outcome(latent, f"{latent}/{status}", None, status, degraded)


SMALL = [
    graded(1, 20, 60),  # improved
    graded(1, 40),
    graded(1, 10),
    graded(2, 50, 50),  # equal: multi, not improved
    graded(2, 30, 80, 20),  # the last counts, not the best
    graded(3, 0, 100),  # improved; alone under its latent
    ungraded(3, Status.NO_ATTEMPTS, degraded=True),
    ungraded(3, Status.FAILED),
    ungraded(2, Status.UNPARSEABLE),
    ungraded(2, Status.REFUSED),
]


def random_outcomes(seed: int, latents: int = 30, trials: int = 5) -> list[Outcome]:
    """Made-up scores with a strong dependence within latents."""
    rng = np.random.default_rng(seed)
    made = []
    for latent in range(latents):
        restarts = rng.beta(0.4, 1.6)
        for trial in range(trials):
            n = 1 + int(rng.random() < restarts)
            scores = tuple(float(s) for s in rng.integers(0, 101, n))
            made.append(Outcome(latent, f"{latent}/{trial}", scores, Status.GRADED))
    return made


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the the the the the end", True),
        ("the the the the end the", False),
        ("a a a a a a a", False),  # one character
        ("no, no, no, no, no,", True),
        ("well go go\ngo go\tgo", True),
        ("Go go Go go Go go", False),  # compared as they stand
        ("", False),
        ("ab", False),
        ("x x x x x word word word word word", True),
    ],
)
def test_degraded(text: str, expected: bool) -> None:
    assert degraded(text) is expected


def results(*trials: dict[str, Any]) -> dict[str, Any]:
    """A results file in the authors' schema."""
    feature = {
        "feature_index_in_sae": 7580,
        "feature_label": "body positions",
        "threshold": 9.4,
        "error": None,
        "trials": [
            {
                "prompt": "How?",
                "feature_index_in_sae": 7580,
                "seed": i,
                "response": "so so so so so" if i == 0 else "first this",
                "score": None,
                "error": None,
                **trial,
            }
            for i, trial in enumerate(trials)
        ],
    }
    broken = {"feature_index_in_sae": 3, "feature_label": "x", "threshold": None, "error": "lost"}
    return {"experiment_config": {}, "results_by_feature": [feature, {**broken, "trials": []}]}


def scored(*scores: float | None) -> dict[str, Any]:
    attempts = [{"attempt_text": "t", "score": score} for score in scores]
    return {"score": {"raw_response": "…", "attempts": attempts}}


class TestOutcomesFromResults:
    def test_statuses(self) -> None:
        data = results(
            scored(20, 80),
            scored(),
            {},
            {**scored(20, 80), "error": "timeout"},
            scored(20, None),
            scored(None, None),
            {"score": {"attempts": [], "status": "refused"}, "error": "judge: refused"},
            {"trial_id": "abc", **scored(55)},
        )
        found = outcomes_from_results(json.loads(json.dumps(data)))
        assert [o.status for o in found] == [
            *("graded", "no_attempts", "failed", "failed"),
            *("graded", "failed", "refused", "graded"),
        ]
        assert found[0].scores == (20, 80)
        assert found[4].scores == (20,), "an attempt without a score is left out"
        assert [o.degraded for o in found] == [True] + [False] * 7
        assert {o.latent for o in found} == {7580}
        assert found[0].trial_id == "7580/0/How?"
        assert found[7].trial_id == "abc"
        counts = metrics.tally(found)
        assert (counts.trials, counts.graded, counts.no_attempts, counts.failed) == (8, 3, 1, 4)

    def test_one_arm_of_several(self) -> None:
        data = results({"arm": "a", **scored(10)}, {"arm": "b", **scored(90)})
        assert [o.first for o in outcomes_from_results(data, arm="b")] == [90]
        assert len(outcomes_from_results(data)) == 2

    @pytest.mark.parametrize(
        "data",
        [
            {},
            {"results_by_feature": 3},
            {"results_by_feature": ["x"]},
            {"results_by_feature": [{"trials": [{}]}]},
            {"results_by_feature": [{"feature_index_in_sae": 1, "trials": [scored("high")]}]},  # type: ignore[arg-type]
            {"results_by_feature": [{"feature_index_in_sae": 1, "trials": [{"score": 3}]}]},
        ],
    )
    def test_what_is_not_a_results_file(self, data: dict[str, Any]) -> None:
        with pytest.raises(UserError, match="not a results file"):
            outcomes_from_results(data)


class TestSummary:
    def test_holds_the_numbers_of_the_single_functions(self) -> None:
        outcomes = random_outcomes(8) + SMALL[6:]
        found: Mapping[str, Any] = metrics.summary(outcomes, seed=5)
        assert found["counts"]["trials"] == len(outcomes)
        rate = metrics.esr_rate(outcomes)
        assert (found["esr_rate"]["count"], found["esr_rate"]["n"]) == (rate.count, rate.n)
        for key, ratio in (
            ("multi_attempt_rate", quantities.MULTI_ATTEMPT),
            ("conditional_improvement_rate", quantities.CONDITIONAL_IMPROVEMENT),
            ("esr_rate", quantities.ESR),
            ("mean_first_score", quantities.FIRST_SCORE),
            ("redraw_null", quantities.REDRAW_NULL),
        ):
            interval = quantities.cluster_interval(outcomes, ratio, seed=5)
            assert interval is not None
            assert found[key]["cluster_interval"] == [interval.low, interval.high]
        null = metrics.redraw_null(outcomes)
        assert found["redraw_null"]["rate"] == null.rate
        assert found["redraw_null"]["excess"] == null.excess
        assert found["score_changes"] == metrics.score_changes(outcomes)

    @pytest.mark.parametrize("outcomes", [[], SMALL[6:], SMALL[1:3], SMALL])
    def test_is_plain_json_whatever_is_missing(self, outcomes: list[Outcome]) -> None:
        found = metrics.summary(outcomes, seed=0)
        assert json.loads(json.dumps(found, allow_nan=False)) == found

    def test_same_seed_same_summary(self) -> None:
        outcomes = random_outcomes(9)
        assert metrics.summary(outcomes, 1) == metrics.summary(list(outcomes), 1)
