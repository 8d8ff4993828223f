"""Matching latents: for each target its nearest controls, without replacement, within calipers.

Used by the random-latent control (paper A.3.3): a random set says something about detectors only
if its latents are as often and as strongly active as theirs. Pure functions of arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

CALIPER = 0.5
"""Largest difference in any feature, in standard deviations of the candidates, unless told."""


def standardised(
    values: NDArray[np.float64], reference: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Values [n, n_features] in standard deviations of ``reference`` [m, n_features].

    A feature that does not vary in the reference is left as it is, centred.
    """
    spread = reference.std(axis=0)
    scaled: NDArray[np.float64] = (values - reference.mean(axis=0)) / np.where(
        spread > 0, spread, 1.0
    )
    return scaled


def match(
    targets: NDArray[np.float64],
    candidates: NDArray[np.float64],
    per_target: int,
    caliper: float = CALIPER,
) -> NDArray[np.int64]:
    """For each target ``per_target`` candidates, each candidate used at most once.

    As many targets as possible are matched within the caliper, and among all ways to do so the
    one of the smallest total distance is taken: the result does not depend on any order.

    Args:
        targets: [n_targets, n_features], standardised.
        candidates: [n_candidates, n_features], standardised alike.
        per_target: controls per target.
        caliper: largest absolute difference in any single feature.

    Returns:
        [n_targets, per_target] indices of candidates, the nearest first; -1 where the caliper
        leaves none.
    """
    n_targets, n_candidates = len(targets), len(candidates)
    matches = np.full((n_targets, per_target), -1, dtype=np.int64)
    if not (n_targets and n_candidates):
        return matches
    from scipy.optimize import linear_sum_assignment

    difference = np.abs(targets[:, None, :] - candidates[None, :, :])
    distance = np.sqrt((difference**2).sum(axis=2))
    allowed: NDArray[np.bool_] = np.all(difference <= caliper, axis=2)
    # Far enough above any sum of allowed distances, so that no match is given up for nearness.
    barred = (distance.max() + 1.0) * (n_targets * per_target + 1)
    cost = np.repeat(np.where(allowed, distance, barred), per_target, axis=0)
    rows, columns = linear_sum_assignment(cost)
    for target in range(n_targets):
        own = columns[rows // per_target == target]
        own = own[allowed[target, own]]
        own = own[np.argsort(distance[target, own], kind="stable")]
        matches[target, : len(own)] = own
    return matches


def deal(matches: NDArray[np.int64], rng: np.random.Generator) -> list[list[int]]:
    """Deal the controls of each target to as many sets as it has, at random.

    Args:
        matches: [n_targets, n_sets] of :func:`match`.
        rng: of :func:`esr.runs.seeds.generator`.

    Returns:
        n_sets lists [n_targets] of candidate indices; -1 where a target has too few controls.
    """
    dealt = np.array([rng.permutation(row) for row in matches], dtype=np.int64)
    dealt = dealt.reshape(matches.shape)
    return [[int(k) for k in dealt[:, number]] for number in range(matches.shape[1])]


def quality(
    targets: NDArray[np.float64],
    candidates: NDArray[np.float64],
    chosen: Sequence[int],
    names: Sequence[str],
) -> dict[str, Any]:
    """How well one set of controls fits.

    Args:
        targets: [n_targets, n_features], standardised.
        candidates: [n_candidates, n_features], standardised alike.
        chosen: [n_targets] index of each target's control; -1 for none.
        names: [n_features]

    Returns:
        counts, the largest distance, and per feature the mean difference (control minus target)
        and the largest absolute one, in standard deviations of the candidates.
    """
    pairs = [(target, control) for target, control in enumerate(chosen) if control >= 0]
    fit: dict[str, Any] = {"targets": len(chosen), "matched": len(pairs)}
    if not pairs:
        return fit
    difference = candidates[[c for _, c in pairs]] - targets[[t for t, _ in pairs]]
    fit["largest_distance"] = float(np.sqrt((difference**2).sum(axis=1)).max())
    fit["mean_difference"] = _named(names, difference.mean(axis=0))
    fit["largest_difference"] = _named(names, np.abs(difference).max(axis=0))
    return fit


def _named(names: Sequence[str], values: NDArray[np.float64]) -> dict[str, float]:
    return {name: float(value) for name, value in zip(names, values, strict=True)}
