"""N3 and N4 by hand, and on simulated processes in which a restart brings nothing, or something."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from esr.analysis import metrics, nulls
from esr.analysis.nulls import Cut
from esr.analysis.outcomes import Outcome
from esr.judge.base import Status
from esr.runs.plain import json_text

Rng = np.random.Generator
Hazard = Callable[[float], float]


def trial(latent: int, prompt: str, *scores: float) -> Outcome:
    status = Status.GRADED if scores else Status.FAILED
    return Outcome(latent, f"{latent}/{prompt}", scores or None, status, prompt=prompt)


class TestSamePromptRedraw:
    OUTCOMES = (
        trial(1, "a", 20, 60),  # improved
        trial(1, "b", 50, 40),  # not
        trial(2, "a", 10, 30),  # improved, but all its redraws gave up
        trial(2, "b", 90),
        trial(3, "a", 30, 80),  # improved, no redraw at all
    )
    REDRAWS: ClassVar[dict[str, list[Outcome]]] = {
        "1/a": [trial(1, "a", 20), trial(1, "a", 30), trial(1, "a", 99, 5), trial(1, "a")],
        "1/b": [trial(1, "b", 51), trial(1, "b", 60)],
        "2/a": [trial(2, "a", 80, 3)],
        "2/b": [trial(2, "b", 100)],
    }

    def test_by_hand(self) -> None:
        found = nulls.same_prompt_redraw(self.OUTCOMES, self.REDRAWS)
        # 1/a: of 20 and 30 one is above 20; 1/b: both are above 50.
        assert found.rate == (1 / 2 + 2 / 2) / 2
        assert (found.n, found.improved, found.excluded) == (2, 1, 2)
        assert (found.compared, found.left_out) == (4, 3)
        assert found.excess == 1 / 2 - 3 / 4

    def test_nothing_to_compare_with(self) -> None:
        found = nulls.same_prompt_redraw(self.OUTCOMES, {})
        assert (found.n, found.excluded) == (0, 4)
        assert math.isnan(found.rate)
        assert found.excess_interval is None
        assert '"rate": null' in json_text(found.entry())


class TestPosition:
    def test_by_hand(self) -> None:
        outcomes = [
            trial(1, "a", 10, 60),
            trial(1, "b", 50, 40),
            trial(2, "a", 95, 99),
            trial(2, "b", 7),
        ]
        cuts = [
            Cut(1, "c", 0, 20),  # like 10, rises
            Cut(2, "b", 20, 20),  # like 10, does not
            Cut(2, "c", 45, 70),  # like 50, rises
            Cut(3, "c", 75, 99),  # like none
            Cut(3, "d", 10, None),
        ]
        found = nulls.position(outcomes, cuts, caliper=10)
        assert found.rate == (1 / 2 + 1) / 2
        assert (found.n, found.improved, found.excluded) == (2, 1, 1)
        assert (found.compared, found.left_out) == (3, 2)
        assert found.excess == 1 / 2 - 3 / 4

    def test_without_cuts_or_restarts(self) -> None:
        for outcomes, cuts in (([trial(1, "a", 1, 2)], []), ([], [Cut(1, "a", 1, 2)])):
            found = nulls.position(outcomes, cuts)
            assert found.n == 0
            assert math.isnan(found.rate)
            assert found.rate_interval is None

    def test_cuts_fall_where_the_latent_restarts(self) -> None:
        restarts = [(1, 5), (1, 50), (2, 30)]
        lengths = [(1, 40)] * 20 + [(2, 40)] * 5 + [(2, 20)] * 5 + [(3, 100)] * 60 + [(1, 5)]
        cuts = nulls.cut_positions(restarts, lengths, np.random.default_rng(0))
        assert set(cuts[:20]) == {5}, "50 lies outside"
        assert set(cuts[20:25]) == {30}
        assert set(cuts[25:30]) == {5}, "30 lies outside; another latent's stands in"
        assert set(cuts[30:90]) == {5, 30, 50}
        assert cuts[90] is None


def answers(
    rng: Rng, hazard: Hazard, prompt_effects: np.ndarray, latent: int, prompt: int, gain: float
) -> Outcome:
    """Attempts until one is not given up; ``gain`` is what a restart brings, in points."""
    scores: list[float] = []
    while not scores or (rng.random() < hazard(scores[-1]) and len(scores) < 6):
        level = 45 + prompt_effects[prompt] + (gain if scores else 0)
        scores.append(float(np.clip(rng.normal(level, 25), 0, 100)))
    return trial(latent, f"p{prompt}", *scores)


def at_random(_: float) -> float:
    return 0.3


def when_bad(score: float) -> float:
    return 0.8 if score < 40 else 0.05


PROCESSES: dict[str, tuple[Hazard, float]] = {
    "restarts at random": (at_random, 0.0),
    "restarts at random, prompts differ": (at_random, 15.0),
    "restarts when bad": (when_bad, 0.0),
    "restarts when bad, prompts differ": (when_bad, 15.0),
}
"""Processes of docs/statistics.md: the chance of giving an attempt up, sd between prompts."""


def simulated(
    rng: Rng, hazard: Hazard, between: float, gain: float = 0.0, size: tuple[int, int] = (100, 6)
) -> tuple[list[Outcome], nulls.FairNull]:
    latents, trials = size
    effects = rng.normal(0, between, 38)
    outcomes, redraws = [], {}
    for latent in range(latents):
        for prompt in rng.permutation(38)[:trials]:
            outcomes.append(answers(rng, hazard, effects, latent, int(prompt), gain))
            redraws[outcomes[-1].trial_id] = [
                answers(rng, hazard, effects, latent, int(prompt), gain) for _ in range(4)
            ]
    return outcomes, nulls.same_prompt_redraw(outcomes, redraws)


@pytest.mark.parametrize("name", PROCESSES)
def test_a_restart_that_brings_nothing_has_no_excess_over_n3(name: str) -> None:
    found = [simulated(np.random.default_rng(seed), *PROCESSES[name])[1] for seed in range(6)]
    excess = [null.excess for null in found]
    error = float(np.std(excess, ddof=1)) / math.sqrt(len(excess))
    assert abs(float(np.mean(excess))) < max(3.5 * error, 0.015)
    held = [i is not None and i.low <= 0 <= i.high for i in (n.excess_interval for n in found)]
    assert sum(held) >= 5


def test_n1_has_where_bad_attempts_are_given_up_or_prompts_differ() -> None:
    def excess(name: str, of: Callable[[list[Outcome]], metrics.RedrawNull]) -> float:
        rngs = [np.random.default_rng(seed) for seed in range(4)]
        runs = [simulated(rng, *PROCESSES[name])[0] for rng in rngs]
        return float(np.mean([of(outcomes).excess for outcomes in runs]))

    assert excess("restarts at random", metrics.redraw_null) == pytest.approx(0, abs=0.03)
    assert excess("restarts when bad", metrics.redraw_null) > 0.08
    assert excess("restarts when bad", metrics.unabandoned_null) == pytest.approx(0, abs=0.04)
    assert excess("restarts when bad, prompts differ", metrics.unabandoned_null) < -0.03


def test_n3_sees_what_a_restart_brings() -> None:
    rng = np.random.default_rng(1)
    _, found = simulated(rng, *PROCESSES["restarts when bad, prompts differ"], gain=25.0)
    assert found.excess > 0.1
    assert found.excess_interval is not None
    assert found.excess_interval.low > 0


def halves(rng: Rng, gain: float) -> tuple[list[Outcome], list[Cut]]:
    """Heads of any quality, tails that have nothing to do with them; the bad restart more often."""
    effects = rng.normal(0, 10, 38)
    outcomes, cuts = [], []
    for latent in range(120):
        for prompt in rng.permutation(38)[:8]:
            head, tail = np.clip(rng.normal(45 + effects[prompt], 25, 2), 0, 100)
            if rng.random() < (0.7 if head < 40 else 0.1):
                outcomes.append(trial(latent, f"p{prompt}", head, min(100.0, tail + gain)))
            else:
                outcomes.append(trial(latent, f"p{prompt}", head))
                cuts.append(Cut(latent, f"p{prompt}", head, tail))
    return outcomes, cuts


def test_n4_takes_off_what_the_position_brings() -> None:
    found = [nulls.position(*halves(np.random.default_rng(seed), 0.0)) for seed in range(8)]
    assert np.mean([null.improved / null.n for null in found]) > 0.6
    assert np.mean([null.excess for null in found]) == pytest.approx(0, abs=0.025)
    held = [i is not None and i.low <= 0 <= i.high for i in (n.excess_interval for n in found)]
    assert sum(held) >= 6
    helped = nulls.position(*halves(np.random.default_rng(9), 25.0))
    assert helped.excess_interval is not None
    assert helped.excess_interval.low > 0.05


def test_interval_of_n4_is_as_wide_as_runs_differ() -> None:
    found = [nulls.position(*halves(np.random.default_rng(seed), 0.0)) for seed in range(40)]
    spread = 1.96 * float(np.std([null.excess for null in found], ddof=1))
    widths = [(i.high - i.low) / 2 for null in found if (i := null.excess_interval)]
    assert np.mean(widths) == pytest.approx(spread, rel=0.35)


def test_prompts_that_are_not_recorded_leave_latents() -> None:
    outcomes, cuts = halves(np.random.default_rng(3), 0.0)
    bare = nulls.position(
        [replace(o, prompt="") for o in outcomes], [replace(c, prompt="") for c in cuts]
    )
    assert bare.excess == nulls.position(outcomes, cuts).excess
    assert bare.excess_interval is not None
