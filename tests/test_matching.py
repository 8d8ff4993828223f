"""Matching: calipers are never broken, no control is used twice, as many as possible match."""

from __future__ import annotations

import numpy as np
import pytest

from esr.analysis import matching


def points(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 2))


@pytest.mark.parametrize("caliper", [0.05, 0.2, 1.0])
def test_calipers_hold_and_no_control_is_used_twice(caliper: float) -> None:
    targets, candidates = points(1, 12), points(2, 60)
    found = matching.match(targets, candidates, 3, caliper)
    used = found[found >= 0]
    assert len(set(used.tolist())) == len(used)
    for target, row in enumerate(found):
        kept = row[row >= 0]
        assert (np.abs(candidates[kept] - targets[target]) <= caliper).all()
        distances = np.linalg.norm(candidates[kept] - targets[target], axis=1)
        assert (np.diff(distances) >= 0).all(), "the nearest comes first"
    if caliper == 0.05:
        assert (found == -1).any(), "a tight caliper leaves some without a control"


def test_as_many_as_possible_are_matched() -> None:
    """Greedy nearest-first would give the middle control to the left target and lose the right."""
    targets = np.array([[0.0], [0.8]])
    candidates = np.array([[0.4], [-0.5]])
    found = matching.match(targets, candidates, 1, 0.6)
    assert found.tolist() == [[1], [0]]


def test_the_nearest_are_taken_whatever_the_order() -> None:
    targets, candidates = points(3, 6), points(4, 500)
    one = matching.match(targets, candidates, 1, 5.0)[:, 0]
    order = np.random.default_rng(0).permutation(6)
    other = matching.match(targets[order], candidates, 1, 5.0)[:, 0]
    assert np.array_equal(one[order], other)
    nearest = np.linalg.norm(targets[:, None] - candidates[None], axis=2).argmin(axis=1)
    assert len(set(nearest.tolist())) == 6
    assert np.array_equal(one, nearest)


def test_nothing_to_match() -> None:
    assert matching.match(np.zeros((0, 2)), points(0, 4), 2).shape == (0, 2)
    assert (matching.match(points(0, 4), np.zeros((0, 2)), 2) == -1).all()
    far = matching.match(np.zeros((2, 2)), np.full((5, 2), 9.0), 2, 0.5)
    assert (far == -1).all()
    assert matching.quality(np.zeros((2, 2)), np.zeros((5, 2)), [-1, -1], ["a", "b"]) == {
        "targets": 2,
        "matched": 0,
    }


def test_dealing_gives_each_set_one_control_per_target() -> None:
    matches = np.arange(12).reshape(4, 3)
    sets = matching.deal(matches, np.random.default_rng(5))
    assert len(sets) == 3
    for target in range(4):
        assert {chosen[target] for chosen in sets} == set(matches[target].tolist())
    assert sets != matching.deal(matches, np.random.default_rng(6))


def test_quality_is_in_standard_deviations() -> None:
    raw = np.array([[1.0, 5.0], [3.0, 5.0], [5.0, 5.0]])
    scaled = matching.standardised(raw, raw)
    assert np.allclose(scaled[:, 0].std(), 1.0)
    assert (scaled[:, 1] == 0).all(), "a feature that does not vary"
    facts = matching.quality(scaled, scaled, [1, -1, 2], ["size", "kind"])
    spread = raw[:, 0].std()
    assert facts["matched"] == 2
    assert facts["mean_difference"]["size"] == pytest.approx(1.0 / spread)
    assert facts["largest_difference"]["size"] == pytest.approx(2.0 / spread)
    assert facts["largest_distance"] == pytest.approx(2.0 / spread)
