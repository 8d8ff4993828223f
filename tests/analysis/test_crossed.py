"""Two-way intervals against double sums, the pigeonhole bootstrap, and simulated truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from esr.analysis.crossed import Clusters, Estimate, rate_interval
from esr.analysis.intervals import Array, Proportion

RNG = np.random.default_rng


def crossed(latents: int, trials: int, prompts: int, rng: np.random.Generator) -> Clusters:
    """Each latent on as many different prompts as it has trials, in no order."""
    order = [rng.permutation(prompts)[:trials] for _ in range(latents)]
    pairs = [(f"latent {k}", int(p)) for k, row in enumerate(order) for p in row]
    shuffled = [pairs[i] for i in rng.permutation(len(pairs))]
    return Clusters.of([k for k, _ in shuffled], [p for _, p in shuffled])


def effects(clusters: Clusters, sizes: tuple[float, float], rng: np.random.Generator) -> Array:
    """Normal effects of latents and prompts with these standard deviations: [n_trials]."""
    return sum(
        (
            size * rng.standard_normal(int(codes.max()) + 1)[codes]
            for codes, size in zip(clusters.codes, sizes, strict=True)
        ),
        start=np.zeros(clusters.cells.size),
    )


def test_variance_is_the_sum_over_pairs_that_share_a_latent_or_a_prompt() -> None:
    """Written out trial by trial, on cells that hold one, two and three trials."""
    rng = RNG(0)
    latents = [int(k) for k in rng.integers(0, 6, 60)]
    prompts = [int(k) for k in rng.integers(0, 4, 60)]
    residuals = rng.standard_normal(60) + np.array(latents) - 2.5 + np.array(prompts)
    clusters = Clusters.of(latents, prompts)
    cells = list(zip(latents, prompts, strict=True))

    def between(names: list[object]) -> float:
        shared = sum(
            residuals[i] * residuals[j]
            for i in range(60)
            for j in range(60)
            if names[i] == names[j]
        )
        n = len(set(names))
        return float(shared) * n / (n - 1)

    expected = between([*latents]) + between([*prompts]) - between([*cells])
    assert clusters.variance(residuals) == pytest.approx(expected)
    assert Clusters.of(latents).variance(residuals) == pytest.approx(between([*latents]))


def test_never_below_the_variance_of_either_one() -> None:
    """Trials of a cell alike, and nothing else: what both count twice is all there is."""
    latents, prompts = [0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2]
    clusters = Clusters.of(latents, prompts)
    residuals = np.array([1.0, 1.0, -1.0, -1.0, 0.0, 0.0])
    assert clusters.variance(residuals) == Clusters.of(latents).variance(residuals) == 12.0
    # Prompts that cancel each other within a latent would give a negative sum.
    cancelling = Clusters.of([0, 0, 1, 1], [0, 1, 1, 0])
    assert cancelling.variance(np.array([1.0, -1.0, -1.0, 1.0])) == 16.0
    assert cancelling.variance(np.array([1.0, -1.0, 1.0, -1.0])) == 0.0


def test_standard_error_is_the_pigeonhole_bootstraps() -> None:
    """Latents and prompts drawn apart, a trial as often as both: that counts a cell twice more."""
    rng = RNG(1)
    clusters = crossed(120, 6, 30, rng)
    scores = 50 + effects(clusters, (8.0, 6.0), rng) + 10 * rng.standard_normal(720)
    ones = np.ones(720)
    estimate = Estimate.of(scores, ones, clusters)
    draws = np.empty(4000)
    for k in range(draws.size):
        counts = [rng.multinomial(n, np.full(n, 1 / n)) for n in (120, 30)]
        weights = counts[0][clusters.codes[0]] * counts[1][clusters.codes[1]]
        draws[k] = (weights @ scores) / weights.sum()
    residuals = (scores - estimate.value) / 720
    expected = float(draws.var()) - 2 * float(residuals @ residuals)
    assert estimate.variance == pytest.approx(expected, rel=0.08)
    assert estimate.variance > 1.5 * Clusters.of(clusters.codes[0].tolist()).variance(residuals)


def test_intervals_of_means_and_rates_hold_the_truth_where_one_clustering_does_not() -> None:
    """400 runs of 200 latents under 5 of 20 prompts, of which only few can be in one run."""
    rng, held = RNG(2), {"mean": 0, "rate": 0, "by latent": 0}
    for _ in range(400):
        clusters = crossed(200, 5, 20, rng)
        scores = effects(clusters, (1.0, 1.0), rng) + rng.standard_normal(1000)
        ones, alone = np.ones(1000), Clusters.of(clusters.codes[0].tolist())
        events = (scores > 0).astype(float)
        mean = Estimate.of(scores, ones, clusters).mean_interval()
        rate, by_latent = (rate_interval(events, ones, by) for by in (clusters, alone))
        assert mean
        assert rate
        assert by_latent
        held["mean"] += mean.low <= 0 <= mean.high
        held["rate"] += rate.low <= 0.5 <= rate.high
        held["by latent"] += by_latent.low <= 0.5 <= by_latent.high
    assert 0.92 <= held["mean"] / 400 <= 0.975
    assert 0.92 <= held["rate"] / 400 <= 0.975
    assert held["by latent"] / 400 < 0.7


def moments(x: Array, y: Array) -> Array:
    return np.stack([np.ones(x.size), x, y, x * x, y * y, x * y], axis=1)


def correlation(sums: Array) -> Array:
    n, x, y, xx, yy, xy = np.moveaxis(np.asarray(sums), -1, 0)
    return np.asarray((n * xy - x * y) / np.sqrt((n * xx - x * x) * (n * yy - y * y)))


def test_a_ratio_of_sums_is_the_same_by_numerical_derivative() -> None:
    rng = RNG(3)
    clusters, counted = crossed(20, 6, 9, rng), (rng.random(120) < 0.8).astype(float)
    events = (rng.random(120) < 0.4) * counted
    sums = Estimate.of_sums(
        lambda t: t[..., 0] / t[..., 1], np.stack([events, counted], 1), clusters
    )
    direct = Estimate.of(events, counted, clusters)
    assert sums.value == direct.value
    assert sums.variance == pytest.approx(direct.variance, rel=1e-6)
    assert sums.quantile == direct.quantile


def test_a_correlation_of_independent_trials_has_fishers_interval() -> None:
    from scipy.stats import pearsonr

    rng = RNG(4)
    x = rng.standard_normal(4000)
    y = 0.6 * x + 0.8 * rng.standard_normal(4000)
    alone = Clusters.of(range(4000))
    found = Estimate.of_sums(correlation, moments(x, y), alone).correlation_interval()
    expected = pearsonr(x, y).confidence_interval()
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.003)


def test_an_interval_of_a_correlation_holds_the_truth_where_trials_are_crossed() -> None:
    rng, held, alone = RNG(5), 0, 0
    for _ in range(300):
        clusters = crossed(60, 5, 20, rng)
        shared = effects(clusters, (1.0, 1.0), rng)
        x, y = (shared + rng.standard_normal(300) for _ in range(2))
        for by, count in ((clusters, True), (Clusters.of(range(300)), False)):
            ends = Estimate.of_sums(correlation, moments(x, y), by).correlation_interval()
            assert ends is not None
            inside = ends.low <= 2 / 3 <= ends.high
            held, alone = held + (inside and count), alone + (inside and not count)
    assert 0.90 <= held / 300 <= 0.985
    assert alone < held


def test_scale_of_rates_is_wilsons() -> None:
    """Binomial variance and a normal quantile give statsmodels' interval to the last digit."""
    from scipy.stats import norm

    for count, n in ((1, 7), (19, 500), (499, 500)):
        rate = count / n
        estimate = Estimate(rate, rate * (1 - rate) / n, float(norm.ppf(0.975)))
        assert estimate.rate_interval() == pytest.approx(Proportion(count, n).wilson())


def test_nothing_and_everything_have_wilsons_interval() -> None:
    clusters = Clusters.of([0, 0, 1, 1], ["a", "b", "a", "b"])
    ones = np.ones(4)
    assert rate_interval(np.zeros(4), ones, clusters) == Proportion(0, 4).wilson()
    assert rate_interval(ones, ones, clusters) == Proportion(4, 4).wilson()


def test_trials_outside_the_denominator_change_nothing() -> None:
    """Nor do they lend their latent or prompt a degree of freedom."""
    events = np.array([1.0, 0, 1, 0, 0, 0, 0])
    counted = np.array([1.0, 1, 1, 1, 1, 1, 0])
    latents, prompts = [0, 0, 1, 1, 2, 2, 9], ["a", "b", "b", "c", "c", "a", "z"]
    inside = Clusters.of(latents[:6], prompts[:6])
    expected = rate_interval(events[:6], counted[:6], inside)
    assert expected is not None
    whole = Clusters.of(latents, prompts)
    assert rate_interval(events, counted, whole) == expected
    assert Estimate.of(events, counted, whole).quantile == pytest.approx(4.302653)  # t, 2 degrees


def test_no_interval_where_there_is_nothing_to_judge_by() -> None:
    ones, events = np.ones(4), np.array([1.0, 0, 1, 0])
    one_prompt = Clusters.of([0, 0, 1, 1], ["a"] * 4)
    assert rate_interval(events, ones, one_prompt) is None
    assert rate_interval(events, np.zeros(4), one_prompt) is None
    alike = Clusters.of([0, 0, 1, 1], ["a", "b", "b", "a"])
    assert Estimate.of(np.array([0.2, 0.7, 0.1, 0.7]), ones, alike).mean_interval() is not None
    assert Estimate.of(np.array([0.1, 0.7, 0.1, 0.7]), ones, alike).mean_interval() is None
    assert math.isnan(Estimate.of(events, np.zeros(4), alike).value)
