"""Numbers that no option changes and every result rests on: they name a run like its options."""

from __future__ import annotations

from typing import Any

TARGET_SCORE = 30.0
"""Mean first-attempt score at the threshold (paper A.1.4)."""

TRIES_PER_ROUND = 3
"""How often a round without any scored response is tried before it is skipped."""

SCORE_WEIGHT = 5.0
"""What a mean score counts for against the Jeffreys prior Beta(0.5, 0.5) (paper A.1.4)."""

GRID_POINTS = 10_000
"""Of the posterior over thresholds (paper A.1.4)."""

MIN_CONCRETENESS = 65.0
"""Least rating of a label under the release's filter."""

MOST_ACTIVE_PER_PROMPT = 100
"""Latents barred from a prompt under the paper's filter (A.1.2)."""

POOL_FACTOR, POOL_DOUBLINGS = 3, 3
"""Candidates drawn per wanted latent, and how often the pool is doubled (release)."""


def identity() -> dict[str, Any]:
    """All of them, by name."""
    return {name: value for name, value in globals().items() if name.isupper()}
