"""The sign-flip test against all sign patterns, scipy, and simulated nulls."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from esr.analysis.comparison import paired_test
from esr.analysis.intervals import sign_flip
from esr.analysis.outcomes import Outcome
from esr.judge.base import Status


def test_equals_all_sign_patterns() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        differences = [int(d) for d in rng.integers(-4, 6, 9)]
        patterns = itertools.product((1, -1), repeat=9)
        sums = [sum(s * d for s, d in zip(signs, differences, strict=True)) for signs in patterns]
        expected = np.mean([abs(total) >= abs(sum(differences)) for total in sums])
        assert sign_flip(differences).p_value == pytest.approx(expected)


def test_one_event_per_cluster_is_the_binomial_test() -> None:
    """Also where there are more clusters than patterns could be listed for."""
    for ups, downs in ((6, 0), (5, 0), (40, 60), (700, 640)):
        expected = stats.binomtest(ups, ups + downs).pvalue
        assert sign_flip([1] * ups + [-1] * downs + [0] * 9).p_value == pytest.approx(expected)


def test_nothing_to_flip() -> None:
    assert sign_flip([]).p_value == sign_flip([0, 0]).p_value == 1


def arm(shares: np.ndarray, trials: int, rng: np.random.Generator) -> list[Outcome]:
    """Multi-attempt by chance; shares: [n_latents]."""
    events = rng.random((shares.size, trials)) < shares[:, None]
    return [
        Outcome(k, f"{k}/{i}", (1.0, 2.0) if event else (1.0,), Status.GRADED)
        for k, row in enumerate(events)
        for i, event in enumerate(row)
    ]


@pytest.mark.parametrize("spread", [0.0, 2.0])
def test_size_under_a_true_null(spread: float) -> None:
    """Arms equal on average; each latent may take to either of them (log odds, sd ``spread``)."""
    rng, rejected = np.random.default_rng(1), {"McNemar": 0, "sign flip": 0}
    for _ in range(300):
        middle = -1 + rng.standard_normal(60)
        odds = [np.exp(middle + spread * rng.standard_normal(60)) for _ in range(2)]
        a, b = (arm(o / (1 + o), 10, rng) for o in odds)
        compared = paired_test(a, b, "multi")
        rejected["McNemar"] += compared.test.p_value < 0.05
        rejected["sign flip"] += compared.sign_flip.p_value < 0.05
    assert 0.02 <= rejected["sign flip"] / 300 <= 0.085
    if spread:
        assert rejected["McNemar"] / 300 > 0.2
