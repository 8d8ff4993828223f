"""Power against statsmodels and by simulation; the line of ``--dry-run``."""

from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats.proportion import (
    power_proportions_2indep,
    samplesize_proportions_2indep_onetail,
)

from esr.analysis import power
from esr.analysis.intervals import Interval, Proportion
from esr.pipeline.dry_run import _power
from esr.pipeline.stages import Stage


@pytest.mark.parametrize(
    ("first", "second"), [(0.0013, 0.0383), (0.0281, 0.0383), (0.0552, 0.0738), (0.7, 0.5)]
)
def test_trials_needed_are_those_of_statsmodels(first: float, second: float) -> None:
    n = power.trials_needed(first, second)
    assert n == math.ceil(
        samplesize_proportions_2indep_onetail(first - second, second, 0.8, alpha=0.05)
    )
    for size, enough in ((n, True), (n - 1, False)):
        chance = power_proportions_2indep(
            first - second, second, size, alpha=0.05, return_results=False
        )
        assert bool(chance >= 0.8) is enough


def test_the_line_of_the_plan() -> None:
    assert power.tells(5000, 0.0013, 0.0383) == "0.13 from 3.83 %: yes, 444 would"
    assert power.tells(5000, 0.0281, 0.0383) == "2.81 from 3.83 %: no, 9,684 would"
    assert power.tells(9684, 0.0281, 0.0383).endswith("yes, 9,684 would")
    stages = [Stage("a", 5000, 512, compared=5000), Stage("b", 5000, 512, compared=5000)]
    lines = list(_power(stages))
    assert len(lines) == 2
    assert lines[0].startswith("5,000 trials in two arms tell 0.13 from 3.83 %: yes")
    assert "chance of 80 %, at the 5 % level" in lines[1]
    assert list(_power([Stage("reads", 0, 0)])) == []


def test_the_smallest_difference_is_found_in_80_of_100_runs() -> None:
    """Independent trials, where the two-proportion z test is the test."""
    n, rate, rng = 4000, 0.3, np.random.default_rng(0)
    half = 1.96 * Proportion(int(n * rate), n).se
    smallest = power.smallest_difference(Interval(rate - half, rate + half))
    assert smallest is not None
    a, b = rng.binomial(n, rate, 4000) / n, rng.binomial(n, rate + smallest, 4000) / n
    pooled = (a + b) / 2
    z = np.abs(a - b) / np.sqrt(pooled * (1 - pooled) * 2 / n)
    assert (z > 1.96).mean() == pytest.approx(0.8, abs=0.02)
    assert power.smallest_difference(None) is None
    assert power.smallest_difference(Interval(math.nan, 1)) is None
    one = power.smallest_difference(Interval(rate - half, rate + half), arms=1)
    assert one == pytest.approx(smallest / math.sqrt(2))
