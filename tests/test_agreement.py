"""Agreement of judges, against statsmodels and SciPy, and against counting by hand."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from statsmodels.stats.inter_rater import cohens_kappa

from esr.analysis import metrics
from esr.analysis.agreement import agree, agree_weighted, agree_with_gate
from esr.analysis.crossed import Clusters, rate_interval
from esr.analysis.intervals import Proportion
from esr.analysis.outcomes import Outcome, paired
from esr.analysis.stratified import Design, rates
from esr.judge.base import Status
from esr.runs.plain import plain


def outcome(trial: int, *scores: float) -> Outcome:
    status = Status.GRADED if scores else Status.FAILED
    return Outcome(trial // 5, f"t{trial}", scores or None, status)


def drawn(seed: int, n: int = 200) -> tuple[list[Outcome], list[Outcome]]:
    """Two judges who mostly agree, on trials of n / 5 latents."""
    rng = np.random.default_rng(seed)
    judges: tuple[list[Outcome], list[Outcome]] = ([], [])
    for trial in range(n):
        multi, first = rng.random() < 0.3, rng.integers(0, 101)
        for judge in judges:
            scores = [float(np.clip(first + rng.normal(0, 15), 0, 100))]
            if multi != (rng.random() < 0.1):
                scores.append(float(rng.integers(0, 101)))
            judge.append(outcome(trial, *scores))
    return judges


def test_against_libraries() -> None:
    a, b = drawn(1)
    found = agree(a, b, seed=0)
    for event, share, kappa in (
        ("multi", found.multi, found.multi_kappa),
        ("improved", found.improved, found.improved_kappa),
    ):
        x, y = (np.array([getattr(o, event) for o in outcomes]) for outcomes in (a, b))
        table = [[int((x & y).sum()), int((x & ~y).sum())], [int((~x & y).sum()), 0]]
        table[1][1] = int((~x & ~y).sum())
        assert share.value == pytest.approx(np.mean(x == y))
        assert kappa.value == pytest.approx(cohens_kappa(np.array(table)).kappa)
    first = [[o.first for o in outcomes] for outcomes in (a, b)]
    assert found.pearson.value == pytest.approx(pearsonr(first[0], first[1])[0])
    assert found.spearman.value == pytest.approx(spearmanr(first[0], first[1])[0])
    counts = [[len(o.scores or ()) for o in outcomes] for outcomes in (a, b)]
    assert found.attempts.value == pytest.approx(pearsonr(counts[0], counts[1])[0])
    both = [(x, y) for x, y in zip(a, b, strict=True) if x.multi and y.multi]
    assert found.direction.n == len(both)
    assert found.direction.value == pytest.approx(
        np.mean([np.sign(x.change) == np.sign(y.change) for x, y in both])
    )
    assert found.confirmed.value == pytest.approx(len(both) / sum(o.multi for o in a))
    for estimate in (found.multi, found.multi_kappa, found.pearson, found.spearman):
        assert estimate.interval is not None
        assert estimate.interval.low < estimate.value < estimate.interval.high


def test_interval_width_follows_the_clusters() -> None:
    """Copies of whole latents must not look like new evidence within a latent."""
    a, b = drawn(2, 100)
    tight = agree(a, b, seed=0).multi.interval
    copies = [
        [
            Outcome(o.latent, f"{o.trial_id}-{k}", o.scores, o.status)
            for k in range(9)
            for o in outcomes
        ]
        for outcomes in (a, b)
    ]
    copied = agree(copies[0], copies[1], seed=0).multi.interval
    assert tight is not None
    assert copied is not None
    assert copied.high - copied.low == pytest.approx(tight.high - tight.low, rel=0.1)


def test_perfect_and_undefined() -> None:
    a, _ = drawn(3)
    same = agree(a, a, seed=0)
    assert same.multi.value == same.improved.value == same.direction.value == 1.0
    assert same.multi_kappa.value == pytest.approx(1.0)
    assert same.pearson.value == pytest.approx(1.0)
    assert same.multi.interval is None, "a bootstrap that cannot vary is no certainty"
    single = [outcome(i, 50.0) for i in range(10)]
    none = agree(single, single, seed=0)
    assert none.multi.value == 1.0
    for undefined in (none.multi_kappa, none.direction, none.confirmed, none.pearson):
        assert math.isnan(undefined.value)
        assert plain(undefined)["value"] is None
    empty = agree([], [], seed=0)
    assert empty.pairs == 0
    assert math.isnan(empty.multi.value)


def test_pairs_and_what_is_left_out() -> None:
    a = [outcome(0, 10), outcome(1, 20, 30), outcome(2), outcome(3, 40)]
    b = [outcome(1, 25), outcome(0, 15), outcome(2, 5)]
    assert [(x.trial_id, y.trial_id) for x, y in paired(a, b)] == [("t0", "t0"), ("t1", "t1")]
    found = agree(a, b, seed=0)
    assert (found.pairs, found.unpaired) == (2, 2)
    assert found.multi.value == 0.5
    with pytest.raises(ValueError, match="twice"):
        paired(a + a, b)


def design(multi: list[Outcome], single: list[Outcome], n_single: int) -> Design:
    """All multi-attempts drawn; of single-attempt trials those given, from ``n_single``."""
    strata = {o.trial_id: "multi" for o in multi} | {o.trial_id: "single" for o in single}
    cells = {"multi": Counter((o.latent, "") for o in multi), "single": {(7, ""): n_single}}
    return Design(strata, cells)


def test_rates_undo_the_sampling() -> None:
    # 10 multi-attempt trials, all drawn; 20 of 200 others drawn, which stand for ten each.
    multi = [outcome(i, 10, 50 if i < 6 else 5) for i in range(10)]
    single = [outcome(100 + i, 40) for i in range(19)] + [outcome(119, 40, 90)]
    drawn_so = design(multi, single, 200)
    found = rates([*multi, *single], drawn_so, seed=0)
    assert found.graded == 30
    assert found.multi.value == pytest.approx((10 + 10) / 210)
    assert found.esr.value == pytest.approx((6 + 10) / 210)
    assert found.multi.interval is not None
    # What a judge fails to grade is made up for within its stratum.
    lost = rates([*multi[2:], outcome(0), outcome(1), *single[10:]], drawn_so, seed=0)
    assert lost.graded == 18
    assert lost.multi.value == pytest.approx((10 * 8 / 8 + 200 * 1 / 10) / 210)
    assert lost.esr.value == pytest.approx((10 * 4 / 8 + 200 * 1 / 10) / 210)


def test_a_rate_of_0_has_the_interval_of_as_many_trials_as_its_weights_leave() -> None:
    """Ten trials that stand for themselves and twenty that stand for ten each: 22, not 30."""
    multi = [outcome(i, 50) for i in range(10)]
    single = [outcome(100 + i, 40) for i in range(20)]
    drawn_so = design(multi, single, 200)
    effective = (10 + 200) ** 2 / (10 * 1 + 20 * 10**2)
    assert round(effective) == 22
    found = rates([*multi, *single], drawn_so, seed=0)
    assert (found.multi.value, found.multi.interval) == (0.0, None)
    assert found.multi.two_way == Proportion(0, 22).wilson()
    agreed = agree_weighted([*multi, *single], [*multi, *single], drawn_so, seed=0)
    assert agreed is not None
    assert (agreed.multi.value, agreed.multi.n) == (1.0, 30)
    assert agreed.multi.two_way == Proportion(22, 22).wilson()


def test_an_empty_stratum_gives_no_rate() -> None:
    multi = [outcome(i, 10, 50) for i in range(10)]
    single = [outcome(100 + i, 40) for i in range(5)]
    for graded in (multi, [*multi, *(outcome(100 + i) for i in range(5))], [], single):
        found = rates(graded, design(multi, single, 200), seed=0)
        assert plain(found.multi)["value"] is None
        assert found.esr.interval is None
        assert agree_weighted(graded, graded, design(multi, single, 200), seed=0) is None
        assert agree_with_gate(graded, 0, design(multi, single, 200)) is None
    # Without any single-attempt trial in the population there is nothing missing.
    assert rates(multi, design(multi, [], 0), seed=0).multi.value == 1.0


def test_the_judge_that_graded_everything_is_exact() -> None:
    a, _ = drawn(4)
    found = rates([*a, outcome(999)], Design.whole([*a, outcome(999)]), seed=0)
    assert found.multi.value == pytest.approx(metrics.multi_attempt_rate(a).rate)
    assert found.esr.value == pytest.approx(metrics.esr_rate(a).rate)
    assert found.graded == len(a)


def test_rates_of_all_trials_have_the_interval_of_every_other_arm() -> None:
    a, b = ([replace(o, prompt=f"p{k % 7}") for k, o in enumerate(judge)] for judge in drawn(6))
    found = rates(a, Design.whole(a), seed=0)
    events = np.array([float(o.multi) for o in a])
    clusters = Clusters.of([o.latent for o in a], [o.prompt for o in a])
    expected = rate_interval(events, np.ones(len(a)), clusters)
    assert expected is not None
    assert found.multi.two_way == pytest.approx(expected)
    # Two strata, both drawn whole, are the same trials.
    cells = {
        name: Counter((o.latent, o.prompt) for o in a if o.multi is (name == "multi"))
        for name in ("multi", "single")
    }
    strata = {o.trial_id: "multi" if o.multi else "single" for o in a}
    assert rates(a, Design(strata, cells), seed=0).multi.two_way == pytest.approx(expected)
    agreed = agree(a, b, seed=0)
    same = np.array([float(x.multi == y.multi) for x, y in zip(a, b, strict=True)])
    assert agreed.multi.two_way == pytest.approx(rate_interval(same, np.ones(len(a)), clusters))
    for estimate in (agreed.multi_kappa, agreed.pearson, agreed.direction):
        assert estimate.two_way is not None
        assert estimate.two_way.low < estimate.value < estimate.two_way.high
    assert agree(a, a, seed=0).multi.two_way == Proportion(len(a), len(a)).wilson()


def test_samples_estimate_the_population_without_bias_and_their_intervals_hold_it() -> None:
    """200 samples of a population whose rate is known, latents differing."""
    rng = np.random.default_rng(0)
    truth, values, inside = [], [], 0
    for number in range(200):
        chance = rng.beta(2, 6, 60)
        trials = [
            outcome(5 * k + j, 10, 60) if rng.random() < chance[k] else outcome(5 * k + j, 50)
            for k in range(60)
            for j in range(5)
        ]
        # The second judge finds four in five of these, and one in fifty of the others.
        second = [
            outcome(i, 10, 60) if rng.random() < (0.8 if o.multi else 0.02) else outcome(i, 50)
            for i, o in enumerate(trials)
        ]
        single = [i for i, o in enumerate(trials) if not o.multi]
        chosen = set(rng.choice(single, 60, replace=False).tolist())
        kept = [i for i, o in enumerate(trials) if o.multi or i in chosen]
        drawn_so = Design(
            {trials[i].trial_id: "multi" if trials[i].multi else "single" for i in kept},
            {
                name: Counter((o.latent, "") for o in trials if o.multi is (name == "multi"))
                for name in ("multi", "single")
            },
        )
        found = rates([second[i] for i in kept], drawn_so, seed=number).multi
        expected = float(np.mean(0.8 * 0.25 + 0.02 * 0.75))
        truth.append(np.mean([o.multi for o in second]))
        values.append(found.value)
        assert found.interval is not None
        inside += found.interval.low <= expected <= found.interval.high
    assert np.mean(values) == pytest.approx(np.mean(truth), abs=0.003)
    assert 0.90 <= inside / 200 <= 0.985


def test_weighted_agreement_is_that_of_trials_standing_there_as_often_as_they_weigh() -> None:
    a, b = drawn(5, 150)
    multi = [o for o in a if o.multi]
    single = [o for o in a if not o.multi][:40]
    names = {o.trial_id for o in (*multi, *single)}
    kept = [[o for o in outcomes if o.trial_id in names] for outcomes in (a, b)]
    found = agree_weighted(kept[0], kept[1], design(multi, single, 7 * len(single)), seed=0)
    often = {o.trial_id: 1 for o in multi} | {o.trial_id: 7 for o in single}
    copies = [
        [
            replace(o, trial_id=f"{o.trial_id}-{k}")
            for o in outcomes
            for k in range(often[o.trial_id])
        ]
        for outcomes in kept
    ]
    expected = agree(copies[0], copies[1], seed=0)
    assert found is not None
    assert found.pairs == len(names)
    for name, estimate in vars(expected).items():
        if name not in ("pairs", "unpaired"):
            assert getattr(found, name).value == pytest.approx(estimate.value), name
    assert found.multi.value != pytest.approx(agree(kept[0], kept[1], seed=0).multi.value)
    assert found.direction.n == agree(kept[0], kept[1], seed=0).direction.n


def test_gate_counted_by_hand() -> None:
    outcomes = [
        *(replace(outcome(i, 10, 60), announced=True) for i in range(6)),
        *(replace(outcome(10 + i, 10, 60), announced=False) for i in range(2)),
        replace(outcome(20, 50), announced=True),
        *(replace(outcome(30 + i, 50), announced=False) for i in range(11)),
        outcome(50, 10, 20),
        outcome(51),
    ]
    found = agree_with_gate(outcomes, seed=0)
    assert found is not None
    assert found.pairs == 20
    assert found.multi.value == pytest.approx(17 / 20)
    kappa = cohens_kappa(np.array([[6, 2], [1, 11]])).kappa
    assert found.multi_kappa.value == pytest.approx(kappa)
    assert found.announced.value == pytest.approx(6 / 8)
    assert found.counted.value == pytest.approx(6 / 7)
    assert (found.announced.n, found.counted.n) == (8, 7)
