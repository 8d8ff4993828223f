"""Differences and ratios of two arms: the formula by hand, and how often the interval holds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from esr.analysis import comparison
from esr.analysis.contrasts import Contrast
from esr.analysis.outcomes import Outcome
from esr.analysis.quantities import ESR, FIRST_SCORE, MULTI_ATTEMPT, Table
from esr.judge.base import Status


def arm(events: np.ndarray, name: str, scores: np.ndarray | None = None) -> list[Outcome]:
    """[n_latents, n_prompts] whether a trial restarts; the score of its first attempt."""
    firsts = np.full(events.shape, 30.0) if scores is None else scores
    return [
        Outcome(
            k,
            f"{k}/p{p}",
            (float(firsts[k, p]), 60.0) if events[k, p] else (float(firsts[k, p]),),
            Status.GRADED,
            prompt=f"p{p}",
            arm=name,
        )
        for k in range(events.shape[0])
        for p in range(events.shape[1])
    ]


def contrast(a: np.ndarray, b: np.ndarray) -> Contrast:
    return Contrast.of(Table.of(arm(a, "a")), Table.of(arm(b, "b")))


def test_without_shared_trials_distances_add_as_squares() -> None:
    """Newcombe's method 10 of two intervals, where nothing ties the arms together."""
    rng = np.random.default_rng(0)
    a, b = rng.random((30, 12)) < 0.4, rng.random((30, 12)) < 0.2
    first = arm(a, "a")
    second = [replace(o, latent=o.latent + 100, prompt=f"q{o.prompt}") for o in arm(b, "b")]
    tables = Table.of(first), Table.of(second)
    found = Contrast.of(*tables).difference(MULTI_ATTEMPT)
    one, two = (table.two_way(MULTI_ATTEMPT) for table in tables)
    assert found is not None
    assert one is not None
    assert two is not None
    difference = a.mean() - b.mean()
    low = math.hypot(a.mean() - one.low, two.high - b.mean())
    high = math.hypot(one.high - a.mean(), b.mean() - two.low)
    assert found == pytest.approx((difference - low, difference + high))
    ratio = Contrast.of(*tables).risk_ratio(MULTI_ATTEMPT)
    assert ratio is not None
    low = math.hypot(math.log(a.mean() / one.low), math.log(two.high / b.mean()))
    assert math.log(ratio.low) == pytest.approx(math.log(a.mean() / b.mean()) - low)


def test_arms_that_agree_differ_by_less_than_chance() -> None:
    rng = np.random.default_rng(1)
    base = rng.random((30, 12)) < 0.4
    other = base ^ (rng.random((30, 12)) < 0.03)
    alike, apart = contrast(base, other), contrast(base, rng.random((30, 12)) < 0.4)
    widths = [i.high - i.low for c in (alike, apart) if (i := c.difference(MULTI_ATTEMPT))]
    assert widths[0] < 0.5 * widths[1]
    same = contrast(base, base).difference(MULTI_ATTEMPT)
    assert same is not None
    assert max(map(abs, same)) < 0.02


def test_an_arm_without_events_brings_its_own_uncertainty() -> None:
    none, some = np.zeros((30, 12), dtype=bool), np.zeros((30, 12), dtype=bool)
    some[3, 4] = some[17, 9] = True
    found = contrast(some, none)
    ends = found.difference(MULTI_ATTEMPT)
    assert ends is not None
    assert ends.low < 0 < ends.high
    assert found.risk_ratio(MULTI_ATTEMPT) is None
    both = contrast(none, none).difference(ESR)
    assert both is not None
    wilson = Table.of(arm(none, "a")).two_way(ESR)
    assert wilson is not None
    assert both == pytest.approx((-wilson.high, wilson.high))


def test_scores_take_t_standard_errors() -> None:
    rng = np.random.default_rng(3)
    events = np.zeros((20, 10), dtype=bool)
    one, two = rng.uniform(0, 100, (2, 20, 10))
    first, second = (Table.of(arm(events, name, s)) for name, s in (("a", one), ("b", two)))
    found = Contrast.of(first, second)
    ends = found.difference(FIRST_SCORE)
    assert ends is not None
    assert (ends.low + ends.high) / 2 == pytest.approx(one.mean() - two.mean())
    ratio = found.risk_ratio(FIRST_SCORE)
    assert ratio is not None
    assert math.sqrt(ratio.low * ratio.high) == pytest.approx(one.mean() / two.mean())


def test_the_interval_holds_where_arms_differ_by_latent_and_by_prompt() -> None:
    """Each latent and each prompt takes to one arm a little; by latent alone is too narrow."""
    held = {"two-way": 0, "by latent": 0}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        latents, prompts = rng.normal(0, 0.8, (60, 1)), rng.normal(0, 0.8, (1, 20))
        shifts = rng.normal(0, 0.5, (60, 1)), rng.normal(0, 0.7, (1, 20))
        base = latents + prompts - 0.5
        a, b = (
            rng.random((60, 20)) < 1 / (1 + np.exp(-(base + sign * (shifts[0] + shifts[1]) / 2)))
            for sign in (1, -1)
        )
        by_latent = a.mean(axis=1) - b.mean(axis=1)
        half = 2 * by_latent.std(ddof=1) / math.sqrt(60)
        held["by latent"] += abs(by_latent.mean()) <= half
        ends = contrast(a, b).difference(MULTI_ATTEMPT)
        held["two-way"] += ends is not None and ends.low <= 0 <= ends.high
    assert held["two-way"] / 60 > 0.88
    assert held["by latent"] < held["two-way"] - 6


def test_the_sign_flip_by_prompt_sees_what_prompts_do() -> None:
    """One prompt alone makes the difference: by latent it looks certain, by prompt it is chance."""
    a, b = np.zeros((30, 10), dtype=bool), np.zeros((30, 10), dtype=bool)
    a[:, 3] = True
    found = comparison.paired_test(arm(a, "a"), arm(b, "b"), "multi")
    assert found.sign_flip.p_value < 1e-8
    assert found.sign_flip_prompt is not None
    assert found.sign_flip_prompt.p_value == 1.0
    bare = (
        [replace(o, prompt="") for o in arm(a, "a")],
        [replace(o, prompt="") for o in arm(b, "b")],
    )
    assert comparison.paired_test(*bare, "multi").sign_flip_prompt is None
