"""What a number of trials can tell apart: power and the smallest difference seen.

Trials are taken as independent where nothing was measured yet; latents and prompts that differ
divide their number by the design effect, 1.3 to 5 in the simulations of docs/statistics.md. The
formulas are those of statsmodels for two independent shares.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from esr.analysis.intervals import LEVEL, Interval

POWER = 0.8
"""Chance that a difference is seen."""

ALPHA = 1 - LEVEL
"""Level of the two-sided test by which it is."""

CONTRASTS = ((0.0013, 0.0383), (0.0281, 0.0383))
"""ESR rates under two conditions, worth telling apart: the paper's 3.83 % on 70B against 0.13 %,
which is reported of a difference-of-means vector (data/paper_numbers.json), and against the
paper's 2.81 % with detectors ablated."""


_LEVEL = NormalDist().inv_cdf(1 - ALPHA / 2)
_POWER = NormalDist().inv_cdf(POWER)


def trials_needed(first: float, second: float) -> int:
    """Independent trials per arm that tell two shares apart, by the two-proportion z test.

    Args:
        first: share under one condition, 0 to 1.
        second: share under the other; not the same.

    >>> trials_needed(0.0013, 0.0383), trials_needed(0.0281, 0.0383)
    (222, 4842)
    """
    middle = (first + second) / 2
    # As samplesize_proportions_2indep_onetail of statsmodels, whose import takes a second.
    same = _LEVEL * math.sqrt(2 * middle * (1 - middle))
    apart = _POWER * math.sqrt(first * (1 - first) + second * (1 - second))
    return math.ceil(((same + apart) / (first - second)) ** 2)


def tells(trials: int, first: float, second: float) -> str:
    """Whether so many trials, half of them in either arm, tell two shares apart.

    >>> tells(5000, 0.0281, 0.0383)
    '2.81 from 3.83 %: no, 9,684 would'
    """
    both = 2 * trials_needed(first, second)
    verdict = "yes" if trials >= both else "no"
    return f"{100 * first:.2f} from {100 * second:.2f} %: {verdict}, {both:,} would"


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
    return math.sqrt(arms) * (1 + _POWER / _LEVEL) * (interval.high - interval.low) / 2
