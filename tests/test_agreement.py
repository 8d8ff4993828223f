"""Agreement of judges, against statsmodels and SciPy, and against counting by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from statsmodels.stats.inter_rater import cohens_kappa

from esr.analysis.agreement import agree, weighted_rates
from esr.analysis.outcomes import Outcome, paired
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


def test_weighted_rates_undo_the_sampling() -> None:
    # 10 multi-attempt trials, all drawn; 20 of 200 others drawn, which stand for ten each.
    multi = [outcome(i, 10, 50 if i < 6 else 5) for i in range(10)]
    single = [outcome(100 + i, 40) for i in range(19)] + [outcome(119, 40, 90)]
    weights = {o.trial_id: 1.0 for o in multi} | {o.trial_id: 10.0 for o in single}
    found = weighted_rates([*multi, *single], weights, seed=0)
    assert found.graded == 30
    assert found.multi.value == pytest.approx((10 + 10) / 210)
    assert found.esr.value == pytest.approx((6 + 10) / 210)
    assert found.multi.interval is not None
    failed = [outcome(i) for i in range(3)]
    nothing = weighted_rates(failed, dict.fromkeys(("t0", "t1", "t2"), 1.0), seed=0)
    assert plain(nothing)["multi"] == {"value": None, "n": 0, "interval": None}
