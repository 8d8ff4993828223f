"""Probabilistic bisection: known roots, and an independent brute-force Bayes computation."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import mpmath
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm, truncnorm

from esr.errors import UserError
from esr.models import REGISTRY
from esr.pipeline.bisection import Posterior, observe


def falling_score(boost: float, root: float, slope: float) -> float:
    """A score that falls with the boost and is exactly 30 at the root."""
    return float(100.0 / (1.0 + np.exp((boost - root) / slope + np.log(7.0 / 3.0))))


def bisect(posterior: Posterior, score_at: Callable[[float], float], rounds: int) -> Posterior:
    for _ in range(rounds):
        boost = posterior.median()
        posterior = posterior.update(boost, score_at(boost))
    return posterior


def brute_force(
    prior: tuple[float, float],
    low: float,
    high: float,
    n_points: int,
    rounds: list[tuple[int, float]],
) -> list[float]:
    """Bayes' rule in 50-digit arithmetic, point by point, with the Beta law integrated by hand.

    Shares no code with the module: lists and loops, unnormalised until the end.
    """
    mpmath.mp.dps = 50
    mean, sd = map(mpmath.mpf, prior)
    step = (mpmath.mpf(high) - low) / (n_points - 1)
    points = [mpmath.mpf(low) + i * step for i in range(n_points)]
    weights = [mpmath.e ** (-(((x - mean) / sd) ** 2) / 2) for x in points]
    target = mpmath.mpf(3) / 10
    for cell, score in rounds:
        s = mpmath.mpf(score) / 100
        a, b = mpmath.mpf("0.5") + 5 * s, mpmath.mpf("0.5") + 5 * (1 - s)
        # The substitution t = sin(u)^2 removes the end-point singularities of the Beta density.
        below = mpmath.quad(
            lambda u, a=a, b=b: 2 * mpmath.sin(u) ** (2 * a - 1) * mpmath.cos(u) ** (2 * b - 1),
            [0, mpmath.asin(mpmath.sqrt(target))],
        ) / mpmath.beta(a, b)
        to_the_right = s >= target
        p = 1 - below if to_the_right else below
        if p < mpmath.mpf("0.5"):
            p, to_the_right = 1 - p, not to_the_right
        for i in range(n_points):
            if i == cell:
                weights[i] *= mpmath.sqrt(p * (1 - p))
            elif (i > cell) == to_the_right:
                weights[i] *= p
            else:
                weights[i] *= 1 - p
    total = mpmath.fsum(weights)
    return [float(w / total) for w in weights]


def test_posterior_equals_brute_force_bayes() -> None:
    scores = [0, 5, 28.5, 29.9, 30, 30.1, 55, 100]
    cells = [50, 10, 30, 31, 30, 29, 100, 0]
    posterior = Posterior.prior(7, 5, 0, 20, n_points=101)
    for cell, score in zip(cells, scores, strict=True):
        posterior = posterior.update(float(posterior.grid[cell]), score)
    exact = brute_force((7, 5), 0, 20, 101, list(zip(cells, scores, strict=True)))
    np.testing.assert_allclose(posterior.mass, exact, rtol=1e-9)


def test_prior_is_the_truncated_gaussian() -> None:
    posterior = Posterior.prior(7, 5, 0, 100)
    assert len(posterior.grid) == 10_000
    law = truncnorm((0 - 7) / 5, (100 - 7) / 5, loc=7, scale=5)
    step = posterior.grid[1]
    assert posterior.median() == pytest.approx(law.median(), abs=2 * step)
    low, high = posterior.interval(0.9)
    assert low == pytest.approx(law.ppf(0.05), abs=2 * step)
    assert high == pytest.approx(law.ppf(0.95), abs=2 * step)


def test_median_is_a_grid_point() -> None:
    posterior = Posterior.prior(150, 75, 0, 300)
    assert posterior.median() in posterior.grid
    assert posterior.update(posterior.median(), 80).median() in posterior.grid


def test_a_far_off_prior_mean_does_not_underflow() -> None:
    posterior = Posterior.prior(1e6, 1.0, 0, 100)
    assert posterior.mass.sum() == pytest.approx(1)
    assert posterior.median() == 100


@pytest.mark.parametrize("root", [0.5, 3.0, 9.4, 20.0])
def test_finds_the_root_of_a_noiseless_score(root: float) -> None:
    start = Posterior.prior(7, 5, 0, 100)
    found = bisect(start, lambda boost: falling_score(boost, root, slope=0.5), 60)
    assert found.median() == pytest.approx(root, abs=0.1)
    low, high = found.interval()
    assert low <= root <= high


def test_ten_rounds_pin_down_a_sharp_fall() -> None:
    """Scores far from the target say much: the paper's ten rounds narrow the bounds 0 to 100."""
    found = bisect(Posterior.prior(7, 5, 0, 100), lambda boost: 95.0 if boost < 9.4 else 0.0, 10)
    low, high = found.interval()
    assert low <= 9.4 <= high
    assert high - low < 1.0
    assert found.median() == pytest.approx(9.4, abs=0.1)


def test_the_rule_settles_a_little_below_the_target() -> None:
    """At a score of 28.51 the Beta law's median is 0.3: there both sides are equally likely."""
    balance = brentq(
        lambda s: float(mpmath.betainc(0.5 + 5 * s, 5.5 - 5 * s, 0, 0.3, regularized=True)) - 0.5,
        0.2,
        0.3,
    )
    assert balance == pytest.approx(0.2851, abs=1e-4)
    found = bisect(Posterior.prior(7, 5, 0, 100), lambda x: falling_score(x, 9.4, 0.5), 200)
    assert falling_score(found.median(), 9.4, 0.5) == pytest.approx(100 * balance, abs=0.5)
    assert observe(100 * balance + 0.01).right
    assert not observe(100 * balance - 0.01).right


@pytest.mark.parametrize("key", ["70b", "gemma-2b", "gemma-9b", "gemma-27b"])
def test_ten_noisy_rounds_get_near_the_root(key: str) -> None:
    """As the paper runs it: 10 rounds, mean of k noisy scores in steps of 5, real priors."""
    calibration = REGISTRY[key].calibration
    rng = np.random.default_rng(7)
    root = calibration.prior_mean * 1.3
    slope = root / 8
    errors = []
    for _ in range(200):

        def score_at(boost: float) -> float:
            mean = falling_score(boost, root, slope) / 100
            draws = rng.beta(4 * mean + 0.01, 4 * (1 - mean) + 0.01, calibration.prompts_per_round)
            return float(np.mean(5 * np.round(20 * draws)))

        prior = Posterior.prior(
            calibration.prior_mean, calibration.prior_sd, calibration.low, calibration.high
        )
        errors.append(bisect(prior, score_at, calibration.rounds).median() - root)
    before = abs(prior.median() - root)
    assert np.median(np.abs(errors)) < 0.75 * before


def test_noise_averages_out_with_more_rounds() -> None:
    rng = np.random.default_rng(3)

    def score_at(boost: float) -> float:
        return float(np.clip(falling_score(boost, 12.0, 1.0) + rng.normal(0, 15), 0, 100))

    def spread(rounds: int) -> float:
        prior = Posterior.prior(7, 5, 0, 100)
        found = [bisect(prior, score_at, rounds).median() for _ in range(40)]
        return float(np.sqrt(np.mean(np.square(np.subtract(found, 12.0)))))

    few, many = spread(3), spread(60)
    assert many < 0.4
    assert many < few / 2


def test_observation_sides() -> None:
    assert observe(90).right
    assert observe(30).right
    assert not observe(5).right
    assert all(
        observe(high).probability > observe(low).probability
        for low, high in pairwise([30, 40, 60, 80, 100])
    )


def test_sign_is_turned_round_where_the_beta_law_says_so() -> None:
    """Between 28.51 and 30 the naive sign, left, has less than 1/2."""
    flipped = observe(29.0)
    assert flipped.right
    assert flipped.probability > 0.5
    assert not observe(28.0).right
    below = 1 - observe(29.0).probability
    assert below == pytest.approx(
        float(mpmath.betainc(0.5 + 1.45, 0.5 + 3.55, 0, 0.3, regularized=True)), rel=1e-12
    )


def test_exact_probability_for_integer_parameters() -> None:
    """Score 10: Beta(1, 5), so P(below 0.3) = 1 - 0.7^5; score 50: Beta(3, 3), a polynomial."""
    assert observe(10).probability == pytest.approx(1 - 0.7**5, rel=1e-12)
    below = 10 * 0.3**3 - 15 * 0.3**4 + 6 * 0.3**5
    assert observe(50).probability == pytest.approx(1 - below, rel=1e-12)


def test_sampled_cell_gets_the_geometric_mean() -> None:
    before = Posterior.prior(5, 5, 0, 10, n_points=11)
    after = before.update(4.0, 10)
    p = 1 - 0.7**5
    factor = after.mass / before.mass
    assert factor[4] / factor[0] == pytest.approx(np.sqrt(p * (1 - p)) / p)
    assert factor[5] / factor[0] == pytest.approx((1 - p) / p)
    np.testing.assert_allclose(factor[:4], factor[0])
    np.testing.assert_allclose(factor[5:], factor[5])


def test_nearest_cell_for_a_boost_between_grid_points() -> None:
    before = Posterior.prior(5, 5, 0, 10, n_points=11)
    np.testing.assert_array_equal(before.update(4.4, 10).mass, before.update(4.0, 10).mass)


def test_update_is_pure_and_keeps_the_mass() -> None:
    before = Posterior.prior(7, 5, 0, 100)
    copy = before.mass.copy()
    after = before.update(7.0, 55)
    np.testing.assert_array_equal(before.mass, copy)
    assert after.mass.sum() == pytest.approx(1)
    assert after.median() > before.median()


def test_another_target() -> None:
    assert not observe(40, target=50).right
    assert observe(40, target=20).right


def test_repeated_equal_answers_leave_every_point_possible() -> None:
    posterior = Posterior.prior(7, 5, 0, 100, n_points=101)
    for _ in range(20):
        posterior = posterior.update(50.0, 0)
    assert np.isfinite(posterior.mass).all()
    assert (posterior.mass[:90] > 0).all()


@pytest.mark.parametrize("score", [-0.1, 100.1, float("nan")])
def test_impossible_scores_are_refused(score: float) -> None:
    with pytest.raises(ValueError, match="mean score"):
        Posterior.prior(7, 5, 0, 100).update(7, score)


def test_a_boost_outside_the_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        Posterior.prior(7, 5, 0, 100).update(101, 50)


@pytest.mark.parametrize(
    ("name", "value"), [("sd", 0.0), ("high", 0.0), ("mean", float("nan")), ("n_points", 1)]
)
def test_bad_settings_get_one_line(name: str, value: float) -> None:
    settings: dict[str, Any] = {"mean": 7.0, "sd": 5.0, "low": 0.0, "high": 100.0, "n_points": 100}
    with pytest.raises(UserError, match="calibration"):
        Posterior.prior(**(settings | {name: value}))


def test_registered_calibrations_make_a_prior() -> None:
    for spec in REGISTRY.values():
        c = spec.calibration
        posterior = Posterior.prior(c.prior_mean, c.prior_sd, c.low, c.high)
        within = norm(c.prior_mean, c.prior_sd).cdf([c.low, c.high])
        middle = norm(c.prior_mean, c.prior_sd).ppf(within.mean())
        assert posterior.median() == pytest.approx(middle, abs=2 * (c.high - c.low) / 9_999)
