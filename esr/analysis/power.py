"""What a number of trials can tell apart: power and the smallest difference seen.

Trials are taken as independent where nothing was measured yet; latents and prompts that differ
divide their number by the design effect (docs/statistics.md: 1.5 to 4 where prompts differ as they
did in simulations). The formulas are those of statsmodels for two independent shares.
"""

from __future__ import annotations

import math

from esr.analysis.intervals import LEVEL, Interval

POWER = 0.8
"""Chance that a difference is seen."""

ALPHA = 1 - LEVEL
"""Level of the two-sided test by which it is."""


def trials_needed(first: float, second: float) -> int:
    """Independent trials per arm that tell two shares apart, by the two-proportion z test.

    Args:
        first: share under one condition, 0 to 1.
        second: share under the other; not the same.

    >>> trials_needed(0.0013, 0.0383), trials_needed(0.0281, 0.0383)
    (222, 4842)
    """
    from statsmodels.stats.proportion import samplesize_proportions_2indep_onetail

    # Two-sided in spite of its name: it takes the quantile of one tail at half the level.
    n = samplesize_proportions_2indep_onetail(first - second, second, POWER, alpha=ALPHA)
    return math.ceil(float(n))


def smallest_difference(interval: Interval | None, arms: int = 2) -> float | None:
    """Difference that is seen with :data:`POWER`, from how wide a measured interval is.

    The interval counts its clusters, so this does too.

    Args:
        interval: of one arm, at :data:`esr.analysis.intervals.LEVEL`.
        arms: 2 for the difference of two such arms that share nothing; 1 for that from a number
            known without error.

    Returns:
        In the unit of the interval; None without one.
    """
    if interval is None or not all(map(math.isfinite, interval)):
        return None
    from scipy.stats import norm

    per_half_width = 1 + float(norm.isf(1 - POWER) / norm.isf(ALPHA / 2))
    return math.sqrt(arms) * per_half_width * (interval.high - interval.low) / 2
