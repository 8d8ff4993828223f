"""Fitting: each method against its formula on states with a known direction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from esr.directions.fitting import Split, auc, fit_second, fit_vector, measure
from esr.errors import UserError

WIDTH = 5
AXIS = torch.tensor([0.6, 0.8, 0.0, 0.0, 0.0])


def split(n: int = 60, shift: float = 3.0) -> Split:
    g = torch.Generator().manual_seed(4)
    noise = torch.randn(2, n, WIDTH, generator=g)
    noise[:, :, 4] *= 4
    return Split.of(noise[0] + shift * AXIS + 1, noise[1] - shift * AXIS + 1, seed=0)


def test_difference_of_means() -> None:
    states = split()
    vector, fit = fit_vector(states, "diffmean", 3)
    raw = states.positive.mean(0) - states.negative.mean(0)
    torch.testing.assert_close(vector, raw / raw.norm())
    assert fit.norm == pytest.approx(float(raw.norm()), rel=1e-5)
    # Along it the gap of the class means is its length, and the middle is undecided.
    assert fit.gap == pytest.approx(fit.norm, rel=1e-5)
    middle = (states.positive.mean(0) + states.negative.mean(0)) / 2
    assert fit.boundary == pytest.approx(float(middle @ vector), rel=1e-4)
    assert fit.metrics["auc"] == 1.0
    assert fit.positive is not None
    assert fit.positive.n == 48
    assert fit.slope is None


def test_logistic_regression_minimises_its_loss() -> None:
    states = split(shift=0.7)
    x = torch.cat([states.positive, states.negative]).double().numpy()
    y = np.r_[np.ones(48), -np.ones(48)]

    def loss(w: np.ndarray) -> float:
        return float(np.logaddexp(0, -y * (x @ w[:-1] + w[-1])).sum() + 0.5 * w[:-1] @ w[:-1])

    best = minimize(loss, np.zeros(WIDTH + 1), tol=1e-12).x
    vector, fit = fit_vector(states, "logistic", 3)
    length = np.linalg.norm(best[:-1])
    np.testing.assert_allclose(vector.numpy(), best[:-1] / length, atol=2e-3)
    assert fit.slope == pytest.approx(length, rel=5e-3)
    assert fit.boundary == pytest.approx(-best[-1] / length, abs=5e-3)
    assert 0.6 < fit.metrics["auc"] < 1


def test_the_penalty_of_ridge_is_chosen_by_validation() -> None:
    # Labels that say nothing: the strongest penalty wins.
    g = torch.Generator().manual_seed(1)
    noise = torch.randn(2, 60, WIDTH, generator=g)
    _, fit = fit_vector(Split.of(noise[0], noise[1], 0), "ridge", 3)
    assert fit.metrics["C"] <= 1e-2
    _, fit = fit_vector(split(shift=1.0), "ridge", 3)
    assert fit.metrics["C"] >= 1e-2


def test_principal_component_points_to_the_concept() -> None:
    states = split(shift=8.0)
    vector, _ = fit_vector(states, "pca", 3)
    x = torch.cat([states.positive, states.negative]).double()
    _, _, right = torch.linalg.svd(x - x.mean(0))
    first = right[0] * torch.sign(right[0] @ AXIS.double())
    torch.testing.assert_close(vector.double(), first, atol=1e-5, rtol=0)


def test_second_vector_is_the_largest_rest() -> None:
    states = split()
    axis, _ = fit_vector(states, "diffmean", 3)
    second, fit = fit_second(states, axis, 3)
    assert abs(float(second @ axis)) < 1e-6
    assert float(second.norm()) == pytest.approx(1.0)
    # The noise has four times the deviation along the last coordinate.
    assert abs(float(second[4])) > 0.95
    assert fit.role == "second"


def test_measuring_a_given_vector_keeps_its_length() -> None:
    vector, fit = measure(split(), 7 * AXIS, 2)
    torch.testing.assert_close(vector, AXIS)
    assert fit.layer == 2
    assert fit.norm == pytest.approx(7.0)
    assert fit.gap == pytest.approx(6.0, abs=0.5)


def test_auc_counts_pairs() -> None:
    positive, negative = torch.tensor([1.0, 3.0]), torch.tensor([0.0, 2.0])
    assert auc(positive, negative) == 0.75


def test_too_few_texts_are_refused_in_one_line() -> None:
    states = torch.randn(9, WIDTH, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UserError, match="9 texts about the concept; allowed: at least 10"):
        Split.of(states, states, 0)
    with pytest.raises(UserError, match="9 texts not about it"):
        Split.of(torch.cat([states, states]), states, 0)


def test_texts_that_differ_in_nothing_have_no_direction() -> None:
    states = torch.ones(20, WIDTH)
    with pytest.raises(UserError, match="length 0"):
        fit_vector(Split.of(states, states, 0), "diffmean", 3)
